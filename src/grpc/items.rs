//! Items: what a request has many of, counted while it is still encoded.
//!
//! An empty item is two bytes on the wire and up to some hundred in memory, so a request within its limit could become a
//! hundred times as large when it is decoded, and before anybody knows whether its caller may ask at all. So how many there
//! may be is a limit, as the size is, and refused like it: it says nothing but what the caller sent. How many one field may
//! have is looked at with the rest of the request.

use prost::Name;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_reflect::{Kind, MessageDescriptor};
use tonic::Status;

use super::{proto, status};
use crate::defect::{Defect, planted};

/// The most of all lists and maps of a request together.
const MOST: usize = 2_000;

/// The fewest bytes that an item has: a key and a length.
const SMALLEST: usize = 2;

/// Refuses a request that has more. Most are too short for it, and are not looked at.
pub(super) fn check<M: Name>(encoded: &[u8]) -> Result<(), Status> {
    // buf's lint has it that requests, and only they, are called so. Answers are as large as they are.
    let may_have_more = M::NAME.ends_with("Request") && encoded.len() > MOST * SMALLEST;
    if !may_have_more || planted(Defect::UncountedItems) {
        return Ok(());
    }
    count(encoded, &proto::descriptor::<M>(), &mut MOST.clone())
}

/// Takes the items of a message from what is `left`. Reads with what the decoder reads with, so that neither finds what
/// the other does not.
fn count(mut encoded: &[u8], of: &MessageDescriptor, left: &mut usize) -> Result<(), Status> {
    while !encoded.is_empty() {
        let (number, wire_type) = decode_key(&mut encoded).map_err(|_| undecodable())?;
        let field = of.get_field(number);
        if field.as_ref().is_some_and(|field| field.is_list() || field.is_map()) {
            *left = left.checked_sub(1).ok_or_else(|| status::too_many_items(MOST))?;
        }
        match field.map(|field| field.kind()) {
            Some(Kind::Message(inner)) if wire_type == WireType::LengthDelimited => {
                let length = decode_varint(&mut encoded).ok().and_then(|it| it.try_into().ok());
                let parts = length.and_then(|length| encoded.split_at_checked(length));
                let (message, rest) = parts.ok_or_else(undecodable)?;
                count(message, &inner, left)?;
                encoded = rest;
            }
            _ => skip_field(wire_type, number, &mut encoded, DecodeContext::default())
                .map_err(|_| undecodable())?,
        }
    }
    Ok(())
}

pub(super) fn undecodable() -> Status {
    status::malformed_message("the message does not decode as its type")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::grpc::proto::{
        BatchVerifySipDigestRequest, CreateProviderRequest, ListCredentialsResponse,
        UpdateCredentialRequest, VerifyTwilioWebhookRequest,
    };

    /// Field `number` as what has a length.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2];
        prost::encoding::encode_varint(content.len().try_into().unwrap(), &mut field);
        field.extend(content);
        field
    }

    fn items(number: u8, count: usize) -> Vec<u8> {
        field(number, &[]).repeat(count)
    }

    fn code<M: Name>(encoded: &[u8]) -> Option<tonic::Code> {
        check::<M>(encoded).err().map(|status| status.code())
    }

    type Code = fn(&[u8]) -> Option<tonic::Code>;

    #[test]
    fn two_thousand_items_are_taken_and_one_more_is_not_wherever_they_are() {
        let half = items(1, MOST / 2);
        // A group that nobody knows, with requests in it that are none.
        let group = [vec![15 << 3 | 3], items(2, MOST), vec![15 << 3 | 4]].concat();
        let cases: [(&str, Code, Vec<u8>, Vec<u8>); 6] = [
            ("batch", code::<BatchVerifySipDigestRequest>, items(2, MOST), items(2, 1)),
            ("form", code::<VerifyTwilioWebhookRequest>, field(3, &items(1, MOST)), {
                field(3, &items(1, 1))
            }),
            ("form in parts", code::<VerifyTwilioWebhookRequest>, field(3, &half).repeat(2), {
                field(3, &items(1, 1))
            }),
            (
                "behind a group",
                code::<BatchVerifySipDigestRequest>,
                [group, items(2, MOST)].concat(),
                items(2, 1),
            ),
            // provider.verification.checks, which is only ever answered.
            ("checks", code::<CreateProviderRequest>, field(3, &field(4, &items(3, MOST))), {
                field(3, &field(4, &items(3, 1)))
            }),
            // credential.labels and update_mask.paths
            (
                "both kinds",
                code::<UpdateCredentialRequest>,
                [field(1, &items(6, MOST / 2)), field(2, &half)].concat(),
                field(2, &items(1, 1)),
            ),
        ];
        for (case, code, most, more) in cases {
            assert_eq!(code(&most), None, "{case}");
            let more = [most, more].concat();
            assert_eq!(code(&more), Some(tonic::Code::ResourceExhausted), "{case}");
        }
        assert_eq!(code::<ListCredentialsResponse>(&items(1, 2 * MOST)), None, "an answer");
    }

    #[test]
    fn what_is_text_is_not_looked_into() {
        // A URL, and a body, that would be many items.
        for number in [2, 4] {
            let text = field(number, &items(1, 2 * MOST));
            assert_eq!(code::<VerifyTwilioWebhookRequest>(&text), None);
        }
    }

    proptest! {
        #[test]
        fn what_decodes_is_never_malformed(
            start in proptest::collection::vec(prop_oneof![0_u8..40, any::<u8>()], 0..40),
            items_in in 0_u8..5,
        ) {
            // Long enough to be looked at.
            let bytes = [start, field(14, &vec![0; MOST * SMALLEST]), items(items_in, 3)].concat();
            let found = code::<VerifyTwilioWebhookRequest>(&bytes);
            prop_assert!(matches!(found, None | Some(tonic::Code::InvalidArgument)));
            if VerifyTwilioWebhookRequest::decode(&*bytes).is_ok() {
                prop_assert_eq!(found, None);
            }
        }
    }
}
