//! Who may call what: every RPC with every kind of caller, aimed at everything that it could be aimed at.
//!
//! The RPCs come from the descriptors, and what is right from `reference`, which states the rules a second time. A
//! cell is a real call over HTTP/2; what came back is looked at byte by byte, what was recorded entry by entry, and
//! what is stored row by row.

mod callers;
mod random;
mod reference;
pub(crate) mod rows;

use std::collections::{BTreeMap, BTreeSet};

use credvault::access::{ACTIONS, Role};
use credvault::grpc::proto::{DESCRIPTORS, GetCredentialRequest};
use jiff::SignedDuration;
use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tonic::Code;

use crate::support::calls::raw;
use crate::support::raw::{Answer, Raw, framed};
use crate::support::{Clients, TestVault, channel, outcome};
use callers::{ACCOUNTS, Caller, World};
use reference::{Aim, Verdict, decide};
pub(crate) use rows::Rpc;

const UNAUTHENTICATED: &str = "Unauthenticated UNAUTHENTICATED";

/// What a call may be aimed at: where the caller has roles, if he has any; where he has none; and nothing at all.
const AIMS: [Aim<'_>; 7] = [
    Aim { owner: "acme", exists: true, disabled: false },
    Aim { owner: "quiet", exists: true, disabled: true },
    Aim { owner: "other", exists: true, disabled: false },
    Aim { owner: "blank", exists: true, disabled: false },
    Aim { owner: "still", exists: true, disabled: true },
    Aim { owner: "ghost", exists: false, disabled: false },
    Aim { owner: "vault", exists: true, disabled: false },
];

/// Those that nobody may tell apart who belongs to none of them: of others, with everything in it, with nothing,
/// disabled; and of nobody.
const STRANGE: [&str; 4] = ["other", "blank", "still", "ghost"];

/// RPCs that can name the vault itself, beside accounts.
const OF_OWNERS: usize = 8;

impl Aim<'_> {
    /// The owner's name.
    fn name(&self) -> String {
        if self.owner == "vault" {
            return self.owner.to_owned();
        }
        format!("accounts/{}", self.owner)
    }
}

/// The RPCs of the contract itself.
pub(crate) fn rpcs() -> Vec<Rpc> {
    rows::of(&FileDescriptorSet::decode(DESCRIPTORS).unwrap())
}

/// RPCs of a contract that nobody wrote a row for.
fn without_row(descriptors: &FileDescriptorSet) -> Vec<String> {
    let rpcs = rows::of(descriptors).into_iter();
    let bare = rpcs.filter(|rpc| {
        rows::row(&rpc.method, "accounts/acme").is_none_or(|(call, _)| call.method() != rpc.method)
    });
    bare.map(|rpc| rpc.method).collect()
}

#[test]
fn every_rpc_has_an_action_and_a_row() {
    let methods: BTreeSet<_> = rpcs().into_iter().map(|rpc| rpc.method).collect();
    let actions: BTreeSet<_> = ACTIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(methods, actions);
    let contract = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    assert_eq!(without_row(&contract), [""; 0]);
    let of_vault = rpcs().into_iter().filter(|rpc| rows::row(&rpc.method, "vault").is_some());
    assert_eq!(of_vault.count(), OF_OWNERS);
}

#[test]
fn planted_rpc_without_a_row_is_reported() {
    let mut contract = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let ours = contract.file.iter_mut().find(|file| !file.service.is_empty()).unwrap();
    let new =
        MethodDescriptorProto { name: Some("ExportSecrets".to_owned()), ..Default::default() };
    ours.service[0].method.push(new);
    assert_eq!(without_row(&contract), ["ExportSecrets"]);
}

/// Chain, method, outcome, principal, and resource of an audit entry.
type Recorded = (String, String, String, String, String);

/// The entries that were added since the last look, in order within each chain.
struct Log<'a> {
    vault: &'a TestVault,
    seen: BTreeMap<String, i64>,
}

impl Log<'_> {
    fn of(vault: &TestVault) -> Log<'_> {
        let mut log = Log { vault, seen: BTreeMap::new() };
        log.news();
        log
    }

    fn news(&mut self) -> Vec<Recorded> {
        let chain = "coalesce((SELECT id FROM account WHERE uid = chain), iif(chain = zeroblob(16), 'vault', '?'))";
        let mut news = Vec::new();
        for name in ACCOUNTS.into_iter().chain(["vault", "?"]) {
            let seen = self.seen.entry(name.to_owned()).or_default();
            // A chain cannot be named in a query of one column otherwise.
            let sql = format!(
                "SELECT json_array(sequence, method, outcome, principal, resource) FROM audit_entry
                WHERE {chain} = '{name}' AND sequence > {seen} ORDER BY sequence"
            );
            for entry in self.vault.column::<String>(&sql) {
                let (sequence, method, outcome, principal, resource): (i64, _, _, _, _) =
                    serde_json::from_str(&entry).unwrap();
                *seen = sequence;
                news.push((name.to_owned(), method, outcome, principal, resource));
            }
        }
        news
    }
}

/// What a caller sees of an answer, without what he asked for: the names are of one length.
fn seen(answer: &Answer, owner: &str) -> String {
    let (head, data, trailers) = &answer.bytes;
    let headers = head.iter().chain(trailers).map(|(name, value)| {
        let value = if name == "grpc-status-details-bin" { decoded(value) } else { value.clone() };
        format!("{name}: {}\n", String::from_utf8_lossy(&value))
    });
    let text: String = headers.collect();
    let data = String::from_utf8_lossy(data);
    let seen = format!("{}\n{text}{data}", answer.http);
    let token = rows::token_id(&format!("accounts/{owner}"));
    seen.replace(&format!("accounts/{owner}"), "accounts/*****").replace(&token, "*")
}

/// A binary header (gRPC over HTTP/2, "Binary-Header").
fn decoded(value: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    use base64::alphabet::STANDARD;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let either = DecodePaddingMode::Indifferent;
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(either);
    GeneralPurpose::new(&STANDARD, config).decode(value).unwrap()
}

/// What happened in the cells of one vault.
#[derive(Default)]
struct Tally {
    cells: BTreeMap<String, u64>,
    callers: usize,
    /// All that was said to those who do not say who they are.
    unauthenticated: BTreeSet<String>,
}

/// Makes every call of every caller.
async fn walk(world: &World, callers: &[Caller]) -> Tally {
    let mut tally = Tally { callers: callers.len(), ..Tally::default() };
    let (state, mut log) = (world.vault.state(), Log::of(&world.vault));
    for caller in callers {
        let connection = world.connect(caller).await;
        for rpc in rpcs() {
            let what = format!("{} calls {}", caller.what, rpc.method);
            let asked = world.vault.twilio.calls();
            let (mut expected, mut strange, mut may_ask) = (Vec::new(), BTreeMap::new(), false);
            for aim in AIMS {
                let Some((call, past_the_door)) = rows::row(&rpc.method, &aim.name()) else {
                    assert_eq!(aim.owner, "vault", "{} has no row", rpc.method);
                    continue;
                };
                let verdict = decide(&rpc, &caller.who, aim);
                let answer = match &connection {
                    Ok(connection) => send(connection, &rpc, call.encode()).await,
                    Err(error) => Err(error.clone()),
                };
                let found = answer.as_ref().map_or("no connection", |answer| &answer.outcome);
                let (told, chain) = told(verdict, past_the_door, aim);
                assert_eq!(found, told, "{what} in {}: {verdict:?}", aim.owner);
                *tally.cells.entry(format!("{verdict:?}")).or_default() += 1;
                let recorded = |chain: &str, outcome: &str| -> Recorded {
                    let resource = rows::resource(&rpc.method, &aim.name());
                    let (chain, outcome) = (chain.to_owned(), outcome.to_owned());
                    (chain, rpc.method.clone(), outcome, caller.principal.clone(), resource)
                };
                if let Some(chain) = chain {
                    expected.push(recorded(chain, told.split(' ').nth(1).unwrap()));
                }
                if verdict == Verdict::Allowed && rows::LEAVES_AN_ENTRY.contains(&&*rpc.method) {
                    expected.push(recorded(aim.owner, "OK"));
                }
                may_ask |= verdict == Verdict::Allowed;
                let Ok(answer) = answer else { continue };
                if verdict == Verdict::Unauthenticated {
                    tally.unauthenticated.insert(format!("{:?}", answer.bytes));
                }
                if STRANGE.contains(&aim.owner) && verdict != Verdict::Allowed {
                    strange.insert(aim.owner, seen(&answer, aim.owner));
                }
            }
            let differing: BTreeSet<_> = strange.values().collect();
            assert!(differing.len() <= 1, "{what}: {strange:#?}");
            // The log is read chain by chain.
            let order = |chain: &str| ACCOUNTS.iter().position(|name| *name == chain).unwrap_or(99);
            expected.sort_by_key(|(chain, ..)| order(chain));
            let now = world.vault.state();
            let differs = |rows: &[String], others: &[String]| -> Vec<_> {
                rows.iter().filter(|row| !others.contains(row)).cloned().collect()
            };
            let (gone, come) = (differs(&state, &now), differs(&now, &state));
            assert!(now == state, "{what}: was stored: {gone:?}, is stored: {come:?}");
            assert_eq!(log.news(), expected, "{what}: what is recorded");
            assert!(may_ask || world.vault.twilio.calls() == asked, "{what}: asks the carrier");
        }
    }
    tally
}

async fn send(connection: &Raw, rpc: &Rpc, message: Vec<u8>) -> Result<Answer, String> {
    let answer = connection.try_call(connection.head(&rpc.path), framed(&message)).await;
    answer.map_err(|error| error.to_string())
}

/// What a caller is told, and the chain in which that is recorded.
fn told<'a>(
    verdict: Verdict,
    past_the_door: &'static str,
    aim: Aim<'a>,
) -> (&'static str, Option<&'a str>) {
    match verdict {
        Verdict::NoConnection => ("no connection", None),
        Verdict::Unauthenticated => (UNAUTHENTICATED, None),
        Verdict::NotFound => ("NotFound NOT_FOUND", Some("vault")),
        Verdict::NotOperator => ("PermissionDenied ROLE_MISSING", Some("vault")),
        Verdict::RoleMissing => ("PermissionDenied ROLE_MISSING", Some(aim.owner)),
        Verdict::Disabled => ("FailedPrecondition ACCOUNT_DISABLED", Some(aim.owner)),
        Verdict::Allowed => (past_the_door, None),
    }
}

/// Those who do not say who they are, or may no longer be it, have one entry a minute each, with how often they called.
async fn counted_once(world: &World, expected: u64) {
    let mut log = Log::of(&world.vault);
    world.vault.clock.advance(SignedDuration::from_mins(1));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let mut callers = BTreeSet::new();
    loop {
        let detail = "SELECT detail FROM audit_entry WHERE method = 'Authenticate'";
        let details = world.vault.column::<String>(detail);
        let count = |detail: &String| detail.split(' ').next()?.parse::<u64>().ok();
        let counted: u64 = details.iter().map(|detail| count(detail).unwrap()).sum();
        for (chain, method, outcome, principal, resource) in log.news() {
            let found = [&*chain, &*method, &*outcome, &*resource];
            assert_eq!(found, ["vault", "Authenticate", "UNAUTHENTICATED", "vault"]);
            assert!(callers.insert(principal.clone()), "{principal} has two entries");
        }
        if counted == expected {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{counted} of {expected} in {callers:?}");
        tokio::task::yield_now().await;
    }
    assert!(callers.contains("unauthenticated") && callers.len() > 1, "{callers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_caller_gets_what_the_rules_say_in_every_cell() {
    let in_the_clear = tokio::spawn(async {
        let world = World::in_the_clear().await;
        let callers = world.callers_with_tokens().await;
        let tally = walk(&world, &callers).await;
        counted_once(&world, tally.cells["Unauthenticated"]).await;
        tally
    });
    let behind_tls = tokio::spawn(async {
        let world = World::behind_tls().await;
        let callers = world.callers_with_certificates().await;
        let tally = walk(&world, &callers).await;
        counted_once(&world, tally.cells["Unauthenticated"]).await;
        tally
    });
    let (in_the_clear, behind_tls) = (in_the_clear.await.unwrap(), behind_tls.await.unwrap());
    let per_caller = rpcs().len() * (AIMS.len() - 1) + OF_OWNERS;
    for (door, tally) in [("in the clear", &in_the_clear), ("behind TLS", &behind_tls)] {
        let cells: u64 = tally.cells.values().sum();
        println!("{door}: {} callers, {cells} cells: {:?}", tally.callers, tally.cells);
        assert_eq!(cells, u64::try_from(tally.callers * per_caller).unwrap());
    }
    let told = &in_the_clear.unauthenticated | &behind_tls.unauthenticated;
    assert_eq!(told.len(), 1, "one answer to all who do not say who they are: {told:?}");
}

#[cfg(feature = "planted-defects")]
#[test]
fn planted_mistakes_of_the_door_are_caught() {
    let matrix = "authorization::every_caller_gets_what_the_rules_say_in_every_cell";
    for (defect, cell) in [
        ("skip-scope", "reader calls GetProvider in "),
        ("wrong-role", "reader calls RotateCredential in acme"),
        ("tell-foreign", "reader calls CreateApiToken"),
        ("act-before-refusal", "reader calls DisableAccount"),
    ] {
        let said = crate::support::process::caught(matrix, defect);
        let line = said.lines().find(|line| line.contains(cell));
        println!("{defect}: {}", line.unwrap_or_else(|| panic!("not attributed: {said}")));
    }
}

#[tokio::test]
async fn what_is_missing_at_home_looks_like_what_is_missing_elsewhere() {
    let vault = TestVault::start().await;
    let token = vault.token("homes", &[Role::Reader]).await;
    let connection = Raw::connect(vault.address, &token).await;
    let answer = async |account: &str| {
        let name = format!("accounts/{account}/credentials/absent");
        let message = framed(&GetCredentialRequest { name }.encode_to_vec());
        let path = "/credvault.v1.CredentialService/GetCredential";
        seen(&connection.call(path, message).await, account)
    };
    assert_eq!(answer("homes").await, answer("ghost").await);
}

#[tokio::test]
async fn a_token_is_good_until_the_moment_it_ends() {
    let vault = TestVault::start().await;
    let token = vault.token("acme", &[Role::Reader]).await;
    let clients = Clients::new(&channel(vault.address), &token);
    let answer = async || outcome(&clients.get("accounts/acme/credentials/absent").await);
    let last_moment = SignedDuration::from_hours(24 * 30) - SignedDuration::from_micros(1);
    vault.clock.advance(last_moment);
    assert_eq!(answer().await, "NotFound NOT_FOUND");
    vault.clock.advance(SignedDuration::from_micros(1));
    assert_eq!(answer().await, UNAUTHENTICATED);
}

#[tokio::test]
async fn a_method_that_does_not_exist_is_told_to_callers_only() {
    let vault = TestVault::start().await;
    let admin = vault.token("acme", &[Role::AccountAdmin]).await;
    for (token, expected) in [("", Code::Unauthenticated), (&*admin, Code::Unimplemented)] {
        for path in ["/credvault.v1.CredentialService/GetPassword", "/x.Y/Z"] {
            let refused = raw(&vault, token, path, b"").await.unwrap_err();
            assert_eq!(refused.code(), expected, "{path}");
        }
    }
}
