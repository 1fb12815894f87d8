//! Messages as canonical protobuf JSON, by reflection: no message needs code of its own.
//!
//! The names are those that grpcurl prints. Fields that have their default are there, too, so that a script
//! finds an empty list where there is nothing.

use std::sync::LazyLock;

use anyhow::Context as _;
use prost::{Message, Name};
use prost_reflect::{DescriptorError, DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use super::proto::DESCRIPTORS;

static POOL: LazyLock<Result<DescriptorPool, DescriptorError>> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS));

/// On one line.
pub fn compact<M: Message + Name>(message: &M) -> anyhow::Result<String> {
    write(message, CompactFormatter)
}

/// On many lines.
pub fn pretty<M: Message + Name>(message: &M) -> anyhow::Result<String> {
    write(message, PrettyFormatter::new())
}

fn write<M: Message + Name>(message: &M, formatter: impl Formatter) -> anyhow::Result<String> {
    let descriptor = POOL.as_ref()?.get_message_by_name(&M::full_name());
    let descriptor = descriptor.with_context(|| format!("describe {}", M::full_name()))?;
    let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let mut json = Vec::new();
    let options = SerializeOptions::new().skip_default_fields(false);
    message
        .serialize_with_options(&mut Serializer::with_formatter(&mut json, formatter), &options)?;
    Ok(String::from_utf8(json)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::proto::{ListProvidersResponse, Provider, TwilioProvider, provider};

    #[test]
    fn names_numbers_times_and_enums_are_those_of_protobuf_json() {
        let nothing = compact(&ListProvidersResponse::default()).unwrap();
        assert_eq!(nothing, r#"{"providers":[],"nextPageToken":""}"#);
        let provider = Provider {
            name: "accounts/dev/providers/main".to_owned(),
            kind: Some(provider::Kind::Twilio(TwilioProvider::default())),
            token_version: 7,
            create_time: Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }),
            ..Provider::default()
        };
        let json: serde_json::Value = serde_json::from_str(&pretty(&provider).unwrap()).unwrap();
        assert_eq!(json["tokenVersion"], "7");
        assert_eq!(json["createTime"], "1970-01-01T00:00:01.500Z");
        assert_eq!(json["twilio"]["accountSid"], "");
        assert!(json.get("phoneNumberCount").is_none(), "absent is not zero: {json}");
    }
}
