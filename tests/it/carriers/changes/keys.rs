//! Tokens at Twilio: whose word counts, and that the last one that works is never deleted.

use credvault::provider::twilio::{AccountSid, Region, TwilioAccount};
use credvault::provider::{Kind, Token, TokenKind};
use credvault::upstream::Effect;
use jiff::SignedDuration;

use super::{
    DiscardKey, FinishKey, FinishToken, LABEL, SECOND, SID, TOKEN, World, key, sid, token, told,
    twilio_kind,
};
use crate::support::exposed;
use crate::support::fakes::carrier::Fault;
use crate::support::fakes::twilio::SecondSecondary;

/// The outcomes of making and discarding by this token, and of ending the first key in favour of it.
async fn outcomes(world: &World, by: &Token) -> [String; 3] {
    let kind = twilio_kind();
    let account = world.account(&kind);
    let tokens = account.tokens().unwrap();
    [
        told(tokens.make(by, LABEL).await),
        told(tokens.discard(by, LABEL).await),
        told(tokens.finish(by, &key("1")).await),
    ]
}

#[tokio::test]
async fn a_key_that_may_not_touch_keys_is_told_from_one_that_is_wrong() {
    for status in [401, 403] {
        let world = World::start().await;
        world.twilio.set_keys_refused(status);
        world.twilio.add_api_key(SID, &sid("SK", "3"), &"3".repeat(32));
        let not_allowed = "refused NotAllowed";
        // The Main key ends itself once the new one works.
        let may_not = outcomes(&world, &key("3")).await;
        assert_eq!(may_not, [not_allowed, not_allowed, "done"], "{status}");
        assert_eq!(world.twilio.api_keys(SID), [sid("SK", "2"), sid("SK", "3")], "{status}");
        // Again: it is a wrong one by now.
        let again = outcomes(&world, &key("3")).await;
        assert_eq!(again, [not_allowed, not_allowed, "done"], "{status}");

        let wrong = outcomes(&world, &key("4")).await;
        assert_eq!(wrong, ["refused Token(RejectedToken)"; 3], "{status}");
        assert_eq!(world.twilio.api_keys(SID), [sid("SK", "2"), sid("SK", "3")], "{status}");
        world.requests();
    }
    // What cannot be asked about is not said to be wrong, and nothing ends in favour of it.
    let world = World::start().await;
    world.twilio.add_api_key(SID, &sid("SK", "3"), &"3".repeat(32));
    world.twilio.set_path_fault("IncomingPhoneNumbers", Some(Fault::Status(500)));
    let told = outcomes(&world, &key("3")).await;
    assert_eq!(told, ["refused NotAllowed", "refused NotAllowed", "not done ServerError"]);
    assert_eq!(world.twilio.api_keys(SID).len(), 3);
}

#[tokio::test]
async fn no_key_ends_itself_or_one_that_is_called_otherwise() {
    let world = World::start().await;
    let kind = twilio_kind();
    let account = world.account(&kind);
    let main = key("1");
    let tokens = account.tokens().unwrap();
    assert_eq!(told(tokens.finish(&key("1"), &main).await), "refused Other");
    // A key of its own label is the current one; others are called almost the same.
    for (digit, name) in [("1", LABEL), ("2", &LABEL[1..])] {
        world.twilio.name_api_key(SID, &sid("SK", digit), name);
    }
    // Those to delete lie on three pages.
    for i in 0..250 {
        let key = format!("SK{i:032x}");
        world.twilio.add_api_key(SID, &key, "secret");
        world.twilio.name_api_key(SID, &key, if i % 50 == 0 { LABEL } else { "another" });
    }
    assert_eq!(told(tokens.discard(&main, LABEL).await), "done");
    let left = world.twilio.api_keys(SID);
    assert_eq!(left.len(), 2 + 245);
    assert!(left.contains(&sid("SK", "1")) && left.contains(&sid("SK", "2")));

    // So many that they are not read to the end: then none is deleted.
    for i in 250..2_500 {
        world.twilio.add_api_key(SID, &format!("SK{i:032x}"), "secret");
    }
    world.twilio.name_api_key(SID, &format!("SK{:032x}", 1), LABEL);
    let calls = world.twilio.calls();
    assert_eq!(told(tokens.discard(&main, LABEL).await), "not done Protocol");
    assert_eq!(world.twilio.calls() - calls, 20);
    assert_eq!(world.twilio.api_keys(SID).len(), 2 + 245 + 2_250);

    // A token of the account may end a key, and a key no token.
    let auth_token = token(TOKEN);
    let swapped = account.tokens().unwrap().finish(&main, &auth_token).await;
    assert_eq!(told(swapped), "refused NotAllowed");
    assert_eq!(told(tokens.finish(&auth_token, &main).await), "done");
    assert!(FinishKey.happened(&world));
}

#[tokio::test]
async fn what_of_the_list_of_keys_is_not_read_deletes_nothing() {
    let world = World::start().await;
    DiscardKey.prepare(&world);
    let says = |body: &str| {
        let headers = vec![("content-type", "application/json".to_owned())];
        Fault::StatusWith { status: 200, headers, body: body.as_bytes().to_vec() }
    };
    let elsewhere = r#"{"keys":[],"next_page_uri":"/2010-04-01/Accounts.json?Page=1"}"#;
    let no_sid = format!(r#"{{"keys":[{{"sid":"../x","friendly_name":"{LABEL}"}}]}}"#);
    for (fault, expected) in [
        (Fault::Status(500), "not done ServerError"),
        (Fault::Status(408), "not done Protocol"),
        (Fault::Status(404), "refused Other"),
        (Fault::Status(401), "refused NotAllowed"),
        (Fault::RateLimit(7), "not done RateLimited(7s)"),
        (Fault::CloseAfterEffect, "not done Unreachable"),
        (Fault::HalfBody, "not done Unreachable"),
        (Fault::NotJson, "not done Protocol"),
        (says(elsewhere), "not done Protocol"),
        (says(&no_sid), "not done Protocol"),
        (says("{}"), "not done Protocol"),
    ] {
        world.twilio.fail_next(fault.clone());
        assert_eq!(DiscardKey.ask(&world).await, expected, "{fault:?}");
        assert!(!DiscardKey.happened(&world), "{fault:?}");
    }
    assert_eq!(world.twilio.calls_to("DELETE "), 0);
}

#[tokio::test]
async fn a_token_of_a_region_is_replaced_there() {
    let world = World::start().await;
    world.twilio.add_token_in("ie1", SID, SECOND);
    let account = TwilioAccount::new(AccountSid::parse(SID).unwrap(), Region::Ie1, None, None);
    let kind = Kind::Twilio(account.unwrap());
    let (account, old) = (world.account(&kind), token(SECOND));
    let tokens = account.tokens().unwrap();
    let Effect::Done(new) = tokens.make(&old, LABEL).await else { panic!("a token is made") };
    assert_eq!(told(tokens.finish(&new, &old).await), "done");
    assert!(world.twilio.accepts_token(SID, &exposed(&new.secret)));
    assert!(!world.twilio.accepts_token(SID, SECOND));
    assert_eq!(world.twilio.tokens_of(SID), (Some(TOKEN.to_owned()), None), "us1 has its own");
}

#[tokio::test]
async fn a_token_that_is_gone_or_not_yet_known_is_not_promoted() {
    let world = World::start().await;
    // There is no secondary token: it is not the new one that is refused, but it does not work.
    assert_eq!(FinishToken.ask(&world).await, "refused Token(RejectedToken)");
    assert_eq!(world.twilio.tokens_of(SID), (Some(TOKEN.to_owned()), None));

    let kind = twilio_kind();
    let (account, old) = (world.account(&kind), token(TOKEN));
    let tokens = account.tokens().unwrap();
    // A token may take a minute to be known everywhere.
    world.twilio.set_token_delay(SignedDuration::from_mins(1));
    let Effect::Done(new) = tokens.make(&old, LABEL).await else { panic!("a token is made") };
    assert!(new.kind == TokenKind::AuthToken);
    assert_eq!(told(tokens.finish(&new, &old).await), "refused Token(RejectedToken)");
    world.twilio.advance(SignedDuration::from_mins(1));
    // What a second one does to the first is not documented.
    world.twilio.set_second_secondary(SecondSecondary::IsRefused(400));
    assert_eq!(told(tokens.make(&old, LABEL).await), "refused Other");
    assert_eq!(told(tokens.finish(&new, &old).await), "done");
    assert_eq!(told(tokens.finish(&new, &old).await), "done");
    // The one that took its place decides from now on.
    assert_eq!(told(tokens.discard(&old, LABEL).await), "refused Token(RejectedToken)");
    assert_eq!(told(tokens.discard(&new, LABEL).await), "done");
    world.requests();
}

#[tokio::test]
async fn a_promotion_is_not_believed_to_be_done_before_while_the_old_token_works() {
    let world = World::start().await;
    world.twilio.add_token(SID, SECOND);
    let account = format!("GET /2010-04-01/Accounts/{SID}.json");
    for (promote, old, expected) in [
        (Fault::Status(404), Fault::Status(401), "done"),
        (Fault::Status(404), Fault::Status(403), "unknown Protocol"),
        (Fault::Status(404), Fault::Status(500), "unknown ServerError"),
        (Fault::Status(404), Fault::CloseBeforeAnswer, "unknown Unreachable"),
    ] {
        world.twilio.fail_call("Promote", 0, promote);
        world.twilio.fail_call(&account, 1, old.clone());
        assert_eq!(FinishToken.ask(&world).await, expected, "{old:?}");
    }
    assert!(!FinishToken.happened(&world));
}

#[tokio::test]
async fn nothing_is_promoted_unless_the_old_token_works() {
    let world = World::start().await;
    world.twilio.add_token(SID, SECOND);
    let account = format!("GET /2010-04-01/Accounts/{SID}.json");
    for (old, new, expected) in [
        // Somebody has promoted it: the next secondary token is not ours.
        (Fault::Status(401), None, "done"),
        (Fault::Status(401), Some(Fault::Status(401)), "refused Token(RejectedToken)"),
        (Fault::Status(401), Some(Fault::Status(500)), "not done ServerError"),
        (Fault::Status(403), None, "refused Token(AccountInactive)"),
        (Fault::Status(500), None, "not done ServerError"),
    ] {
        world.twilio.fail_call(&account, 0, old.clone());
        if let Some(new) = new {
            // Under another name: of two of the same the later one counts.
            world.twilio.fail_call(&format!("{SID}.json"), 0, new);
        }
        assert_eq!(FinishToken.ask(&world).await, expected, "{old:?}");
    }
    assert_eq!(world.twilio.calls_to("Promote"), 0);
}
