//! Real packets on the loopback: cluster names, other names through a second
//! server, large answers, and nonsense.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::{Shell, SystemClock};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use kube_dns::assemble::{Running, start};
use kube_dns::forward::Forwarder;
use kube_dns::metrics::Metrics;
use kube_dns::respond::{Responder, Transport};
use kube_dns::zone::Zone;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

fn responder(domain: &str, upstream: Vec<SocketAddr>) -> Responder {
    let zone = Zone::empty(domain);
    for (name, spec) in [
        ("plain", json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"]})),
        ("many", json!({"clusterIP": "None", "clusterIPs": ["None"]})),
        ("alias", json!({"type": "ExternalName", "externalName": "plain.ns.svc.other.test"})),
        ("round", json!({"type": "ExternalName", "externalName": format!("round.ns.svc.{domain}")})),
    ] {
        let object = json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec});
        zone.services.insert(serde_json::from_value(object).expect("a service"));
    }
    let endpoints: Vec<Value> =
        (0..200).map(|number| json!({"addresses": [format!("10.244.1.{number}")]})).collect();
    zone.slices.insert(
        serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": "many-1", "labels": {"kubernetes.io/service-name": "many"}},
            "addressType": "IPv4", "endpoints": endpoints,
        }))
        .expect("a slice"),
    );
    zone.namespaces.insert(serde_json::from_value(json!({"metadata": {"name": "ns"}})).expect("a namespace"));
    zone.services.advance(1);
    zone.slices.advance(1);
    zone.namespaces.advance(1);
    let forwarder = Arc::new(Forwarder::new(upstream, SystemClock::shared()));
    Responder { zone: Arc::new(zone), forwarder, metrics: Metrics::default() }
}

async fn server(shell: &Shell, domain: &str, upstream: Vec<SocketAddr>) -> (Running, SocketAddr) {
    let any = ["127.0.0.1:0".parse().expect("an address")];
    let running = start(responder(domain, upstream), &any, shell).await.expect("starts");
    let address = running.addresses[0];
    (running, address)
}

fn question(name: &str, payload: Option<u16>) -> Message {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message
}

async fn udp(server: SocketAddr, bytes: &[u8]) -> (usize, Message) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.send_to(bytes, server).await.expect("sent");
    let mut buffer = vec![0; 65_535];
    let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await;
    let length = received.expect("an answer in time").expect("an answer");
    (length, Message::from_vec(&buffer[..length]).expect("a message"))
}

async fn tcp(server: SocketAddr, message: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.expect("connects");
    let bytes = message.to_vec().expect("encodes");
    stream.write_u16(u16::try_from(bytes.len()).expect("short")).await.expect("sent");
    stream.write_all(&bytes).await.expect("sent");
    let mut buffer = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
    stream.read_exact(&mut buffer).await.expect("an answer");
    Message::from_vec(&buffer).expect("a message")
}

async fn ask(server: SocketAddr, name: &str) -> Message {
    udp(server, &question(name, None).to_vec().expect("encodes")).await.1
}

#[tokio::test]
async fn a_client_gets_its_answers() {
    let shell = Shell::quiet();
    let (other, upstream) = server(&shell, "other.test", vec![]).await;
    let (running, server) = server(&shell, "cluster.local", vec![upstream]).await;

    let plain = ask(server, "plain.ns.svc.cluster.local.").await;
    assert_eq!((plain.metadata.id, plain.metadata.response_code), (77, ResponseCode::NoError));
    assert!(plain.metadata.authoritative && plain.metadata.recursion_available);
    assert_eq!(plain.answers[0].data.to_string(), "10.96.0.5");
    let missing = ask(server, "missing.ns.svc.cluster.local.").await;
    assert_eq!((missing.metadata.response_code, missing.authorities.len()), (ResponseCode::NXDomain, 1));

    // Forwarded, twice: the second time from memory. An answer cut over UDP comes over TCP.
    for _ in 0..2 {
        let found = ask(server, "plain.ns.svc.other.test.").await;
        assert_eq!(found.answers[0].data.to_string(), "10.96.0.5");
        assert!(!found.metadata.authoritative);
    }
    assert_eq!(tcp(server, &question("many.ns.svc.other.test.", None)).await.answers.len(), 200);
    // A name for another name, here and elsewhere, and one that never ends.
    let alias = ask(server, "alias.ns.svc.cluster.local.").await;
    assert_eq!(alias.answers.len(), 2);
    assert_eq!(
        ask(server, "round.ns.svc.cluster.local.").await.metadata.response_code,
        ResponseCode::ServFail
    );
    // Nobody to ask.
    assert_eq!(ask(upstream, "example.com.").await.metadata.response_code, ResponseCode::ServFail);

    // Large answers are cut to what the client takes, and complete over TCP.
    for (payload, limit) in [(None, 512), (Some(1232), 1232), (Some(4096), 1232)] {
        let bytes = question("many.ns.svc.cluster.local.", payload).to_vec().expect("encodes");
        let (length, cut) = udp(server, &bytes).await;
        assert!(
            length <= limit && cut.metadata.truncation && !cut.answers.is_empty(),
            "{payload:?}: {length}"
        );
        assert_eq!(cut.edns.is_some(), payload.is_some());
    }
    assert_eq!(tcp(server, &question("many.ns.svc.cluster.local.", None)).await.answers.len(), 200);

    // Nonsense.
    let (_, refused) = udp(server, &[0, 9, 1, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0xff]).await;
    assert_eq!((refused.metadata.id, refused.metadata.response_code), (9, ResponseCode::FormErr));

    shell.shutdown.begin();
    running.finished().await.expect("ends");
    other.finished().await.expect("ends");
}

proptest! {
    #[test]
    fn nothing_that_comes_breaks_it(noise in proptest::collection::vec(any::<u8>(), 0..600), at in 0..60_usize, byte in any::<u8>()) {
        let responder = responder("cluster.local", vec![]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut almost = question("_a._tcp.plain.ns.svc.cluster.local.", Some(1232)).to_vec().expect("encodes");
        let at = at % almost.len();
        almost[at] = byte;
        for bytes in [noise, almost] {
            if let Some(response) = runtime.block_on(responder.respond(&bytes, Transport::Udp)) {
                prop_assert!(response.len() <= 1232);
                prop_assert_eq!(&response[..2], &bytes[..2]);
            }
        }
    }
}
