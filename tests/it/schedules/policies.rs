//! How a policy is set, changed and taken away, and which are refused.

use super::*;

#[tokio::test]
async fn a_policy_that_cannot_deliver_or_makes_no_sense_is_refused_with_its_field() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    enrol(&acme, "ops").await;
    enrol(&acme, "gone").await;
    revoke(&acme, "gone").await;
    let (plain, _) = acme.create(create("bob")).await.unwrap();
    let window = RotationWindow {
        start: "02:00".to_owned(),
        length: length(HOUR),
        days: weekdays(),
        time_zone: "Europe/Berlin".to_owned(),
    };
    let within = |window| RotationPolicy { window: Some(window), ..for_ops() };
    let to = |delivery| RotationPolicy { delivery, ..for_ops() };
    let before = vault.state();
    for (policy, field, says) in [
        (to(None), "", "name an enrolled recipient_key, or set deliver_to_nobody"),
        (to(Some(Delivery::DeliverToNobody(false))), "", "deliver_to_nobody"),
        (RotationPolicy { overlap: None, ..for_ops() }, ".overlap", "at least 3600s unless"),
        (RotationPolicy { overlap: length(HOUR - SECOND), ..for_ops() }, ".overlap", "3600s"),
        (RotationPolicy { overlap: length(-HOUR), ..for_ops() }, ".overlap", "not negative"),
        (RotationPolicy { overlap: length(DAY * 31), ..for_ops() }, ".overlap", "30 days"),
        (
            RotationPolicy { require_confirmation: true, ..for_nobody(DAY) },
            ".require_confirmation",
            "nobody could prove",
        ),
        (RotationPolicy { interval: None, ..for_ops() }, ".interval", "is required"),
        (RotationPolicy { interval: length(HOUR / 2), ..for_ops() }, ".interval", "3600s"),
        (RotationPolicy { interval: length(DAY * 1827), ..for_ops() }, ".interval", "five years"),
        (to(Some(to_key("Ops"))), ".recipient_key", "accounts/{account}/recipientKeys"),
        (
            to(Some(Delivery::RecipientKey("accounts/other/recipientKeys/ops".to_owned()))),
            ".recipient_key",
            "same account",
        ),
        (
            within(RotationWindow { start: "2am".to_owned(), ..window.clone() }),
            ".window.start",
            "HH:MM",
        ),
        (
            within(RotationWindow { length: None, ..window.clone() }),
            ".window.length",
            "is required",
        ),
        (
            within(RotationWindow { length: length(DAY * 2), ..window.clone() }),
            ".window.length",
            "24 hours",
        ),
        (
            within(RotationWindow { days: vec![1, 0], ..window.clone() }),
            ".window.days",
            "days of the week",
        ),
        (
            within(RotationWindow { days: vec![8], ..window.clone() }),
            ".window.days",
            "days of the week",
        ),
        (
            within(RotationWindow { time_zone: "Berlin".to_owned(), ..window.clone() }),
            ".window.time_zone",
            "IANA",
        ),
        (
            within(RotationWindow { time_zone: String::new(), ..window.clone() }),
            ".window.time_zone",
            "IANA",
        ),
    ] {
        let created = acme.create(with_policy("alice", policy.clone())).await;
        let expected = format!("InvalidArgument INVALID_FIELD credential.rotation_policy{field}");
        let (is, message) = told(&created);
        assert_eq!(is, expected, "{policy:?}");
        assert!(message.contains(says), "{message}");
        let updated = acme.update(update(&plain.name, setting(policy), &[])).await;
        assert_eq!(outcome(&updated), expected);
    }
    for (key, refusal) in
        [("none", "NotFound NOT_FOUND"), ("gone", "FailedPrecondition INVALID_STATE")]
    {
        let policy = to(Some(to_key(key)));
        assert_eq!(outcome(&acme.create(with_policy("alice", policy.clone())).await), refusal);
        let updated = acme.update(update(&plain.name, setting(policy), &[])).await;
        assert_eq!(outcome(&updated), refusal);
    }
    let partly = update(&plain.name, setting(for_ops()), &["rotation_policy.interval"]);
    assert_eq!(outcome(&acme.update(partly).await), "InvalidArgument INVALID_FIELD update_mask");
    for output in ["next_rotation_time", "rotation_block"] {
        let written = acme.update(update(&plain.name, setting(for_ops()), &[output])).await;
        assert_eq!(outcome(&written), "InvalidArgument INVALID_FIELD update_mask");
    }
    assert_eq!(vault.state(), before);
    acme.create(with_policy("alice", within(window))).await.unwrap();
}

#[tokio::test]
async fn a_policy_is_replaced_and_taken_away_and_the_next_time_moves_with_it() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    enrol(&acme, "ops").await;
    let (plain, _) = acme.create(create("alice")).await.unwrap();
    assert_eq!((&plain.rotation_policy, plain.next_rotation_time), (&None, None));
    let name = plain.name.as_str();
    let set = async |policy, mask: &[&str]| {
        acme.update(update(name, setting(policy), mask)).await.unwrap()
    };
    let first = set(for_ops(), &[]).await;
    assert_ne!(first.etag, plain.etag);
    vault.clock.advance(HOUR);
    // The same once more changes nothing: the schedule goes on, and so does whatever holds the etag.
    assert_eq!(set(for_ops(), &["rotation_policy"]).await, first);
    let sooner = set(RotationPolicy { interval: length(DAY * 30), ..for_ops() }, &[]).await;
    assert!(next(&sooner) < next(&first) && next(&sooner) >= vault.now() + DAY * 26);
    assert_eq!(acme.get(name).await.unwrap(), sooner);
    // Neither another field nor a rotation by hand takes it away; the rotation puts it off.
    let other = Credential { description: Some("x".to_owned()), ..Credential::default() };
    let described = acme.update(update(name, other, &[])).await.unwrap();
    assert_eq!(described.rotation_policy, sooner.rotation_policy);
    vault.clock.advance(DAY);
    let (rotated, _) = acme.rotate(crate::credentials::rotate(name)).await.unwrap();
    assert_eq!(next(&rotated), next(&sooner) + DAY + HOUR);

    let cleared = acme.update(update(name, Credential::default(), &["rotation_policy"])).await;
    let cleared = cleared.unwrap();
    assert_eq!((&cleared.rotation_policy, cleared.next_rotation_time), (&None, None));
    set(for_ops(), &["rotation_policy"]).await;
    let whole = Credential { enabled: Some(true), ..Credential::default() };
    let whole = acme.update(update(name, whole, &["*"])).await.unwrap();
    assert_eq!(whole.rotation_policy, None, "`*` is all fields");
    let log = acme.audit_log("acme").await;
    let details: Vec<_> = log.iter().map(|entry| entry.detail.as_str()).collect();
    let policy = "rotated every 90d, for recipientKeys/ops, overlap 1d";
    assert!(details.contains(&policy) && details.contains(&"no rotation policy"), "{details:?}");
}

#[tokio::test]
async fn what_is_due_can_be_listed_with_what_is_in_the_way() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (now, mut dues) = (vault.now(), Vec::new());
    for (user, days) in [("alice", 10), ("bob", 20), ("carol", 30)] {
        let (new, _) = acme.create(with_policy(user, for_nobody(DAY * days))).await.unwrap();
        dues.push(next(&new));
    }
    acme.create(create("dave")).await.unwrap();
    let listed = async |clients: &Clients, before: Timestamp| {
        let stamp = prost_types::Timestamp {
            seconds: before.as_second(),
            nanos: before.subsec_nanosecond(),
        };
        let filter = credvault::grpc::proto::CredentialFilter {
            due_before: Some(stamp),
            ..Default::default()
        };
        let request = credvault::grpc::proto::ListCredentialsRequest {
            parent: "accounts/acme".to_owned(),
            filter: Some(filter),
            ..Default::default()
        };
        let answer = clients.credentials.clone().list_credentials(request).await.unwrap();
        let mut found = answer.into_inner().credentials;
        found.sort_by(|one, other| one.username.cmp(&other.username));
        found.into_iter().map(|it| (it.username.clone(), it.rotation_block())).collect::<Vec<_>>()
    };
    let none = RotationBlock::Unspecified;
    let pair = |user: &str, block| (user.to_owned(), block);
    assert_eq!(listed(&acme, now).await, []);
    assert_eq!(listed(&acme, dues[1]).await, [pair("alice", none)], "before, not at");
    assert_eq!(listed(&acme, dues[1] + SECOND).await, [pair("alice", none), pair("bob", none)]);
    let off = Credential { enabled: Some(false), ..Credential::default() };
    let names = vault.column::<String>("SELECT id FROM credential WHERE username = 'alice'");
    let name = format!("accounts/acme/credentials/{}", names[0]);
    acme.update(update(&name, off, &[])).await.unwrap();
    let acme = vault.rotates_at(dues[1]).await;
    assert_eq!(
        listed(&acme, vault.now()).await,
        [pair("alice", RotationBlock::Disabled)],
        "what is overdue because something is in the way"
    );
}
