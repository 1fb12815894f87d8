//! TLS 1.3, and who a client is by its certificate (SPIFFE X.509-SVID §4, §5).
//!
//! A certificate is good for the trust domain that it names, and only if that domain's own bundle vouches for it: a
//! bundle cannot make workloads of another domain. Neither CN nor DNS names make an identity.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio_rustls::TlsAcceptor;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::access::spiffe::{SpiffeId, TrustDomain, Workload};
use crate::clock::{Clock as _, SystemClock};
use crate::config::TlsSettings;

/// How often the files are looked at again.
const LOOK: Duration = Duration::from_secs(1);

/// The TLS of a listener, as its files say now.
pub(super) struct Tls {
    settings: TlsSettings,
    current: RwLock<Current>,
}

/// What is in use.
struct Current {
    identity: Arc<CertifiedKey>,
    config: Arc<ServerConfig>,
}

/// Who vouches for the workloads of each domain.
type Trust = BTreeMap<TrustDomain, Arc<dyn ClientCertVerifier>>;

impl Tls {
    /// Reads the files, or says what is wrong with them.
    pub(super) fn load(settings: &TlsSettings, now: Timestamp) -> anyhow::Result<Self> {
        let identity = identity(settings, now)?;
        let bundles = settings.trust_domains.iter();
        let trust = bundles.map(|(domain, bundle)| Ok((domain.clone(), trust(bundle)?)));
        let config = config(&identity, trust.collect::<anyhow::Result<_>>()?)?;
        let current = RwLock::new(Current { identity, config });
        Ok(Self { settings: settings.clone(), current })
    }

    /// What the next handshake uses.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current.config).into()
    }

    /// Takes new files into use when they change, for as long as it is polled. A certificate or key that does not work
    /// is told of, and those before stay in use. A bundle that does not work vouches for nobody: whoever takes trust
    /// away must not be answered with the trust of before.
    pub(super) async fn follow_files(&self) {
        let mut before = self.stamp();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.stamp();
            if now == before {
                continue;
            }
            before = now;
            if let Err(error) = self.take_over(SystemClock.now()) {
                let error = format!("{error:#}");
                tracing::error!(error, "new TLS files do not work; those before stay in use");
            }
        }
    }

    fn take_over(&self, now: Timestamp) -> anyhow::Result<()> {
        let mut found = Trust::new();
        for (domain, bundle) in &self.settings.trust_domains {
            match trust(bundle) {
                Ok(verifier) => drop(found.insert(domain.clone(), verifier)),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "nobody of a trust domain is let in");
                }
            }
        }
        let fresh = identity(&self.settings, now);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let (identity, problem) = match fresh {
            Ok(identity) => (identity, Ok(())),
            Err(error) => (Arc::clone(&current.identity), Err(error)),
        };
        let config = config(&identity, found)?;
        *current = Current { identity, config };
        if problem.is_ok() {
            tracing::info!("new TLS files are in use");
        }
        problem
    }

    /// What changes when a file does: a renewal replaces files, writes them, or turns a link to others.
    fn stamp(&self) -> Vec<Option<(u64, i64, i64, u64)>> {
        let TlsSettings { cert_file, key_file, trust_domains } = &self.settings;
        let files = [cert_file, key_file].into_iter().chain(trust_domains.values());
        let stamp = |file: fs::Metadata| (file.ino(), file.mtime(), file.mtime_nsec(), file.size());
        files.map(|file| fs::metadata(file).ok().map(stamp)).collect()
    }
}

/// The server's certificate and key.
fn identity(settings: &TlsSettings, now: Timestamp) -> anyhow::Result<Arc<CertifiedKey>> {
    let TlsSettings { cert_file, key_file, .. } = settings;
    let chain = certificates("tls.cert_file", cert_file)?;
    if let Some(own) = chain.first() {
        check_validity(cert_file, own, now)?;
    }
    check_owner_alone(key_file)?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|_| {
        anyhow!(
            "tls.key_file {} holds no private key; name a PEM file with one",
            key_file.display()
        )
    })?;
    let identity = CertifiedKey::from_der(chain, key, &default_provider()).map_err(|problem| {
        anyhow!(
            "tls.cert_file {} and tls.key_file {} do not belong together ({problem}); name the key that the certificate \
             was made for",
            cert_file.display(),
            key_file.display()
        )
    })?;
    Ok(Arc::new(identity))
}

/// Those that a bundle's authorities vouch for.
fn trust(bundle: &Path) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("the bundle", bundle)? {
        roots.add(certificate).with_context(|| {
            format!(
                "the bundle {} holds what is no authority's certificate; name a PEM file of authorities",
                bundle.display()
            )
        })?;
    }
    let provider = Arc::new(default_provider());
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
}

fn config(identity: &Arc<CertifiedKey>, trust: Trust) -> anyhow::Result<Arc<ServerConfig>> {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match trust.values().next() {
        None => builder.with_no_client_auth(),
        Some(any) => {
            let any = Arc::clone(any);
            builder.with_client_cert_verifier(Arc::new(Workloads { domains: trust, any }))
        }
    };
    let identity = SingleCertAndKey::from(Arc::clone(identity));
    let mut config = builder.with_cert_resolver(Arc::new(identity));
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would bring a certificate that nobody has verified since.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

fn certificates(what: &str, file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    if fs::metadata(file).is_ok_and(|found| found.mode() & 0o022 != 0) {
        bail!(
            "{what} {} can be written by others, who could let anybody in; take their rights: chmod go-w {}",
            file.display(),
            file.display()
        );
    }
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => bail!(
            "{what} {} holds no certificate that can be read; name a PEM file with one",
            file.display()
        ),
    }
}

/// The first certificate of a file is this server's own: no client would take one that is not valid now.
fn check_validity(file: &Path, own: &CertificateDer<'_>, now: Timestamp) -> anyhow::Result<()> {
    let file = file.display();
    let Some((from, until)) = validity(own) else {
        bail!(
            "tls.cert_file {file} holds what is no X.509 certificate; name the file with this server's"
        );
    };
    if until < now {
        bail!("tls.cert_file {file} expired at {until}; renew it");
    }
    if from > now {
        bail!(
            "tls.cert_file {file} is not valid before {from}; set the clock, or name one that is"
        );
    }
    Ok(())
}

/// When the certificates of these files end, each with what it is. TLS itself does not look at the end of an authority.
pub(super) fn ends(settings: &TlsSettings) -> Vec<(String, Timestamp)> {
    let TlsSettings { cert_file, trust_domains, key_file: _ } = settings;
    let own = std::iter::once(("tls.cert_file", cert_file));
    let bundles = trust_domains.values().map(|file| ("an authority in the bundle", file));
    let mut ends = Vec::new();
    for (what, file) in own.chain(bundles) {
        for certificate in certificates(what, file).unwrap_or_default() {
            let end = validity(&certificate).map(|(_, end)| end);
            ends.extend(end.map(|end| (format!("{what} {}", file.display()), end)));
        }
    }
    ends
}

/// Whether the server's own certificate is one that signs others.
pub(super) fn is_authority(file: &Path) -> bool {
    let chain = certificates("tls.cert_file", file).unwrap_or_default();
    let own = chain.first().and_then(|own| X509Certificate::from_der(own).ok());
    own.is_some_and(|(_, own)| own.is_ca())
}

/// From when until when a certificate is valid.
fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    let time = |time: &x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some((time(&validity.not_before)?, time(&validity.not_after)?))
}

fn check_owner_alone(file: &Path) -> anyhow::Result<()> {
    let found = fs::metadata(file)
        .with_context(|| format!("cannot read tls.key_file {}; name another", file.display()))?;
    if found.mode() & 0o077 != 0 {
        bail!(
            "tls.key_file {} can be read by others; make it its owner's alone: chmod 600 {}",
            file.display(),
            file.display()
        );
    }
    Ok(())
}

/// Verifies a client's certificate against the bundle of the trust domain that it names.
struct Workloads {
    domains: Trust,
    /// One of them, for what does not depend on the domain.
    any: Arc<dyn ClientCertVerifier>,
}

impl fmt::Debug for Workloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.domains.keys()).finish()
    }
}

impl ClientCertVerifier for Workloads {
    /// Callers with a token need no certificate.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let refused =
            rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        let workload = workload(end_entity).ok_or(refused)?;
        let domain = TrustDomain::parse(workload.id.trust_domain()).map_err(|_| unknown())?;
        let verifier = self.domains.get(&domain).ok_or_else(unknown)?;
        verifier.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.any.supported_verify_schemes()
    }
}

/// Who a certificate says its holder is, if it is a leaf as SPIFFE wants it: one URI, which is a SPIFFE ID; no
/// authority; for signatures, and for clients. Whether anybody vouches for it is not asked here.
pub(super) fn workload(certificate: &CertificateDer<'_>) -> Option<Workload> {
    let (rest, certificate) = X509Certificate::from_der(certificate).ok()?;
    if !rest.is_empty() || certificate.basic_constraints().ok()?.is_some_and(|found| found.value.ca)
    {
        return None;
    }
    let usage = certificate.key_usage().ok()??.value;
    let extended = certificate.extended_key_usage().ok()??.value;
    if !usage.digital_signature()
        || usage.key_cert_sign()
        || usage.crl_sign()
        || !extended.client_auth
    {
        return None;
    }
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    // What is not read as a name may be a second URI.
    if names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
        return None;
    }
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let id = SpiffeId::parse(uris.next()?).ok()?;
    if uris.next().is_some() {
        return None;
    }
    let expire_time = Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?;
    Some(Workload { id, expire_time })
}
