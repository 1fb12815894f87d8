//! What holds at every carrier: a token is taken when the carrier says yes, and nothing changes otherwise.
//!
//! What is Twilio's own is in `providers`, `upstream_faults` and `verifications`.

mod changes;
mod fakes;
mod faults;
mod updates;

use credvault::access::Role;
use credvault::grpc::proto::provider::Kind;
use credvault::grpc::proto::{
    CreateProviderRequest, ListProvidersRequest, Provider, ProviderFilter, ProviderType,
    TelepathProvider, TwilioApiKey, UpdateTokenRequest, VerificationStatus, VobizProvider,
};
use jiff::SignedDuration;

use crate::providers::{create_provider, twilio, update_token};
use crate::support::fakes::carrier::Fault;
use crate::support::{Clients, TestVault, outcome};

pub(crate) const AUTH_ID: &str = "MA_XXXXXXXX";
const SID: &str = crate::providers::SID;

/// A carrier, as the tests see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Twilio,
    Vobiz,
    Telepath,
}

impl At {
    pub(crate) const ALL: [Self; 3] = [Self::Twilio, Self::Vobiz, Self::Telepath];

    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Twilio => twilio(SID),
            Self::Vobiz => Kind::Vobiz(VobizProvider { auth_id: AUTH_ID.to_owned() }),
            Self::Telepath => Kind::Telepath(TelepathProvider {}),
        }
    }

    pub(crate) fn provider_type(self) -> ProviderType {
        match self {
            Self::Twilio => ProviderType::Twilio,
            Self::Vobiz => ProviderType::Vobiz,
            Self::Telepath => ProviderType::Telepath,
        }
    }

    /// A token, its successor, and one that is nobody's.
    pub(crate) fn tokens(self) -> [&'static str; 3] {
        match self {
            Self::Twilio => [
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1",
                "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb2",
                "ccccccccccccccccccccccccccccccc3",
            ],
            Self::Vobiz => ["vobiz-token~1#", "vobiz-token~2#", "vobiz-token~3#"],
            Self::Telepath => ["sk_live_first:1", "sk_live_second:2", "sk_live_third:3"],
        }
    }

    pub(crate) fn name(self) -> String {
        format!("accounts/acme/providers/{}", self.id())
    }

    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Twilio => "twilio",
            Self::Vobiz => "vobiz",
            Self::Telepath => "telepath",
        }
    }

    /// A request for a provider with the first token.
    pub(crate) fn create(self, id: &str) -> CreateProviderRequest {
        CreateProviderRequest {
            provider: Some(Provider { kind: Some(self.kind()), ..Default::default() }),
            auth_token: self.tokens()[0].to_owned(),
            ..create_provider(id)
        }
    }

    /// Adds the account that the first token opens.
    pub(crate) fn add_account(self, vault: &TestVault) {
        let [token, ..] = self.tokens();
        match self {
            Self::Twilio => vault.twilio.add_account(SID, token),
            Self::Vobiz => {
                vault.vobiz.add_account(AUTH_ID, token);
                vault.vobiz.add_credential(AUTH_ID, "one", "Passw0rd-one");
                vault.vobiz.add_credential(AUTH_ID, "two", "Passw0rd-two");
            }
            Self::Telepath => {
                vault.telepath.add_account(token);
                vault.telepath.add_trunk(token, "agent", "Passw0rd-one");
            }
        }
    }

    /// From now on the carrier takes this token in place of that.
    fn replace_token(self, vault: &TestVault, old: &str, new: &str) {
        match self {
            Self::Twilio => vault.twilio.set_token(SID, new),
            Self::Vobiz => vault.vobiz.set_token(AUTH_ID, new),
            Self::Telepath => vault.telepath.set_key(old, new),
        }
    }

    fn set_active(self, vault: &TestVault, token: &str, active: bool) {
        match self {
            Self::Twilio => {
                vault.twilio.set_status(SID, if active { "active" } else { "suspended" });
            }
            Self::Vobiz => vault.vobiz.set_active(AUTH_ID, active),
            Self::Telepath => vault.telepath.set_active(token, active),
        }
    }

    fn fail_next(self, vault: &TestVault, fault: Fault) {
        match self {
            Self::Twilio => vault.twilio.fail_next(fault),
            Self::Vobiz => vault.vobiz.fail_next(fault),
            Self::Telepath => vault.telepath.fail_next(fault),
        }
    }

    /// How often a token was asked about.
    fn asked(self, vault: &TestVault) -> u64 {
        match self {
            Self::Twilio => vault.twilio.calls_to(&format!("{}.json", &SID[2..])),
            Self::Vobiz => vault.vobiz.calls(),
            Self::Telepath => vault.telepath.calls(),
        }
    }

    /// The checks of a good provider that the carrier alone has.
    fn further_checks(self) -> &'static [&'static str] {
        match self {
            Self::Twilio => &["phone_numbers PASSED: the account has 0 phone numbers"],
            Self::Vobiz | Self::Telepath => &[],
        }
    }
}

/// A vault with a provider at each carrier, and an admin of its account.
pub(crate) async fn with_all() -> (TestVault, Clients) {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    for at in At::ALL {
        at.add_account(&vault);
        acme.create_provider(at.create(at.id())).await.unwrap();
    }
    (vault, acme)
}

fn status(provider: &Provider) -> VerificationStatus {
    provider.verification.as_ref().unwrap().status()
}

/// The checks of a provider, as `name STATUS: message`.
fn checks(provider: &Provider) -> Vec<String> {
    let checks = provider.verification.iter().flat_map(|it| &it.checks);
    let told = checks.map(|it| {
        let status = it.status().as_str_name().trim_start_matches("CHECK_STATUS_");
        format!("{} {status}: {}", it.name, it.message)
    });
    told.collect()
}

#[tokio::test]
async fn each_carrier_confirms_its_token_and_says_what_it_serves() {
    let (vault, acme) = with_all().await;
    for (at, accepts, serves) in [
        (At::Twilio, "Twilio accepts the Auth Token for this account", "the account is active"),
        (
            At::Vobiz,
            "Vobiz accepts the token for this account, which has 2 SIP credentials",
            "Vobiz serves this account (it publishes no status of one)",
        ),
        (
            At::Telepath,
            "Telepath accepts the API key, whose account has 1 trunk",
            "Telepath serves this account (it publishes no status of one)",
        ),
    ] {
        let provider = acme.get_provider(&at.name()).await.unwrap();
        assert_eq!((&provider.kind, provider.token_version), (&Some(at.kind()), 1));
        assert_eq!(status(&provider), VerificationStatus::Verified, "{at:?}");
        let mut expected = vec![
            format!("credentials PASSED: {accepts}"),
            format!("account_active PASSED: {serves}"),
        ];
        expected.extend(at.further_checks().iter().map(ToString::to_string));
        assert_eq!(checks(&provider), expected, "{at:?}");
        let at_twilio = (at == At::Twilio).then_some(0);
        assert_eq!(provider.phone_number_count, at_twilio, "{at:?}");
        assert_eq!(provider.supports_call_transfer, None, "{at:?}");
        assert_eq!(at.asked(&vault), 1, "{at:?}: one call decides");
    }
    // Exactly the published reads, and nothing besides.
    let vobiz = format!("GET /api/v1/account/{AUTH_ID}/trunks/credentials?limit=1");
    assert_eq!(vault.vobiz.requests(), [vobiz]);
    assert_eq!(vault.telepath.requests(), ["GET /v1/trunks?limit=1"]);
}

#[tokio::test]
async fn a_new_token_is_stored_when_its_carrier_confirms_it_and_is_used_from_then_on() {
    let (vault, acme) = with_all().await;
    for at in At::ALL {
        let [old, new, _] = at.tokens();
        let (state, name) = (vault.state(), at.name());
        let refused = acme.update_token(update_token(&name, new)).await;
        assert_eq!(outcome(&refused), "FailedPrecondition UPSTREAM_REJECTED_TOKEN", "{at:?}");
        let trial = UpdateTokenRequest { validate_only: true, ..update_token(&name, old) };
        assert_eq!(acme.update_token(trial).await.unwrap().token_version, 1);
        let trial = CreateProviderRequest { validate_only: true, ..at.create("trial") };
        assert_eq!(
            status(&acme.create_provider(trial).await.unwrap()),
            VerificationStatus::Verified
        );
        assert_eq!(vault.state(), state, "{at:?}");

        at.replace_token(&vault, old, new);
        let failed = acme.verify_provider(&name).await.unwrap();
        assert_eq!(status(&failed), VerificationStatus::Failed, "{at:?}");
        let told = checks(&failed);
        assert!(told[0].starts_with("credentials FAILED: ") && told[0].contains("UpdateToken"));
        assert_eq!(told[1], "account_active SKIPPED: not checked, since the credentials failed");
        let updated = acme.update_token(update_token(&name, new)).await.unwrap();
        assert_eq!((updated.token_version, status(&updated)), (2, VerificationStatus::Verified));
        assert_eq!(updated.kind, Some(at.kind()));

        at.set_active(&vault, new, false);
        let failed = acme.verify_provider(&name).await.unwrap();
        assert_eq!(status(&failed), VerificationStatus::Failed, "{at:?}");
        assert!(checks(&failed)[1].starts_with("account_active FAILED: "), "{at:?}");
        let inactive = acme.update_token(update_token(&name, new)).await;
        assert_eq!(outcome(&inactive), "FailedPrecondition UPSTREAM_ACCOUNT_INACTIVE", "{at:?}");
        at.set_active(&vault, new, true);
    }
    // The stored token and kind survive a restart.
    let vault = vault.restart().await;
    let acme = vault.acme().await;
    for at in At::ALL {
        let verified = acme.verify_provider(&at.name()).await.unwrap();
        assert_eq!(status(&verified), VerificationStatus::Verified, "{at:?}");
        assert_eq!(verified.kind, Some(at.kind()));
    }
}

#[tokio::test]
async fn a_list_tells_the_carriers_apart() {
    let (_vault, acme) = with_all().await;
    for at in At::ALL {
        let provider_type = at.provider_type().into();
        let filter = Some(ProviderFilter { provider_type, ..Default::default() });
        let parent = "accounts/acme".to_owned();
        let request = ListProvidersRequest { parent, filter, ..Default::default() };
        let listed = acme.providers.clone().list_providers(request).await.unwrap().into_inner();
        let names: Vec<_> = listed.providers.into_iter().map(|it| it.name).collect();
        assert_eq!(names, [at.name()], "{at:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_token_is_refused_before_any_network() {
    let (vault, acme) = with_all().await;
    let state = vault.state();
    let (too_long, longest) = ("a".repeat(257), "a".repeat(256));
    for at in [At::Vobiz, At::Telepath] {
        let asked = at.asked(&vault);
        for bad in ["", "seven-7", " leading-space", "new\nline-token", "tökens-token", &too_long]
        {
            let field = "InvalidArgument INVALID_FIELD auth_token";
            let create = CreateProviderRequest { auth_token: bad.to_owned(), ..at.create("new") };
            assert_eq!(outcome(&acme.create_provider(create).await), field, "{at:?} {bad:?}");
            let update = acme.update_token(update_token(&at.name(), bad)).await;
            assert_eq!(outcome(&update), field, "{at:?} {bad:?}");
        }
        // An API key is Twilio's.
        let api_key =
            Some(TwilioApiKey { sid: format!("SK{}", "0".repeat(32)), secret: "s".repeat(32) });
        let field = "InvalidArgument INVALID_FIELD api_key";
        let create = CreateProviderRequest {
            auth_token: String::new(),
            api_key: api_key.clone(),
            ..at.create("new")
        };
        assert_eq!(outcome(&acme.create_provider(create).await), field, "{at:?}");
        let update = UpdateTokenRequest { api_key, ..update_token(&at.name(), "") };
        assert_eq!(outcome(&acme.update_token(update).await), field, "{at:?}");
        assert_eq!(at.asked(&vault), asked, "{at:?}");
        for good in ["eight--8", &longest, "!#$%&'()*+,-./:;<=>?@[]^_`{|}~\"\\"] {
            let asked = acme.update_token(update_token(&at.name(), good)).await;
            assert_eq!(outcome(&asked), "FailedPrecondition UPSTREAM_REJECTED_TOKEN", "{good}");
        }
    }
    assert_eq!(vault.state(), state);
}

#[tokio::test]
async fn scheduled_verification_asks_every_carrier() {
    let (vault, acme) = with_all().await;
    let hour = SignedDuration::from_hours(1);
    for at in At::ALL {
        at.replace_token(&vault, at.tokens()[0], at.tokens()[1]);
    }
    for _ in 0..2 {
        vault.clock.advance(hour);
        vault.vault.verify_due(hour, vault.now() - hour, vault.now()).await.unwrap();
    }
    for at in At::ALL {
        let provider = acme.get_provider(&at.name()).await.unwrap();
        assert_eq!(status(&provider), VerificationStatus::Failed, "{at:?}");
        assert!(at.asked(&vault) >= 2, "{at:?}");
    }
    let log = acme.audit_log("acme").await;
    let changes = log.iter().filter(|it| it.detail == "verified to failed: credentials").count();
    assert_eq!(changes, 3);
}

#[tokio::test]
async fn who_may_not_write_tokens_may_not_at_any_carrier() {
    let (vault, _) = with_all().await;
    let reader = vault.clients("acme", &[Role::Reader]).await;
    let stranger = vault.clients("other", &[Role::AccountAdmin]).await;
    for at in At::ALL {
        let asked = at.asked(&vault);
        let update = || update_token(&at.name(), at.tokens()[0]);
        let missing = "PermissionDenied ROLE_MISSING";
        assert_eq!(outcome(&reader.update_token(update()).await), missing, "{at:?}");
        assert_eq!(outcome(&reader.create_provider(at.create("new")).await), missing, "{at:?}");
        assert_eq!(outcome(&stranger.update_token(update()).await), "NotFound NOT_FOUND", "{at:?}");
        assert_eq!(at.asked(&vault), asked, "{at:?}");
    }
}
