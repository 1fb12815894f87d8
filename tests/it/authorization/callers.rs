//! Two vaults, one in the clear and one behind TLS, and everybody who may call them.

use std::sync::Arc;

use credvault::access::api_token::TokenId;
use credvault::access::principal::Principal;
use credvault::access::{LocalOperator, Owner, Role};
use credvault::grpc::proto::{CreateCredentialRequest, CreateProviderRequest};
use credvault::name::{OwnerName, ResourceId};
use credvault::vault::Intent;
use jiff::SignedDuration;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::reference::Who;
use super::rows::token_id;
use crate::credentials::create;
use crate::door::certificates::{self, Authority, Leaf};
use crate::door::{encrypted, guarded};
use crate::providers::{SID, TOKEN, create_provider};
use crate::support::database::alter;
use crate::support::raw::Raw;
use crate::support::{Clients, TestVault, channel, exposed};

/// The accounts of a vault: callers with roles have them in `acme` and in `quiet`, and nobody has any elsewhere.
/// Nothing is in `blank`; `quiet` and `still` are disabled; `ghost` does not exist.
pub(super) const ACCOUNTS: [&str; 5] = ["acme", "other", "blank", "quiet", "still"];

const EMPTY: &str = "blank";
const DISABLED: [&str; 2] = ["quiet", "still"];
const OURS: [&str; 2] = ["acme", "quiet"];

/// Somebody who calls.
pub(super) struct Caller {
    /// What is special about the caller.
    pub(super) what: String,
    pub(super) who: Who,
    /// As audit entries name it.
    pub(super) principal: String,
    authorization: Vec<String>,
    leaf: Option<Leaf>,
}

/// A vault with accounts.
pub(super) struct World {
    pub(super) vault: TestVault,
    tls: Option<Tls>,
}

struct Tls {
    server: Authority,
    ours: Authority,
    others: Authority,
    _dir: tempfile::TempDir,
}

impl World {
    pub(super) async fn in_the_clear() -> Self {
        let world = Self { vault: TestVault::start().await, tls: None };
        world.fill().await;
        world
    }

    pub(super) async fn behind_tls() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [server, ours, others] = [(); 3].map(|()| Authority::new());
        let vault = guarded(dir.path(), &server, [&ours, &others]).await;
        // By the wall clock a certificate that ends in 2036 is good for years: by the vault's own it has ended.
        vault.clock.advance(SignedDuration::from_hours(24 * 365 * 11));
        let world = Self { vault, tls: Some(Tls { server, ours, others, _dir: dir }) };
        world.fill().await;
        world
    }

    /// A connection of the caller's. It fails at the latest when it is used.
    pub(super) async fn connect(&self, caller: &Caller) -> Result<Raw, String> {
        let stream = TcpStream::connect(self.vault.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let authorization = caller.authorization.clone();
        let Some(tls) = &self.tls else {
            return Raw::over(stream, authorization).await.map_err(|error| error.to_string());
        };
        let config = tls.server.trusted_with(caller.leaf.as_ref(), &certificates::TLS_1_3);
        let name = ServerName::try_from("vault.test").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let stream = stream.map_err(|error| error.to_string())?;
        Raw::over(stream, authorization).await.map_err(|error| error.to_string())
    }

    /// The same resources in each account, and a token with an id that is known.
    async fn fill(&self) {
        let vault = &self.vault;
        vault.twilio.add_account(SID, TOKEN);
        for account in ACCOUNTS {
            let token = vault.token(account, &[Role::AccountAdmin]).await;
            if account == EMPTY {
                continue;
            }
            let channel = match &self.tls {
                None => channel(vault.address),
                Some(tls) => {
                    encrypted(vault.address, tls.server.trusted_with(None, &certificates::TLS_1_3))
                }
            };
            let clients = Clients::new(&channel, &token);
            let (credential_id, parent) = ("desk".to_owned(), format!("accounts/{account}"));
            let main = CreateProviderRequest { parent: parent.clone(), ..create_provider("main") };
            let desk = CreateCredentialRequest { credential_id, parent, ..create("alice") };
            clients.create(desk).await.unwrap();
            clients.create_provider(main).await.unwrap();
        }
        let names = ACCOUNTS.iter().filter(|account| **account != EMPTY);
        for owner in names.map(|account| format!("accounts/{account}")).chain(["vault".to_owned()])
        {
            let id = owner.trim_start_matches("accounts/");
            let uid =
                format!("coalesce((SELECT uid FROM account WHERE id = '{id}'), zeroblob(16))");
            let sql = format!(
                "INSERT INTO api_token (id, hash, create_time, expire_time, account)
                VALUES ('{}', zeroblob(32), 0, 0, {uid})",
                token_id(&owner)
            );
            alter(&vault.database(), &sql);
        }
        for account in DISABLED {
            let (operator, id) = (LocalOperator::beside_the_store(), id(account));
            vault.vault.disable_account(&operator.scope(), &id, &Intent::default()).await.unwrap();
        }
    }

    /// A token with these roles in our accounts.
    async fn token(&self, roles: &[Role]) -> String {
        let token = self.vault.token("acme", roles).await;
        if !roles.is_empty() {
            self.vault.bind("quiet", &principal_of(&token), roles).await;
        }
        token
    }

    async fn bind(&self, principal: &str, roles: &[Role]) {
        for account in OURS {
            self.vault.bind(account, principal, roles).await;
        }
    }

    async fn make_operator(&self, principal: &str) {
        let scope = LocalOperator::beside_the_store().owner_scope(Owner::Vault);
        let principal = Principal::parse(principal).unwrap();
        let (roles, intent) = (vec![Role::Operator], Intent::default());
        self.vault.vault.set_role_binding(&scope, principal, roles, &intent).await.unwrap();
    }

    async fn unbind(&self, principal: &str) {
        for account in OURS {
            let operator = LocalOperator::beside_the_store();
            let account =
                self.vault.vault.get_account(&operator.scope(), &id(account)).await.unwrap();
            let scope = operator.owner_scope(Owner::Account(account));
            let principal = Principal::parse(principal).unwrap();
            let intent = Intent::default();
            self.vault.vault.delete_role_binding(&scope, principal, &intent).await.unwrap();
        }
    }
}

fn id(account: &str) -> ResourceId {
    ResourceId::parse(account).unwrap()
}

fn principal_of(token: &str) -> String {
    format!("token:{}", token.split('_').nth(1).unwrap())
}

/// With these roles in our accounts.
fn known(operator: bool, roles: &[Role]) -> Who {
    let roles = OURS
        .iter()
        .flat_map(|account| roles.iter().map(|role| ((*account).to_owned(), role.as_str())));
    Who::Known { operator, roles: roles.collect() }
}

/// A token whose checksum is right.
fn summed(body: &str) -> String {
    let sum = hex::encode(Sha256::digest(body.as_bytes()));
    format!("{body}_{}", &sum[..8])
}

const EVERYTHING: [Role; 7] = [
    Role::Reader,
    Role::Rotator,
    Role::TokenWriter,
    Role::Verifier,
    Role::SipClient,
    Role::Auditor,
    Role::AccountAdmin,
];

/// Values of `authorization` that prove nothing, made from a good token, and why.
fn bad(good: &str) -> Vec<(&'static str, Vec<String>)> {
    let bearer = |token: &str| vec![format!("Bearer {token}")];
    let (head, tail) = good.split_at(40);
    let flip = if tail.starts_with('0') { "1" } else { "0" };
    let id = good.rsplitn(3, '_').nth(2).unwrap();
    let zeros = "0".repeat(64);
    vec![
        ("no token", vec![]),
        ("an empty header", vec![String::new()]),
        ("the scheme alone", vec!["Bearer".to_owned()]),
        ("a token without a scheme", vec![good.to_owned()]),
        ("a token of another scheme", vec![format!("Basic {good}")]),
        ("something else as a token", bearer("x")),
        ("a token of empty parts", bearer("cv1___")),
        ("a token that is cut", bearer(&good[..good.len() - 1])),
        ("a token that goes on", bearer(&format!("{good}0"))),
        ("a token with a flipped digit", bearer(&format!("{head}{flip}{}", &tail[1..]))),
        ("a token in capitals", bearer(&good.to_uppercase())),
        ("a token of an unknown id", bearer(&summed(&format!("cv1_{}_{zeros}", "0".repeat(24))))),
        ("a token with a wrong secret", bearer(&summed(&format!("{id}_{zeros}")))),
        ("a token twice", [bearer(good), bearer(good)].concat()),
        ("a token and something else", [bearer(good), vec!["x".to_owned()]].concat()),
        ("two tokens in one header", vec![format!("Bearer {good}, Bearer {good}")]),
    ]
}

impl World {
    /// Who calls in the clear: all with tokens, good and bad.
    pub(super) async fn callers_with_tokens(&self) -> Vec<Caller> {
        let operator = LocalOperator::beside_the_store();
        let (acme, none) = (OwnerName::Account(id("acme")), SignedDuration::ZERO);
        let expired = self.vault.vault.add_api_token(&operator, &acme, &EVERYTHING, none).await;
        let expired = exposed(&expired.unwrap().to_text());
        let (good, revoked) = (self.token(&EVERYTHING).await, self.token(&EVERYTHING).await);
        let of_revoked = TokenId::parse(revoked.split('_').nth(1).unwrap()).unwrap();
        self.vault.vault.revoke_local_api_token(&operator, &of_revoked).await.unwrap();
        let ended = [("an expired token", expired), ("a revoked token", revoked)];
        let ended = ended.map(|(what, token)| (what, vec![format!("Bearer {token}")]));
        let unproven = bad(&good).into_iter().chain(ended).map(|(what, authorization)| Caller {
            what: what.to_owned(),
            who: Who::Unproven,
            principal: String::new(),
            authorization,
            leaf: None,
        });
        let mut callers: Vec<_> = unproven.collect();

        let mut sets: Vec<(String, Vec<Role>)> = Vec::new();
        sets.extend(Role::ALL.map(|(role, name)| (name.to_owned(), vec![role])));
        sets.push(("verifier and auditor".to_owned(), vec![Role::Verifier, Role::Auditor]));
        sets.push(("all roles".to_owned(), EVERYTHING.to_vec()));
        sets.push(("no role".to_owned(), Vec::new()));
        for (what, roles) in sets {
            let token = self.token(&roles).await;
            callers.push(Caller::with_token(what, &token, known(false, &roles)));
        }
        let former = self.token(&EVERYTHING).await;
        self.unbind(&principal_of(&former)).await;
        callers.push(Caller::with_token("a former member", &former, known(false, &[])));
        for roles in [&[][..], &[Role::Reader]] {
            let token = self.token(roles).await;
            self.make_operator(&principal_of(&token)).await;
            let what = format!("an operator with {} other roles", roles.len());
            callers.push(Caller::with_token(what, &token, known(true, roles)));
        }
        callers
    }

    /// Who calls over TLS: with certificates, good and bad, and some with a token beside one.
    pub(super) async fn callers_with_certificates(&self) -> Vec<Caller> {
        let Tls { ours, others, .. } = self.tls.as_ref().unwrap();
        let admin = "spiffe://example.org/admin";
        let second = "spiffe://example.org/second";
        self.bind(admin, &EVERYTHING).await;
        let unconnected = [
            ("of an authority that nobody named", Authority::new().leaf(&[admin])),
            ("of another domain's authority", others.leaf(&[admin])),
            ("of a domain that nobody trusts", ours.leaf(&["spiffe://third.org/admin"])),
            ("with two SANs", ours.leaf(&[admin, second])),
            ("with a second SAN of another kind", ours.leaf(&[admin, "https://example.org/"])),
            ("with a DNS SAN alone", ours.named("example.org")),
            ("without a SAN", ours.leaf(&[])),
            ("that has ended", ours.leaf_with(&[admin], certificates::ended)),
            ("that has not begun", ours.leaf_with(&[admin], certificates::not_begun)),
        ];
        let mut callers: Vec<_> = unconnected
            .into_iter()
            .map(|(what, leaf)| {
                Caller::with_leaf(format!("a certificate {what}"), leaf, "", Who::Unconnected)
            })
            .collect();

        let token = self.token(&[Role::Auditor]).await;
        let ends = ours.leaf_with(&[admin], |params| {
            params.not_after = rcgen::date_time_ymd(2036, 1, 1);
        });
        let what = "a certificate that ended on its connection";
        callers.push(Caller::with_leaf(what, ends, "", Who::Unproven));
        for (what, authorization) in bad(&token) {
            let certified = !authorization.is_empty();
            let what = format!("{what} {} a certificate", if certified { "beside" } else { "nor" });
            let leaf = certified.then(|| ours.leaf(&[admin]));
            let (who, principal) = (Who::Unproven, String::new());
            callers.push(Caller { what, who, principal, authorization, leaf });
        }
        let what = "an auditor's token beside an admin's certificate";
        let mut both = Caller::with_token(what, &token, known(false, &[Role::Auditor]));
        both.leaf = Some(ours.leaf(&[admin]));
        callers.push(both);
        callers.push(Caller::with_token("a token", &token, known(false, &[Role::Auditor])));
        callers.extend(self.workloads(ours, others).await);
        callers
    }

    async fn workloads(&self, ours: &Authority, others: &Authority) -> Vec<Caller> {
        let mut callers = Vec::new();
        let mut add = |id: &str, what: String, who: Who| {
            let authority = if id.contains("other.org") { others } else { ours };
            callers.push(Caller::with_leaf(what, authority.leaf(&[id]), id, who));
        };
        for (role, name) in Role::ALL {
            let exact = format!("spiffe://example.org/exact/{name}");
            self.bind(&exact, &[role]).await;
            add(&exact, format!("the workload of a {name}"), known(false, &[role]));
            let path = format!("spiffe://example.org/below/{name}");
            self.bind(&format!("{path}/*"), &[role]).await;
            let below = format!("{path}/a/b");
            add(&below, format!("a workload below a {name}'s path"), known(false, &[role]));
        }
        let both = "spiffe://example.org/below/auditor/both";
        self.bind(both, &[Role::Verifier]).await;
        let roles = [Role::Verifier, Role::Auditor];
        add(both, "a workload with roles of its own below a path".to_owned(), known(false, &roles));
        let former = "spiffe://example.org/former";
        self.bind(former, &EVERYTHING).await;
        self.unbind(former).await;
        for (id, what) in [
            (former, "a former workload"),
            ("spiffe://example.org/below/account-admin", "the end of a path itself"),
            ("spiffe://example.org/below/account-admins/a", "a neighbour of a path"),
            ("spiffe://other.org/exact/account-admin", "the same path in another domain"),
        ] {
            add(id, what.to_owned(), known(false, &[]));
        }
        let operator = "spiffe://example.org/operator";
        self.make_operator(operator).await;
        add(operator, "the workload of an operator".to_owned(), known(true, &[]));
        self.make_operator("spiffe://example.org/operators/*").await;
        let below = "spiffe://example.org/operators/a";
        add(below, "a workload below operators' path".to_owned(), known(true, &[]));
        callers
    }
}

impl Caller {
    fn with_token(what: impl Into<String>, token: &str, who: Who) -> Self {
        Self {
            what: what.into(),
            who,
            principal: principal_of(token),
            authorization: vec![format!("Bearer {token}")],
            leaf: None,
        }
    }

    fn with_leaf(what: impl Into<String>, leaf: Leaf, id: &str, who: Who) -> Self {
        Self {
            what: what.into(),
            who,
            principal: id.to_owned(),
            authorization: Vec::new(),
            leaf: Some(leaf),
        }
    }
}
