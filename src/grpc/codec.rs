//! The codec of our services: prost, but an undecodable message is the caller's fault.
//!
//! Stock tonic answers bad UTF-8 or a truncated field with INTERNAL; here it is `INVALID_ARGUMENT` with the
//! reason `MALFORMED_MESSAGE`. What a request has too many of is found before it is decoded.

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::{Message, Name};
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use super::items;

/// Most messages are far smaller than the 8 KiB that tonic takes for each, and every free zeroes what was taken.
fn buffers() -> BufferSettings {
    BufferSettings::new(1024, 32 * 1024)
}

/// Encodes `T`, decodes `U`.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<fn() -> (T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + 'static,
    U: Message + Name + Default + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(PhantomData)
    }
}

/// Decodes `U`, or says that the message is malformed without quoting it.
#[derive(Debug)]
pub struct StrictDecoder<U>(PhantomData<fn() -> U>);

impl<U: Message + Name + Default + 'static> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // tonic has all of it in one piece.
        items::check::<U>(buffer.chunk())?;
        U::decode(buffer).map(Some).map_err(|_| items::undecodable())
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}
