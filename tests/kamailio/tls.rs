//! A vault elsewhere: TLS, and a certificate in place of an API token.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use tokio::runtime::Runtime;

use crate::edge::{Edge, Kamailio, REALM, write_private};
use crate::it::support::process::{Process, credvault, run};

const EDGE: &str = "spiffe://example.org/kamailio";

/// Kamailio, which has a certificate with a SPIFFE ID and no token; and the password of `alice`.
pub(crate) fn start() -> (Edge, String) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    certificates(dir.path());
    let data = dir.path().join("data");
    let folder = data.to_str().unwrap();
    assert!(run(["init", "--data-dir", folder]).status.success());
    let made = ["tokens", "create", "--data-dir", folder, "--account", "dev"];
    let made = run(made.into_iter().chain(["--role", "account-admin"]));
    let admin = String::from_utf8(made.stdout).unwrap().trim().to_owned();

    let runtime = Runtime::new().unwrap();
    let vault = {
        let _inside = runtime.enter();
        let domain = format!("example.org={}", at("ca.pem"));
        let files = [
            ("CREDVAULT_TLS_CERT_FILE", at("vault.pem")),
            ("CREDVAULT_TLS_KEY_FILE", at("vault.key")),
            ("CREDVAULT_TLS_TRUST_DOMAINS", domain),
        ];
        Process::serve(&data, &files.each_ref().map(|(name, value)| (*name, value.as_str())))
    };
    let address = vault.address;
    let client = |arguments: &[&str]| {
        let mut command = credvault(arguments);
        command.env("CREDVAULT_ADDRESS", format!("https://{address}"));
        command.env("CREDVAULT_CA_FILE", at("ca.pem")).env("CREDVAULT_ACCOUNT", "dev");
        let ran = command.env("CREDVAULT_TOKEN", &admin).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().trim().to_owned()
    };
    client(&["roles", "set", EDGE, "--role", "verifier"]);
    let password =
        client(&["credentials", "create", "--username", "alice", "--realm", REALM, "alice"]);

    let define = |name: &str, value: &str| format!("#!define CREDVAULT_{name}_FILE \"{value}\"");
    let lines = [
        define("CA", &at("ca.pem")),
        define("CERT", &at("edge.pem")),
        define("KEY", &at("edge.key")),
    ];
    // Without the token that other tests have.
    let kamailio = Kamailio::start(dir.path(), address, "", &lines.each_ref().map(String::as_str));
    (Edge { vault: Some(vault), kamailio, runtime, address, dir }, password)
}

/// An authority, and what it signs for the vault and for Kamailio.
fn certificates(dir: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let address = SanType::IpAddress([127, 0, 0, 1].into());
    let workload = SanType::URI(EDGE.try_into().unwrap());
    for (name, san, usage) in [
        ("vault", address, ExtendedKeyUsagePurpose::ServerAuth),
        ("edge", workload, ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![san];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let signed = params.signed_by(&key, &issuer).unwrap().pem();
        fs::write(dir.join(name).with_extension("pem"), signed).unwrap();
        write_private(&dir.join(name).with_extension("key"), &key.serialize_pem());
    }
}
