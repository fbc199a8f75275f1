//! TLS connections that carry gRPC, opened when wanted and opened anew when
//! lost, with the certificate files as they are at that moment.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::kubeconfig::Material;

/// Time to open a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(5);

/// The client side of mutual TLS.
#[derive(Clone)]
pub struct ClientFiles {
    /// The CA that signs servers.
    pub ca: Material,
    /// Certificate and key of the client.
    pub identity: Option<(Material, Material)>,
    /// The name that the server's certificate must have; the URI's host where `None`.
    pub server_name: Option<String>,
}

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> std::io::Error {
    std::io::Error::other(error)
}

/// A client's TLS configuration, as the files are now.
///
/// # Errors
/// A file that cannot be read or does not hold what it should.
pub fn client_tls(files: &ClientFiles, protocols: &[&[u8]]) -> std::io::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&files.ca.read()?) {
        roots.add(certificate.map_err(other)?).map_err(other)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(other)?
        .with_root_certificates(roots);
    let mut config = match &files.identity {
        Some((certificate, key)) => {
            let chain: Vec<_> = CertificateDer::pem_slice_iter(&certificate.read()?)
                .collect::<Result<_, _>>()
                .map_err(other)?;
            let key = PrivateKeyDer::from_pem_slice(&key.read()?).map_err(other)?;
            builder.with_client_auth_cert(chain, key).map_err(other)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// A lazily connected gRPC channel to `https://host:port`.
///
/// # Errors
/// A text that is no URI.
pub fn grpc_channel(
    server: &str,
    files: ClientFiles,
) -> Result<Channel, tonic::codegen::http::uri::InvalidUri> {
    let uri: Uri = server.parse()?;
    let endpoint = Endpoint::from(uri)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(2 << 20)
        .initial_connection_window_size(8 << 20);
    let connector = tower::service_fn(move |uri: Uri| {
        let files = files.clone();
        async move {
            match tokio::time::timeout(CONNECT, connect(&uri, &files)).await {
                Ok(connected) => connected.map(TokioIo::new),
                Err(_) => Err(std::io::Error::new(
                    std::io::ErrorKind::TimedOut,
                    format!("connect to {uri}: no answer in {} seconds", CONNECT.as_secs()),
                )),
            }
        }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

async fn connect(
    uri: &Uri,
    files: &ClientFiles,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(443);
    let config = client_tls(files, &[b"h2"])?;
    let name = files.server_name.clone().unwrap_or_else(|| host.to_owned());
    let name = ServerName::try_from(name).map_err(other)?;
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| std::io::Error::new(error.kind(), format!("connect to {host}:{port}: {error}")))?;
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| std::io::Error::new(error.kind(), format!("TLS with {host}:{port}: {error}")))
}
