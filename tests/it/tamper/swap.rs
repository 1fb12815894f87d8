//! Sealed records moved between any two rows, and old ones put back into their own, do not open.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use credvault::grpc::proto::{
    CreateCredentialRequest, CreateProviderRequest, Credential, Provider, RotateCredentialRequest,
    TwilioProvider, UpdateTokenRequest, VerificationStatus, VerifyProviderRequest,
    VerifySipDigestRequest, provider,
};
use rusqlite::{Connection, params};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::fakes::twilio::FakeTwilio;
use crate::support::process::Process;
use crate::support::random::Rng;
use crate::support::{Clients, md5_response};

const REALM: &str = "sip.test";

/// The rows: account, table, id (unique over all), secret version.
const ROWS: [(&str, &str, &str, i64); 12] = [
    ("dev", "credential", "alice", 1),
    ("dev", "credential", "bob", 1),
    ("dev", "credential", "carol", 2),
    ("dev", "credential", "dave", 2),
    ("dev", "credential", "erin", 3),
    ("beta", "credential", "frank", 1),
    ("beta", "credential", "grace", 2),
    ("dev", "provider", "carrier-1", 1),
    ("dev", "provider", "carrier-2", 1),
    ("dev", "provider", "carrier-3", 2),
    ("beta", "provider", "carrier-4", 1),
    ("beta", "provider", "carrier-5", 2),
];

/// What was tried.
#[derive(Debug)]
struct Report {
    moved: usize,
    put_back: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records moved, {} put back: all refused", self.moved, self.put_back)
    }
}

/// A row as it is meant to be.
struct Row {
    account: &'static str,
    table: &'static str,
    id: &'static str,
    secret: String,
    sealed: Vec<u8>,
}

impl Row {
    fn sid(&self) -> String {
        sid(self.id)
    }
}

fn sid(id: &str) -> String {
    format!("AC{:032x}", id.as_bytes().last().unwrap())
}

type Accounts = HashMap<&'static str, String>;

fn clients(process: &Process, tokens: &Accounts, account: &str) -> Clients {
    Clients::new(&process.channel, &tokens[account])
}

/// A token for a second account, made beside the stopped store.
fn second_account(data_dir: &Path) -> String {
    let made = Command::new(env!("CARGO_BIN_EXE_credvault"))
        .args(["tokens", "create", "--account", "beta", "--role", "account-admin"])
        .args(["--role", "verifier", "--data-dir"])
        .arg(data_dir)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

fn sealed(database: &Path, table: &str, id: &str) -> Vec<u8> {
    let sql = format!("SELECT sealed FROM {table} WHERE id = ?1");
    Connection::open(database).unwrap().query_row(&sql, [id], |row| row.get(0)).unwrap()
}

fn put(database: &Path, rows: &[(&Row, &[u8])]) {
    let connection = Connection::open(database).unwrap();
    for (row, sealed) in rows {
        let sql = format!("UPDATE {} SET sealed = ?1 WHERE id = ?2", row.table);
        assert_eq!(connection.execute(&sql, params![sealed, row.id]).unwrap(), 1);
    }
}

/// Creates a row at version 1. Returns its secret.
async fn create(
    clients: &mut Clients,
    twilio: &FakeTwilio,
    rng: &mut Rng,
    (account, table, id): (&str, &str, &str),
) -> Result<String, Status> {
    let parent = format!("accounts/{account}");
    if table == "credential" {
        let (username, realm) = (id.to_owned(), REALM.to_owned());
        let request = CreateCredentialRequest {
            parent,
            credential_id: id.to_owned(),
            credential: Some(Credential { username, realm, ..Credential::default() }),
            ..CreateCredentialRequest::default()
        };
        let response = clients.credentials.create_credential(request).await?.into_inner();
        return Ok(response.issued.unwrap().password);
    }
    let (account_sid, auth_token) = (sid(id), rng.hex(32));
    twilio.add_account(&account_sid, &auth_token);
    let kind = Some(provider::Kind::Twilio(TwilioProvider { account_sid, ..Default::default() }));
    let request = CreateProviderRequest {
        parent,
        provider_id: id.to_owned(),
        provider: Some(Provider { kind, ..Provider::default() }),
        auth_token: auth_token.clone(),
        ..CreateProviderRequest::default()
    };
    clients.providers.create_provider(request).await?;
    Ok(auth_token)
}

/// Gives a row its next version. Returns its secret.
async fn renew(
    clients: &mut Clients,
    twilio: &FakeTwilio,
    rng: &mut Rng,
    (account, table, id): (&str, &str, &str),
) -> Result<String, Status> {
    let name = format!("accounts/{account}/{table}s/{id}");
    if table == "credential" {
        let request = RotateCredentialRequest { name, ..RotateCredentialRequest::default() };
        let response = clients.credentials.rotate_credential(request).await?.into_inner();
        return Ok(response.issued.unwrap().password);
    }
    let auth_token = rng.hex(32);
    twilio.add_token(&sid(id), &auth_token);
    let request = UpdateTokenRequest { name, auth_token, ..UpdateTokenRequest::default() };
    let auth_token = request.auth_token.clone();
    clients.providers.update_token(request).await?;
    Ok(auth_token)
}

/// Whether the secret in `row` works for `password`; for a provider the carrier is asked.
async fn works(clients: &mut Clients, row: &Row, password: &str) -> Result<bool, Status> {
    if row.table == "provider" {
        let name = format!("accounts/{}/providers/{}", row.account, row.id);
        let response = clients.providers.verify_provider(VerifyProviderRequest { name }).await?;
        let verification = response.into_inner().provider.unwrap().verification.unwrap();
        return Ok(verification.status() == VerificationStatus::Verified);
    }
    let request = VerifySipDigestRequest {
        parent: format!("accounts/{}", row.account),
        username: row.id.to_owned(),
        realm: REALM.to_owned(),
        method: "REGISTER".to_owned(),
        uri: format!("sip:{REALM}"),
        nonce: "n0nce".to_owned(),
        response: md5_response(row.id, REALM, password, "n0nce"),
        ..VerifySipDigestRequest::default()
    };
    Ok(clients.uses.verify_sip_digest(request).await?.into_inner().valid)
}

fn is_damage(status: &Status) -> bool {
    let details = status.get_error_details();
    status.code() == Code::DataLoss
        && details.error_info().is_some_and(|info| info.reason == "RECORD_DAMAGED")
}

/// Uses every row with its own secret and with that of another: all of it must be refused as
/// damage.
async fn all_refused(
    process: &Process,
    tokens: &Accounts,
    rows: &[(&Row, &str)],
    twilio: &FakeTwilio,
) -> Result<(), String> {
    let calls = twilio.calls();
    for (row, secret) in rows {
        let mut clients = clients(process, tokens, row.account);
        for secret in [&row.secret, *secret] {
            match works(&mut clients, row, secret).await {
                Err(status) if is_damage(&status) => {}
                Err(status) => return Err(format!("{} answers {status}", row.id)),
                Ok(worked) => {
                    return Err(format!("MOVED: {} was used: a match is {worked}", row.id));
                }
            }
        }
        if twilio.calls() != calls {
            return Err(format!("MOVED: {} sent a token to its carrier", row.id));
        }
    }
    Ok(())
}

/// Runs all moves against processes with `environment`.
async fn moves(environment: &[(&str, &str)]) -> Result<Report, String> {
    let dir = tempfile::tempdir().unwrap();
    let twilio = Arc::new(FakeTwilio::start().await);
    let url = twilio.url();
    let environment = [environment, &[("CREDVAULT_UPSTREAM_TWILIO_API_URL", &url)]].concat();
    let start = || Process::dev(dir.path(), &environment);
    let failed = |status: Status| format!("set up: {status}");
    let mut rng = Rng::new(6);

    let process = start();
    let (database, data_dir) = (process.database(), process.data_dir.clone());
    let dev = process.token();
    process.terminate();
    let tokens = Accounts::from([("dev", dev), ("beta", second_account(&data_dir))]);

    let process = start();
    let (mut rows, mut old) = (Vec::new(), Vec::new());
    for (account, table, id, version) in ROWS {
        let mut clients = clients(&process, &tokens, account);
        let place = (account, table, id);
        let mut secret = create(&mut clients, &twilio, &mut rng, place).await.map_err(failed)?;
        for _ in 1..version {
            old.push((id, secret, sealed(&database, table, id)));
            secret = renew(&mut clients, &twilio, &mut rng, place).await.map_err(failed)?;
        }
        rows.push(Row { account, table, id, secret, sealed: Vec::new() });
    }
    process.terminate();
    for row in &mut rows {
        row.sealed = sealed(&database, row.table, row.id);
    }

    // Every row gets the record of the row `shift` places on, so that all ordered pairs come up.
    let mut report = Report { moved: 0, put_back: 0 };
    for shift in 1..rows.len() {
        let from = |place: usize| &rows[(place + shift) % rows.len()];
        let moved: Vec<_> =
            (0..).zip(&rows).map(|(place, row)| (row, from(place).sealed.as_slice())).collect();
        put(&database, &moved);
        let process = start();
        let secrets: Vec<_> =
            (0..).zip(&rows).map(|(place, row)| (row, from(place).secret.as_str())).collect();
        let refused = all_refused(&process, &tokens, &secrets, &twilio).await;
        refused.map_err(|problem| format!("shift {shift}: {problem}"))?;
        process.terminate();
        report.moved += moved.len();
    }

    // Each row back to what it was, but for one older record of its own.
    let intact: Vec<_> = rows.iter().map(|row| (row, row.sealed.as_slice())).collect();
    for (id, secret, sealed) in &old {
        put(&database, &intact);
        let row = rows.iter().find(|row| row.id == *id).unwrap();
        put(&database, &[(row, sealed)]);
        let process = start();
        let refused = all_refused(&process, &tokens, &[(row, secret)], &twilio).await;
        refused.map_err(|problem| format!("an older version: {problem}"))?;
        process.terminate();
        report.put_back += 1;
    }

    put(&database, &intact);
    let process = start();
    for row in &rows {
        if row.table == "provider" {
            twilio.set_token(&row.sid(), &row.secret);
        }
        let mut clients = clients(&process, &tokens, row.account);
        if !matches!(works(&mut clients, row, &row.secret).await, Ok(true)) {
            return Err(format!("{} does not work where it belongs: the harness is wrong", row.id));
        }
    }
    process.terminate();
    Ok(report)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_moved_or_put_back_is_refused() {
    let report = moves(&[]).await.unwrap();
    println!("{report}");
    assert_eq!((report.moved, report.put_back), (12 * 11, 7));
}

#[cfg(feature = "planted-defects")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_unbound_ciphertext_is_caught() {
    let problem = moves(&[("CREDVAULT_DEFECT", "unbound-ciphertext")]).await.unwrap_err();
    assert!(problem.contains("MOVED"), "{problem}");
    println!("{problem}");
}
