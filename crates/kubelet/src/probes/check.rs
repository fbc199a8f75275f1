//! One check of one container: a command, an HTTP request, a connection, or
//! gRPC's health service. Start and stop hooks use the same means.

use std::net::IpAddr;
use std::time::Duration;

use api::IntOrString;
use api::types::core::v1::{Container, HTTPGetAction, Probe};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::runtime::Runtime;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Healthy.
    Success,
    /// Not, and why.
    Failure(String),
}

/// What is checked.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The container's id.
    pub container: &'a str,
    /// Its specification, for named ports.
    pub specification: &'a Container,
    /// The pod's address; with the host's network, the node's.
    pub host: Option<IpAddr>,
}

impl Target<'_> {
    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => *number,
            IntOrString::String(name) => {
                let ports = self.specification.ports.iter().flatten();
                let named = ports
                    .filter(|port| port.name.as_deref() == Some(name))
                    .map(|port| port.container_port)
                    .next();
                named.or_else(|| name.parse().ok()).ok_or_else(|| format!("no port named {name}"))?
            }
        };
        u16::try_from(number).map_err(|_| format!("{number} is not a port"))
    }

    fn host(&self, given: Option<&str>) -> Result<String, String> {
        match given.filter(|host| !host.is_empty()) {
            Some(host) => Ok(host.to_owned()),
            None => self.host.map(|host| host.to_string()).ok_or_else(|| "the pod has no address".to_owned()),
        }
    }
}

/// Checks once.
pub async fn check(runtime: &Runtime, probe: &Probe, target: &Target<'_>, limit: Duration) -> Verdict {
    let outcome = if let Some(exec) = &probe.exec {
        exec_command(runtime, target.container, exec.command.as_deref().unwrap_or_default(), limit).await
    } else {
        let connect = async {
            if let Some(http) = &probe.http_get {
                http_get(http, target).await
            } else if let Some(tcp) = &probe.tcp_socket {
                let (host, port) = (target.host(tcp.host.as_deref())?, target.port(&tcp.port)?);
                TcpStream::connect((host.as_str(), port))
                    .await
                    .map(drop)
                    .map_err(|error| format!("dial tcp {host}:{port}: {error}"))
            } else if let Some(grpc) = &probe.grpc {
                grpc_health(target, grpc.port, grpc.service.as_deref().unwrap_or_default()).await
            } else {
                Err("the probe names no action".to_owned())
            }
        };
        tokio::time::timeout(limit, connect)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
    };
    outcome.map_or_else(Verdict::Failure, |()| Verdict::Success)
}

/// Runs a command in a container; success is exit code 0.
///
/// # Errors
/// What it wrote, or why it did not run.
pub async fn exec_command(
    runtime: &Runtime,
    container: &str,
    command: &[String],
    limit: Duration,
) -> Result<(), String> {
    match runtime.exec_to_end(container, command, limit).await {
        Ok(outcome) if outcome.code == 0 => Ok(()),
        Ok(outcome) => Err(format!(
            "exit code {}: {}",
            outcome.code,
            String::from_utf8_lossy(&outcome.output).trim_end()
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// An HTTP request; any status from 200 to 399 is a success. HTTPS is not
/// verified: the kubelet knows no name for a pod.
///
/// # Errors
/// The status, or why there was none.
pub async fn http_get(action: &HTTPGetAction, target: &Target<'_>) -> Result<(), String> {
    let (host, port) = (target.host(action.host.as_deref())?, target.port(&action.port)?);
    let stream = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(|error| format!("dial tcp {host}:{port}: {error}"))?;
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = http::Request::get(path)
        .header("user-agent", "kube-probe/1.36")
        .header("accept", "*/*")
        .header("connection", "close");
    let headers = action.http_headers.as_deref().unwrap_or_default();
    if !headers.iter().any(|header| header.name.eq_ignore_ascii_case("host")) {
        request = request.header("host", &authority);
    }
    for header in headers {
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|error| error.to_string())?;
    let status = if action.scheme.as_deref() == Some("HTTPS") {
        let name =
            rustls::pki_types::ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
        let stream = tokio_rustls::TlsConnector::from(unverified::config())
            .connect(name, stream)
            .await
            .map_err(|error| error.to_string())?;
        send(TokioIo::new(stream), request).await?
    } else {
        send(TokioIo::new(stream), request).await?
    };
    if (200..400).contains(&status) {
        Ok(())
    } else {
        Err(format!("HTTP probe failed with statuscode: {status}"))
    }
}

async fn send<T>(io: T, request: http::Request<Empty<bytes::Bytes>>) -> Result<u16, String>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|error| error.to_string())?;
    let call = sender.send_request(request);
    tokio::pin!(connection, call);
    let response = tokio::select! {
        response = &mut call => response,
        // The server may close as soon as it has answered: the answer is in already.
        _ended = &mut connection => call.await,
    };
    Ok(response.map_err(|error| error.to_string())?.status().as_u16())
}

/// gRPC's health service: one call, written by hand because two fields do not
/// need generated code.
async fn grpc_health(target: &Target<'_>, port: i32, service: &str) -> Result<(), String> {
    let (host, port) = (target.host(None)?, target.port(&IntOrString::Int(port))?);
    let stream = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(|error| format!("dial tcp {host}:{port}: {error}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
    let driver = daemon::tasks::spawn("grpc-probe", async move {
        // The call reports what went wrong.
        let _ignored = connection.await;
    });
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        prost::encoding::encode_varint(service.len() as u64, &mut message);
        message.extend(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap_or_default().to_be_bytes());
    frame.extend(message);
    let request = http::Request::post(format!("http://{host}:{port}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(http_body_util::Full::new(bytes::Bytes::from(frame)))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
    driver.abort();
    let code = body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned());
    let bytes = body.to_bytes();
    match (code.as_ref().and_then(|code| code.to_str().ok()), bytes.get(5..)) {
        (Some("0"), Some([0x08, 1])) => Ok(()),
        (Some("0"), _) => Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned()),
        (code, _) => Err(format!("health call failed with status {}", code.unwrap_or("unknown"))),
    }
}

mod unverified {
    //! TLS without a check of the server's name or signer, as upstream's probes
    //! have it.

    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

    #[derive(Debug)]
    struct Anyone(Arc<rustls::crypto::CryptoProvider>);

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls12_signature(
                message,
                certificate,
                signature,
                &self.0.signature_verification_algorithms,
            )
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls13_signature(
                message,
                certificate,
                signature,
                &self.0.signature_verification_algorithms,
            )
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }

    pub(super) fn config() -> Arc<ClientConfig> {
        daemon::tls::install_crypto();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth();
        Arc::new(config)
    }
}
