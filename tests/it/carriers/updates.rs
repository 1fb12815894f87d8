//! What of a provider may change, at each carrier: its carrier and its account there may not.

use credvault::grpc::proto::provider::Kind;
use credvault::grpc::proto::{Provider, TwilioProvider, VobizProvider};

use super::{At, with_all};
use crate::providers::{twilio, update};
use crate::support::outcome;

const VOBIZ: &str = "InvalidArgument INVALID_FIELD provider.vobiz";
const TELEPATH: &str = "InvalidArgument INVALID_FIELD provider.telepath";
const TWILIO: &str = "InvalidArgument INVALID_FIELD provider.twilio";
const MASK: &str = "InvalidArgument INVALID_FIELD update_mask";

fn vobiz(auth_id: &str) -> Kind {
    Kind::Vobiz(VobizProvider { auth_id: auth_id.to_owned() })
}

#[tokio::test]
async fn only_the_name_changes_and_each_error_names_its_field() {
    let (vault, acme) = with_all().await;
    let own = |at: At| Some(at.kind());
    let with_trunk = |sid: &str| {
        Some(Kind::Twilio(TwilioProvider {
            sip_trunk_sid: Some(sid.to_owned()),
            ..Default::default()
        }))
    };
    let auth_id = "InvalidArgument INVALID_FIELD provider.vobiz.auth_id";
    let kind = "InvalidArgument INVALID_FIELD provider.kind";
    // The provider, the kind sent, the mask, the outcome.
    let cases = [
        (At::Vobiz, own(At::Vobiz), &[][..], "OK"),
        (At::Vobiz, Some(vobiz("")), &[], "OK"),
        (At::Vobiz, own(At::Vobiz), &["*"], "OK"),
        (At::Vobiz, None, &["display_name"], "OK"),
        (At::Vobiz, Some(vobiz("MA_OTHER")), &["display_name"], "OK"),
        (At::Vobiz, Some(vobiz("MA_OTHER")), &[], auth_id),
        (At::Vobiz, Some(vobiz("../MA")), &[], auth_id),
        (At::Vobiz, Some(vobiz("MA_OTHER")), &["*"], auth_id),
        (At::Vobiz, None, &["*"], kind),
        (At::Vobiz, own(At::Vobiz), &["vobiz"], MASK),
        (At::Vobiz, own(At::Vobiz), &["vobiz.auth_id"], MASK),
        (At::Vobiz, own(At::Vobiz), &["twilio.sip_trunk_sid"], MASK),
        (At::Vobiz, None, &["twilio.sip_trunk_sid"], TWILIO),
        (At::Vobiz, with_trunk("TK"), &[], &format!("{TWILIO}.sip_trunk_sid")),
        (At::Vobiz, with_trunk(&format!("TK{}", "0".repeat(32))), &[], TWILIO),
        (At::Vobiz, own(At::Twilio), &[], TWILIO),
        (At::Vobiz, own(At::Telepath), &[], TELEPATH),
        (At::Telepath, own(At::Telepath), &[], "OK"),
        (At::Telepath, own(At::Telepath), &["*"], "OK"),
        (At::Telepath, own(At::Telepath), &["telepath"], MASK),
        (At::Telepath, own(At::Telepath), &["twilio.credential_list_sid"], MASK),
        (At::Telepath, own(At::Vobiz), &[], VOBIZ),
        (At::Telepath, None, &["*"], kind),
        (At::Twilio, own(At::Vobiz), &[], VOBIZ),
        (At::Twilio, own(At::Telepath), &["*"], TELEPATH),
        (At::Twilio, own(At::Vobiz), &["twilio.sip_trunk_sid"], MASK),
        (At::Twilio, Some(twilio("")), &[], "OK"),
    ];
    for (number, (at, sent, mask, expected)) in cases.into_iter().enumerate() {
        let before = acme.get_provider(&at.name()).await.unwrap();
        let display_name = Some(format!("name {number}"));
        let request = Provider { kind: sent, display_name, ..Default::default() };
        let result = acme.update_provider(update(&at.name(), request.clone(), mask)).await;
        assert_eq!(outcome(&result), expected, "{at:?} {request:?} {mask:?}");
        let after = acme.get_provider(&at.name()).await.unwrap();
        assert_eq!((&after.kind, after.token_version), (&before.kind, 1));
        assert_eq!(after.etag != before.etag, expected == "OK", "{at:?} {mask:?}");
        assert_eq!(after.verification, before.verification, "nothing was asked");
    }
    assert_eq!(At::ALL.map(|at| at.asked(&vault)), [1; 3]);
}
