//! What a provider, an account at Twilio and an API key cannot be.

use credvault::grpc::proto::{
    CreateProviderRequest, Provider, TwilioApiKey, TwilioProvider, UpdateTokenRequest,
    VobizProvider, provider::Kind,
};

use super::{Case, MAIN, TAKEN, each};
use crate::carriers::At;
use crate::providers::{SID, TOKEN, create_provider, display_name, twilio, update_token};

/// What a provider cannot be made of. Tokens and SIDs have a table in `providers.rs`.
pub(super) fn cases() -> Vec<Case> {
    let ids = ["a", "Main", "1abc", "a.b", &"a".repeat(64)];
    let texts = ["bell\u{7}", "line\n", &"x".repeat(101)];
    let nothing = CreateProviderRequest { provider: None, ..create_provider("new") };
    let no_kind =
        CreateProviderRequest { provider: Some(Provider::default()), ..create_provider("new") };
    let mut other_sid = display_name(MAIN, "x");
    other_sid.provider.as_mut().unwrap().kind = Some(twilio("ACffffffffffffffffffffffffffffffff"));
    let mut bad_sid = other_sid.clone();
    bad_sid.provider.as_mut().unwrap().kind = Some(twilio("AC"));
    [
        each("id", &ids, "provider_id", |id| create_provider(&id)),
        each("text", &texts, "provider.display_name", |text| display_name(MAIN, &text)),
        each("text", &texts, "provider.display_name", |text| {
            let mut request = create_provider("new");
            request.provider.as_mut().unwrap().display_name = Some(text);
            request
        }),
        each("token", &["", "x", "a b", &"A".repeat(32)], "auth_token", |auth_token| {
            UpdateTokenRequest { auth_token, ..update_token(MAIN, "") }
        }),
        vec![
            ("nothing", nothing.into(), "provider"),
            ("no kind", no_kind.into(), "provider.kind"),
            ("another SID", other_sid.into(), "provider.twilio.account_sid"),
            ("a malformed SID", bad_sid.into(), "provider.twilio.account_sid"),
            ("taken", create_provider("main").into(), TAKEN),
        ],
        twilio_accounts(),
        vobiz_accounts(),
        api_keys(),
    ]
    .concat()
}

/// What an account at Twilio cannot be: at creation, and where the field may change, in an update.
fn twilio_accounts() -> Vec<Case> {
    let account = |change: &dyn Fn(&mut TwilioProvider)| {
        let Kind::Twilio(mut account) = twilio(SID) else { panic!("another carrier") };
        change(&mut account);
        Some(Kind::Twilio(account))
    };
    let create = |change: &dyn Fn(&mut TwilioProvider)| {
        let mut request = create_provider("new");
        request.provider.as_mut().unwrap().kind = account(change);
        request
    };
    let update = |change: &dyn Fn(&mut TwilioProvider)| {
        let mut request = display_name(MAIN, "x");
        request.provider.as_mut().unwrap().kind = account(change);
        request
    };
    let regions = ["US1", "eu1", "ie1 ", "br1", "de1", "sg1", "us2", "\u{0}", "twilio.example"];
    let edges = ["dublin", "ashburn", "Dublin", "../x"];
    let sid = "0".repeat(32);
    let trunks = ["x", &sid, &format!("AC{sid}"), &format!("TK{sid}0"), &format!("tk{sid}")];
    let lists = ["x", &sid, &format!("TK{sid}"), &format!("CL{sid}0"), &format!("cl{sid}")];
    let trunk = || Some(format!("TK{sid}"));
    let list = || Some(format!("CL{sid}"));
    let (region, edge) = ("provider.twilio.region", "provider.twilio.edge");
    let (trunk_sid, list_sid) =
        ("provider.twilio.sip_trunk_sid", "provider.twilio.credential_list_sid");
    [
        each("region", &regions, region, |region| create(&|a| a.region.clone_from(&region))),
        each("edge", &edges, edge, |edge| create(&|a| a.edge.clone_from(&edge))),
        each("trunk", &trunks, trunk_sid, |sid| create(&|a| a.sip_trunk_sid = Some(sid.clone()))),
        each("trunk", &trunks, trunk_sid, |sid| update(&|a| a.sip_trunk_sid = Some(sid.clone()))),
        each("list", &lists, list_sid, |sid| {
            create(&|a| (a.sip_trunk_sid, a.credential_list_sid) = (trunk(), Some(sid.clone())))
        }),
        vec![
            ("a list alone", create(&|a| a.credential_list_sid = list()).into(), list_sid),
            ("a list alone", update(&|a| a.credential_list_sid = list()).into(), list_sid),
            ("another region", update(&|a| "ie1".clone_into(&mut a.region)).into(), region),
        ],
    ]
    .concat()
}

/// What an account at Vobiz cannot be. Its tokens have a table in `carriers.rs`.
fn vobiz_accounts() -> Vec<Case> {
    let ids = ["", ".", "..", "MA/x", "MA x", "MA%2fx", "MA?x", "MA_\u{0}", "MÄ", &"x".repeat(65)];
    each("auth id", &ids, "provider.vobiz.auth_id", |auth_id| {
        let mut request = At::Vobiz.create("new");
        request.provider.as_mut().unwrap().kind = Some(Kind::Vobiz(VobizProvider { auth_id }));
        request
    })
}

/// What an API key cannot be.
fn api_keys() -> Vec<Case> {
    let sid = "0".repeat(32);
    let key =
        |sid: &str, secret: &str| TwilioApiKey { sid: sid.to_owned(), secret: secret.to_owned() };
    let update = |api_key| UpdateTokenRequest { api_key: Some(api_key), ..update_token(MAIN, "") };
    let sids = ["", "x", &sid, &format!("AC{sid}"), &format!("SK{sid}0")];
    let good_sid = format!("SK{sid}");
    let secrets = ["", "short", "with space in it", &"x".repeat(129), "0123456789abcde\u{0}"];
    let both = UpdateTokenRequest { auth_token: TOKEN.to_owned(), ..update(key(&good_sid, &sid)) };
    let create = CreateProviderRequest {
        auth_token: String::new(),
        api_key: Some(key("x", &sid)),
        ..create_provider("new")
    };
    [
        each("key sid", &sids, "api_key.sid", |text| update(key(&text, &sid))),
        each("key secret", &secrets, "api_key.secret", |text| update(key(&good_sid, &text))),
        vec![("two tokens", both.into(), "api_key"), ("key sid", create.into(), "api_key.sid")],
    ]
    .concat()
}
