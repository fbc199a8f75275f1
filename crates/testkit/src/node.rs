//! A node of a control plane in one process: the kubelet's gRPC service, over
//! real mutual TLS. Its pods have no containers: a command that is run in one is
//! a process of this host, and their ports are those of the loopback.

use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use daemon::server::{Limits, Peer, Service, serve};
use daemon::tls::{ServerFiles, ServerTls};
use daemon::{Clock as _, Shutdown, SystemClock};
use futures::{Stream, StreamExt as _};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use kubeadm::pki::{Folder, Subject};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use wire::node as pb;
use wire::node::exec_input::Input;
use wire::node::exec_output::Output;
use wire::node::node_server::{Node as Contract, NodeServer};
use wire::node::port_forward_data::Message;

use crate::{ControlPlane, Rest};

/// The log of every container.
const LOG: [&str; 3] = ["one", "two", "three"];
/// Messages under way to the API server.
const QUEUE: usize = 16;

/// A running node; its server is gone when it is dropped.
pub struct Node {
    name: String,
    rest: Rest,
    shutdown: Shutdown,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

impl Node {
    /// Starts a node and registers it.
    ///
    /// # Errors
    /// It cannot be started, or the API server refuses it.
    pub async fn start(plane: &ControlPlane, name: &str) -> anyhow::Result<Self> {
        let pki = Folder::new(plane.folder().join("pki"));
        let subject = Subject::server(format!("system:node:{name}"), vec![name.to_owned()]);
        let file = format!("node-{name}");
        pki.ensure(&file, plane.authority(), &subject, SystemClock.now())?;
        let tls = ServerTls::load(ServerFiles {
            certificate: pki.path(&format!("{file}.crt")),
            key: pki.path(&format!("{file}.key")),
            client_ca: Some(pki.path("ca.crt")),
            front_proxy_ca: None,
        })?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let port = listener.local_addr().context("read the address")?.port();
        let shutdown = Shutdown::default();
        let front = Arc::new(Front(NodeServer::new(Processes)));
        daemon::tasks::spawn("node", serve(listener, tls, Limits::default(), front, shutdown.clone()));
        let node = Self { name: name.to_owned(), rest: plane.rest()?, shutdown };
        let object = json!({
            "metadata": {"name": name},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            },
        });
        let made = node.rest.post("/api/v1/nodes", &object).await?;
        ensure!(made.code == 201, "the node was not registered: {}", made.json());
        Ok(node)
    }

    /// Makes a pod of the namespace `default` that runs here, with one container `main`.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn run(&self, pod: &str) -> anyhow::Result<()> {
        let namespace = "/api/v1/namespaces/default";
        let account = json!({"metadata": {"name": "default"}});
        let account = self.rest.post(&format!("{namespace}/serviceaccounts"), &account).await?;
        ensure!(matches!(account.code, 201 | 409), "no service account: {}", account.json());
        let object = json!({
            "metadata": {"name": pod},
            "spec": {"nodeName": self.name, "containers": [{"name": "main", "image": "main"}]},
        });
        let made = self.rest.post(&format!("{namespace}/pods"), &object).await?;
        ensure!(made.code == 201, "the pod was not made: {}", made.json());
        let status = json!({"status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "main", "image": "main", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}},
            }],
        }});
        let running = self.rest.merge(&format!("{namespace}/pods/{pod}/status"), &status).await?;
        ensure!(running.code == 200, "the pod does not run: {}", running.json());
        Ok(())
    }
}

/// Lets in who has a certificate.
struct Front(NodeServer<Processes>);

impl Service for Front {
    type Body = tonic::body::Body;

    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Arc<Peer>) -> Response<Self::Body> {
        if peer.certificates.is_none() {
            return Status::unauthenticated("a client certificate is required").into_http();
        }
        let request = request
            .map(|body| tonic::body::Body::new(body.map_err(|error| Status::internal(error.to_string()))));
        match tonic::codegen::Service::call(&mut self.0.clone(), request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Pods whose commands are processes of this host.
#[derive(Clone)]
struct Processes;

#[tonic::async_trait]
impl Contract for Processes {
    type LogsStream = Answers<pb::Chunk>;
    type ExecStream = Answers<pb::ExecOutput>;
    type AttachStream = Answers<pb::ExecOutput>;
    type PortForwardStream = Answers<pb::PortForwardData>;
    type HttpStream = Answers<pb::HttpResponse>;

    async fn logs(
        &self,
        request: tonic::Request<pb::LogsRequest>,
    ) -> Result<tonic::Response<Self::LogsStream>, Status> {
        let tail = request.into_inner().tail_lines.and_then(|lines| usize::try_from(lines).ok());
        let lines = LOG.into_iter().skip(LOG.len().saturating_sub(tail.unwrap_or(LOG.len())));
        let chunks: Vec<_> = lines.map(|line| Ok(pb::Chunk { data: format!("{line}\n").into() })).collect();
        Ok(tonic::Response::new(Box::pin(futures::stream::iter(chunks))))
    }

    async fn exec(
        &self,
        request: tonic::Request<Streaming<pb::ExecInput>>,
    ) -> Result<tonic::Response<Self::ExecStream>, Status> {
        let mut input = request.into_inner();
        let Some(Input::Start(start)) = input.message().await?.and_then(|message| message.input) else {
            return Err(Status::invalid_argument("the first message must be the start"));
        };
        let [program, arguments @ ..] = start.command.as_slice() else {
            return Err(Status::invalid_argument("no command"));
        };
        let stdin = if start.stdin { Stdio::piped() } else { Stdio::null() };
        let child = Command::new(program)
            .args(arguments)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Status::internal(format!("start {program}: {error}")))?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        daemon::tasks::spawn("exec", async move {
            tokio::select! {
                () = connect(child, input, &sender) => {}
                () = sender.closed() => {}
            }
        });
        Ok(tonic::Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn attach(
        &self,
        _: tonic::Request<Streaming<pb::ExecInput>>,
    ) -> Result<tonic::Response<Self::AttachStream>, Status> {
        Err(Status::unimplemented("there is nothing to attach to"))
    }

    async fn port_forward(
        &self,
        request: tonic::Request<Streaming<pb::PortForwardData>>,
    ) -> Result<tonic::Response<Self::PortForwardStream>, Status> {
        let mut input = request.into_inner();
        let Some(Message::Start(start)) = input.message().await?.and_then(|message| message.message) else {
            return Err(Status::invalid_argument("the first message must be the start"));
        };
        let address = format!("127.0.0.1:{}", start.port);
        let connection = tokio::net::TcpStream::connect(&address).await;
        let connection = connection.map_err(|error| Status::internal(format!("{address}: {error}")))?;
        let (reader, mut writer) = connection.into_split();
        let (sender, receiver) = mpsc::channel(QUEUE);
        daemon::tasks::spawn("forward-in", async move {
            while let Ok(Some(pb::PortForwardData { message: Some(Message::Data(data)) })) =
                input.message().await
            {
                if writer.write_all(&data).await.is_err() {
                    return;
                }
            }
        });
        daemon::tasks::spawn("forward-out", async move {
            let wrap = |data| pb::PortForwardData { message: Some(Message::Data(data)) };
            pump(reader, &sender, wrap).await;
            // A client that left needs no word of the end.
            drop(sender.send(Ok(pb::PortForwardData { message: Some(Message::Close(true)) })).await);
        });
        Ok(tonic::Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn stats(&self, _: tonic::Request<pb::StatsRequest>) -> Result<tonic::Response<pb::Chunk>, Status> {
        Err(Status::unimplemented("there are no figures"))
    }

    async fn http(
        &self,
        _: tonic::Request<pb::HttpRequest>,
    ) -> Result<tonic::Response<Self::HttpStream>, Status> {
        Err(Status::unimplemented("there are no endpoints"))
    }
}

type Sender<T> = mpsc::Sender<Result<T, Status>>;

/// Joins a process with its client until the process ends; then says how it did.
async fn connect(mut child: Child, input: Streaming<pb::ExecInput>, sender: &Sender<pb::ExecOutput>) {
    let stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let output = |output| pb::ExecOutput { output: Some(output) };
    let outputs = async {
        tokio::join!(
            pump_from(stdout, sender, |data| output(Output::Stdout(data))),
            pump_from(stderr, sender, |data| output(Output::Stderr(data))),
        );
        child.wait().await
    };
    let feeding = async {
        feed(input, stdin).await;
        std::future::pending().await
    };
    let ended = tokio::select! {
        ended = outputs => ended,
        never = feeding => never,
    };
    let status = match ended.map(|status| status.code()) {
        Ok(Some(0)) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => {
            let code = code.unwrap_or(137);
            json!({
                "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                "message": format!("command terminated with non-zero exit code: exit status {code}"),
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            })
        }
        Err(error) => json!({"metadata": {}, "status": "Failure", "message": error.to_string()}),
    };
    // A client that left does not want to know.
    drop(sender.send(Ok(output(Output::Status(status.to_string().into())))).await);
}

async fn feed(mut input: Streaming<pb::ExecInput>, mut stdin: Option<impl AsyncWrite + Unpin>) {
    while let Some(message) = input.next().await {
        match message.map(|message| message.input) {
            Ok(Some(Input::Stdin(data))) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&data).await.is_err()
                {
                    stdin = None;
                }
            }
            Ok(Some(Input::CloseStdin(_))) => stdin = None,
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

async fn pump_from<T>(pipe: Option<impl AsyncRead + Unpin>, sender: &Sender<T>, wrap: impl Fn(Bytes) -> T) {
    if let Some(pipe) = pipe {
        pump(pipe, sender, wrap).await;
    }
}

async fn pump<T>(mut from: impl AsyncRead + Unpin, sender: &Sender<T>, wrap: impl Fn(Bytes) -> T) {
    let mut buffer = vec![0; 32 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if sender.send(Ok(wrap(Bytes::copy_from_slice(&buffer[..length])))).await.is_err() {
            return;
        }
    }
}
