//! Looking a credential up, which changes nothing and so is never unknown; and what a carrier does not do.

use credvault::credential::CarrierCredential;
use credvault::provider::Kind;
use credvault::provider::telepath::TelepathAccount;
use credvault::provider::vobiz::CredentialId;
use credvault::secret::SecretText;
use credvault::upstream::{Chooser, Effect, Found};

use super::{
    AUTH_ID, NEW, OLD, SID, TOKEN, World, at_twilio, sid, token, told, twilio_kind, vobiz_kind,
};
use crate::support::fakes::carrier::Fault;

fn kinds() -> [Kind; 3] {
    [twilio_kind(), vobiz_kind(), Kind::Telepath(TelepathAccount {})]
}

fn ids(world: &World) -> [CarrierCredential; 3] {
    [at_twilio(), world.at_vobiz(), world.at_telepath()]
}

#[tokio::test]
async fn a_credential_is_found_and_no_outage_leaves_anything_unknown() {
    let world = World::start().await;
    let fail_next = |at: usize, fault: Fault| match at {
        0 => world.twilio.fail_next(fault),
        1 => world.vobiz.fail_next(fault),
        _ => world.telepath.fail_next(fault),
    };
    let usernames = [("desk", None), ("one", Some(true)), ("agent", None)];
    for (at, (username, enabled)) in usernames.into_iter().enumerate() {
        let (kind, id) = (&kinds()[at], &ids(&world)[at]);
        let account = world.account(kind);
        let find = async || account.credentials().unwrap().find(&token(TOKEN), id).await;
        let Effect::Done(found) = find().await else { panic!("{id:?} is there") };
        assert_eq!(found, Found { username: username.to_owned(), enabled });
        for (fault, expected) in [
            (Fault::Status(401), "refused Token(RejectedToken)"),
            (Fault::Status(403), "refused Token(AccountInactive)"),
            (Fault::Status(400), "refused Other"),
            (Fault::Status(408), "not done Protocol"),
            (Fault::Status(500), "not done ServerError"),
            (Fault::RateLimit(7), "not done RateLimited(7s)"),
            (Fault::NotJson, "not done Protocol"),
            (Fault::CloseBeforeAnswer, "not done Unreachable"),
            (Fault::Redirect("http://127.0.0.1:1/".to_owned()), "not done Redirect"),
        ] {
            fail_next(at, fault.clone());
            assert_eq!(told(find().await), expected, "{id:?}: {fault:?}");
            assert_eq!(told(find().await), "done", "{id:?}: {fault:?}");
        }
    }
    let requests = world.requests();
    let [list, one] = [sid("CL", "1"), sid("CR", "1")];
    for expected in [
        format!("GET /2010-04-01/Accounts/{SID}/SIP/CredentialLists/{list}/Credentials/{one}.json"),
        format!("GET /api/v1/account/{AUTH_ID}/trunks/credentials?limit=50&offset=0"),
        format!("GET /v1/trunks/{}", world.trunk),
    ] {
        assert_eq!(requests.iter().filter(|&it| *it == expected).count(), 19, "{expected}");
    }
    assert_eq!(requests.len(), 3 * 19, "one read each");
}

#[tokio::test]
async fn what_is_elsewhere_or_nowhere_is_not_found() {
    let mut world = World::start().await;
    let ids = ids(&world);
    for (at, kind) in kinds().iter().enumerate() {
        let account = world.account(kind);
        let credentials = account.credentials().unwrap();
        for (other, id) in ids.iter().enumerate().filter(|(other, _)| *other != at) {
            let (by, new) = (token(TOKEN), SecretText::new(NEW.to_owned()));
            let not_found = "refused NotFound";
            assert_eq!(told(credentials.find(&by, id).await), not_found, "{at} {other}");
            let (set, made) = (
                told(credentials.set_password(&by, id, &new).await),
                told(credentials.make_password(&by, id).await),
            );
            // One of the two is nothing that the carrier does.
            match credentials.chooser() {
                Chooser::Vault => assert_eq!((&*set, &*made), (not_found, "refused Other")),
                Chooser::Carrier => assert_eq!((&*set, &*made), ("refused Other", not_found)),
            }
        }
        let chooser = if at == 2 { Chooser::Carrier } else { Chooser::Vault };
        assert_eq!((credentials.chooser(), credentials.is_configurable()), (chooser, at == 1));
        let by = token(TOKEN);
        assert_eq!(told(credentials.configure(&by, &ids[at], None, None).await), "done");
        if at != 1 {
            let configured = credentials.configure(&by, &ids[at], Some(true), None).await;
            assert_eq!(told(configured), "refused Other");
        }
        assert_eq!(account.tokens().is_some(), at == 0);
    }
    assert_eq!(world.requests(), [""; 0]);
    assert!(world.telepath.accepts("agent", OLD));

    world.trunk = "conn_none".to_owned();
    world.vobiz_id = "none".to_owned();
    for (kind, id) in kinds().iter().zip([ids[0].clone(), world.at_vobiz(), world.at_telepath()]) {
        let find = async |by: &str| {
            let account = world.account(kind);
            told(account.credentials().unwrap().find(&token(by), &id).await)
        };
        let expected = if id == ids[0] { "done" } else { "refused NotFound" };
        assert_eq!(find(TOKEN).await, expected);
        assert_eq!(find(&"c".repeat(32)).await, "refused Token(RejectedToken)");
    }
}

#[tokio::test]
async fn vobiz_is_searched_page_after_page_and_only_to_the_end_is_it_nowhere() {
    let mut world = World::start().await;
    for i in 0..120 {
        let id = world.vobiz.add_credential(AUTH_ID, &format!("user-{i}"), OLD);
        world.vobiz_id = id;
    }
    let kind = vobiz_kind();
    let account = world.account(&kind);
    let credentials = account.credentials().unwrap();
    let find = async |id: &str| {
        let calls = world.vobiz.calls();
        let credential_id = CredentialId::parse(id).unwrap();
        let id = CarrierCredential::Vobiz { credential_id };
        let told = match credentials.find(&token(TOKEN), &id).await {
            Effect::Done(found) => found.username,
            effect => told(effect),
        };
        (told, world.vobiz.calls() - calls)
    };
    assert_eq!(find(&world.vobiz_id).await, ("user-119".to_owned(), 3));
    assert_eq!(find("none").await, ("refused NotFound".to_owned(), 3));

    let page = |total: usize, objects: usize, account: &str| {
        let object = format!(r#"{{"id":"x","account_id":"{account}","username":"u"}}"#);
        let objects = vec![object; objects].join(",");
        let body = format!(r#"{{"meta":{{"total":{total}}},"objects":[{objects}]}}"#);
        let headers = vec![("content-type", "application/json".to_owned())];
        Fault::StatusWith { status: 200, headers, body: body.into_bytes() }
    };
    let not_done = "not done Protocol".to_owned();
    for (pages, expected) in [
        // Pages may be shorter than was asked for.
        (vec![page(5, 2, AUTH_ID), page(5, 3, AUTH_ID)], "refused NotFound".to_owned()),
        (vec![page(0, 0, AUTH_ID)], "refused NotFound".to_owned()),
        // One went meanwhile, and with it the one that is looked for may have moved.
        (vec![page(5, 2, AUTH_ID), page(4, 2, AUTH_ID)], not_done.clone()),
        (vec![page(5, 2, AUTH_ID), page(5, 0, AUTH_ID)], not_done.clone()),
        (vec![page(5, 1, "MA_OTHER")], "refused Token(SidMismatch)".to_owned()),
        (vec![Fault::Status(404)], "refused Token(AccountNotFound)".to_owned()),
        (vec![page(9_999, 50, AUTH_ID); 40], not_done),
    ] {
        let calls = u64::try_from(pages.len()).unwrap();
        for page in pages {
            world.vobiz.fail_next(page);
        }
        assert_eq!(find("none").await, (expected, calls));
    }
    // A name that repeats the token is none.
    let says =
        format!(r#"{{"meta":{{"total":1}},"objects":[{{"id":"none","username":"is {TOKEN}"}}]}}"#);
    let headers = vec![("content-type", "application/json".to_owned())];
    world.vobiz.fail_next(Fault::StatusWith { status: 200, headers, body: says.into_bytes() });
    assert_eq!(find("none").await, ("not done Protocol".to_owned(), 1));
}
