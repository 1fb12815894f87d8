//! As much of HTTP/2 (RFC 9113) and HPACK (RFC 7541) as unary gRPC calls need, so that the load costs less than the
//! servers that it measures: requests from one template, frames taken apart, headers not looked at.
//!
//! A good unary answer is one message and then trailers. A refused one has no message.

use bytes::{Buf as _, BufMut as _, BytesMut};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const LARGEST_WINDOW: u32 = 0x7fff_ffff;

/// One connection's state, without its socket: what is to be sent gathers in `output`.
pub(crate) struct Connection {
    pub(crate) output: BytesMut,
    first: Vec<u8>,
    later: Vec<u8>,
    next_stream: u32,
    /// How much more the server takes of messages.
    window: i64,
    received: u32,
}

/// What the server sent.
#[derive(Debug)]
pub(crate) enum Event {
    /// Bytes of an answer.
    Data(u32, BytesMut),
    /// The end of an answer.
    End(u32),
    /// An end that is none.
    Reset(u32),
}

impl Connection {
    pub(crate) fn new(path: &str, token: &str, encrypted: bool) -> Self {
        let mut output = BytesMut::from(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]);
        frame(&mut output, 12, SETTINGS, 0, 0);
        output.put_u16(2); // ENABLE_PUSH
        output.put_u32(0);
        output.put_u16(4); // INITIAL_WINDOW_SIZE
        output.put_u32(LARGEST_WINDOW);
        frame(&mut output, 4, WINDOW_UPDATE, 0, 0);
        output.put_u32(LARGEST_WINDOW - 65_535);
        let (first, later) = heads(path, token, encrypted);
        Self { output, first, later, next_stream: 1, window: 65_535, received: 0 }
    }

    /// Whether the server takes one more message of this size now.
    pub(crate) fn has_room(&self, message: usize) -> bool {
        self.window > i64::try_from(message).unwrap() + 5
    }

    /// Begins a call; returns its stream.
    pub(crate) fn call(&mut self, message: &[u8]) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let head = if stream == 1 { &self.first } else { &self.later };
        frame(&mut self.output, head.len(), HEADERS, END_HEADERS, stream);
        self.output.put_slice(head);
        frame(&mut self.output, message.len() + 5, DATA, END_STREAM, stream);
        self.output.put_u8(0);
        self.output.put_u32(u32::try_from(message.len()).unwrap());
        self.output.put_slice(message);
        self.window -= i64::try_from(message.len() + 5).unwrap();
        stream
    }

    /// Takes whole frames from what came in, up to one that matters to a call.
    pub(crate) fn take(&mut self, input: &mut BytesMut) -> Option<Event> {
        loop {
            let header: [u8; 9] = input.get(..9)?.try_into().unwrap();
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            let length = usize::try_from(length).unwrap();
            if input.len() < 9 + length {
                return None;
            }
            input.advance(9);
            let payload = input.split_to(length);
            let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
            let event = self.frame(header[3], header[4], stream & LARGEST_WINDOW, payload);
            if event.is_some() {
                return event;
            }
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, mut payload: BytesMut) -> Option<Event> {
        match kind {
            DATA if flags & END_STREAM != 0 => return Some(Event::Reset(stream)),
            DATA => {
                self.count(payload.len());
                return Some(Event::Data(stream, payload));
            }
            HEADERS if flags & END_STREAM != 0 => return Some(Event::End(stream)),
            RST_STREAM => return Some(Event::Reset(stream)),
            SETTINGS if flags & ACK == 0 => frame(&mut self.output, 0, SETTINGS, ACK, 0),
            PING if flags & ACK == 0 => {
                frame(&mut self.output, 8, PING, ACK, 0);
                self.output.put_slice(&payload);
            }
            GOAWAY => panic!("the server ends the connection: {payload:?}"),
            WINDOW_UPDATE if stream == 0 => self.window += i64::from(payload.get_u32()),
            HEADERS | SETTINGS | PING | WINDOW_UPDATE => {}
            kind => panic!("a frame that no server of ours sends: {kind}"),
        }
        None
    }

    fn count(&mut self, length: usize) {
        self.received += u32::try_from(length).unwrap();
        if self.received > 1 << 30 {
            frame(&mut self.output, 4, WINDOW_UPDATE, 0, 0);
            self.output.put_u32(self.received);
            self.received = 0;
        }
    }
}

fn frame(output: &mut BytesMut, length: usize, kind: u8, flags: u8, stream: u32) {
    output.put_uint(u64::try_from(length).unwrap(), 3);
    output.put_u8(kind);
    output.put_u8(flags);
    output.put_u32(stream);
}

/// The head of a connection's first request, which puts its fields into the dynamic table (RFC 7541 §6.2.1), and that
/// of each later one, which refers to them.
fn heads(path: &str, token: &str, encrypted: bool) -> (Vec<u8>, Vec<u8>) {
    let method_and_scheme = [0x83, if encrypted { 0x87 } else { 0x86 }];
    let bearer = format!("Bearer {token}");
    // By the index of their name in the static table; 0 means that the name follows.
    let mut fields =
        vec![(4, "", path), (1, "", "bench"), (31, "", "application/grpc"), (0, "te", "trailers")];
    if !token.is_empty() {
        fields.push((23, "", &bearer));
    }
    let mut first = method_and_scheme.to_vec();
    for (index, name, value) in &fields {
        first.push(0x40 | index);
        for text in [*name, *value].into_iter().skip(usize::from(*index != 0)) {
            first.push(u8::try_from(text.len()).unwrap());
            assert!(text.len() < 127, "a length of one byte");
            first.extend_from_slice(text.as_bytes());
        }
    }
    let mut later = method_and_scheme.to_vec();
    // The newest has index 62, and fields that begin with a colon come first (RFC 9113 §8.3).
    let fields = 62..62 + u8::try_from(fields.len()).unwrap();
    later.extend(fields.rev().map(|index| 0x80 | index));
    (first, later)
}
