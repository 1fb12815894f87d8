//! Ten thousand single bits flipped in the closed database file: an error, or the right answer, and
//! never a password that is not the user's own.
//!
//! Each flip has a copy of the file and a vault of its own. Half of the bits are drawn from the
//! whole file, half from its bytes that are not zero, where the rows are. Ids and usernames differ
//! by single bits, so that a flip can turn one into another. One file in nine is mapped.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use credvault::access::{
    GetCredential, ListAuditEntries, ListCredentials, Role, RotateCredential, VerifySipDigest,
};
use credvault::clock::{Clock, MockClock};
use credvault::credential::{CredentialFilter, Realm, Username};
use credvault::crypto::Sealer;
use credvault::crypto::kek_source::{KekSource as _, KeyFile};
use credvault::digest::{Algorithm, Digest, Method, Nonce, Response, Uri};
use credvault::grpc::proto::{CreateCredentialRequest, Credential};
use credvault::name::{OwnerName, ResourceId};
use credvault::recipient::Recipient;
use credvault::secret::PasswordLength;
use credvault::store::{self, Location, Store};
use credvault::vault::{
    CallLimits, Error, Intent, Matched, NewRotation, Outgoing, PageRequest, Presented, Vault,
    Verdict,
};
use jiff::{SignedDuration, Timestamp};

use crate::support::random::Rng;
use crate::support::{TestVault, exposed, md5_response};

const SEED: u64 = 0x0000_F11B;
const FLIPS: usize = 10_000;
const THREADS: usize = 2;

/// As many reads as a reader maps the file after (docs/adr/0030).
const MAPS: usize = 1_000;

/// A flip takes milliseconds; one that takes this long hangs.
const HANG: Duration = Duration::from_mins(1);

const USERS: [&str; 4] = ["desk-1", "desk-3", "desk-5", "desk-7"];
const REALM: &str = "sip.test";

/// What became of a flip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Everything worked.
    Right,
    /// The file was refused as a whole.
    NotOpened,
    /// The token or its roles did not hold.
    NotAuthorized,
    /// Some password was refused as damaged.
    Damaged,
    /// Some call answered another error, or a right password was not accepted.
    Refused,
}

/// How many flips ended how.
#[derive(Debug)]
struct Report(BTreeMap<Outcome, usize>);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} flips, no wrong secret: {:?}", self.0.values().sum::<usize>(), self.0)
    }
}

/// A user's password, as it is and as a phone would use it to come in as `user`.
struct Claim {
    user: &'static str,
    /// Whose password it is.
    owner: &'static str,
    presented: Presented,
}

impl Claim {
    fn new(user: &'static str, owner: &'static str, password: &str) -> Self {
        let digest = Digest {
            username: Username::parse(user).unwrap(),
            realm: Realm::parse(REALM).unwrap(),
            method: Method::parse("REGISTER").unwrap(),
            uri: Uri::parse(&format!("sip:{REALM}")).unwrap(),
            nonce: Nonce::parse("n0nce").unwrap(),
            auth: None,
            algorithm: Algorithm::MD5,
        };
        let response = md5_response(user, REALM, password, "n0nce");
        let response = Response::parse(&response, Algorithm::MD5).unwrap();
        Self { user, owner, presented: Presented::new(digest, response) }
    }
}

/// A closed database, and what is known of it.
struct Image {
    bytes: Vec<u8>,
    key_file: KeyFile,
    time: Timestamp,
    token: String,
    claims: Vec<Claim>,
    /// Copies that were read from a map.
    mapped: AtomicUsize,
}

async fn image(dir: &Path) -> Image {
    let vault = TestVault::start().await;
    let token = vault.token("acme", &[Role::AccountAdmin, Role::Verifier]).await;
    let mut acme = vault.acme().await;
    let mut passwords = Vec::new();
    for user in USERS {
        let (username, realm) = (user.to_owned(), REALM.to_owned());
        let request = CreateCredentialRequest {
            parent: "accounts/acme".to_owned(),
            credential_id: user.to_owned(),
            credential: Some(Credential { username, realm, ..Credential::default() }),
            ..CreateCredentialRequest::default()
        };
        let created = acme.credentials.create_credential(request).await.unwrap().into_inner();
        passwords.push((user, created.issued.unwrap().password));
    }
    let time = vault.now();
    let (files, ..) = vault.stop().await;
    let key_file = dir.join("flip.key");
    fs::copy(files.path().join("data.key"), &key_file).unwrap();
    let claims = USERS.iter().flat_map(|user| {
        passwords.iter().map(|(owner, password)| Claim::new(user, owner, password))
    });
    Image {
        bytes: fs::read(crate::support::database(files.path())).unwrap(),
        key_file: KeyFile::at(key_file),
        time,
        token,
        claims: claims.collect(),
        mapped: AtomicUsize::new(0),
    }
}

impl Image {
    /// Bits to flip, as positions in the file.
    fn positions(&self, rng: &mut Rng) -> Vec<usize> {
        let alive: Vec<_> = (0..self.bytes.len()).filter(|place| self.bytes[*place] != 0).collect();
        let mut draw = |number: usize| {
            let byte = if number.is_multiple_of(2) {
                rng.below(self.bytes.len())
            } else {
                alive[rng.below(alive.len())]
            };
            byte * 8 + rng.below(8)
        };
        (0..FLIPS).map(&mut draw).collect()
    }
}

/// Opens the copy at `path` and does everything with it. `Err`: what must never be.
async fn use_copy(image: Arc<Image>, path: PathBuf, mapped: bool) -> Result<Outcome, String> {
    let clock: Arc<dyn Clock> = Arc::new(MockClock::at(image.time));
    let Ok(store) = store::open(&Location::Sqlite(path), Arc::clone(&clock)) else {
        return Ok(Outcome::NotOpened);
    };
    let identity = store.identity();
    let keyring = image.key_file.load().map_err(|error| error.to_string())?;
    let outcome = match Sealer::open_vault(keyring, identity.uid, &identity.root) {
        Err(_) => Ok(Outcome::NotOpened),
        Ok(sealer) => {
            let shared: Arc<dyn Store> = Arc::clone(&store);
            let vault = Vault::new(shared, sealer, Vec::new(), CallLimits::default(), clock);
            call_everything(&vault, &image, mapped).await
        }
    };
    store.close().await;
    outcome
}

/// Reads until the file is mapped, should no read be refused, and counts the copy if it is.
async fn have_the_file_mapped(vault: &Vault, caller: &credvault::access::Caller, image: &Image) {
    let (acme, desk) = (ResourceId::parse("acme").unwrap(), ResourceId::parse(USERS[0]).unwrap());
    if let Ok(scope) = vault.authorize::<GetCredential>(caller, &acme, "accounts/acme").await {
        for _ in 0..MAPS {
            let _ = vault.get_credential(&scope, &desk).await;
        }
    }
    if fs::read_to_string("/proc/self/maps").is_ok_and(|maps| maps.contains("/credvault.db\n")) {
        image.mapped.fetch_add(1, Ordering::Relaxed);
    }
}

async fn call_everything(vault: &Vault, image: &Image, mapped: bool) -> Result<Outcome, String> {
    let Ok(caller) = vault.authenticate(&image.token, String::new()).await else {
        return Ok(Outcome::NotAuthorized);
    };
    if mapped {
        have_the_file_mapped(vault, &caller, image).await;
    }
    let acme = ResourceId::parse("acme").unwrap();
    let name = "accounts/acme";
    let scope = vault.authorize::<VerifySipDigest>(&caller, &acme, name).await;
    let verify = scope.map_err(|_| Outcome::NotAuthorized);
    let scope = vault.authorize::<RotateCredential>(&caller, &acme, name).await;
    let rotate = scope.map_err(|_| Outcome::NotAuthorized);
    let (Ok(verify), Ok(rotate)) = (verify, rotate) else {
        return Ok(Outcome::NotAuthorized);
    };

    let mut outcome = Outcome::Right;
    for claim in &image.claims {
        let found = vault.verify_sip_digest(&verify, &claim.presented).await;
        outcome = outcome.max(judge(claim, found.map(Verdict::matched))?);
    }
    outcome = outcome.max(read_everything(vault, &caller, &acme).await?);

    // A new password is the user's own from then on, and the old one is nobody's.
    let first = ResourceId::parse(USERS[0]).unwrap();
    let intent = Intent::default();
    let how = NewRotation {
        length: PasswordLength::parse(0).unwrap(),
        overlap: SignedDuration::ZERO,
        require_confirmation: false,
        recipient: Recipient::Caller,
    };
    match vault.rotate_credential(&rotate, &first, None, how, &intent).await {
        Ok(made) => {
            let Some(Outgoing::Issued(issued)) = made.secret else {
                return Err("no password was issued".to_owned());
            };
            let password = exposed(&issued.into_parts().0);
            let claim = Claim::new(USERS[0], USERS[0], &password);
            let found = vault.verify_sip_digest(&verify, &claim.presented).await;
            outcome = outcome.max(judge(&claim, found.map(Verdict::matched))?);
            let old = &image.claims[0];
            if let Ok(Verdict::Valid(_)) = vault.verify_sip_digest(&verify, &old.presented).await {
                return Err("a replaced password was accepted".to_owned());
            }
        }
        Err(error) => outcome = outcome.max(refused(&error)?),
    }
    Ok(outcome)
}

/// What a verification says of the file.
fn judge(claim: &Claim, found: Result<Option<Matched>, Error>) -> Result<Outcome, String> {
    let Claim { user, owner, .. } = claim;
    match found {
        Ok(Some(_)) if user != owner => {
            Err(format!("WRONG SECRET: {user} was let in with the password of {owner}"))
        }
        Ok(Some(matched)) if matched.credential.id.as_str() != *user => {
            Err(format!("WRONG SECRET: {user} was let in as {}", matched.credential))
        }
        Ok(None) if user == owner => Ok(Outcome::Refused),
        Ok(_) => Ok(Outcome::Right),
        Err(error) => refused(&error),
    }
}

fn refused(error: &Error) -> Result<Outcome, String> {
    match error {
        Error::RecordDamaged(_) => Ok(Outcome::Damaged),
        Error::Internal(cause) => Err(format!("an internal error: {cause}")),
        _ => Ok(Outcome::Refused),
    }
}

async fn read_everything(
    vault: &Vault,
    caller: &credvault::access::Caller,
    acme: &ResourceId,
) -> Result<Outcome, String> {
    let name = "accounts/acme";
    let page = || PageRequest { size: 200, token: String::new(), arguments: Vec::new() };
    let mut outcome = Outcome::Right;
    if let Ok(scope) = vault.authorize::<GetCredential>(caller, acme, name).await {
        for user in USERS {
            let id = ResourceId::parse(user).unwrap();
            if let Err(error) = vault.get_credential(&scope, &id).await {
                outcome = outcome.max(refused(&error)?);
            }
        }
    }
    if let Ok(scope) = vault.authorize::<ListCredentials>(caller, acme, name).await
        && let Err(error) =
            vault.list_credentials(&scope, CredentialFilter::default(), page()).await
    {
        outcome = outcome.max(refused(&error)?);
    }
    let owner = OwnerName::Account(acme.clone());
    if let Ok(scope) = vault.authorize_owner::<ListAuditEntries>(caller, &owner, name).await
        && let Err(error) = vault.list_audit_entries(&scope, None, page()).await
    {
        outcome = outcome.max(refused(&error)?);
    }
    Ok(outcome)
}

/// One flip in a folder of its own.
fn flip(
    runtime: &tokio::runtime::Runtime,
    image: &Arc<Image>,
    dir: &Path,
    (number, position): (usize, usize),
) -> Result<Outcome, String> {
    fs::DirBuilder::new().mode(0o700).create(dir).unwrap();
    let path = dir.join("credvault.db");
    let mut bytes = image.bytes.clone();
    bytes[position / 8] ^= 1 << (position % 8);
    // A copy for its owner alone, as the store asks.
    let mut file = fs::OpenOptions::new();
    let mut file = file.write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(&bytes).unwrap();
    // Nine is odd: of both halves.
    let mapped = number.is_multiple_of(9);
    let used = use_copy(Arc::clone(image), path, mapped);
    let used = runtime.block_on(async { tokio::spawn(used).await });
    fs::remove_dir_all(dir).unwrap();
    used.map_err(|panic| format!("PANIC: {panic}"))?
}

/// Flips every position; the first thing that must never be ends it.
fn flips(image: &Arc<Image>, dir: &Path, positions: &Arc<Vec<usize>>) -> Result<Report, String> {
    let (outcomes, done) = mpsc::channel();
    let next = Arc::new(AtomicUsize::new(0));
    for _ in 0..THREADS {
        let (image, positions, dir) = (Arc::clone(image), Arc::clone(positions), dir.to_owned());
        let (outcomes, next) = (outcomes.clone(), Arc::clone(&next));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(position) = positions.get(number) else { return };
                let dir = dir.join(number.to_string());
                let outcome = flip(&runtime, &image, &dir, (number, *position));
                let place = format!("bit {} of byte {}", position % 8, position / 8);
                let outcome = outcome.map_err(|problem| format!("{place}: {problem}"));
                // An error: what must never be was found, and nobody listens any more.
                if outcomes.send(outcome).is_err() {
                    return;
                }
            }
        });
    }
    let mut report = Report(BTreeMap::new());
    for number in 0..positions.len() {
        let outcome = done.recv_timeout(HANG).map_err(|_| format!("HANG after {number} flips"))?;
        *report.0.entry(outcome?).or_default() += 1;
    }
    Ok(report)
}

#[tokio::test]
async fn ten_thousand_flipped_bits_never_serve_a_wrong_secret() {
    println!("seed {SEED:#x}");
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let dir = dir.unwrap();
    let image = Arc::new(image(dir.path()).await);
    let positions = Arc::new(image.positions(&mut Rng::new(SEED)));
    let report = flips(&image, dir.path(), &positions).unwrap();
    let mapped = image.mapped.load(Ordering::Relaxed);
    println!("{report}; the file has {} bytes; {mapped} copies were mapped", image.bytes.len());
    assert!(mapped > FLIPS / 20 || cfg!(not(target_os = "linux")), "{mapped} copies were mapped");
    for outcome in [Outcome::Right, Outcome::NotOpened, Outcome::NotAuthorized, Outcome::Damaged] {
        assert!(report.0.contains_key(&outcome), "no flip hit {outcome:?}: {report}");
    }
}

/// The defect has to be in the process that opens the files: this program, once more.
#[cfg(feature = "planted-defects")]
#[test]
fn planted_trust_damaged_is_caught() {
    let harness = "tamper::flip::ten_thousand_flipped_bits_never_serve_a_wrong_secret";
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", harness, "--nocapture"])
        .env("CREDVAULT_DEFECT", "trust-damaged")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains("WRONG SECRET"), "{said}");
    println!("{}", said.lines().find(|line| line.contains("WRONG SECRET")).unwrap());
}
