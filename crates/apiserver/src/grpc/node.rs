//! The node service for kubectl: authorized, then passed on to the kubelet.

use std::pin::Pin;
use std::sync::Arc;

use api::{Object, Status};
use client::to_grpc;
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Streaming};
use wire::node::node_server::Node;
use wire::node::{
    Chunk, ExecInput, ExecOutput, ExecStart, HttpRequest, HttpResponse, LogsRequest, PodRef, PortForwardData,
    StatsRequest, exec_input, port_forward_data,
};

use super::sender_of;
use crate::audit;
use crate::connect::{Connector, Located};
use crate::entry::Sender;
use crate::flow::Reading;
use crate::gate::{Gate, Target};
use crate::registry::Caller;

/// Messages under way from the client to the node.
const QUEUE: usize = 16;

type Reply<T> = Result<Response<T>, tonic::Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;

/// The node service before a gate.
pub struct NodeFront {
    gate: Arc<Gate>,
    connector: Arc<Connector>,
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn refused(status: Status) -> tonic::Status {
    audit::failed(&status);
    to_grpc(&status)
}

impl NodeFront {
    pub(super) const fn new(gate: Arc<Gate>, connector: Arc<Connector>) -> Self {
        Self { gate, connector }
    }

    async fn locate(
        &self,
        sender: &Sender,
        verb: &str,
        subresource: &str,
        pod: Option<&PodRef>,
        options: Object,
    ) -> Result<Located, tonic::Status> {
        let pod = pod.ok_or_else(|| tonic::Status::invalid_argument("the request names no pod"))?;
        let target = Target {
            group: String::new(),
            version: "v1".to_owned(),
            resource: "pods".to_owned(),
            subresource: subresource.to_owned(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
        };
        let entered = self.gate.enter(sender, &target.asks(verb), Reading::default()).await;
        let entered = entered.map_err(|turned| refused(turned.into()))?;
        let allowed = self.gate.allow(&entered.user, verb, &target).await.map_err(refused)?;
        if subresource != "log" {
            let caller = Caller { user: Arc::clone(&entered.user), field_manager: String::new() };
            self.gate.admit_connection(&caller, &allowed, options).await.map_err(refused)?;
        }
        self.connector.locate(&self.gate, &allowed.address).await.map_err(refused)
    }

    async fn run(&self, request: Request<Streaming<ExecInput>>, attach: bool) -> Reply<Streamed<ExecOutput>> {
        let sender = sender_of(&request)?;
        let mut inputs = request.into_inner();
        let first = inputs.message().await?.and_then(|message| message.input);
        let Some(exec_input::Input::Start(mut start)) = first else {
            return Err(tonic::Status::invalid_argument("the first message must say what to run, and where"));
        };
        let subresource = if attach { "attach" } else { "exec" };
        let options = exec_options(&start);
        let located = self.locate(&sender, "create", subresource, start.pod.as_ref(), options).await?;
        let wanted = start.pod.as_ref().map(|pod| pod.container.clone());
        let container = located.container(wanted.as_deref()).map_err(refused)?;
        start.pod = Some(located.reference(&container));
        let first = ExecInput { input: Some(exec_input::Input::Start(start)) };
        let mut node = located.node;
        let inputs = onward(first, inputs);
        let outputs = if attach { node.attach(inputs).await? } else { node.exec(inputs).await? };
        Ok(Response::new(outputs.into_inner().boxed()))
    }
}

/// The options of an exec or attach, as REST clients would give them.
fn exec_options(start: &ExecStart) -> Object {
    let mut options = Object::default();
    let flags =
        [("stdin", start.stdin), ("stdout", start.stdout), ("stderr", start.stderr), ("tty", start.tty)];
    for (name, _) in flags.into_iter().filter(|(_, is_on)| *is_on) {
        options.set(name, true);
    }
    let container = start.pod.as_ref().map(|pod| pod.container.as_str()).unwrap_or_default();
    if !container.is_empty() {
        options.set("container", container);
    }
    if !start.command.is_empty() {
        options.set("command", start.command.clone());
    }
    options
}

/// The client's stream with its first message replaced; it ends when either side does.
fn onward<T: Send + 'static>(first: T, mut rest: Streaming<T>) -> ReceiverStream<T> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    daemon::tasks::spawn("node-input", async move {
        let mut next = Some(first);
        while let Some(message) = next {
            if sender.send(message).await.is_err() {
                return;
            }
            next = rest.message().await.ok().flatten();
        }
    });
    ReceiverStream::new(receiver)
}

#[tonic::async_trait]
impl Node for NodeFront {
    type LogsStream = Streamed<Chunk>;
    type ExecStream = Streamed<ExecOutput>;
    type AttachStream = Streamed<ExecOutput>;
    type PortForwardStream = Streamed<PortForwardData>;
    type HttpStream = Streamed<HttpResponse>;

    async fn logs(&self, request: Request<LogsRequest>) -> Reply<Self::LogsStream> {
        let sender = sender_of(&request)?;
        let mut request = request.into_inner();
        let options = Object::default();
        let located = self.locate(&sender, "get", "log", request.pod.as_ref(), options).await?;
        let wanted = request.pod.as_ref().map(|pod| pod.container.clone());
        let container = located.container(wanted.as_deref()).map_err(refused)?;
        request.pod = Some(located.reference(&container));
        let mut node = located.node;
        Ok(Response::new(node.logs(request).await?.into_inner().boxed()))
    }

    async fn exec(&self, request: Request<Streaming<ExecInput>>) -> Reply<Self::ExecStream> {
        self.run(request, false).await
    }

    async fn attach(&self, request: Request<Streaming<ExecInput>>) -> Reply<Self::AttachStream> {
        self.run(request, true).await
    }

    async fn port_forward(
        &self,
        request: Request<Streaming<PortForwardData>>,
    ) -> Reply<Self::PortForwardStream> {
        let sender = sender_of(&request)?;
        let mut inputs = request.into_inner();
        let first = inputs.message().await?.and_then(|message| message.message);
        let Some(port_forward_data::Message::Start(mut start)) = first else {
            return Err(tonic::Status::invalid_argument(
                "the first message must say which port of which pod",
            ));
        };
        let mut options = Object::default();
        options.set("ports", vec![start.port]);
        let located = self.locate(&sender, "create", "portforward", start.pod.as_ref(), options).await?;
        start.pod = Some(located.reference(""));
        let first = PortForwardData { message: Some(port_forward_data::Message::Start(start)) };
        let mut node = located.node;
        let outputs = node.port_forward(onward(first, inputs)).await?;
        Ok(Response::new(outputs.into_inner().boxed()))
    }

    async fn stats(&self, _request: Request<StatsRequest>) -> Reply<Chunk> {
        Err(tonic::Status::unimplemented("ask a node: the API server has no figures of its own"))
    }

    async fn http(&self, _request: Request<HttpRequest>) -> Reply<Self::HttpStream> {
        Err(tonic::Status::unimplemented("use the proxy subresource of the node"))
    }
}
