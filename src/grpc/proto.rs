//! The generated types of `proto/credvault/v1`, and their descriptors.

#![expect(
    unused_qualifications,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    clippy::clone_on_ref_ptr,
    reason = "generated code"
)]

use std::fmt;

tonic::include_proto!("credvault.v1");

/// The encoded `FileDescriptorSet` of the contract, with comments and the sensitivity option.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Messages that can carry a secret print their name and nothing else.
macro_rules! opaque_debug {
    ($($message:ident),* $(,)?) => {
        $(
            impl fmt::Debug for $message {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.debug_struct(stringify!($message)).finish_non_exhaustive()
                }
            }
        )*
    };
}

opaque_debug!(
    IssuedSecret,
    CreateCredentialRequest,
    CreateCredentialResponse,
    RotateCredentialResponse,
    UpdateCredentialRequest,
    CreateProviderRequest,
    UpdateTokenRequest,
);
