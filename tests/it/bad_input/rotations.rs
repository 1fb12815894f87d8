//! Bad input about rotations, recipients and their keys, from a caller who may do everything there.

use credvault::grpc::proto::recipient::Key;
use credvault::grpc::proto::{
    CancelRotationRequest, ConfirmRotationRequest, CreateCredentialRequest,
    CreateRecipientKeyRequest, DeliveryPolicy, GetDeliveryPolicyRequest, GetRotationRequest,
    ListRecipientKeysRequest, ListRotationsRequest, ListVersionsRequest, Recipient, RecipientKey,
    ResumeRotationRequest, RevokeRecipientKeyRequest, RotateCredentialRequest, RotateTokenRequest,
    RotationFilter, UpdateDeliveryPolicyRequest,
};

use super::{Case, DESK, MAIN, NOT_FOUND, each};
use crate::credentials::{create, create_with, rotate};
use crate::tokens::rotation_of;

const ACME: &str = "accounts/acme";

fn to(key: Key) -> Recipient {
    Recipient { key: Some(key) }
}

fn overlapping(seconds: i64, nanos: i32) -> RotateCredentialRequest {
    let overlap = Some(prost_types::Duration { seconds, nanos });
    RotateCredentialRequest { overlap, ..rotate(DESK) }
}

fn key(public_key: &[u8]) -> CreateRecipientKeyRequest {
    let recipient_key =
        Some(RecipientKey { public_key: public_key.to_vec(), ..RecipientKey::default() });
    CreateRecipientKeyRequest { parent: ACME.to_owned(), recipient_key, ..Default::default() }
}

pub(super) fn cases() -> Vec<Case> {
    let rotations = [
        "",
        DESK,
        "accounts/acme/rotations/x00",
        "accounts/acme/credentials/desk/rotations/",
        "accounts/acme/credentials/desk/rotations/x00/x",
        "accounts/acme/providers/main",
        "accounts/acme/providers/main/rotations/x00/x",
        "accounts/acme/recipientKeys/edge/rotations/x00",
        "accounts/A/credentials/desk/rotations/x00",
    ];
    let parents = ["", "vault", "accounts/", "accounts/acme/credentials", "accounts/acme/x"];
    let policies = ["", ACME, "accounts/acme/deliveryPolicy/", "accounts/A/deliveryPolicy"];
    let keys = ["", "accounts/acme/recipientKeys/", "accounts/acme/keys/edge", "edge"];
    let ids = ["ab", "Edge", "a/b"];
    [
        each("name", &rotations, "name", |name| GetRotationRequest { name }),
        each("name", &rotations, "name", |name| ConfirmRotationRequest {
            name,
            ..Default::default()
        }),
        each("name", &rotations, "name", |name| CancelRotationRequest {
            name,
            ..Default::default()
        }),
        each("name", &rotations, "name", |name| ResumeRotationRequest {
            name,
            ..Default::default()
        }),
        each("parent", &parents, "parent", |parent| ListRotationsRequest {
            parent,
            ..Default::default()
        }),
        each("parent", &parents, "parent", |parent| ListVersionsRequest { parent }),
        each("parent", &["", "vault", DESK], "parent", |parent| ListRecipientKeysRequest {
            parent,
            ..Default::default()
        }),
        each("parent", &["", "vault", DESK], "parent", |parent| CreateRecipientKeyRequest {
            parent,
            ..key(&[9; 32])
        }),
        each("id", &ids, "recipient_key_id", |recipient_key_id| CreateRecipientKeyRequest {
            recipient_key_id,
            ..key(&[9; 32])
        }),
        each("name", &keys, "name", |name| RevokeRecipientKeyRequest {
            name,
            ..Default::default()
        }),
        each("name", &policies, "name", |name| GetDeliveryPolicyRequest { name }),
        each("name", &policies, "delivery_policy.name", |name| {
            let delivery_policy = Some(DeliveryPolicy { name, enrolled_keys_only: Some(true) });
            UpdateDeliveryPolicyRequest { delivery_policy, ..Default::default() }
        }),
        each("key", &keys, "recipient.recipient_key", |name| RotateCredentialRequest {
            recipient: Some(to(Key::RecipientKey(name))),
            ..rotate(DESK)
        }),
        values(),
    ]
    .concat()
}

fn values() -> Vec<Case> {
    const HPKE: &str = "recipient.hpke_public_key";
    let mut cases: Vec<Case> = Vec::new();
    for (seconds, nanos) in
        [(-1, 0), (0, -1), (1, 2_000_000_000), (2_592_000, 1), (i64::MAX, 0), (i64::MIN, 0)]
    {
        cases.push(("overlap", overlapping(seconds, nanos).into(), "overlap"));
    }
    for (seconds, nanos) in [(-1, 0), (0, -1), (1, 2_000_000_000), (2_592_000, 1), (i64::MIN, 0)] {
        let hold = Some(prost_types::Duration { seconds, nanos });
        let request = RotateTokenRequest { hold, ..rotation_of(MAIN) };
        cases.push(("hold", request.into(), "hold"));
    }
    for (reason, request_id, field) in [("a\nb", "", "reason"), ("", "x", "request_id")] {
        let (reason, request_id) = (reason.to_owned(), request_id.to_owned());
        let request = RotateTokenRequest { reason, request_id, ..rotation_of(MAIN) };
        cases.push((field, request.into(), field));
    }
    let unheard = RotateTokenRequest { require_confirmation: true, ..rotation_of(MAIN) };
    cases.push(("nobody to confirm", unheard.into(), "recipient"));
    let nobody =
        RotateTokenRequest { recipient: Some(Recipient { key: None }), ..rotation_of(MAIN) };
    cases.push(("nobody", nobody.into(), "recipient"));
    // RFC 7748: with 0 and 1 everybody knows what would be shared.
    let mut one = [0; 32];
    one[0] = 1;
    for bytes in [&[][..], &[9; 31], &[9; 33], &[0; 32], &one] {
        cases.push(("key", key(bytes).into(), "recipient_key.public_key"));
        let recipient = Some(to(Key::HpkePublicKey(bytes.to_vec())));
        let rotation = RotateCredentialRequest { recipient: recipient.clone(), ..rotate(DESK) };
        cases.push(("key", rotation.into(), HPKE));
        let rotation = RotateTokenRequest { recipient: recipient.clone(), ..rotation_of(MAIN) };
        cases.push(("key", rotation.into(), HPKE));
        let creation = CreateCredentialRequest { recipient, ..create("new") };
        cases.push(("key", creation.into(), HPKE));
    }
    let named = |account: &str, id: &str| {
        Some(to(Key::RecipientKey(format!("accounts/{account}/recipientKeys/{id}"))))
    };
    let recipient = |recipient| RotateCredentialRequest { recipient, ..rotate(DESK) }.into();
    let name = format!("{DESK}/rotations/x00");
    let proof = |proof: &[u8]| ConfirmRotationRequest {
        name: name.clone(),
        proof: proof.to_vec(),
        ..Default::default()
    };
    let mut long = key(&[9; 32]);
    long.recipient_key.as_mut().unwrap().display_name = "x".repeat(101);
    let chosen = CreateCredentialRequest {
        recipient: Some(to(Key::HpkePublicKey(vec![9; 32]))),
        ..create_with("new", "a password of hers")
    };
    let state = |state| ListRotationsRequest {
        parent: ACME.to_owned(),
        filter: Some(RotationFilter { state }),
        ..Default::default()
    };
    let absent = "accounts/acme/credentials/ghost".to_owned();
    cases.extend([
        ("empty", recipient(Some(Recipient::default())), "recipient"),
        ("another account", recipient(named("other", "edge")), "recipient.recipient_key"),
        ("absent", recipient(named("acme", "edge")), NOT_FOUND),
        ("nothing to send", chosen.into(), "recipient"),
        ("proof", proof(&[1; 31]).into(), "proof"),
        ("proof", proof(&[1; 33]).into(), "proof"),
        ("absent", proof(&[1; 32]).into(), NOT_FOUND),
        ("absent", GetRotationRequest { name: name.clone() }.into(), NOT_FOUND),
        ("absent", CancelRotationRequest { name, ..Default::default() }.into(), NOT_FOUND),
        ("absent", ListVersionsRequest { parent: absent.clone() }.into(), NOT_FOUND),
        ("absent", ListRotationsRequest { parent: absent, ..Default::default() }.into(), NOT_FOUND),
        (
            "absent",
            RevokeRecipientKeyRequest {
                name: "accounts/acme/recipientKeys/edge".to_owned(),
                ..Default::default()
            }
            .into(),
            NOT_FOUND,
        ),
        ("state", state(99).into(), "filter.state"),
        ("state", state(-1).into(), "filter.state"),
        ("long", long.into(), "recipient_key.display_name"),
        (
            "missing",
            CreateRecipientKeyRequest { parent: ACME.to_owned(), ..Default::default() }.into(),
            "recipient_key",
        ),
        ("missing", UpdateDeliveryPolicyRequest::default().into(), "delivery_policy.name"),
        (
            "missing",
            UpdateDeliveryPolicyRequest {
                delivery_policy: Some(DeliveryPolicy {
                    name: "accounts/acme/deliveryPolicy".to_owned(),
                    enrolled_keys_only: None,
                }),
                ..Default::default()
            }
            .into(),
            "delivery_policy.enrolled_keys_only",
        ),
    ]);
    cases
}
