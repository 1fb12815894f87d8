//! Credentials at a carrier that the vault rotates by itself.

use credvault::grpc::proto::{Credential, RotationPolicy, rotation_policy::Delivery};
use jiff::SignedDuration;

use super::{Carriers, FIRST, adopted, only};
use crate::carriers::At;
use crate::credentials::{update, verifies};
use crate::rotations::get;
use crate::support::{Clients, outcome};

fn hours(hours: i64) -> prost_types::Duration {
    prost_types::Duration { seconds: SignedDuration::from_hours(hours).as_secs(), nanos: 0 }
}

async fn set(clients: &Clients, name: &str, policy: RotationPolicy) -> String {
    let credential = Credential { rotation_policy: Some(policy), ..Default::default() };
    let request = update(name, credential, &["rotation_policy"]);
    outcome(&clients.credentials.clone().update_credential(request).await)
}

fn daily() -> RotationPolicy {
    RotationPolicy {
        interval: Some(hours(24)),
        delivery: Some(Delivery::DeliverToNobody(true)),
        ..Default::default()
    }
}

#[tokio::test]
async fn what_is_due_is_rotated_at_its_carrier() {
    for at in At::ALL {
        let (vault, acme, credential) = adopted(at).await;
        let name = &credential.name;
        let overlapping = RotationPolicy { overlap: Some(hours(1)), ..daily() };
        assert_eq!(set(&acme, name, overlapping).await, "FailedPrecondition INVALID_STATE");
        assert_eq!(set(&acme, name, daily()).await, "OK", "{at:?}");

        vault.clock.advance(SignedDuration::from_hours(24));
        vault.vault.rotate_due(vault.now(), None).await.unwrap();
        let rotation = only(&acme, name).await;
        // Its worker carries it out as it does any other.
        while get(&acme, &rotation).await.unwrap().rotation.unwrap().end_time.is_none() {
            tokio::task::yield_now().await;
        }
        assert!(!Carriers::of(&vault).accepts(at, "phone", FIRST), "{at:?}");
        assert!(!verifies(&acme, "phone", FIRST).await, "{at:?}");
        assert_eq!(Carriers::of(&vault).changes(at), 1);
    }
}
