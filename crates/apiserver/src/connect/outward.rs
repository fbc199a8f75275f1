//! HTTPS requests that the API server makes of others: webhooks. A service is
//! reached through the node of one of its pods, so that no route into the pod
//! network is needed; its endpoints that are no pods are dialled.
//!
//! Connections are kept, so that a call costs only its own round trip.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use client::kubeconfig::Material;
use client::{ClientFiles, client_tls};
use daemon::tasks;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use serde_json::Value;
use sha2::Digest as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Kubelets;
use super::any_certificate::AnyCertificate;
use super::port_forward::tunnel;
use crate::cache::{Selected, WatchCache};

/// The largest answer taken.
const MAX_ANSWER: usize = 8 << 20;
/// Idle connections kept to one destination.
const MAX_IDLE: usize = 16;
/// The roots for servers that bring none of their own.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

type Sender = SendRequest<Full<Bytes>>;

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    /// Where it is.
    pub(crate) place: Place,
    /// Path and query.
    pub(crate) path: String,
    /// PEM, in base64, of who signed its certificate; empty: the system's roots.
    pub(crate) ca_bundle: String,
}

/// Whose certificates are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Those that the bundle, or the system's roots, vouch for.
    Verified,
    /// All.
    Anybody,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// A host and a port.
    Host(String, u16),
    /// A port of a service.
    Service { namespace: String, name: String, port: u16 },
}

impl Destination {
    /// Reads a `clientConfig`, with what comes behind its path.
    ///
    /// # Errors
    /// One that names nobody.
    pub(crate) fn read(config: &Value, suffix: &str) -> Result<Self, String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let ca_bundle = text(&config["caBundle"]);
        let service = &config["service"];
        if service.is_object() {
            let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
            let place =
                Place::Service { namespace: text(&service["namespace"]), name: text(&service["name"]), port };
            let path = text(&service["path"]);
            let path = if path.starts_with('/') { path } else { format!("/{path}") };
            return Ok(Self { place, path: format!("{path}{suffix}"), ca_bundle });
        }
        let url: http::Uri = text(&config["url"]).parse().map_err(|error| format!("its url: {error}"))?;
        let host = url.host().ok_or("its url has no host")?.trim_matches(['[', ']']).to_owned();
        if url.scheme_str() != Some("https") {
            return Err("its url is not https".to_owned());
        }
        let path = if url.path().is_empty() { "/" } else { url.path() };
        let place = Place::Host(host, url.port_u16().unwrap_or(443));
        Ok(Self { place, path: format!("{path}{suffix}"), ca_bundle })
    }

    /// The name that the server's certificate must have.
    fn server_name(&self) -> String {
        match &self.place {
            Place::Host(host, _) => host.clone(),
            Place::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
        }
    }

    fn port(&self) -> u16 {
        match &self.place {
            Place::Host(_, port) | Place::Service { port, .. } => *port,
        }
    }

    /// Name and port.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.server_name(), self.port())
    }

    /// The address as messages show it.
    pub(crate) fn url(&self) -> String {
        format!("https://{}:{}{}", self.server_name(), self.port(), self.path)
    }

    /// What tells connections apart.
    fn key(&self) -> (Place, [u8; 32]) {
        (self.place.clone(), sha2::Sha256::digest(self.ca_bundle.as_bytes()).into())
    }
}

/// The client.
pub struct Outward {
    cache: Arc<WatchCache>,
    kubelets: Arc<Kubelets>,
    idle: Mutex<HashMap<(Place, [u8; 32]), Vec<Sender>>>,
}

/// Bytes both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Outward {
    /// A client that finds services in the cache and reaches pods through their nodes.
    #[must_use]
    pub fn new(cache: Arc<WatchCache>, kubelets: Arc<Kubelets>) -> Self {
        Self { cache, kubelets, idle: Mutex::default() }
    }

    /// Posts JSON and gives the answer's JSON.
    ///
    /// # Errors
    /// The server cannot be reached in time, or answers with anything but 200 and JSON.
    pub(crate) async fn post(&self, to: &Destination, body: Bytes, limit: Duration) -> Result<Bytes, String> {
        let failed = |why: String| format!("Post {:?}: {why}", to.url());
        match tokio::time::timeout(limit, self.try_post(to, body)).await {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(failed("context deadline exceeded".to_owned())),
        }
    }

    async fn try_post(&self, to: &Destination, body: Bytes) -> Result<Bytes, String> {
        // A kept connection may have been closed by its server: then a new one is made.
        while let Some(mut kept) = self.take(to) {
            if kept.ready().await.is_err() {
                continue;
            }
            if let Ok(answer) = self.ask(&mut kept, to, body.clone()).await {
                self.keep(to, kept);
                return answer;
            }
        }
        let mut fresh = self.connect(to).await?;
        let answer = self.ask(&mut fresh, to, body).await.map_err(|error| error.to_string())?;
        self.keep(to, fresh);
        answer
    }

    fn take(&self, to: &Destination) -> Option<Sender> {
        self.idle.lock().get_mut(&to.key())?.pop()
    }

    fn keep(&self, to: &Destination, sender: Sender) {
        let mut idle = self.idle.lock();
        let kept = idle.entry(to.key()).or_default();
        kept.retain(|one| !one.is_closed());
        if kept.len() < MAX_IDLE {
            kept.push(sender);
        }
    }

    /// One request; the outer error is the connection's.
    async fn ask(
        &self,
        sender: &mut Sender,
        to: &Destination,
        body: Bytes,
    ) -> Result<Result<Bytes, String>, hyper::Error> {
        let request = Request::post(&to.path)
            .header(header::HOST, format!("{}:{}", to.server_name(), to.port()))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(body));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let response = sender.send_request(request).await?;
        let code = response.status();
        let body = match Limited::new(response.into_body(), MAX_ANSWER).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Ok(Err(format!("reading the answer: {error}"))),
        };
        Ok(if code.is_success() {
            Ok(body)
        } else {
            let text: String = String::from_utf8_lossy(&body).chars().take(512).collect();
            Err(format!("the server answered {code}: {text}"))
        })
    }

    /// Gets a path's body; the headers say who asks.
    ///
    /// # Errors
    /// The server cannot be reached in time, or answers with anything but success.
    pub(crate) async fn get(
        &self,
        to: &Destination,
        path: &str,
        headers: &[(&'static str, &'static str)],
        (identity, trust): (Option<(Material, Material)>, Trust),
        limit: Duration,
    ) -> Result<Bytes, String> {
        let asking = async {
            let mut sender = handshake(self.open(to, identity, trust).await?).await?;
            let request = headers
                .iter()
                .fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
            let request = request
                .header(header::HOST, to.authority())
                .header(header::ACCEPT, "application/json")
                .header(header::USER_AGENT, "kube-apiserver")
                .body(Full::new(Bytes::new()));
            let response = sender.send_request(request.map_err(|error| error.to_string())?).await;
            let response = response.map_err(|error| error.to_string())?;
            let code = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| format!("reading the answer: {error}"))?.to_bytes();
            if code.is_success() { Ok(body) } else { Err(format!("bad status: {}", code.as_u16())) }
        };
        tokio::time::timeout(limit, asking)
            .await
            .unwrap_or_else(|_| Err("context deadline exceeded".to_owned()))
    }

    /// Whether a service's port has somebody behind it.
    pub(crate) fn has_endpoints(&self, namespace: &str, name: &str, port: u16) -> bool {
        self.endpoints(namespace, name, port).is_ok()
    }

    async fn connect(&self, to: &Destination) -> Result<Sender, String> {
        handshake(self.open(to, None, Trust::Verified).await?).await
    }

    /// A connection to a server, which is shown a certificate if there is one.
    ///
    /// # Errors
    /// It cannot be reached, or is not who it should be.
    pub(crate) async fn open(
        &self,
        to: &Destination,
        identity: Option<(Material, Material)>,
        trust: Trust,
    ) -> Result<TlsStream<Box<dyn Stream>>, String> {
        let stream = self.dial(to).await?;
        let ca = if trust == Trust::Anybody {
            Vec::new()
        } else if to.ca_bundle.is_empty() {
            std::fs::read(SYSTEM_ROOTS).map_err(|error| format!("read {SYSTEM_ROOTS}: {error}"))?
        } else {
            base64::engine::general_purpose::STANDARD
                .decode(&to.ca_bundle)
                .map_err(|error| format!("caBundle: {error}"))?
        };
        let files = ClientFiles { ca: Material::Bytes(ca), identity, server_name: None };
        let mut tls = client_tls(&files, &[b"http/1.1"]).map_err(|error| format!("caBundle: {error}"))?;
        if trust == Trust::Anybody {
            let verifier = Arc::new(AnyCertificate(Arc::clone(tls.crypto_provider())));
            tls.dangerous().set_certificate_verifier(verifier);
        }
        let name = ServerName::try_from(to.server_name()).map_err(|error| error.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        connector.connect(name, stream).await.map_err(|error| format!("tls: {error}"))
    }

    async fn dial(&self, to: &Destination) -> Result<Box<dyn Stream>, String> {
        match &to.place {
            Place::Host(host, port) => direct(host, *port).await,
            Place::Service { namespace, name, port } => {
                let endpoints = self.endpoints(namespace, name, *port)?;
                let picked = rand::random_range(0..endpoints.len());
                match &endpoints[picked] {
                    Endpoint::Address(host, port) => direct(host, *port).await,
                    Endpoint::Pod { name, port } => self.to_pod(namespace, name, *port).await,
                }
            }
        }
    }

    async fn to_pod(&self, namespace: &str, name: &str, port: u16) -> Result<Box<dyn Stream>, String> {
        let found = self.cache.resource("", "pods").get(namespace, name);
        let pod = found.ok_or_else(|| format!("pod {namespace}/{name} is gone"))?;
        let pod = pod.object().map_err(|error| error.to_string())?;
        let node_name = pod.text(&["spec", "nodeName"]).to_owned();
        let node = self.kubelets.node(&self.cache, &node_name).map_err(|status| status.message)?;
        let reference = wire::node::PodRef {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: pod.uid().to_owned(),
            container: String::new(),
            node: node_name,
        };
        let stream = tunnel(node, reference, u32::from(port)).await.map_err(|status| status.message)?;
        Ok(Box::new(stream))
    }

    /// The ready endpoints of a service's port.
    fn endpoints(&self, namespace: &str, name: &str, port: u16) -> Result<Vec<Endpoint>, String> {
        let found = self.cache.resource("", "services").get(namespace, name);
        let service = found.ok_or_else(|| format!("service {name:?} not found"))?;
        let service = service.object().map_err(|error| error.to_string())?;
        if service.text(&["spec", "type"]) == "ExternalName" {
            return Ok(vec![Endpoint::Address(service.text(&["spec", "externalName"]).to_owned(), port)]);
        }
        let ports = service.at(&["spec", "ports"]).and_then(Value::as_array).cloned().unwrap_or_default();
        let wanted = ports
            .iter()
            .find(|one| one["port"] == port)
            .ok_or_else(|| format!("service {name:?} has no port {port}"))?;
        let wanted = wanted["name"].as_str().unwrap_or_default();
        let selected = Selected {
            namespace: namespace.to_owned(),
            labels: api::LabelSelector::from_requirements(vec![api::selector::Requirement {
                key: "kubernetes.io/service-name".to_owned(),
                test: api::selector::Test::In(vec![name.to_owned()]),
            }]),
            ..Selected::default()
        };
        let mut ready = Vec::new();
        for slice in self.cache.resource("discovery.k8s.io", "endpointslices").list(&selected, 0, None).0 {
            let slice = slice.object().map_err(|error| error.to_string())?;
            ready.extend(ready_in(&slice, wanted));
        }
        if ready.is_empty() {
            return Err(format!("no endpoints available for service {name:?}"));
        }
        Ok(ready)
    }
}

async fn handshake(stream: TlsStream<Box<dyn Stream>>) -> Result<Sender, String> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| error.to_string())?;
    tasks::spawn("outward", async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a webhook ended");
        }
    });
    Ok(sender)
}

enum Endpoint {
    Address(String, u16),
    Pod { name: String, port: u16 },
}

fn ready_in(slice: &api::Object, port: &str) -> Vec<Endpoint> {
    let list = |field: &str| slice.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let number = list("ports")
        .iter()
        .find(|one| one["name"].as_str().unwrap_or_default() == port)
        .and_then(|one| u16::try_from(one["port"].as_u64()?).ok());
    let Some(port) = number else { return Vec::new() };
    list("endpoints")
        .iter()
        .filter(|one| one["conditions"]["ready"].as_bool().unwrap_or(true))
        .filter_map(|one| match one["targetRef"]["kind"].as_str() {
            Some("Pod") => Some(Endpoint::Pod { name: one["targetRef"]["name"].as_str()?.to_owned(), port }),
            _ => Some(Endpoint::Address(one["addresses"][0].as_str()?.to_owned(), port)),
        })
        .collect()
}

async fn direct(host: &str, port: u16) -> Result<Box<dyn Stream>, String> {
    let stream =
        TcpStream::connect((host, port)).await.map_err(|error| format!("dial tcp {host}:{port}: {error}"))?;
    // A call must not wait for the acknowledgement of its first part.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(Box::new(stream))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn destinations_are_read() {
        let service =
            json!({"service": {"namespace": "n", "name": "hook", "path": "check"}, "caBundle": "QQ=="});
        let to = Destination::read(&service, "?timeout=5s").expect("reads");
        assert_eq!(to.url(), "https://hook.n.svc:443/check?timeout=5s");
        let host = json!({"url": "https://[::1]:8443/a"});
        let to = Destination::read(&host, "").expect("reads");
        assert_eq!((to.place.clone(), to.path.as_str()), (Place::Host("::1".to_owned(), 8443), "/a"));
        for bad in [json!({}), json!({"url": "http://x/"}), json!({"url": "https://"})] {
            assert!(Destination::read(&bad, "").is_err(), "{bad}");
        }
    }

    #[test]
    fn ready_endpoints_are_found() {
        let slice = api::Object::from_value(json!({
            "ports": [{"name": "https", "port": 8443}, {"name": "http", "port": 80}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "p"}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
                {"addresses": ["10.0.0.3"], "conditions": {}},
            ],
        }))
        .expect("an object");
        let shown: Vec<String> = ready_in(&slice, "https")
            .into_iter()
            .map(|one| match one {
                Endpoint::Pod { name, port } => format!("{name}:{port}"),
                Endpoint::Address(host, port) => format!("{host}:{port}"),
            })
            .collect();
        assert_eq!(shown, ["p:8443", "10.0.0.3:8443"]);
        assert!(ready_in(&slice, "none").is_empty());
    }
}
