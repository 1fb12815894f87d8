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

use std::sync::LazyLock;

use prost::Name;
use prost_reflect::{DescriptorPool, MessageDescriptor};

tonic::include_proto!("credvault.v1");

/// The encoded `FileDescriptorSet` of the contract, with comments and the sensitivity option.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("compiled into this program"));

/// What a message of the contract is made of.
pub(super) fn descriptor<M: Name>() -> MessageDescriptor {
    POOL.get_message_by_name(&M::full_name()).expect("it is of the contract")
}

// Messages that can carry a secret print their name and nothing else; `build.rs` finds them by the
// sensitivity option.
include!(concat!(env!("OUT_DIR"), "/opaque_debug.rs"));

// Each request knows its method and its answer, for `client`.
include!(concat!(env!("OUT_DIR"), "/rpcs.rs"));
