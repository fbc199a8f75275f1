//! Tables of questions and answers.

use serde_json::{Value, json};

use super::*;

pub(crate) fn zone() -> Zone {
    let zone = Zone::empty("cluster.local");
    for name in ["ns", "empty"] {
        zone.namespaces
            .insert(serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace"));
    }
    let service = |name: &str, spec: Value| {
        let object = json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec});
        zone.services.insert(serde_json::from_value(object).expect("a service"));
    };
    let ports = json!([{"name": "web", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    service("plain", json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"], "ports": ports}));
    service(
        "dual",
        json!({"clusterIP": "10.96.0.6", "clusterIPs": ["10.96.0.6", "fd00::6"], "ports": ports}),
    );
    service("heads", json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": ports}));
    service("nobody", json!({"clusterIP": "None", "clusterIPs": ["None"]}));
    service("outside", json!({"type": "ExternalName", "externalName": "www.example.com"}));
    service("inside", json!({"type": "ExternalName", "externalName": "plain.ns.svc.cluster.local."}));
    zone.slices.insert(
        serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": "heads-1", "labels": {"kubernetes.io/service-name": "heads"}},
            "addressType": "IPv4", "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.244.0.1"], "hostname": "zero"},
                {"addresses": ["10.244.0.2"], "conditions": {"ready": true}},
                {"addresses": ["10.244.0.3"], "conditions": {"ready": false}},
            ],
        }))
        .expect("a slice"),
    );
    zone
}

fn ask(name: &str, kind: RecordType) -> Option<Answer> {
    answer(&Question { name: Name::from_ascii(name).expect("a name"), kind }, &zone())
}

fn shown(name: &str, kind: RecordType) -> String {
    let Some(answer) = ask(name, kind) else { return "forward".to_owned() };
    if answer.answers.is_empty() {
        assert_eq!(answer.authorities.len(), 1, "{name}: nothing comes with its authority");
        return if answer.code == ResponseCode::NXDomain { "no such name" } else { "no data" }.to_owned();
    }
    let mut lines: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    lines.sort();
    lines.join(", ")
}

#[test]
fn names_and_types() {
    use RecordType as T;
    let cases = [
        ("plain.ns.svc.cluster.local.", T::A, "10.96.0.5"),
        ("PLAIN.ns.SVC.cluster.Local.", T::A, "10.96.0.5"),
        ("plain.ns.svc.cluster.local.", T::AAAA, "no data"),
        ("plain.ns.svc.cluster.local.", T::MX, "no data"),
        ("dual.ns.svc.cluster.local.", T::AAAA, "fd00::6"),
        ("missing.ns.svc.cluster.local.", T::A, "no such name"),
        ("plain.other.svc.cluster.local.", T::A, "no such name"),
        ("heads.ns.svc.cluster.local.", T::A, "10.244.0.1, 10.244.0.2"),
        ("nobody.ns.svc.cluster.local.", T::A, "no such name"),
        ("zero.heads.ns.svc.cluster.local.", T::A, "10.244.0.1"),
        ("10-244-0-2.heads.ns.svc.cluster.local.", T::A, "10.244.0.2"),
        ("10-244-0-3.heads.ns.svc.cluster.local.", T::A, "no such name"),
        ("zero.plain.ns.svc.cluster.local.", T::A, "no such name"),
        ("_web._tcp.plain.ns.svc.cluster.local.", T::SRV, "0 100 80 plain.ns.svc.cluster.local."),
        ("_web._udp.plain.ns.svc.cluster.local.", T::SRV, "no such name"),
        ("_web._tcp.plain.ns.svc.cluster.local.", T::A, "no data"),
        (
            "_web._tcp.heads.ns.svc.cluster.local.",
            T::SRV,
            "0 50 8080 10-244-0-2.heads.ns.svc.cluster.local., 0 50 8080 zero.heads.ns.svc.cluster.local.",
        ),
        ("10-244-0-9.ns.pod.cluster.local.", T::A, "10.244.0.9"),
        ("fd00--9.ns.pod.cluster.local.", T::AAAA, "fd00::9"),
        ("10-244-0-9.other.pod.cluster.local.", T::A, "no such name"),
        ("10-244-0.ns.pod.cluster.local.", T::A, "no such name"),
        ("outside.ns.svc.cluster.local.", T::A, "www.example.com."),
        ("outside.ns.svc.cluster.local.", T::CNAME, "www.example.com."),
        ("5.0.96.10.in-addr.arpa.", T::PTR, "plain.ns.svc.cluster.local."),
        ("1.0.244.10.in-addr.arpa.", T::PTR, "zero.heads.ns.svc.cluster.local."),
        ("9.9.9.9.in-addr.arpa.", T::PTR, "forward"),
        ("0.96.10.in-addr.arpa.", T::PTR, "forward"),
        ("dns-version.cluster.local.", T::TXT, "1.1.0"),
        ("cluster.local.", T::A, "no data"),
        ("svc.cluster.local.", T::A, "no data"),
        ("empty.svc.cluster.local.", T::A, "no data"),
        ("other.svc.cluster.local.", T::A, "no such name"),
        ("x.cluster.local.", T::A, "no such name"),
        ("a.b.c.d.e.ns.svc.cluster.local.", T::A, "no such name"),
        ("example.com.", T::A, "forward"),
        ("notcluster.local.", T::A, "forward"),
        ("local.", T::A, "forward"),
        (".", T::NS, "forward"),
    ];
    for (name, kind, expected) in cases {
        assert_eq!(shown(name, kind), expected, "{name} {kind}");
    }
    assert!(shown("cluster.local.", T::SOA).starts_with("ns.dns.cluster.local."));
    assert_eq!(shown("cluster.local.", T::NS), "ns.dns.cluster.local.");
}

#[test]
fn what_comes_along() {
    let services = ask("_web._tcp.heads.ns.svc.cluster.local.", RecordType::SRV).expect("ours");
    assert_eq!(services.additionals.len(), 2);
    let outside = ask("outside.ns.svc.cluster.local.", RecordType::A).expect("ours");
    assert_eq!(outside.chase.map(|name| name.to_ascii()).as_deref(), Some("www.example.com."));
    let alias = ask("outside.ns.svc.cluster.local.", RecordType::CNAME).expect("ours");
    assert_eq!(alias.chase, None);
    let record = &ask("plain.ns.svc.cluster.local.", RecordType::A).expect("ours").answers[0];
    assert_eq!((record.ttl, record.name.to_ascii().as_str()), (5, "plain.ns.svc.cluster.local."));
}
