//! The node's service on real containers: exec, attach, port-forward, logs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kubelet::cluster::PodChange;
use kubelet::server::NodeService;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use wire::node as pb;
use wire::node::exec_input::Input;
use wire::node::exec_output::Output;
use wire::node::node_client::NodeClient;
use wire::node::node_server::NodeServer;
use wire::node::port_forward_data::Message;

use crate::fake::Fake;
use crate::machine::{IMAGE, Kubelet, Machine, PATIENCE, pod, run, until};

type Client = NodeClient<Channel>;

/// A kubelet with its service, and pods that run.
async fn serve(machine: &Machine, pods: &[Value]) -> (Kubelet, Client) {
    let cluster = Arc::new(Fake::default());
    let tools = machine.tools(&cluster).await;
    let kubelet = Kubelet::start(&tools);
    kubelet.synced().await;
    for wanted in pods {
        kubelet.send(PodChange::Set(pod(wanted.clone()))).await;
    }
    for wanted in pods {
        let name = wanted["metadata"]["name"].as_str().expect("a name");
        until(name, async || {
            let (_, shown) = kubelet.pods.find("default", name, "")?;
            shown.observed.running().next().map(drop)
        })
        .await;
    }
    let service = NodeServer::new(NodeService::new(Arc::clone(&kubelet.pods)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper_util::service::TowerToHyperService::new(service.clone());
            let executor = hyper_util::rt::TokioExecutor::new();
            let connection = hyper::server::conn::http2::Builder::new(executor)
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let client = NodeClient::new(endpoint.connect().await.expect("connects"));
    (kubelet, client)
}

fn a_pod(name: &str, container: Value, host_network: bool) -> Value {
    let mut container = container;
    container["name"] = "c".into();
    container["image"] = IMAGE.into();
    json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
        "spec": {"restartPolicy": "Never", "hostNetwork": host_network, "terminationGracePeriodSeconds": 0,
            "containers": [container]}
    })
}

fn reference(name: &str) -> Option<pb::PodRef> {
    Some(pb::PodRef { namespace: "default".to_owned(), name: name.to_owned(), ..Default::default() })
}

/// One end of exec or attach.
struct Session {
    input: mpsc::Sender<pb::ExecInput>,
    output: Streaming<pb::ExecOutput>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Session {
    async fn begin(client: &mut Client, start: pb::ExecStart, is_attach: bool) -> Self {
        let (input, messages) = mpsc::channel(16);
        input.send(pb::ExecInput { input: Some(Input::Start(start)) }).await.expect("room");
        let messages = ReceiverStream::new(messages);
        let output = if is_attach { client.attach(messages).await } else { client.exec(messages).await };
        Self { input, output: output.expect("begins").into_inner(), stdout: Vec::new(), stderr: Vec::new() }
    }

    async fn exec(client: &mut Client, pod: &str, tty: bool, command: &[&str]) -> Self {
        let start = pb::ExecStart {
            pod: reference(pod),
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            stdin: true,
            stdout: true,
            stderr: true,
            tty,
        };
        Self::begin(client, start, false).await
    }

    async fn attach(client: &mut Client, pod: &str, tty: bool) -> Self {
        let start = pb::ExecStart {
            pod: reference(pod),
            stdin: true,
            stdout: true,
            stderr: true,
            tty,
            ..Default::default()
        };
        Self::begin(client, start, true).await
    }

    async fn send(&self, input: Input) {
        self.input.send(pb::ExecInput { input: Some(input) }).await.expect("is listened to");
    }

    async fn write(&self, text: &str) {
        self.send(Input::Stdin(Bytes::copy_from_slice(text.as_bytes()))).await;
    }

    /// Takes one message; the status, if it was that.
    async fn take(&mut self) -> Option<Value> {
        let message = tokio::time::timeout(PATIENCE / 3, self.output.message()).await;
        let message = message.unwrap_or_else(|_| panic!("only {:?}", String::from_utf8_lossy(&self.stdout)));
        match message.expect("a message").expect("not the end").output.expect("something") {
            Output::Stdout(data) => self.stdout.extend(data),
            Output::Stderr(data) => self.stderr.extend(data),
            Output::Status(status) => return Some(serde_json::from_slice(&status).expect("JSON")),
        }
        None
    }

    /// Takes messages until the output has this text.
    async fn expect(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.stdout).contains(text) {
            let ended = self.take().await;
            assert!(
                ended.is_none(),
                "{text:?} before {ended:?}, after {:?}",
                String::from_utf8_lossy(&self.stdout)
            );
        }
    }

    async fn end(&mut self) -> Value {
        loop {
            if let Some(status) = self.take().await {
                return status;
            }
        }
    }
}

fn exit_code(status: &Value) -> &str {
    status["details"]["causes"][0]["message"].as_str().unwrap_or("0")
}

async fn exec(machine: &Machine) {
    let (kubelet, mut client) =
        serve(machine, &[a_pod("p", json!({"command": ["sleep", "1000"]}), false)]).await;

    // Two streams and an exit code.
    let mut session =
        Session::exec(&mut client, "p", false, &["sh", "-c", "echo out; echo err >&2; exit 5"]).await;
    let status = session.end().await;
    assert_eq!((session.stdout.as_slice(), session.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!((status["reason"].as_str(), exit_code(&status)), (Some("NonZeroExitCode"), "5"));

    // Input to its end, more than any buffer holds.
    let mut session = Session::exec(&mut client, "p", false, &["cat"]).await;
    let piece = "0123456789abcdef".repeat(1024);
    let writer = session.input.clone();
    let sent = piece.clone();
    tokio::spawn(async move {
        for _ in 0..64 {
            let data = Bytes::copy_from_slice(sent.as_bytes());
            writer.send(pb::ExecInput { input: Some(Input::Stdin(data)) }).await.expect("is listened to");
        }
        writer.send(pb::ExecInput { input: Some(Input::CloseStdin(true)) }).await.expect("is listened to");
    });
    assert_eq!(session.end().await["status"], "Success");
    assert!(session.stdout == piece.repeat(64).into_bytes(), "{} bytes", session.stdout.len());

    // A terminal: its size, its echo, one stream.
    let mut session = Session::exec(&mut client, "p", true, &["sh"]).await;
    session.send(Input::Resize(pb::TerminalSize { width: 101, height: 43 })).await;
    session.write("test -t 0 && echo is-a-$((1+1))-terminal; stty size\n").await;
    session.expect("is-a-2-terminal").await;
    session.expect("43 101").await;
    session.write("echo to-stderr >&2; exit 3\n").await;
    let status = session.end().await;
    assert_eq!(exit_code(&status), "3");
    assert!(session.stderr.is_empty(), "a terminal has one stream");
    assert!(String::from_utf8_lossy(&session.stdout).contains("to-stderr\r\n"));

    // What is not there.
    let mut session = Session::exec(&mut client, "p", false, &["no-such-program"]).await;
    let status = session.end().await;
    assert_eq!(status["status"], "Failure");
    assert!(status["message"].as_str().is_some_and(|text| text.contains("no-such-program")), "{status}");
    let missing =
        pb::ExecStart { pod: reference("nobody"), command: vec!["a".to_owned()], ..Default::default() };
    let first = pb::ExecInput { input: Some(Input::Start(missing)) };
    let refused = client.exec(tokio_stream::once(first)).await.expect_err("no such pod");
    assert_eq!(refused.code(), tonic::Code::NotFound);

    // A client that vanishes takes its process along.
    let session = Session::exec(&mut client, "p", false, &["sleep", "98765"]).await;
    let is_running = async |client: &mut Client| {
        let look = ["sh", "-c", "cat /proc/[0-9]*/cmdline"];
        let mut look = Session::exec(client, "p", false, &look).await;
        look.end().await;
        String::from_utf8_lossy(&look.stdout).contains("98765")
    };
    let mut other = client.clone();
    until("the process", async || is_running(&mut other).await.then_some(())).await;
    drop(session);
    until("the end of the process", async || (!is_running(&mut other).await).then_some(())).await;
    until("the end of all pipes", async || {
        let left = std::fs::read_dir(machine.path("state/io")).expect("state").count();
        (left == 0).then_some(())
    })
    .await;
    kubelet.crash().await;
}

async fn attach(machine: &Machine) {
    let terminal = json!({"stdin": true, "tty": true, "command": ["sh"]});
    let once =
        json!({"stdin": true, "stdinOnce": true, "command": ["sh", "-c", "cat; echo done >&2; exit 6"]});
    let (kubelet, mut client) =
        serve(machine, &[a_pod("terminal", terminal, false), a_pod("once", once, false)]).await;

    // A terminal that outlives who was attached to it.
    let mut session = Session::attach(&mut client, "terminal", true).await;
    session.send(Input::Resize(pb::TerminalSize { width: 99, height: 33 })).await;
    session.write("here=$((20+3)); stty size\n").await;
    session.expect("33 99").await;
    drop(session);
    let mut session = Session::attach(&mut client, "terminal", true).await;
    session.write("echo still-$here\n").await;
    session.expect("still-23").await;
    session.write("exit 4\n").await;
    assert_eq!(exit_code(&session.end().await), "4");

    // Input that ends with the first who was attached.
    let mut session = Session::attach(&mut client, "once", false).await;
    session.write("some input\n").await;
    session.expect("some input\n").await;
    session.send(Input::CloseStdin(true)).await;
    let status = session.end().await;
    assert_eq!(exit_code(&status), "6");
    assert_eq!(session.stderr, b"done\n");
    kubelet.crash().await;
}

/// One forwarded connection.
struct Forward {
    input: mpsc::Sender<pb::PortForwardData>,
    output: Streaming<pb::PortForwardData>,
}

impl Forward {
    async fn begin(client: &mut Client, pod: &str, port: u16) -> Result<Self, tonic::Status> {
        let (input, messages) = mpsc::channel(16);
        let start = pb::PortForwardStart { pod: reference(pod), port: port.into() };
        input.send(pb::PortForwardData { message: Some(Message::Start(start)) }).await.expect("room");
        let output = client.port_forward(ReceiverStream::new(messages)).await?.into_inner();
        Ok(Self { input, output })
    }

    async fn send(&self, message: Message) {
        self.input.send(pb::PortForwardData { message: Some(message) }).await.expect("is listened to");
    }

    /// Everything up to the end of this direction.
    async fn read_to_end(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let message = tokio::time::timeout(PATIENCE / 3, self.output.message()).await.expect("in time");
            match message.expect("a message").expect("not the end").message.expect("something") {
                Message::Data(data) => all.extend(data),
                _ => return all,
            }
        }
    }
}

async fn port_forward(machine: &Machine) {
    let echo = json!({"command": ["sh", "-c", "while :; do nc -l -p 8080 -e sh -c 'cat; echo bye'; done"]});
    let sleep = json!({"command": ["sleep", "1000"]});
    let (kubelet, mut client) =
        serve(machine, &[a_pod("echo", echo, false), a_pod("host", sleep, true)]).await;

    // The client has said everything; the pod has not.
    let mut forward = {
        let client = client.clone();
        until("the pod's server", async || Forward::begin(&mut client.clone(), "echo", 8080).await.ok()).await
    };
    let much = vec![b'x'; 1 << 20];
    for piece in much.chunks(32 << 10) {
        forward.send(Message::Data(Bytes::copy_from_slice(piece))).await;
    }
    forward.send(Message::Close(true)).await;
    let mut expected = much.clone();
    expected.extend(b"bye\n");
    assert!(forward.read_to_end().await == expected, "an echo of everything, and the last words");

    // The pod, here on the node's network, has said everything; the client has not.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut forward = Forward::begin(&mut client, "host", port).await.expect("connects");
    let (mut stream, _) = listener.accept().await.expect("a connection");
    stream.write_all(b"all I have to say").await.expect("write");
    stream.shutdown().await.expect("half-close");
    assert_eq!(forward.read_to_end().await, b"all I have to say");
    forward.send(Message::Data(Bytes::from_static(b"and I ask"))).await;
    forward.send(Message::Close(true)).await;
    let mut heard = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("in time").expect("read");
    assert_eq!(heard, b"and I ask");
    let ended = tokio::time::timeout(PATIENCE, forward.output.message()).await.expect("in time");
    assert!(ended.expect("no error").is_none(), "both directions are closed");

    // A client that vanishes.
    let forward = Forward::begin(&mut client, "host", port).await.expect("connects");
    let (mut stream, _) = listener.accept().await.expect("a connection");
    drop(forward);
    let mut heard = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard))
        .await
        .expect("closed in time")
        .expect("read");
    drop((stream, listener));

    // Nobody listens.
    for name in ["echo", "host"] {
        let Err(refused) = Forward::begin(&mut client, name, 9).await else { panic!("nobody listens") };
        let expected = "failed to connect to localhost:9 inside namespace ";
        assert!(refused.message().starts_with(expected), "{refused:?}");
        assert!(
            refused.message().contains("dial tcp4 127.0.0.1:9: connect: connection refused"),
            "{refused:?}"
        );
    }
    kubelet.crash().await;
}

async fn read_log(client: &mut Client, request: pb::LogsRequest) -> String {
    let mut chunks = client.logs(request).await.expect("a log").into_inner();
    let mut all = Vec::new();
    while let Some(chunk) =
        tokio::time::timeout(PATIENCE, chunks.message()).await.expect("in time").expect("chunk")
    {
        all.extend(chunk.data);
    }
    String::from_utf8(all).expect("text")
}

async fn logs(machine: &Machine) {
    const LINES: u32 = 60_000;
    // The files are rotated at a megabyte: twice for this.
    let script =
        format!("until test -e /go; do sleep 0.05; done; seq 1 {LINES}; echo last >&2; sleep 1; exit 1");
    let mut chatty = a_pod("chatty", json!({"command": ["sh", "-c", script]}), false);
    chatty["spec"]["restartPolicy"] = "OnFailure".into();
    let (kubelet, mut client) = serve(machine, &[chatty]).await;
    let ask = || pb::LogsRequest { pod: reference("chatty"), ..Default::default() };

    let previous = client.logs(pb::LogsRequest { previous: true, ..ask() }).await.expect_err("none yet");
    assert_eq!(previous.message(), "previous terminated container \"c\" in pod \"chatty\" not found");
    let mut following = client.clone();
    let follow = tokio::spawn({
        let request = pb::LogsRequest { follow: true, ..ask() };
        async move { read_log(&mut following, request).await }
    });
    let mut go = Session::exec(&mut client, "chatty", false, &["touch", "/go"]).await;
    assert_eq!(go.end().await["status"], "Success");
    let text = follow.await.expect("follows to the end");
    let numbers: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(numbers.iter().copied().eq(1..=LINES), "{} lines, in order", numbers.len());
    assert!(text.contains("last\n"));

    // The next attempt runs; the one that ended is the previous.
    until("the second attempt", async || {
        let (_, shown) = kubelet.pods.find("default", "chatty", "")?;
        shown.observed.latest("c").filter(|record| record.attempt == 1 && record.is_running()).map(drop)
    })
    .await;
    let previous = || pb::LogsRequest { previous: true, ..ask() };
    let tail = read_log(
        &mut client,
        pb::LogsRequest { tail_lines: Some(3), stream: "Stdout".to_owned(), ..previous() },
    );
    let tail = tail.await;
    assert!(tail.ends_with(&format!("{LINES}\n")), "{tail}");
    let errors = read_log(&mut client, pb::LogsRequest { stream: "Stderr".to_owned(), ..previous() }).await;
    assert_eq!(errors, "last\n");
    let limited = read_log(&mut client, pb::LogsRequest { limit_bytes: Some(10), ..previous() }).await;
    assert_eq!(limited.len(), 10);
    let timed =
        read_log(&mut client, pb::LogsRequest { timestamps: true, tail_lines: Some(1), ..previous() }).await;
    let (time, _) = timed.split_once(' ').expect("a time");
    time.parse::<jiff::Timestamp>().expect("a time");
    let later = jiff::Timestamp::now() + Duration::from_secs(60);
    let none = read_log(&mut client, pb::LogsRequest { since_time: later.to_string(), ..previous() }).await;
    assert_eq!(none, "", "nothing is that new");
    let own = read_log(&mut client, ask()).await;
    assert_eq!(own, "", "the second attempt has said nothing yet");
    kubelet.crash().await;
}

#[test]
fn exec_into_containers() {
    run(async |machine| exec(machine).await);
}

#[test]
fn attach_to_containers() {
    run(async |machine| attach(machine).await);
}

#[test]
fn forward_ports() {
    run(async |machine| port_forward(machine).await);
}

#[test]
fn logs_of_containers() {
    run(async |machine| logs(machine).await);
}
