//! Overwritten ciphertext is gone from the files: whoever gets them and the key opens nothing old.
//!
//! Every sealed record that ever was is read from the running store before it is overwritten. After
//! the stop no 16 bytes in a row of an old one may be anywhere in the data folder.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use credvault::grpc::proto::{
    CreateCredentialRequest, CreateProviderRequest, Credential, DeleteCredentialRequest, Provider,
    RotateCredentialRequest, TwilioProvider, UpdateCredentialRequest, UpdateTokenRequest, provider,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rusqlite::{Connection, OpenFlags};
use tonic::Status;

use crate::support::Clients;
use crate::support::fakes::twilio::FakeTwilio;
use crate::support::process::Process;
use crate::support::random::Rng;

const CREDENTIALS: usize = 500;
const PROVIDERS: usize = 10;

/// Magic, format, suite and KEK version: the same in every record, so no trace of an old one.
pub(crate) const HEADER: usize = 8;

pub(crate) const WINDOW: usize = 16;

/// What the scan found.
#[derive(Debug)]
struct Report {
    overwritten: usize,
    current: usize,
    files: usize,
    bytes: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { overwritten, current, files, bytes } = self;
        write!(
            f,
            "no trace of {overwritten} overwritten records and every byte of {current} current \
             ones in {files} files of {bytes} bytes"
        )
    }
}

fn name(number: usize) -> String {
    format!("accounts/dev/credentials/desk-{number}")
}

fn provider_name(number: usize) -> String {
    format!("accounts/dev/providers/carrier-{number}")
}

fn sid(number: usize) -> String {
    format!("AC{number:032x}")
}

/// Every sealed record that is stored now.
fn sealed(database: &Path) -> HashSet<Vec<u8>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(database, flags).unwrap();
    let sql = "SELECT sealed FROM credential UNION ALL SELECT sealed FROM provider
        UNION ALL SELECT sealed FROM secret_version WHERE sealed IS NOT NULL
        UNION ALL SELECT sealed_root FROM vault";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

fn windows<'a>(records: impl IntoIterator<Item = &'a Vec<u8>>) -> HashSet<[u8; WINDOW]> {
    let windows = records.into_iter().flat_map(|record| record[HEADER..].windows(WINDOW));
    windows.map(|window| window.try_into().unwrap()).collect()
}

/// Makes the calls, no more at once than the server takes on a connection.
async fn all<T>(
    calls: impl Iterator<Item = impl Future<Output = Result<T, Status>>>,
) -> Result<(), Status> {
    stream::iter(calls).buffer_unordered(32).try_for_each(async |_| Ok(())).await
}

async fn create(clients: &Clients, twilio: &FakeTwilio, rng: &mut Rng) -> Result<(), Status> {
    let requests = (0..CREDENTIALS).map(|number| {
        let (username, realm) = (format!("desk-{number}"), "sip.test".to_owned());
        let credential = Credential { username, realm, ..Credential::default() };
        let request = CreateCredentialRequest {
            parent: "accounts/dev".to_owned(),
            credential_id: format!("desk-{number}"),
            credential: Some(credential),
            ..CreateCredentialRequest::default()
        };
        let mut client = clients.credentials.clone();
        async move { client.create_credential(request).await }
    });
    all(requests).await?;
    let requests = (0..PROVIDERS).map(|number| {
        let (account_sid, auth_token) = (sid(number), rng.hex(32));
        twilio.add_account(&account_sid, &auth_token);
        let kind =
            Some(provider::Kind::Twilio(TwilioProvider { account_sid, ..Default::default() }));
        let request = CreateProviderRequest {
            parent: "accounts/dev".to_owned(),
            provider_id: format!("carrier-{number}"),
            provider: Some(Provider { kind, ..Provider::default() }),
            auth_token,
            ..CreateProviderRequest::default()
        };
        let mut client = clients.providers.clone();
        async move { client.create_provider(request).await }
    });
    all(requests).await
}

/// Overwrites every secret once: a third of the passwords by longer ones of the caller's.
async fn overwrite(clients: &Clients, twilio: &FakeTwilio, rng: &mut Rng) -> Result<(), Status> {
    let requests = (0..CREDENTIALS).map(|number| {
        let mut client = clients.credentials.clone();
        let chosen = (rng.below(3) == 0).then(|| rng.password(40));
        let name = name(number);
        async move {
            if chosen.is_none() {
                let request = RotateCredentialRequest { name, ..Default::default() };
                return client.rotate_credential(request).await.map(drop);
            }
            let request = UpdateCredentialRequest {
                credential: Some(Credential { name, ..Credential::default() }),
                password: chosen,
                ..UpdateCredentialRequest::default()
            };
            client.update_credential(request).await.map(drop)
        }
    });
    all(requests).await?;
    let requests = (0..PROVIDERS).map(|number| {
        let auth_token = rng.hex(32);
        twilio.set_token(&sid(number), &auth_token);
        let name = provider_name(number);
        let request = UpdateTokenRequest { name, auth_token, ..Default::default() };
        let mut client = clients.providers.clone();
        async move { client.update_token(request).await }
    });
    all(requests).await
}

async fn delete(clients: &Clients) -> Result<(), Status> {
    let requests = (0..CREDENTIALS).step_by(5).map(|number| {
        let request = DeleteCredentialRequest { name: name(number), ..Default::default() };
        let mut client = clients.credentials.clone();
        async move { client.delete_credential(request).await }
    });
    all(requests).await
}

/// Overwrites and deletes secrets in a process with `environment`, stops it, and scans its files.
async fn overwrite_and_scan(environment: &[(&str, &str)]) -> Result<Report, String> {
    let dir = tempfile::tempdir().unwrap();
    let twilio = Arc::new(FakeTwilio::start().await);
    let url = twilio.url();
    let environment = [environment, &[("CREDVAULT_UPSTREAM_TWILIO_API_URL", &url)]].concat();
    let mut rng = Rng::new(23);
    let process = Process::dev(dir.path(), &environment);
    let (clients, database) = (process.clients(), process.database());
    let data_dir = process.data_dir.clone();
    let failed = |status: Status| format!("the load failed: {status}");

    create(&clients, &twilio, &mut rng).await.map_err(failed)?;
    let mut ever = sealed(&database);
    for _ in 0..3 {
        overwrite(&clients, &twilio, &mut rng).await.map_err(failed)?;
        ever.extend(sealed(&database));
    }
    delete(&clients).await.map_err(failed)?;
    let current = sealed(&database);
    if !process.terminate().success() {
        return Err("the process did not end well".to_owned());
    }
    let old: HashSet<_> = ever.difference(&current).cloned().collect();
    scan(&data_dir, &old, &current)
}

fn scan(
    data_dir: &Path,
    old: &HashSet<Vec<u8>>,
    current: &HashSet<Vec<u8>>,
) -> Result<Report, String> {
    let (old_windows, mut missing) = (windows(old), windows(current));
    let mut report = Report { overwritten: old.len(), current: current.len(), files: 0, bytes: 0 };
    let mut hits = Vec::new();
    for entry in std::fs::read_dir(data_dir).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        report.files += 1;
        report.bytes += bytes.len();
        for window in bytes.windows(WINDOW) {
            missing.remove(window);
        }
        let found = bytes.windows(WINDOW).filter(|window| old_windows.contains(*window)).count();
        if found > 0 {
            hits.push(format!("{found} in {}", path.file_name().unwrap().display()));
        }
    }
    if !missing.is_empty() {
        return Err(format!("the scan is blind: it misses {} current windows", missing.len()));
    }
    if !hits.is_empty() {
        return Err(format!("REMNANTS: windows of overwritten records: {}", hits.join(", ")));
    }
    Ok(report)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overwritten_and_deleted_secrets_leave_nothing_in_the_files() {
    let report = overwrite_and_scan(&[]).await.unwrap();
    println!("{report}");
    // Three times each password and each token, and the passwords that were deleted.
    assert_eq!(report.overwritten, 3 * (CREDENTIALS + PROVIDERS) + CREDENTIALS / 5);
    assert_eq!(report.current, CREDENTIALS - CREDENTIALS / 5 + PROVIDERS + 1);
}

#[cfg(feature = "planted-defects")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_remnants_are_found() {
    let problem = overwrite_and_scan(&[("CREDVAULT_DEFECT", "keep-remnants")]).await.unwrap_err();
    assert!(problem.starts_with("REMNANTS"), "{problem}");
    println!("{problem}");
}
