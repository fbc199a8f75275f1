//! Finding a cluster that is known by an address and by the digest of its
//! authority's public key, and by nothing else.
//!
//! The server shows its chain, the authority last. The connection is good only
//! if a certificate in the chain has one of the digests, and the server's own
//! certificate is signed by it and made for the address. Nothing is sent before.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::certificate::Digest;

const PATIENCE: Duration = Duration::from_secs(10);

/// A cluster that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its authority's certificate, PEM.
    pub authority: String,
    /// The address of this host from which it was reached.
    pub own_address: IpAddr,
}

/// Trusts an authority by the digest of its key.
#[derive(Debug)]
struct Pinned {
    digests: Vec<Digest>,
    provider: Arc<CryptoProvider>,
    found: Mutex<Option<Vec<u8>>>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        status: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_pinned =
            |one: &&CertificateDer<'_>| Digest::of(one).is_ok_and(|digest| self.digests.contains(&digest));
        let authority = others.iter().find(is_pinned).ok_or_else(|| {
            Error::General("the server shows no authority with a digest that was given: it is another cluster, or somebody stands between".to_owned())
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        let verified = verifier.verify_server_cert(own, others, name, status, now)?;
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(authority.to_vec());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Connects to `HOST:PORT` and returns the authority with one of the digests.
///
/// # Errors
/// The server cannot be reached, or is not one of the cluster.
pub async fn find(endpoint: &str, digests: &[Digest]) -> anyhow::Result<Found> {
    let (host, _) = endpoint.rsplit_once(':').with_context(|| format!("{endpoint:?} is not HOST:PORT"))?;
    let host = host.trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).with_context(|| format!("the host {host:?}"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let pinned = Arc::new(Pinned {
        digests: digests.to_vec(),
        provider: Arc::clone(&provider),
        found: Mutex::default(),
    });
    let verifier: Arc<dyn ServerCertVerifier> = Arc::clone(&pinned) as Arc<dyn ServerCertVerifier>;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choose TLS versions")?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let connecting = async {
        let stream = TcpStream::connect(endpoint).await.with_context(|| format!("connect to {endpoint}"))?;
        let own_address = stream.local_addr().context("read this host's address")?.ip();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.with_context(|| format!("TLS with {endpoint}"))?;
        Ok::<_, anyhow::Error>(own_address)
    };
    let own_address = tokio::time::timeout(PATIENCE, connecting)
        .await
        .map_err(|_| anyhow!("connect to {endpoint}: no answer in {} seconds", PATIENCE.as_secs()))??;
    let found = pinned.found.lock().unwrap_or_else(PoisonError::into_inner).take();
    let der = found.with_context(|| format!("{endpoint} did not show an authority"))?;
    Ok(Found { authority: to_pem(&der), own_address: own_address.to_canonical() })
}

fn to_pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
