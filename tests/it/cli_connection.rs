//! How the client commands reach a vault: profiles, TLS with and without a certificate of one's own, a Unix socket.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use credvault::access::Role;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::support::TestVault;
use crate::support::cli::Ran;
use crate::support::process::credvault;

const EDGE: &str = "spiffe://example.org/edge/one";

fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// An authority, in `NAME-ca.pem`, and one certificate of it, in `NAME.pem` with `NAME.key`.
fn certificate(dir: &Path, name: &str, of: SanType, usage: ExtendedKeyUsagePurpose) {
    let authority = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&authority).unwrap();
    write(&dir.join(format!("{name}-ca.pem")), &root.pem());
    let issuer = Issuer::new(params, authority);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = vec![of];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let signed = params.signed_by(&key, &issuer).unwrap();
    write(&dir.join(format!("{name}.pem")), &signed.pem());
    write(&dir.join(format!("{name}.key")), &key.serialize_pem());
}

/// `credvault credentials list` in a folder, with this client.toml there.
fn list(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = credvault([&["credentials", "list"], arguments].concat());
    command.current_dir(dir).env("CREDVAULT_CLIENT_CONFIG", dir.join("client.toml"));
    command
}

fn ran(mut command: Command) -> Ran {
    Ran::from(command.output().unwrap())
}

const NOTHING_YET: &str = "no credential in accounts/acme yet";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_says_where_as_whom_and_for_which_account() {
    let vault = TestVault::start().await;
    let dir = tempfile::tempdir().unwrap();
    let list = |arguments: &[&str]| list(dir.path(), arguments);
    ran(list(&["--profile", "work"]))
        .says(1, &["no profile work", "client.toml is not there", "[work]"]);
    write(&dir.path().join("acme.token"), &vault.token("acme", &[Role::Reader]).await);
    let profile = format!(
        "[default]\naddress = \"127.0.0.1:1\"\ntoken_file = \"acme.token\"\naccount = \"acme\"\n\
         [work]\naddress = \"{}\"\ntoken_file = \"acme.token\"\naccount = \"acme\"\n",
        vault.address
    );
    let file = dir.path().join("client.toml");
    fs::write(&file, &profile).unwrap();
    ran(list(&["--profile", "work"])).says(0, &[NOTHING_YET]);
    let mut named = list(&[]);
    named.env("CREDVAULT_PROFILE", "work");
    ran(named).says(0, &[NOTHING_YET]);
    // From another folder: its paths are as seen from the file.
    let mut elsewhere = list(&["--profile", "work"]);
    elsewhere.current_dir("/");
    ran(elsewhere).says(0, &[NOTHING_YET]);
    ran(list(&[])).says(1, &["no vault answers at 127.0.0.1:1"]);
    ran(list(&["--address", &vault.address.to_string()])).says(0, &[NOTHING_YET]);
    ran(list(&["--profile", "home"])).says(1, &["no profile home", "it has: default, work"]);
    // At its usual place.
    let home = tempfile::tempdir().unwrap();
    let place = home.path().join(".config/credvault");
    fs::create_dir_all(&place).unwrap();
    fs::copy(&file, place.join("client.toml")).unwrap();
    fs::copy(dir.path().join("acme.token"), place.join("acme.token")).unwrap();
    let mut usual = list(&["--profile", "work"]);
    usual
        .env_remove("CREDVAULT_CLIENT_CONFIG")
        .env_remove("XDG_CONFIG_HOME")
        .env("HOME", home.path());
    ran(usual).says(0, &[NOTHING_YET]);

    fs::write(&file, profile.replace("account =", "acount =")).unwrap();
    ran(list(&["--profile", "work"])).says(1, &["client.toml", "acount", "address"]);
    fs::write(&file, &profile).unwrap();
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(dir.path().join("acme.token"), open).unwrap();
    ran(list(&["--profile", "work"])).says(1, &["others may read it", "chmod 600", "acme.token"]);
}

/// A vault behind TLS, and a folder with the files of its clients.
async fn guarded() -> (TestVault, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let here = SanType::IpAddress([127, 0, 0, 1].into());
    certificate(dir.path(), "server", here, ExtendedKeyUsagePurpose::ServerAuth);
    let edge = SanType::URI(EDGE.try_into().unwrap());
    certificate(dir.path(), "edge", edge, ExtendedKeyUsagePurpose::ClientAuth);
    let file = |name: &str| dir.path().join(name);
    let vault = TestVault::start_with(|options, _| {
        options.tls.tls_cert_file = Some(file("server.pem"));
        options.tls.tls_key_file = Some(file("server.key"));
        let trusted = format!("example.org={}", file("edge-ca.pem").display());
        options.tls.tls_trust_domains = vec![trusted];
    })
    .await;
    write(&file("acme.token"), &vault.token("acme", &[Role::Reader]).await);
    vault.bind("acme", EDGE, &[Role::Reader]).await;
    (vault, dir)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_a_token_or_a_certificate_says_who_calls() {
    let (vault, dir) = guarded().await;
    let address = format!("https://{}", vault.address);
    let run = |arguments: &[&str]| {
        ran(list(dir.path(), &[&["--account", "acme", "--address", &address], arguments].concat()))
    };
    let token = ["--token-file", "acme.token"];
    let trusted = ["--ca-file", "server-ca.pem"];
    let edge = ["--client-cert-file", "edge.pem", "--client-key-file", "edge.key"];
    run(&[token, trusted].concat()).says(0, &[NOTHING_YET]);
    run(&[&edge[..], &trusted].concat()).says(0, &[NOTHING_YET]);
    // Whom nobody vouches for gets no token.
    run(&token).says(1, &["no TLS connection to https://", "vouches for it", "--ca-file"]);
    run(&[token, ["--ca-file", "edge-ca.pem"]].concat()).says(1, &["no TLS", "--ca-file"]);
    let server = ["--client-cert-file", "server.pem", "--client-key-file", "server.key"];
    run(&[&server[..], &trusted].concat())
        .says(1, &["not take the certificate of --client-cert-file"]);
    run(&trusted).says(1, &["no API token"]);
    run(&[&token[..], &["--ca-file", "acme.token"]].concat()).says(1, &["must be PEM"]);
    let half = ["--client-cert-file", "edge.pem"];
    run(&[half, trusted].concat()).says(1, &["needs its key", "--client-key-file"]);
    let mixed = ["--client-cert-file", "edge.pem", "--client-key-file", "server.key"];
    run(&[&mixed[..], &trusted].concat()).says(1, &["that of the client certificate"]);
    fs::set_permissions(dir.path().join("edge.key"), fs::Permissions::from_mode(0o640)).unwrap();
    run(&[&edge[..], &trusted].concat()).says(1, &["chmod 600 edge.key", "--client-key-file"]);

    let plain = vault.address.to_string();
    let plain = ["--account", "acme", "--address", &plain, "--token-file", "acme.token"];
    ran(list(dir.path(), &plain)).says(1, &["something is at", "https://HOST:PORT"]);
    ran(list(dir.path(), &[&plain[..], &trusted].concat()))
        .says(1, &["need TLS", "https://HOST:PORT"]);
}

#[test]
fn what_answers_and_is_no_vault_is_not_said_to_be_nobody() {
    // Reads what comes, says this, and closes.
    let answers = |says: &'static [u8], arguments: &'static str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let read = peer.read(&mut [0; 512]).unwrap();
            assert!(read > 0);
            peer.write_all(says).ok();
        });
        let mut command = credvault(arguments.split(' '));
        command.env("CREDVAULT_TOKEN", "x").env("CREDVAULT_ACCOUNT", "acme");
        command.env("CREDVAULT_ADDRESS", address);
        let ran = ran(command);
        server.join().unwrap();
        assert!(!ran.err.contains("Is it running?"), "{ran:?}");
        ran
    };
    for says in ["", "HTTP/1.1 400 Bad Request\r\n\r\n", "\u{15}\u{3}\u{3}\0\u{2}\u{2}F"] {
        let looked = answers(says.as_bytes(), "credentials list");
        looked.says(1, &["something is at", "write https://HOST:PORT"]);
        assert!(!looked.err.contains("may be done"), "{looked:?}");
        answers(says.as_bytes(), "credentials rotate desk-1")
            .says(1, &["It may be done", "`credvault credentials get ID`", "rotate it again"]);
        answers(says.as_bytes(), "tokens create --role reader")
            .says(1, &["It may be done", "`credvault tokens list`", "revoke it"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket_is_called_with_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let socket: PathBuf = dir.path().join("socket");
    let listen = format!("unix:{}", socket.display());
    let (_vault, token) = TestVault::start_on(&listen).await;
    write(&dir.path().join("acme.token"), &token);
    let run = |address: &str, arguments: &[&str]| {
        let usual = ["--account", "acme", "--token-file", "acme.token", "--address", address];
        ran(list(dir.path(), &[&usual[..], arguments].concat()))
    };
    run(&listen, &[]).says(0, &[NOTHING_YET]);
    run("unix:socket", &[]).says(0, &[NOTHING_YET]);
    run(&listen, &["--ca-file", "acme.token"]).says(1, &["a Unix socket has no TLS"]);
    run("unix:nowhere", &[]).says(1, &["no vault answers at unix:nowhere", "credvault serve"]);
}
