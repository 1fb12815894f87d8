//! Authorities, and the certificates that they sign: good ones, and each kind that is not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

pub(crate) const TLS_1_3: [&SupportedProtocolVersion; 1] = [&version::TLS13];
pub(crate) const TLS_1_2: [&SupportedProtocolVersion; 1] = [&version::TLS12];

/// Signs certificates.
pub(crate) struct Authority {
    root: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A client's certificate with its key.
pub(crate) struct Leaf {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = ca();
        let root = params.self_signed(&key).unwrap();
        Self { root, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn pem(&self) -> String {
        self.root.pem()
    }

    /// Writes a certificate for `vault.test` with its key.
    pub(crate) fn write_server(&self, certificate: &Path, key: &Path) {
        let pair = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["vault.test".to_owned()]).unwrap();
        let signed = params.signed_by(&pair, &self.issuer).unwrap();
        fs::write(key, pair.serialize_pem()).unwrap();
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(certificate, signed.pem()).unwrap();
    }

    /// A certificate as SPIFFE wants it, with these URIs.
    pub(crate) fn leaf(&self, uris: &[&str]) -> Leaf {
        self.leaf_with(uris, |_| {})
    }

    pub(crate) fn leaf_with(
        &self,
        uris: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        let uri = |text: &&str| SanType::URI((*text).try_into().unwrap());
        self.sign(uris.iter().map(uri).collect(), change)
    }

    /// One with a DNS name and no URI.
    pub(crate) fn named(&self, name: &str) -> Leaf {
        self.sign(vec![SanType::DnsName(name.try_into().unwrap())], |_| {})
    }

    fn sign(&self, names: Vec<SanType>, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Leaf { certificate, key: key.serialize_der() }
    }

    /// How a client connects that trusts this authority and shows a certificate, or none.
    pub(crate) fn trusted_with(
        &self,
        leaf: Option<&Leaf>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match leaf {
            None => config.with_no_client_auth(),
            Some(leaf) => {
                let key = PrivateKeyDer::try_from(leaf.key.clone()).unwrap();
                config.with_client_auth_cert(vec![leaf.certificate.clone()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

pub(crate) fn ca() -> IsCa {
    IsCa::Ca(BasicConstraints::Unconstrained)
}

pub(crate) fn for_servers(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}

pub(crate) fn for_encryption(params: &mut CertificateParams) {
    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
}

pub(crate) fn ended(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
}

pub(crate) fn not_begun(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2120, 1, 1);
    params.not_after = rcgen::date_time_ymd(2121, 1, 1);
}

/// Two URIs, of which one is no text.
pub(crate) fn unreadable(uri: &str) -> impl FnOnce(&mut CertificateParams) + use<> {
    // `[6] IA5String`, twice, in a SEQUENCE (RFC 5280 §4.2.1.6).
    let entry = |text: &[u8]| [&[0x86, u8::try_from(text.len()).unwrap()][..], text].concat();
    let names = [entry(uri.as_bytes()), entry(b"spiffe://example.org/\xff")].concat();
    let content = [&[0x30, u8::try_from(names.len()).unwrap()][..], &names].concat();
    let extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], content);
    |params| params.custom_extensions.push(extension)
}
