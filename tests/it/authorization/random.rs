//! The same rules for role bindings that nobody would think of: random ones, decided by the product and by `reference`.

use credvault::access::spiffe::{SpiffeId, Workload};
use credvault::access::{self, Action, Caller};
use credvault::name::{OwnerName, ResourceId};
use jiff::SignedDuration;
use rusqlite::Connection;

use super::reference::{Aim, Verdict, Who, decide};
use super::rows::{self, Rpc};
use crate::support::TestVault;
use crate::support::random::Rng;

const SETS: usize = 1000;
const SEED: u64 = 0x0a11_0c8e;

/// The last is disabled, and what comes after it does not exist.
const ACCOUNTS: [&str; 4] = ["acme", "other", "third", "quiet"];

const ROLES: [&str; 8] = [
    "reader",
    "rotator",
    "token-writer",
    "verifier",
    "sip-client",
    "auditor",
    "account-admin",
    "operator",
];

/// What the product decides on an action, aimed at an account or the vault.
fn decided<A: Action>(caller: &Caller, rpc: &Rpc, aim: Aim<'_>) -> Verdict {
    use credvault::access::Denied::{AccountDisabled, NotMember, NotOperator, RoleMissing};
    let account = ResourceId::parse(aim.owner);
    let owner = match &account {
        Ok(id) if aim.owner != "vault" => OwnerName::Account(id.clone()),
        _ => OwnerName::Vault,
    };
    let of_owners = rows::row(&rpc.method, "vault").is_some();
    let about_accounts = rpc.method.ends_with("Account") || rpc.method == "ListAccounts";
    let denied = match account {
        _ if about_accounts => access::authorize_operator::<A>(caller).err(),
        Ok(id) if !of_owners => access::authorize::<A>(caller, &id).err(),
        _ => access::authorize_owner::<A>(caller, &owner).err(),
    };
    // The vault lets an operator make an account's first admin.
    let first_admin = rpc.method == "CreateApiToken" && aim.exists;
    match denied {
        Some(_) if first_admin && access::authorize_operator::<A>(caller).is_ok() => {
            Verdict::Allowed
        }
        None => Verdict::Allowed,
        Some(NotMember) => Verdict::NotFound,
        Some(NotOperator) => Verdict::NotOperator,
        Some(RoleMissing(_)) => Verdict::RoleMissing,
        Some(AccountDisabled(_)) => Verdict::Disabled,
    }
}

macro_rules! deciders {
    ($($action:ident)*) => {
        /// The product's decision by the RPC's name.
        fn by_name(method: &str) -> fn(&Caller, &Rpc, Aim<'_>) -> Verdict {
            match method {
                $(stringify!($action) => decided::<access::$action>,)*
                _ => panic!("{method} has no action here"),
            }
        }
    };
}

deciders! {
    CreateCredential GetCredential ListCredentials UpdateCredential RotateCredential DeleteCredential
    WatchCredentials ListVersions GetRotation ListRotations ConfirmRotation CancelRotation ResumeRotation
    CreateRecipientKey ListRecipientKeys
    RevokeRecipientKey GetDeliveryPolicy UpdateDeliveryPolicy
    CreateProvider GetProvider ListProviders UpdateProvider UpdateToken RotateToken VerifyProvider
    ListVerifications DeleteProvider VerifySipDigest IssueSipChallenge BatchVerifySipDigest ComputeSipDigest
    VerifyTwilioWebhook MintTwilioAccessToken GetAccessTokenPolicy UpdateAccessTokenPolicy
    ListAuditEntries CreateAccount GetAccount ListAccounts DisableAccount
    EnableAccount DeleteAccount CreateApiToken GetApiToken ListApiTokens RevokeApiToken SetRoleBinding
    ListRoleBindings DeleteRoleBinding
}

/// The workloads, with the principals that cover each of them, and some that do not.
fn workload(number: usize) -> (String, [String; 3], [String; 3]) {
    let path = format!("spiffe://example.org/w{number}");
    let id = format!("{path}/a/b");
    let covering = [id.clone(), format!("{path}/a/*"), format!("{path}/*")];
    let others =
        [format!("{path}/a"), format!("{path}/a/b/*"), format!("spiffe://example.com/w{number}/*")];
    (id, covering, others)
}

#[tokio::test]
async fn a_thousand_random_role_sets_are_decided_as_the_reference_decides() {
    let vault = TestVault::start().await;
    for account in ACCOUNTS {
        vault.token(account, &[]).await;
    }
    println!("seed {SEED:#x}");
    let mut rng = Rng::new(SEED);
    let mut sets = Vec::new();
    let mut file = Connection::open(vault.database()).unwrap();
    let transaction = file.transaction().unwrap();
    transaction.execute("UPDATE account SET disabled = 1 WHERE id = 'quiet'", []).unwrap();
    for number in 0..SETS {
        let (id, covering, others) = workload(number);
        let (mut operator, mut roles) = (false, Vec::new());
        for _ in 0..rng.below(8) {
            let counts = rng.below(4) > 0;
            let principal = if counts { &covering } else { &others }[rng.below(3)].clone();
            let place = rng.below(ACCOUNTS.len() + 1);
            let (owner, role) = match ACCOUNTS.get(place) {
                Some(account) => (*account, ROLES[rng.below(ROLES.len())]),
                None => ("", "operator"),
            };
            let sql = "INSERT OR IGNORE INTO role_binding (principal, account, role, update_time)
                VALUES (?1, coalesce((SELECT uid FROM account WHERE id = ?2), zeroblob(16)), ?3, 0)";
            transaction.execute(sql, [&principal, owner, role]).unwrap();
            match owner {
                _ if !counts => {}
                "" => operator = true,
                account => roles.push((account.to_owned(), role)),
            }
        }
        sets.push((id, Who::Known { operator, roles }));
    }
    transaction.commit().unwrap();

    let mut met = std::collections::BTreeMap::new();
    let expire_time = vault.now() + SignedDuration::from_secs(1);
    let rpcs = super::rpcs();
    for (id, who) in sets {
        let workload = Workload { id: SpiffeId::parse(&id).unwrap(), expire_time };
        let caller = vault.vault.authenticate_workload(&workload, String::new()).await.unwrap();
        for rpc in &rpcs {
            for owner in ACCOUNTS.into_iter().chain(["ghost", "vault"]) {
                if owner == "vault" && rows::row(&rpc.method, "vault").is_none() {
                    continue;
                }
                let (exists, disabled) = (owner != "ghost", owner == "quiet");
                let aim = Aim { owner, exists, disabled };
                let expected = decide(rpc, &who, aim);
                let found = by_name(&rpc.method)(&caller, rpc, aim);
                assert_eq!(
                    found, expected,
                    "{id} calls {} in {owner}: {:?}",
                    rpc.method, caller.standing
                );
                *met.entry(format!("{expected:?}")).or_insert(0) += 1;
            }
        }
    }
    println!("{SETS} sets: {met:?}");
    assert_eq!(met.len(), 5, "every verdict is met: {met:?}");
}
