//! A server's certificate, key and client CA as files, reloaded while running.
//!
//! Clients may come without a certificate (they authenticate otherwise, or not
//! at all). A certificate that is not valid does not fail the handshake, in which
//! no reason can be given: the connection's [`crate::server::Peer`] says why it
//! was refused, and its requests are answered with that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::Shutdown;

/// How often the files are looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(10);

/// Where a server's TLS material is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
    /// The CA bundle that signs clients, PEM.
    pub client_ca: Option<PathBuf>,
    /// The CA bundle that signs front proxies, which speak for their clients, PEM.
    pub front_proxy_ca: Option<PathBuf>,
}

/// A server's TLS configuration, as the files are now.
pub struct ServerTls {
    files: ServerFiles,
    current: ArcSwap<Loaded>,
}

/// What a connection is accepted with.
#[derive(Clone)]
pub struct Acceptance {
    pub(crate) config: Arc<ServerConfig>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    front_proxies: Option<Arc<dyn ClientCertVerifier>>,
}

impl Acceptance {
    /// Judges the chain that a client proved to hold.
    ///
    /// # Errors
    /// Why it is not valid for a client now.
    pub fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), String> {
        let Some(verifier) = &self.clients else { return Err("no client CA is configured".to_owned()) };
        verify(&**verifier, chain)
    }

    /// Whether that chain is valid for a front proxy now.
    #[must_use]
    pub fn is_front_proxy(&self, chain: &[CertificateDer<'_>]) -> bool {
        self.front_proxies.as_ref().is_some_and(|verifier| verify(&**verifier, chain).is_ok())
    }
}

fn verify(verifier: &dyn ClientCertVerifier, chain: &[CertificateDer<'_>]) -> Result<(), String> {
    let (leaf, rest) = chain.split_first().ok_or("an empty chain")?;
    verifier.verify_client_cert(leaf, rest, UnixTime::now()).map(drop).map_err(|error| error.to_string())
}

struct Loaded {
    acceptance: Acceptance,
    /// The bytes that the configuration was made of, to see a change.
    material: Vec<Vec<u8>>,
}

/// Chooses the process's cryptography; calling it again is harmless.
pub fn install_crypto() {
    // An error means that it is installed already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

impl ServerTls {
    /// Loads the files.
    ///
    /// # Errors
    /// A file that cannot be read, or does not hold what it should.
    pub fn load(files: ServerFiles) -> anyhow::Result<Arc<Self>> {
        let loaded = load(&files)?;
        Ok(Arc::new(Self { files, current: ArcSwap::from_pointee(loaded) }))
    }

    /// What the next connection is accepted with.
    #[must_use]
    pub fn acceptance(&self) -> Acceptance {
        self.current.load().acceptance.clone()
    }

    /// Reloads the files when they change, until shutdown. A change that cannot
    /// be loaded is logged, and the old certificate stays in use.
    pub fn watch(self: &Arc<Self>, shutdown: Shutdown) {
        let this = Arc::clone(self);
        crate::tasks::spawn("tls-reload", async move {
            let mut ticks = tokio::time::interval(RELOAD_EVERY);
            loop {
                tokio::select! {
                    () = shutdown.begun() => return,
                    _ = ticks.tick() => this.reload(),
                }
            }
        });
    }

    /// Loads the files again if their content changed.
    pub fn reload(&self) {
        match read(&self.files) {
            Ok(material) if material == self.current.load().material => {}
            Ok(_) => match load(&self.files) {
                Ok(loaded) => {
                    tracing::info!(certificate = %self.files.certificate.display(), "reloaded TLS files");
                    self.current.store(Arc::new(loaded));
                }
                Err(error) => tracing::error!(error = format!("{error:#}"), "keeping the old TLS files"),
            },
            Err(error) => tracing::error!(error = format!("{error:#}"), "keeping the old TLS files"),
        }
    }
}

fn read(files: &ServerFiles) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut paths = vec![&files.certificate, &files.key];
    paths.extend(files.client_ca.iter().chain(&files.front_proxy_ca));
    paths
        .into_iter()
        .map(|path| std::fs::read(path).with_context(|| format!("read {}", path.display())))
        .collect()
}

fn load(files: &ServerFiles) -> anyhow::Result<Loaded> {
    let material = read(files)?;
    let chain = certificates(&material[0], &files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&material[1])
        .with_context(|| format!("no private key in {}", files.key.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("choose TLS versions")?;
    let mut bundles = material[2..].iter();
    let mut verifier = |path: &Option<PathBuf>| -> anyhow::Result<_> {
        let Some(path) = path else { return Ok(None) };
        let bundle = bundles.next().map_or(&[][..], Vec::as_slice);
        client_verifier(bundle, path, Arc::clone(&provider)).map(Some)
    };
    let clients = verifier(&files.client_ca)?;
    let front_proxies = verifier(&files.front_proxy_ca)?;
    let builder = match Deferred::new(clients.iter().chain(&front_proxies)) {
        Some(deferred) => builder.with_client_cert_verifier(Arc::new(deferred)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).with_context(|| {
        format!("certificate {} and key {} do not fit", files.certificate.display(), files.key.display())
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.send_half_rtt_data = false;
    Ok(Loaded { acceptance: Acceptance { config: Arc::new(config), clients, front_proxies }, material })
}

/// Takes any chain in the handshake, if the client proves to hold its key: it is
/// judged afterwards, by [`Acceptance::verify`].
#[derive(Debug)]
struct Deferred {
    /// Who may have signed the chain.
    hints: Vec<DistinguishedName>,
    /// Checks that the client holds the key.
    signatures: Arc<dyn ClientCertVerifier>,
}

impl Deferred {
    /// Before any of these; `None` where there is none.
    fn new<'a>(verifiers: impl Iterator<Item = &'a Arc<dyn ClientCertVerifier>> + Clone) -> Option<Self> {
        let signatures = Arc::clone(verifiers.clone().next()?);
        let hints = verifiers.flat_map(|verifier| verifier.root_hint_subjects()).cloned().collect();
        Some(Self { hints, signatures })
    }
}

impl ClientCertVerifier for Deferred {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _rest: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}

fn client_verifier(
    bundle: &[u8],
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(bundle, path)? {
        roots.add(certificate).with_context(|| format!("bad CA certificate in {}", path.display()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .with_context(|| format!("client CA {}", path.display()))
}

fn certificates(pem: &[u8], path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .with_context(|| format!("bad PEM in {}", path.display()))?;
    if found.is_empty() {
        bail!("no certificate in {}", path.display());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(dir: &Path) -> ServerFiles {
        let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("self-signed");
        let files = ServerFiles {
            certificate: dir.join("c.pem"),
            key: dir.join("k.pem"),
            client_ca: None,
            front_proxy_ca: None,
        };
        std::fs::write(&files.certificate, pair.cert.pem()).expect("write");
        std::fs::write(&files.key, pair.signing_key.serialize_pem()).expect("write");
        files
    }

    #[test]
    fn a_changed_pair_is_taken_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().expect("temp dir");
        let tls = ServerTls::load(write_pair(dir.path())).expect("loads");
        let first = tls.acceptance().config;
        tls.reload();
        assert!(Arc::ptr_eq(&first, &tls.acceptance().config), "nothing changed");
        let files = write_pair(dir.path());
        tls.reload();
        let second = tls.acceptance().config;
        assert!(!Arc::ptr_eq(&first, &second), "the new pair is used");
        std::fs::write(&files.key, "rubbish").expect("write");
        tls.reload();
        assert!(Arc::ptr_eq(&second, &tls.acceptance().config), "the old pair stays");
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut files = write_pair(dir.path());
        files.key = dir.path().join("absent.pem");
        let error = ServerTls::load(files).err().expect("fails");
        assert!(format!("{error:#}").contains("absent.pem"), "{error:#}");
    }
}
