//! Messages as canonical protobuf JSON, and as lines for people, by reflection: no message needs code of its own.
//!
//! The names are those that grpcurl prints. Fields that have their default are there, too, so that a script
//! finds an empty list where there is nothing.

use prost::{Message, Name};
use prost_reflect::{
    DeserializeOptions, DynamicMessage, Kind, MapKey, ReflectMessage as _, SerializeOptions, Value,
};
use serde_json::de::Deserializer;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use super::proto::descriptor;

/// A message of the contract.
pub trait Described: Message + Name + Default {}

impl<M: Message + Name + Default> Described for M {}

/// On one line.
pub fn compact<M: Described>(message: &M) -> anyhow::Result<String> {
    write(message, CompactFormatter)
}

/// On many lines.
pub fn pretty<M: Described>(message: &M) -> anyhow::Result<String> {
    write(message, PrettyFormatter::new())
}

/// A message from its JSON. Fields that are not known here are passed over, so that an answer of a newer vault is read.
pub fn parse<M: Described>(json: &str) -> anyhow::Result<M> {
    let mut from = Deserializer::from_str(json);
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let message = DynamicMessage::deserialize_with_options(descriptor::<M>(), &mut from, &options)?;
    from.end()?;
    Ok(message.transcode_to()?)
}

/// The fields that a message has, as text for people, in the order of the contract. A message inside of it puts its
/// name and a dot before those of its own.
pub fn fields<M: Described>(message: &M) -> anyhow::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    collect(&dynamic(message)?, "", &mut found);
    Ok(found)
}

fn collect(message: &DynamicMessage, prefix: &str, found: &mut Vec<(String, String)>) {
    for (field, value) in message.fields() {
        let name = format!("{prefix}{}", field.name());
        match value {
            Value::Message(inner) => match time(inner).or_else(|| duration(inner)) {
                Some(text) => found.push((name, text)),
                None => collect(inner, &format!("{name}."), found),
            },
            Value::List(values) if values.iter().any(|it| matches!(it, Value::Message(_))) => {
                for (number, inner) in values.iter().filter_map(Value::as_message).enumerate() {
                    collect(inner, &format!("{name}[{number}]."), found);
                }
            }
            Value::List(values) => {
                let values: Vec<String> = values.iter().map(|it| text(&field.kind(), it)).collect();
                found.push((name, values.join(", ")));
            }
            Value::Map(entries) => {
                let told = |(key, value): (&MapKey, &Value)| match (key, value) {
                    (MapKey::String(key), Value::String(value)) => format!("{key}={value}"),
                    (key, value) => format!("{key:?}={value}"),
                };
                let mut entries: Vec<String> = entries.iter().map(told).collect();
                entries.sort_unstable();
                found.push((name, entries.join(", ")));
            }
            value => found.push((name, text(&field.kind(), value))),
        }
    }
}

/// A value that is no message: enums without the name of their type, bytes in hexadecimal.
fn text(kind: &Kind, value: &Value) -> String {
    match (kind, value) {
        (_, Value::String(text)) => text.clone(),
        (_, Value::Bytes(bytes)) => hex::encode(bytes),
        (Kind::Enum(kind), Value::EnumNumber(number)) => {
            let Some(value) = kind.get_value(*number) else { return number.to_string() };
            let last = kind.values().next().map(|first| first.name().to_owned());
            let prefix = last.as_deref().and_then(|first| first.strip_suffix("UNSPECIFIED"));
            let own = value.name().strip_prefix(prefix.unwrap_or_default());
            own.unwrap_or(value.name()).to_lowercase().replace('_', "-")
        }
        (_, value) => value.to_string(),
    }
}

/// A `google.protobuf.Timestamp`, to the second.
fn time(message: &DynamicMessage) -> Option<String> {
    if message.descriptor().full_name() != "google.protobuf.Timestamp" {
        return None;
    }
    let seconds = message.get_field_by_name("seconds")?.as_i64()?;
    jiff::Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

/// A `google.protobuf.Duration`, such as `1h 30m`.
fn duration(message: &DynamicMessage) -> Option<String> {
    if message.descriptor().full_name() != "google.protobuf.Duration" {
        return None;
    }
    let seconds = message.get_field_by_name("seconds")?.as_i64()?;
    Some(format!("{:#}", jiff::SignedDuration::from_secs(seconds)))
}

fn dynamic<M: Described>(message: &M) -> anyhow::Result<DynamicMessage> {
    Ok(DynamicMessage::decode(descriptor::<M>(), message.encode_to_vec().as_slice())?)
}

fn write<M: Described>(message: &M, formatter: impl Formatter) -> anyhow::Result<String> {
    let message = dynamic(message)?;
    let mut json = Vec::new();
    let options = SerializeOptions::new().skip_default_fields(false);
    message
        .serialize_with_options(&mut Serializer::with_formatter(&mut json, formatter), &options)?;
    Ok(String::from_utf8(json)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::proto::{
        ApiToken, ListProvidersResponse, Provider, Role, Rotation, SealedSecret, TwilioProvider,
        Verification, VerificationCheck, provider,
    };

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

    #[test]
    fn people_see_the_fields_that_are_there_in_the_order_of_the_contract() {
        let token = ApiToken {
            name: "vault/apiTokens/x".to_owned(),
            roles: vec![Role::AccountAdmin.into(), Role::TokenWriter.into()],
            create_time: Some(prost_types::Timestamp { seconds: 0, nanos: 5 }),
            ..ApiToken::default()
        };
        let expected = [
            ("name", "vault/apiTokens/x"),
            ("roles", "account-admin, token-writer"),
            ("create_time", "1970-01-01T00:00:00Z"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fields(&token).unwrap(), expected);
        let provider = Provider {
            kind: Some(provider::Kind::Twilio(TwilioProvider {
                region: "ie1".to_owned(),
                ..TwilioProvider::default()
            })),
            verification: Some(Verification {
                checks: vec![VerificationCheck {
                    name: "credentials".to_owned(),
                    ..Default::default()
                }],
                ..Verification::default()
            }),
            ..Provider::default()
        };
        let expected = [("twilio.region", "ie1"), ("verification.checks[0].name", "credentials")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fields(&provider).unwrap(), expected);
    }

    #[test]
    fn what_was_written_is_read_again_and_what_is_new_is_passed_over() {
        let sealed = SealedSecret {
            credential: "accounts/dev/credentials/desk-1".to_owned(),
            version: 3,
            expire_time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            ciphertext: vec![0, 255],
            ..SealedSecret::default()
        };
        let json = pretty(&sealed).unwrap();
        assert_eq!(parse::<SealedSecret>(&json).unwrap(), sealed);
        let newer = json.replacen('{', r#"{"later": [1],"#, 1);
        assert_eq!(parse::<SealedSecret>(&newer).unwrap(), sealed);
        for bad in ["", "[]", r#"{"version":"x"}"#, "{} {}"] {
            assert!(parse::<SealedSecret>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn people_see_a_length_of_time_in_their_units() {
        let overlap = Some(prost_types::Duration { seconds: 5400, nanos: 0 });
        let shown = fields(&Rotation { overlap, ..Rotation::default() }).unwrap();
        assert_eq!(shown, [("overlap".to_owned(), "1h 30m".to_owned())]);
    }
}
