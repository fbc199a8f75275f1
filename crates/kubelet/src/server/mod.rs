//! The node's gRPC service for the API server, over mutual TLS: only the client
//! certificate with the configured name is let in.

mod exec;
mod http_endpoints;
mod port_forward;
mod stats;

use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context as _;
use api::types::core::v1::Pod;
use api::{Reason, Status as ApiStatus};
use bytes::Bytes;
use daemon::server::{Limits, Peer, Service};
use daemon::shell::Shell;
use daemon::tls::{ServerFiles, ServerTls};
use futures::Stream;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use wire::node as pb;
use wire::node::node_server::{Node, NodeServer};

use crate::config::Flags;
use crate::logs;
use crate::pod;
use crate::runtime::record::{Record, State};
use crate::worker::pods::Pods;
use crate::worker::task::Shown;

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves until shutdown; the task ends when open requests have. A node without
/// an API server, and so without certificates, has nobody to serve.
///
/// # Errors
/// When the port or the TLS files cannot be had.
pub async fn serve(
    flags: &Flags,
    pods: Arc<Pods>,
    shell: Shell,
) -> anyhow::Result<Option<tokio::task::JoinHandle<()>>> {
    let (Some(certificate), Some(key)) = (flags.tls_cert_file.clone(), flags.tls_private_key_file.clone())
    else {
        return Ok(None);
    };
    let address = crate::build::listen_address(flags);
    let listener =
        tokio::net::TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    let client_ca = flags.client_ca_file.clone();
    let tls = ServerTls::load(ServerFiles { certificate, key, client_ca, front_proxy_ca: None })?;
    tls.watch(shell.shutdown.clone());
    let front = Arc::new(Front {
        client_name: flags.client_name.clone(),
        node: NodeServer::new(NodeService::new(pods)),
    });
    let serving = daemon::server::serve(listener, tls, Limits::default(), front, shell.shutdown);
    Ok(Some(daemon::tasks::spawn("server", serving)))
}

/// Lets the right client in.
struct Front {
    client_name: String,
    node: NodeServer<NodeService>,
}

impl Service for Front {
    type Body = tonic::body::Body;

    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Arc<Peer>) -> Response<Self::Body> {
        if let Err(status) = admit(&self.client_name, &peer) {
            return status.into_http();
        }
        let request = request
            .map(|body| tonic::body::Body::new(body.map_err(|error| Status::internal(error.to_string()))));
        let mut node = self.node.clone();
        match tonic::codegen::Service::call(&mut node, request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

fn admit(expected: &str, peer: &Peer) -> Result<(), Status> {
    let chain = peer.certificates.as_deref().unwrap_or_default();
    let Some(certificate) = chain.first() else {
        return Err(Status::unauthenticated("a client certificate is required"));
    };
    match common_name(certificate) {
        Some(name) if name == expected => Ok(()),
        _ => Err(Status::permission_denied("this client certificate is not the API server's")),
    }
}

fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

/// The service.
#[derive(Clone)]
pub struct NodeService {
    pods: Arc<Pods>,
}

/// An error as the contract has it: a gRPC status with the JSON of ours.
fn refuse(status: &ApiStatus) -> Status {
    let code = match status.reason {
        Reason::NotFound => Code::NotFound,
        Reason::BadRequest => Code::InvalidArgument,
        _ => Code::Internal,
    };
    Status::with_details(code, status.message.clone(), status.to_bytes().into())
}

fn bad_request(why: impl Into<String>) -> Status {
    refuse(&ApiStatus::bad_request(why))
}

/// A pod's container, found.
struct Found {
    pod: Arc<Pod>,
    shown: Shown,
    container: String,
}

impl Found {
    fn running(&self) -> Result<&Record, Status> {
        let latest = self.shown.observed.latest(&self.container).filter(|record| record.is_running());
        latest.ok_or_else(|| bad_request(format!("container {} is not running", self.container)))
    }
}

impl NodeService {
    /// A service about these pods.
    #[must_use]
    pub const fn new(pods: Arc<Pods>) -> Self {
        Self { pods }
    }

    fn find(&self, reference: Option<&pb::PodRef>) -> Result<Found, Status> {
        let reference = reference.ok_or_else(|| bad_request("no pod named"))?;
        let (pod, shown) = self
            .pods
            .find(&reference.namespace, &reference.name, &reference.uid)
            .ok_or_else(|| refuse(&ApiStatus::not_found("", "pods", &reference.name)))?;
        let container = container_name(&pod, &reference.container)?;
        Ok(Found { pod, shown, container })
    }
}

/// The container meant: the named, the default, or the only one.
fn container_name(pod: &Pod, wanted: &str) -> Result<String, Status> {
    if !wanted.is_empty() {
        return match pod::container(pod, wanted) {
            Some(_) => Ok(wanted.to_owned()),
            None => {
                Err(bad_request(format!("container {wanted} is not valid for pod {}", pod::id(pod).name)))
            }
        };
    }
    if let Some(default) = pod::annotation(pod, "kubectl.kubernetes.io/default-container") {
        return Ok(default.to_owned());
    }
    match pod::spec(pod).containers.as_slice() {
        [only] => Ok(only.name.clone()),
        several => {
            let names: Vec<&str> = several.iter().map(|container| container.name.as_str()).collect();
            Err(bad_request(format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                pod::id(pod).name,
                names.join(" ")
            )))
        }
    }
}

/// Why there is no log of a container.
fn without_log(shown: &Shown, container: &str, pod: &str, previous: bool) -> String {
    if previous {
        return format!("previous terminated container \"{container}\" in pod \"{pod}\" not found");
    }
    let status = &shown.status;
    let lists =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let mut all = lists.into_iter().flatten().flatten();
    let waiting = all.find(|one| one.name == container).and_then(|one| one.state.as_ref()?.waiting.as_ref());
    let why = match waiting.and_then(|waiting| waiting.reason.as_deref()) {
        Some("ErrImagePull") => "image can't be pulled",
        Some("ImagePullBackOff") => "trying and failing to pull image",
        Some(reason) => reason,
        None => "ContainerCreating",
    };
    format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {why}")
}

fn log_options(request: &pb::LogsRequest) -> Result<logs::read::Options, Status> {
    let mut since = None;
    if let Some(seconds) = request.since_seconds {
        since = Some(crate::time::now() - jiff::SignedDuration::from_secs(seconds));
    } else if !request.since_time.is_empty() {
        since = Some(request.since_time.parse().map_err(|error| bad_request(format!("sinceTime: {error}")))?);
    }
    Ok(logs::read::Options {
        follow: request.follow,
        tail: request.tail_lines.map(|lines| usize::try_from(lines).unwrap_or_default()),
        since,
        limit: request.limit_bytes.map(|bytes| u64::try_from(bytes).unwrap_or_default()),
        timestamps: request.timestamps,
        stream: match request.stream.as_str() {
            "" | "All" => None,
            "Stdout" => Some("stdout"),
            "Stderr" => Some("stderr"),
            other => return Err(bad_request(format!("unknown stream {other:?}"))),
        },
    })
}

#[tonic::async_trait]
impl Node for NodeService {
    type LogsStream = Answers<pb::Chunk>;
    type ExecStream = Answers<pb::ExecOutput>;
    type AttachStream = Answers<pb::ExecOutput>;
    type PortForwardStream = Answers<pb::PortForwardData>;
    type HttpStream = Answers<pb::HttpResponse>;

    async fn logs(
        &self,
        request: tonic::Request<pb::LogsRequest>,
    ) -> Result<tonic::Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let found = self.find(request.pod.as_ref())?;
        let options = log_options(&request)?;
        let id = pod::id(&found.pod);
        let observed = &found.shown.observed;
        let record = if request.previous {
            observed.previous(&found.container).filter(|record| record.exit().is_some())
        } else {
            observed.latest(&found.container).filter(|record| record.state != State::Created)
        };
        let record = record.ok_or_else(|| {
            bad_request(without_log(&found.shown, &found.container, &id.name, request.previous))
        })?;
        let root = &self.pods.tools().runtime.settings().logs;
        let path = logs::path(root, &id, &found.container, record.attempt);
        let over = self.pods.end_of(&id, &record.id);
        let (sender, receiver) = mpsc::channel::<Bytes>(64);
        daemon::tasks::spawn("logs", async move {
            if let Err(error) = logs::read::stream(&path, &options, over, &sender).await {
                tracing::warn!(path = %path.display(), error = %error, "log not read");
            }
        });
        use tokio_stream::StreamExt as _;
        let chunks = ReceiverStream::new(receiver).map(|data| Ok(pb::Chunk { data }));
        Ok(tonic::Response::new(Box::pin(chunks)))
    }

    async fn exec(
        &self,
        request: tonic::Request<Streaming<pb::ExecInput>>,
    ) -> Result<tonic::Response<Self::ExecStream>, Status> {
        let (start, input) = exec::begin(request.into_inner()).await?;
        let found = self.find(start.pod.as_ref())?;
        let container = found.running()?.id.clone();
        let output = exec::exec(&self.pods.tools().runtime, &container, &start, input).await?;
        Ok(tonic::Response::new(output))
    }

    async fn attach(
        &self,
        request: tonic::Request<Streaming<pb::ExecInput>>,
    ) -> Result<tonic::Response<Self::AttachStream>, Status> {
        let (start, input) = exec::begin(request.into_inner()).await?;
        let found = self.find(start.pod.as_ref())?;
        let record = found.running()?.clone();
        Ok(tonic::Response::new(exec::attach(&self.pods, &found.pod, &record, &start, input)))
    }

    async fn port_forward(
        &self,
        request: tonic::Request<Streaming<pb::PortForwardData>>,
    ) -> Result<tonic::Response<Self::PortForwardStream>, Status> {
        let (start, input) = port_forward::begin(request.into_inner()).await?;
        let reference = start.pod.clone().unwrap_or_default();
        let (_, shown) = self
            .pods
            .find(&reference.namespace, &reference.name, &reference.uid)
            .ok_or_else(|| refuse(&ApiStatus::not_found("", "pods", &reference.name)))?;
        let sandbox = shown.observed.sandbox().map(|sandbox| sandbox.id.clone());
        let sandbox = sandbox.ok_or_else(|| bad_request("the pod has no network"))?;
        let stream = port_forward::forward(&self.pods.tools().runtime, &sandbox, start.port, input).await?;
        Ok(tonic::Response::new(stream))
    }

    async fn stats(&self, _: tonic::Request<pb::StatsRequest>) -> Result<tonic::Response<pb::Chunk>, Status> {
        let summary = stats::summary(&self.pods);
        Ok(tonic::Response::new(pb::Chunk { data: summary.to_string().into() }))
    }

    async fn http(
        &self,
        request: tonic::Request<pb::HttpRequest>,
    ) -> Result<tonic::Response<Self::HttpStream>, Status> {
        let answer = http_endpoints::answer(&self.pods, &request.into_inner());
        Ok(tonic::Response::new(Box::pin(tokio_stream::once(Ok(answer)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_client_is_let_in() {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "kube-apiserver-kubelet-client");
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let chain: Arc<[_]> = Arc::from(vec![certificate.der().clone()]);
        let peer = |certificates| Peer::new(([127, 0, 0, 1], 1).into(), certificates);
        assert!(admit("kube-apiserver-kubelet-client", &peer(Some(Arc::clone(&chain)))).is_ok());
        assert!(admit("another", &peer(Some(chain))).is_err());
        assert!(admit("kube-apiserver-kubelet-client", &peer(None)).is_err());
    }
}
