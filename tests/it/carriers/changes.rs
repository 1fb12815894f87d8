//! Changes at a carrier, asked for through the library itself: what is said of each is what became of it, whatever
//! goes wrong, and doing it again ends it well.

mod keys;
mod reads;

use std::sync::Arc;

use credvault::clock::{Clock, MockClock};
use credvault::credential::CarrierCredential;
use credvault::provider::telepath::{TelepathAccount, TrunkId};
use credvault::provider::twilio::{
    AccountSid, ApiKeySid, CredentialListSid, CredentialSid, Region, TwilioAccount,
};
use credvault::provider::vobiz::{AuthId, CredentialId, VobizAccount};
use credvault::provider::{Kind, Token, TokenKind};
use credvault::secret::SecretText;
use credvault::upstream::{Effect, Endpoints, Network, Upstream, UpstreamAccount, built_ins};
use futures_util::future::join_all;

use super::{AUTH_ID, SID};
use crate::support::exposed;
use crate::support::fakes::carrier::Fault;
use crate::support::fakes::telepath::{ErrorBody, FakeTelepath};
use crate::support::fakes::twilio::FakeTwilio;
use crate::support::fakes::vobiz::FakeVobiz;

const TOKEN: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1";
const SECOND: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb2";
const OLD: &str = "Passw0rd-old-1";
const NEW: &str = "Passw0rd-new&\"2";
const LABEL: &str = "credvault providers/main 7";
const SECRETS: [&str; 5] = [TOKEN, SECOND, "Passw0rd", "first-secret", "second-secret"];

fn sid(kind: &str, digit: &str) -> String {
    format!("{kind}{}", digit.repeat(32))
}

fn token(secret: &str) -> Token {
    Token { kind: TokenKind::AuthToken, secret: SecretText::new(secret.to_owned()) }
}

/// A key, whose SID and secret are made of this digit.
fn key(digit: &str) -> Token {
    let sid = ApiKeySid::parse(&sid("SK", digit)).unwrap();
    Token { kind: TokenKind::ApiKey { sid }, secret: SecretText::new(digit.repeat(32)) }
}

fn twilio_kind() -> Kind {
    let account = AccountSid::parse(SID).unwrap();
    Kind::Twilio(TwilioAccount::new(account, Region::Us1, None, None).unwrap())
}

fn vobiz_kind() -> Kind {
    Kind::Vobiz(VobizAccount { auth_id: AuthId::parse(AUTH_ID).unwrap() })
}

/// The carriers, each with an account in which there is something to change, and the way to them.
struct World {
    twilio: FakeTwilio,
    vobiz: FakeVobiz,
    telepath: FakeTelepath,
    /// The credential at Vobiz.
    vobiz_id: String,
    trunk: String,
    upstreams: Vec<Box<dyn Upstream>>,
}

impl World {
    async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    async fn start_with(change: impl FnOnce(&mut Endpoints)) -> Self {
        let (twilio, vobiz, telepath) =
            (FakeTwilio::start().await, FakeVobiz::start().await, FakeTelepath::start().await);
        twilio.add_account(SID, TOKEN);
        twilio.add_sip_credential(SID, &sid("CL", "1"), (&sid("CR", "1"), "desk", OLD));
        for digit in ["1", "2"] {
            twilio.add_main_key(SID, &sid("SK", digit), &digit.repeat(32));
        }
        vobiz.add_account(AUTH_ID, TOKEN);
        let vobiz_id = vobiz.add_credential(AUTH_ID, "one", OLD);
        telepath.add_account(TOKEN);
        let trunk = telepath.add_trunk(TOKEN, "agent", OLD);

        let mut endpoints = Endpoints::default();
        // Each product of Twilio's has a host of its own, as it is there.
        endpoints.twilio.set_api(&twilio.url_of("api")).unwrap();
        endpoints.twilio.set_accounts(&twilio.url_of("accounts")).unwrap();
        endpoints.twilio.set_iam(&twilio.url_of("iam")).unwrap();
        endpoints.vobiz.set(&vobiz.url()).unwrap();
        endpoints.telepath.set_api(&telepath.url()).unwrap();
        change(&mut endpoints);
        let clock: Arc<dyn Clock> =
            Arc::new(MockClock::at("2026-05-01T12:00:00Z".parse().unwrap()));
        let upstreams = built_ins(&Network::internet(), &endpoints, &clock).unwrap();
        Self { twilio, vobiz, telepath, vobiz_id, trunk, upstreams }
    }

    fn account<'a>(&'a self, kind: &'a Kind) -> Box<dyn UpstreamAccount + 'a> {
        self.upstreams.iter().find_map(|upstream| upstream.account(kind)).unwrap()
    }

    fn at_vobiz(&self) -> CarrierCredential {
        CarrierCredential::Vobiz { credential_id: CredentialId::parse(&self.vobiz_id).unwrap() }
    }

    fn at_telepath(&self) -> CarrierCredential {
        CarrierCredential::Telepath { trunk_id: TrunkId::parse(&self.trunk).unwrap() }
    }

    /// All requests so far. None of them may have a secret in its URL.
    fn requests(&self) -> Vec<String> {
        let requests =
            [self.twilio.requests(), self.vobiz.requests(), self.telepath.requests()].concat();
        for request in &requests {
            assert!(!SECRETS.iter().any(|secret| request.contains(secret)), "{request}");
        }
        requests
    }
}

fn at_twilio() -> CarrierCredential {
    CarrierCredential::Twilio {
        credential_list_sid: CredentialListSid::parse(&sid("CL", "1")).unwrap(),
        credential_sid: CredentialSid::parse(&sid("CR", "1")).unwrap(),
    }
}

/// How a change ended, in words.
fn told<T>(effect: Effect<T>) -> String {
    match effect {
        Effect::Done(_) => "done".to_owned(),
        Effect::Refused(objection) => format!("refused {objection:?}"),
        Effect::NotDone(outage) => format!("not done {outage:?}"),
        Effect::Unknown(outage) => format!("unknown {outage:?}"),
    }
}

/// The calls that change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    VobizPassword,
    VobizConfigure,
    TwilioPassword,
    TelepathPassword,
    DiscardToken,
    MakeToken,
    FinishToken,
    DiscardKey,
    MakeKey,
    FinishKey,
}

use Change::{
    DiscardKey, DiscardToken, FinishKey, FinishToken, MakeKey, MakeToken, TelepathPassword,
    TwilioPassword, VobizConfigure, VobizPassword,
};

impl Change {
    const ALL: [Self; 10] = [
        VobizPassword,
        VobizConfigure,
        TwilioPassword,
        TelepathPassword,
        DiscardToken,
        MakeToken,
        FinishToken,
        DiscardKey,
        MakeKey,
        FinishKey,
    ];

    /// Whether its good answer is 204.
    fn deletes(self) -> bool {
        matches!(self, DiscardToken | DiscardKey | FinishKey)
    }

    /// The request that does it.
    fn request(self, world: &World) -> String {
        let account = format!("/2010-04-01/Accounts/{SID}");
        match self {
            VobizPassword | VobizConfigure => {
                format!("PUT /api/v1/Account/{AUTH_ID}/credentials/{}", world.vobiz_id)
            }
            TwilioPassword => {
                let [list, credential] = [sid("CL", "1"), sid("CR", "1")];
                format!("POST {account}/SIP/CredentialLists/{list}/Credentials/{credential}.json")
            }
            TelepathPassword => format!("POST /v1/trunks/{}/rotate-password", world.trunk),
            DiscardToken => "DELETE /v1/AuthTokens/Secondary".to_owned(),
            MakeToken => "POST /v1/AuthTokens/Secondary".to_owned(),
            FinishToken => "POST /v1/AuthTokens/Promote".to_owned(),
            DiscardKey => format!("DELETE {account}/Keys/{}.json", sid("SK", "2")),
            MakeKey => "POST /v1/Keys".to_owned(),
            FinishKey => format!("DELETE {account}/Keys/{}.json", sid("SK", "1")),
        }
    }

    /// Makes what there must be before.
    fn prepare(self, world: &World) {
        match self {
            DiscardToken | FinishToken => world.twilio.add_token(SID, SECOND),
            DiscardKey => world.twilio.name_api_key(SID, &sid("SK", "2"), LABEL),
            _ => {}
        }
    }

    async fn ask(self, world: &World) -> String {
        let (twilio, vobiz, telepath) =
            (twilio_kind(), vobiz_kind(), Kind::Telepath(TelepathAccount {}));
        let (twilio, vobiz, telepath) =
            (world.account(&twilio), world.account(&vobiz), world.account(&telepath));
        let (by, new) = (token(TOKEN), SecretText::new(NEW.to_owned()));
        match self {
            VobizPassword => {
                let credentials = vobiz.credentials().unwrap();
                told(credentials.set_password(&by, &world.at_vobiz(), &new).await)
            }
            VobizConfigure => {
                let credentials = vobiz.credentials().unwrap();
                let (id, says) = (world.at_vobiz(), Some("moved"));
                told(credentials.configure(&by, &id, Some(false), says).await)
            }
            TwilioPassword => {
                let credentials = twilio.credentials().unwrap();
                told(credentials.set_password(&by, &at_twilio(), &new).await)
            }
            TelepathPassword => {
                let credentials = telepath.credentials().unwrap();
                let effect = credentials.make_password(&by, &world.at_telepath()).await;
                if let Effect::Done(password) = &effect {
                    assert!(world.telepath.accepts("agent", &exposed(password)));
                }
                told(effect)
            }
            DiscardToken => told(twilio.tokens().unwrap().discard(&by, LABEL).await),
            MakeToken => {
                let effect = twilio.tokens().unwrap().make(&by, LABEL).await;
                if let Effect::Done(Token { kind, secret }) = &effect {
                    let secondary = world.twilio.tokens_of(SID).1;
                    assert_eq!((kind, Some(exposed(secret))), (&by.kind, secondary));
                }
                told(effect)
            }
            FinishToken => {
                let new = token(SECOND);
                told(twilio.tokens().unwrap().finish(&new, &by).await)
            }
            DiscardKey => {
                let by = key("1");
                told(twilio.tokens().unwrap().discard(&by, LABEL).await)
            }
            MakeKey => {
                let by = key("1");
                let effect = twilio.tokens().unwrap().make(&by, LABEL).await;
                if let Effect::Done(Token { kind: TokenKind::ApiKey { sid }, secret }) = &effect {
                    assert!(world.twilio.accepts_token(SID, &exposed(secret)));
                    assert!(world.twilio.api_keys(SID).contains(&sid.as_str().to_owned()));
                }
                told(effect)
            }
            FinishKey => {
                let old = key("1");
                told(twilio.tokens().unwrap().finish(&key("2"), &old).await)
            }
        }
    }

    /// Whether it is so at the carrier.
    fn happened(self, world: &World) -> bool {
        let World { twilio, vobiz, telepath, .. } = world;
        match self {
            VobizPassword => vobiz.accepts("one", NEW),
            VobizConfigure => {
                let found = vobiz.configuration(AUTH_ID, &world.vobiz_id);
                found == Some((false, Some("moved".to_owned())))
            }
            TwilioPassword => twilio.accepts("desk", NEW),
            TelepathPassword => !telepath.accepts("agent", OLD),
            DiscardToken => twilio.tokens_of(SID).1.is_none(),
            MakeToken => twilio.tokens_of(SID).1.is_some(),
            FinishToken => twilio.tokens_of(SID) == (Some(SECOND.to_owned()), None),
            DiscardKey => !twilio.api_key_names(SID).contains(&LABEL.to_owned()),
            MakeKey => twilio.api_key_names(SID).contains(&LABEL.to_owned()),
            FinishKey => !twilio.api_keys(SID).contains(&sid("SK", "1")),
        }
    }

    /// What ends well what failed: the same again, for what is made after it was discarded.
    async fn repeat(self, world: &World) {
        let discard = match self {
            MakeToken => Some(DiscardToken),
            MakeKey => Some(DiscardKey),
            _ => None,
        };
        for change in discard.into_iter().chain([self, self]) {
            assert_eq!(change.ask(world).await, "done", "{self:?}: {change:?}");
            assert!(change.happened(world), "{self:?}: {change:?}");
        }
        if self == MakeKey {
            // The second was made with the first still there: a label may lie on several.
            assert_eq!(DiscardKey.ask(world).await, "done");
            assert_eq!(world.twilio.api_keys(SID), [sid("SK", "1"), sid("SK", "2")]);
        }
    }

    /// What a status means that is none of the good ones, and whether it is done by then.
    fn expected(self, status: u16) -> (&'static str, bool) {
        let told = match (self, status) {
            (DiscardToken | DiscardKey | FinishKey, 404) => "done",
            // Whether the token works is asked then: it does. The old key ends itself.
            (FinishKey, 401 | 403) => return ("done", true),
            (DiscardKey | MakeKey, 401 | 403) | (TelepathPassword, 403) => "refused NotAllowed",
            // The old token still works.
            (FinishToken, 404) | (_, 408 | 425) => "unknown Protocol",
            (_, 401) => "refused Token(RejectedToken)",
            (_, 403) => "refused Token(AccountInactive)",
            (VobizPassword | VobizConfigure | TwilioPassword, 404) => "refused NotFound",
            (VobizPassword, 400 | 422) => "refused Password",
            (_, 400..=499) => "refused Other",
            (_, 500..) => "unknown ServerError",
            _ => "unknown Protocol",
        };
        (told, false)
    }
}

/// Each fault that a change can meet, what is said of it, and whether it is done then.
fn faults(change: Change) -> Vec<(Fault, &'static str, bool)> {
    let statuses = [202, 400, 401, 403, 404, 405, 408, 409, 422, 425, 500, 503];
    let statuses = statuses.map(|status| {
        let (told, done) = change.expected(status);
        (Fault::Status(status), told, done)
    });
    let limited = match change {
        // Nobody knows there.
        VobizPassword | VobizConfigure | TelepathPassword => "unknown RateLimited(7s)",
        _ => "not done RateLimited(7s)",
    };
    let unreachable = "unknown Unreachable";
    let mut faults = vec![
        (Fault::RateLimit(7), limited, false),
        (Fault::CloseBeforeAnswer, unreachable, false),
        (Fault::ResetBeforeAnswer, unreachable, false),
        (Fault::CloseAfterEffect, unreachable, true),
        (Fault::ResetAfterEffect, unreachable, true),
        (Fault::HalfHead, unreachable, true),
        (Fault::NotJson, "unknown Protocol", false),
        (Fault::Redirect("http://127.0.0.1:1/x".to_owned()), "unknown Redirect", false),
    ];
    faults.extend(statuses);
    if !change.deletes() {
        faults.extend([
            (Fault::HalfBody, unreachable, true),
            (Fault::PaddedTo(64 * 1024 + 1), "unknown Protocol", true),
        ]);
    }
    if matches!(change, VobizPassword | VobizConfigure | TwilioPassword) {
        faults.push((Fault::SidMismatch, "unknown Protocol", true));
    }
    faults
}

#[tokio::test]
async fn what_is_done_is_said_to_be_and_done_twice_it_is_done_once() {
    for change in Change::ALL {
        let world = World::start().await;
        change.prepare(&world);
        assert!(!change.happened(&world), "{change:?}");
        assert_eq!(change.ask(&world).await, "done", "{change:?}");
        assert!(change.happened(&world), "{change:?}");
        // Exactly the published requests, and nothing besides.
        let list = format!("GET /2010-04-01/Accounts/{SID}/Keys.json?PageSize=100");
        let mut expected = vec![change.request(&world)];
        expected.splice(0..0, (change == DiscardKey).then_some(list));
        // Only while the old token is the primary one is there something to promote.
        let account = format!("GET /2010-04-01/Accounts/{SID}.json");
        expected.splice(0..0, (change == FinishToken).then_some(account));
        assert_eq!(world.requests(), expected, "{change:?}");
        change.repeat(&world).await;
        world.requests();
    }
}

#[tokio::test]
async fn every_fault_of_every_change_is_said_to_be_what_it_is() {
    let mut rows = Vec::new();
    for change in Change::ALL {
        for (fault, expected, done) in faults(change) {
            let world = World::start().await;
            change.prepare(&world);
            let request = change.request(&world);
            world.twilio.fail_call(&request, 0, fault.clone());
            world.vobiz.fail_call(&request, 0, fault.clone());
            world.telepath.fail_call(&request, 0, fault.clone());
            let told = change.ask(&world).await;
            let row = format!("{change:?} | {fault:?} | {told} | done: {done}");
            assert_eq!(told, expected, "{row}");
            assert_eq!(change.happened(&world), done, "{row}");
            rows.push(row);
            change.repeat(&world).await;
            world.requests();
        }
    }
    println!("{}", rows.join("\n"));
}

#[tokio::test]
async fn what_never_left_is_not_done() {
    for change in Change::ALL {
        let mut world = World::start().await;
        change.prepare(&world);
        world.twilio.close().await;
        world.vobiz.close().await;
        world.telepath.close().await;
        // No keep-alive connection is left, and the first of several requests is one that reads.
        assert_eq!(change.ask(&world).await, "not done Unreachable", "{change:?}");
        for _ in 1..10 {
            assert_eq!(change.ask(&world).await, "not done Unreachable", "{change:?}");
        }
        world.twilio.open().await;
        world.vobiz.open().await;
        world.telepath.open().await;
        assert_eq!(change.ask(&world).await, "not done CircuitOpen(30s)", "{change:?}");
        assert!(!change.happened(&world), "{change:?}");
        assert_eq!(world.requests(), [""; 0], "{change:?}");
    }
}

#[tokio::test]
async fn a_host_that_was_not_named_is_blocked_before_anything_is_sent() {
    let private = || vec!["10.1.2.3:443".parse().unwrap()];
    let names = ["api.twilio.com", "accounts.twilio.com", "iam.twilio.com", "api.vobiz.ai"];
    let names = names.into_iter().chain(["api.telepathvoice.com"]);
    let names = names.map(|name| (name.to_owned(), private())).collect();
    let network = Network::internet().with_names(names);
    let clock: Arc<dyn Clock> = Arc::new(MockClock::at("2026-05-01T12:00:00Z".parse().unwrap()));
    let mut world = World::start().await;
    world.upstreams = built_ins(&network, &Endpoints::default(), &clock).unwrap();
    for change in Change::ALL {
        assert_eq!(change.ask(&world).await, "not done BlockedAddress", "{change:?}");
    }
    assert_eq!(world.requests(), [""; 0]);
}

#[tokio::test]
async fn of_what_gets_no_answer_in_five_seconds_nothing_is_known() {
    let hang = |change: Change, fault: Fault, done: bool| async move {
        let world = World::start().await;
        change.prepare(&world);
        let request = change.request(&world);
        world.twilio.fail_call(&request, 0, fault.clone());
        world.vobiz.fail_call(&request, 0, fault.clone());
        world.telepath.fail_call(&request, 0, fault.clone());
        assert_eq!(change.ask(&world).await, "unknown Timeout", "{change:?}: {fault:?}");
        assert_eq!(change.happened(&world), done, "{change:?}: {fault:?}");
        change.repeat(&world).await;
    };
    let hangs = Change::ALL.map(|change| {
        [hang(change, Fault::Hang, false), hang(change, Fault::HangAfterEffect, true)]
    });
    join_all(hangs.into_iter().flatten()).await;
}

#[tokio::test]
async fn telepath_is_asked_at_the_path_and_understood_in_the_shape_that_it_has() {
    let set = |endpoints: &mut Endpoints| {
        endpoints.telepath.set_rotate_path("rotate-sip-password").unwrap();
    };
    let other = World::start_with(set).await;
    other.telepath.set_rotate_path("rotate-sip-password");
    assert_eq!(TelepathPassword.ask(&other).await, "done");
    assert_eq!(other.requests(), [format!("POST /v1/trunks/{}/rotate-sip-password", other.trunk)]);
    for body in [ErrorBody::WithStatus, ErrorBody::Named] {
        let mut world = World::start().await;
        world.telepath.set_error_body(body);
        // The trunk is there, so it is the path that is not.
        world.telepath.set_rotate_path("rotate-sip-password");
        assert_eq!(TelepathPassword.ask(&world).await, "refused Other", "{body:?}");
        world.trunk = "conn_none".to_owned();
        assert_eq!(TelepathPassword.ask(&world).await, "refused NotFound", "{body:?}");
        world.telepath.set_active(TOKEN, false);
        assert_eq!(TelepathPassword.ask(&world).await, "refused NotAllowed", "{body:?}");
        world.telepath.set_active(TOKEN, true);
        world.telepath.set_key(TOKEN, SECOND);
        let refused = "refused Token(RejectedToken)";
        assert_eq!(TelepathPassword.ask(&world).await, refused, "{body:?}");
        assert!(world.telepath.accepts("agent", OLD), "{body:?}");
    }
}

#[tokio::test]
async fn a_two_hundred_that_makes_no_sense_tells_nothing() {
    let says = |status: u16, body: &str| {
        let headers = vec![("content-type", "application/json".to_owned())];
        Fault::StatusWith { status, headers, body: body.as_bytes().to_vec() }
    };
    for change in Change::ALL {
        let status = match change {
            DiscardToken | DiscardKey | FinishKey => 204,
            MakeToken | MakeKey => 201,
            _ => 200,
        };
        for body in ["", "[]", "{}", "null", "{", &"[".repeat(10_000)] {
            let world = World::start().await;
            change.prepare(&world);
            let request = change.request(&world);
            world.twilio.fail_call(&request, 0, says(status, body));
            world.vobiz.fail_call(&request, 0, says(status, body));
            world.telepath.fail_call(&request, 0, says(status, body));
            // A 204 has no body that could say something else.
            let expected = if status == 204 { "done" } else { "unknown Protocol" };
            assert_eq!(change.ask(&world).await, expected, "{change:?} {body:.80}");
        }
    }
    // Vobiz may know no `enabled`, and says what there was before.
    let world = World::start().await;
    let id = &world.vobiz_id;
    for (enabled, expected) in [("true", "unknown Protocol"), ("false", "done"), ("null", "done")] {
        let body = format!(r#"{{"id":"{id}","account_id":"{AUTH_ID}","enabled":{enabled}}}"#);
        world.vobiz.fail_next(says(200, &body));
        assert_eq!(VobizConfigure.ask(&world).await, expected, "{enabled}");
    }
    world.vobiz.set_password_required(true);
    assert_eq!(VobizConfigure.ask(&world).await, "refused Other");
    assert_eq!(VobizPassword.ask(&world).await, "done");
}
