//! Real packets through real rules, in network namespaces of this test's own: a
//! client outside the cluster, a node, and two pods. Needs root, `ip` and `nft`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use api::ObjectKey;
use api::types::core::v1::Service;
use api::types::discovery::v1::EndpointSlice;
use kube_proxy::kernel::Nft;
use kube_proxy::programmer::Programmer;
use kube_proxy::routes::{Routes, Table};
use kube_proxy::rules::{Place, Rules, compute};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

const PODS: [&str; 2] = ["10.244.1.2", "10.244.2.2"];
const CLIENT: &str = "192.0.2.2";

/// The namespaces; gone when dropped, also after a failure.
struct World(String);

impl World {
    fn new(letter: char) -> Self {
        let world = Self(format!("kp{}{letter}", std::process::id()));
        let links = [("client", "192.0.2"), ("pod1", "10.244.1"), ("pod2", "10.244.2")];
        ip(&format!("netns add {}", world.name("node")));
        ip(&format!("-n {} link set lo up", world.name("node")));
        for (number, (name, prefix)) in links.into_iter().enumerate() {
            let (node, other) = (world.name("node"), world.name(name));
            ip(&format!("netns add {other}"));
            ip(&format!("link add up{number} netns {node} type veth peer name eth0 netns {other}"));
            ip(&format!("-n {node} address add {prefix}.1/24 dev up{number}"));
            ip(&format!("-n {node} link set up{number} up"));
            ip(&format!("-n {other} address add {prefix}.2/24 dev eth0"));
            ip(&format!("-n {other} link set lo up"));
            ip(&format!("-n {other} link set eth0 up"));
            ip(&format!("-n {other} route add default via {prefix}.1"));
        }
        // A node knows a way for everything; connection addresses are changed before it is taken.
        ip(&format!("-n {} route add default via {CLIENT}", world.name("node")));
        // The kernel limits how often it says "unreachable", which is not what is tested.
        for (switch, value) in
            [("ip_forward", "1"), ("icmp_ratelimit", "0"), ("conf/all/send_redirects", "0")]
        {
            let path = format!("/proc/sys/net/ipv4/{switch}");
            world.inside("node", move || std::fs::write(path, value)).expect("set a switch");
        }
        world
    }

    fn name(&self, part: &str) -> String {
        format!("{}-{part}", self.0)
    }

    /// Runs something on a thread of its own in a namespace.
    fn inside<T: Send + 'static>(&self, part: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(part, work).join().expect("the thread ends well")
    }

    fn start<T: Send + 'static>(
        &self,
        part: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let file = File::open(format!("/run/netns/{}", self.name(part))).expect("the namespace");
        std::thread::spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
            work()
        })
    }

    /// Answers on TCP and UDP with the pod's name and the peer's address.
    fn serve(&self, part: &'static str) {
        let (tcp, udp) = self.inside(part, || {
            (TcpListener::bind("0.0.0.0:8080").expect("tcp"), UdpSocket::bind("0.0.0.0:8080").expect("udp"))
        });
        // Sockets belong to the namespace they were made in; the threads end with the test.
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = tcp.accept() {
                // A client that has left is no concern of the server.
                let _ = write!(stream, "{part} {}", peer.ip());
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(format!("{part} {}", peer.ip()).as_bytes(), peer);
            }
        });
    }

    fn tcp(&self, from: &str, to: &str) -> Result<String, ErrorKind> {
        let to: SocketAddr = to.parse().expect("an address");
        self.inside(from, move || {
            let limit = Duration::from_secs(2);
            let mut stream = TcpStream::connect_timeout(&to, limit)?;
            stream.set_read_timeout(Some(limit))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
        .map_err(|error: std::io::Error| error.kind())
    }

    fn udp(&self, from: &str, to: &str) -> Result<String, ErrorKind> {
        let to: SocketAddr = to.parse().expect("an address");
        self.inside(from, move || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            socket.send(b"?")?;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
        .map_err(|error: std::io::Error| error.kind())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for part in ["client", "pod1", "pod2", "node"] {
            // What was never made cannot be deleted.
            let _ = Command::new("ip").args(["netns", "del", &self.name(part)]).output();
        }
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("run ip");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn rules(name: &str, spec: Value, pods: &[&str]) -> (ObjectKey, Rules) {
    let key = ObjectKey::new("ns", name);
    let service: Service =
        serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec}))
            .expect("a service");
    let endpoints: Vec<Value> =
        pods.iter().map(|pod| json!({"addresses": [pod], "nodeName": "node"})).collect();
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": name}, "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "t", "port": 8080}, {"name": "u", "port": 8080, "protocol": "UDP"}],
    }))
    .expect("a slice");
    let place = Place { node: "node".into(), cluster_cidr: vec!["10.244.0.0/16".parse().expect("a range")] };
    let computed = compute(&key, &service, &[&slice], &place);
    (key, computed)
}

fn spec(address: &str, more: Value) -> Value {
    let mut spec = json!({
        "clusterIP": address, "clusterIPs": [address],
        "ports": [{"name": "t", "port": 80}, {"name": "u", "port": 80, "protocol": "UDP"}],
    });
    api::patch::merge_patch(&mut spec, more);
    spec
}

fn services(with_empty: bool) -> BTreeMap<ObjectKey, Rules> {
    let udp = json!({"name": "u", "port": 80, "protocol": "UDP", "nodePort": 30081});
    let node_port = json!({"type": "NodePort", "ports": [{"name": "t", "port": 80, "nodePort": 30080}, udp]});
    let ports = json!([{"name": "t", "port": 80, "nodePort": 30090}]);
    let local = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": ports});
    let mut all = BTreeMap::from([
        rules("plain", spec("10.96.0.1", node_port), &PODS),
        rules("sticky", spec("10.96.0.2", json!({"sessionAffinity": "ClientIP"})), &PODS),
        rules("local", spec("10.96.0.4", local), &PODS),
        rules("single", spec("10.96.0.5", json!({})), &PODS[..1]),
    ]);
    if with_empty {
        all.extend([rules("empty", spec("10.96.0.3", json!({})), &[])]);
    }
    all
}

fn backends(answers: impl IntoIterator<Item = Result<String, ErrorKind>>) -> BTreeSet<String> {
    answers
        .into_iter()
        .map(|answer| answer.expect("an answer").split(' ').next().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test]
async fn packets_follow_the_rules() {
    let world = World::new('a');
    world.serve("pod1");
    world.serve("pod2");
    let nft = Nft::in_namespace(&world.name("node"));
    let mut programmer = Programmer::new(nft.clone());
    let all = services(true);
    let script = programmer.update(all).await.expect("programmed");
    assert!(script.contains("delete table"), "the first time all is made");
    let both = BTreeSet::from(["pod1".to_owned(), "pod2".to_owned()]);

    // The cluster address, from a pod, from outside, and from the node itself.
    for from in ["pod1", "client", "node"] {
        assert_eq!(backends((0..30).map(|_| world.tcp(from, "10.96.0.1:80"))), both, "tcp from {from}");
        assert_eq!(backends((0..30).map(|_| world.udp(from, "10.96.0.1:80"))), both, "udp from {from}");
    }
    // Pods are seen as they are, others behind the node; a pod reaches itself.
    assert_eq!(world.tcp("pod2", "10.96.0.5:80").as_deref(), Ok("pod1 10.244.2.2"));
    assert_eq!(world.tcp("client", "10.96.0.5:80").as_deref(), Ok("pod1 10.244.1.1"));
    assert_eq!(world.tcp("pod1", "10.96.0.5:80").as_deref(), Ok("pod1 10.244.1.1"));
    // Node ports, masqueraded or with the client's address.
    assert_eq!(backends((0..30).map(|_| world.tcp("client", "192.0.2.1:30080"))), both);
    assert_eq!(backends((0..30).map(|_| world.udp("client", "192.0.2.1:30081"))), both);
    assert!(world.tcp("client", "192.0.2.1:30080").expect("an answer").ends_with(".1"));
    assert!(world.tcp("client", "192.0.2.1:30090").expect("an answer").ends_with(CLIENT));
    // Affinity: each client stays.
    for from in ["client", "pod1"] {
        assert_eq!(backends((0..15).map(|_| world.tcp(from, "10.96.0.2:80"))).len(), 1, "{from}");
    }
    // Without endpoints connections are refused at once.
    for from in ["pod1", "client", "node"] {
        assert_eq!(world.tcp(from, "10.96.0.3:80"), Err(ErrorKind::ConnectionRefused), "tcp from {from}");
        // On the node itself the send fails already.
        let expected =
            if from == "node" { ErrorKind::PermissionDenied } else { ErrorKind::ConnectionRefused };
        assert_eq!(world.udp(from, "10.96.0.3:80"), Err(expected), "udp from {from}");
    }
    // What needs no change changes nothing, also for one that starts anew.
    assert_eq!(programmer.verify().await.expect("read"), None);
    let again: BTreeMap<_, _> = [rules("empty", spec("10.96.0.3", json!({})), &[])].into();
    assert_eq!(programmer.update(again).await.expect("nothing to do"), "");

    updates(&world, &nft, programmer).await;
}

async fn updates(world: &World, nft: &Nft, mut programmer: Programmer) {
    // Only the difference is sent.
    let filled: BTreeMap<_, _> = [rules("empty", spec("10.96.0.3", json!({})), &PODS[1..])].into();
    let script = programmer.update(filled).await.expect("programmed");
    assert!(
        !script.contains("10.96.0.1") && !script.contains("delete table") && script.lines().count() < 40,
        "{script}"
    );
    assert!(world.tcp("pod1", "10.96.0.3:80").expect("an answer").starts_with("pod2"));
    let gone: BTreeMap<_, _> = [(ObjectKey::new("ns", "empty"), Rules::default())].into();
    programmer.update(gone).await.expect("programmed");
    assert_eq!(programmer.verify().await.expect("read"), None);

    // A new process finds the table as it should be, and leaves it.
    let mut restarted = Programmer::new(nft.clone());
    let all = services(false);
    assert_eq!(restarted.update(all).await.expect("read"), "");

    // What others break is mended.
    nft.send("flush chain inet corten services").await.expect("flush");
    assert!(world.tcp("pod2", "10.96.0.5:80").is_err());
    assert!(restarted.verify().await.expect("mended").is_some());
    assert!(world.tcp("pod2", "10.96.0.5:80").is_ok());
}

#[test]
fn routes_of_ours_and_no_others() {
    let world = World::new('b');
    let node = world.name("node");
    let apply = |routes: &[(&str, &str)]| {
        let table: Table = routes
            .iter()
            .map(|(a, b)| (a.parse().expect("a range"), b.parse().expect("an address")))
            .collect();
        world.inside("node", move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime
                .block_on(async { Routes::open().expect("netlink").apply(&table).await.expect("applied") });
        });
    };
    let shown = || {
        let output =
            Command::new("ip").args(["-n", &node, "route", "show", "proto", "199"]).output().expect("run ip");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .map(|line| line.split(" dev ").next().unwrap_or_default().trim().to_owned())
            .collect::<Vec<_>>()
    };
    ip(&format!("-n {node} route add 10.200.0.0/24 via 10.244.1.2"));
    // The last gateway is on no link of the node: the kernel does not take that route.
    apply(&[
        ("10.245.1.0/24", "10.244.1.2"),
        ("10.245.2.0/24", "10.244.2.2"),
        ("10.245.3.0/24", "172.16.0.1"),
    ]);
    assert_eq!(shown(), ["10.245.1.0/24 via 10.244.1.2", "10.245.2.0/24 via 10.244.2.2"]);
    apply(&[("10.245.1.0/24", "10.244.2.2")]);
    assert_eq!(shown(), ["10.245.1.0/24 via 10.244.2.2"]);
    apply(&[]);
    assert!(shown().is_empty());
    let output = Command::new("ip").args(["-n", &node, "route"]).output().expect("run ip");
    assert!(String::from_utf8_lossy(&output.stdout).contains("10.200.0.0/24"), "a route of others stays");
}
