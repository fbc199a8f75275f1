//! Golden rule sets, and tables of differences.

use serde_json::{Value, json};

use super::*;

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "s"}, "spec": spec}))
        .expect("a service")
}

fn slice(endpoints: &[(&str, Value, &str)]) -> EndpointSlice {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, conditions, node)| json!({"addresses": [address], "conditions": conditions, "nodeName": node}))
        .collect();
    let labels = json!({"kubernetes.io/service-name": "s"});
    serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": "s-1", "labels": labels}, "addressType": "IPv4",
        "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints,
    }))
    .expect("a slice")
}

fn rules(spec: Value, endpoints: &[(&str, Value, &str)]) -> Rules {
    let place =
        Place { node: "here".to_owned(), cluster_cidr: vec!["10.244.0.0/16".parse().expect("a range")] };
    let mut full = json!({
        "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"],
        "ports": [{"name": "web", "port": 80, "protocol": "TCP"}],
    });
    api::patch::merge_patch(&mut full, spec);
    compute(&ObjectKey::new("ns", "s"), &service(full), &[&slice(endpoints)], &place)
}

fn ready() -> Value {
    json!({"ready": true})
}

/// The rules with chain names that do not depend on hashes.
fn golden(rules: &Rules) -> String {
    let mut text = difference(&Rules::default(), rules).replace("inet corten ", "");
    let mut counts = std::collections::HashMap::new();
    let names: Vec<&String> = rules.chains.keys().chain(rules.sets.keys()).collect();
    let mut order: Vec<(usize, &String)> =
        names.into_iter().filter_map(|name| Some((text.find(name.as_str())?, name))).collect();
    order.sort();
    for (_, name) in order {
        let role = name.split('-').next().unwrap_or_default().to_owned();
        let number = counts.entry(role.clone()).or_insert(0);
        *number += 1;
        text = text.replace(name.as_str(), &format!("{role}#{number}"));
    }
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("add chain")).collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
fn a_cluster_address() {
    let text = golden(&rules(json!({}), &[("10.244.1.2", ready(), "here")]));
    assert_eq!(
        text,
        "add element services4 { tcp . 10.96.0.5 . 80 : goto in#1 }\n\
         add rule ep#1 ip saddr 10.244.1.2 jump mark-masquerade\n\
         add rule ep#1 meta l4proto tcp dnat ip to 10.244.1.2:8080\n\
         add rule in#1 goto pick#1\n\
         add rule in#1 ip saddr != 10.244.0.0/16 jump mark-masquerade"
            .to_owned()
            + "\nadd rule pick#1 goto ep#1"
    );
}

#[test]
fn two_endpoints_with_affinity_and_a_node_port() {
    let spec = json!({
        "type": "NodePort", "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
        "ports": [{"name": "web", "port": 80, "nodePort": 30080}],
    });
    let text = golden(&rules(spec, &[("10.244.1.2", ready(), "here"), ("10.244.2.2", ready(), "there")]));
    for expected in [
        "add element nodeports4 { tcp . 30080 : goto out#1 }",
        "add rule out#1 jump mark-masquerade",
        "add rule out#1 goto pick#1",
        "add set clients#1 { type ipv4_addr; size 65536; flags dynamic,timeout; timeout 60s; }",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    assert_eq!(text.matches("add rule pick#1 ip saddr @clients#").count(), 2, "{text}");
    assert_eq!(text.matches("{ ip saddr }").count(), 2, "{text}");
    assert!(text.contains("add rule pick#1 numgen random mod 2 vmap { 0 : goto ep#"), "{text}");
}

#[test]
fn who_gets_the_traffic() {
    let external = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"name": "web", "port": 80, "nodePort": 30080}]});
    let internal = json!({"internalTrafficPolicy": "Local"});
    let leaving = || json!({"ready": false, "serving": true, "terminating": true});
    let dead = || json!({"ready": false, "serving": false, "terminating": true});
    let (one, two) = ("10.244.1.2", "10.244.2.2");
    let cases: Vec<(Value, Vec<(&str, Value, &str)>, Vec<&str>, Vec<&str>)> = vec![
        (json!({}), vec![], vec!["empty4 { tcp . 10.96.0.5 . 80 : goto refuse }"], vec!["dnat"]),
        (json!({}), vec![(one, dead(), "here")], vec!["goto refuse"], vec!["dnat"]),
        (json!({}), vec![(one, leaving(), "here")], vec!["dnat ip to 10.244.1.2:8080"], vec![]),
        (
            json!({}),
            vec![(one, leaving(), "here"), (two, ready(), "there")],
            vec!["to 10.244.2.2"],
            vec!["to 10.244.1.2"],
        ),
        (
            internal.clone(),
            vec![(one, ready(), "here"), (two, ready(), "there")],
            vec!["to 10.244.1.2"],
            vec!["to 10.244.2.2"],
        ),
        (
            internal.clone(),
            vec![(two, ready(), "there")],
            vec!["empty4 { tcp . 10.96.0.5 . 80 : drop }"],
            vec!["dnat"],
        ),
        (internal, vec![], vec!["goto refuse"], vec!["dnat"]),
        (
            external.clone(),
            vec![(two, ready(), "there")],
            vec!["add rule out#1 drop", "out#1 fib saddr type local goto pick#"],
            vec![],
        ),
        (external, vec![], vec!["emptyports4 { tcp . 30080 : goto refuse }"], vec!["dnat"]),
        (json!({"type": "ExternalName"}), vec![(one, ready(), "here")], vec![], vec!["add"]),
        (
            json!({"clusterIP": "None", "clusterIPs": ["None"]}),
            vec![(one, ready(), "here")],
            vec![],
            vec!["add"],
        ),
        (
            json!({"externalIPs": ["203.0.113.7"]}),
            vec![(one, ready(), "here")],
            vec!["services4 { tcp . 203.0.113.7 . 80 : goto out#1 }"],
            vec![],
        ),
    ];
    for (spec, endpoints, present, absent) in cases {
        let text = golden(&rules(spec.clone(), &endpoints));
        for part in present {
            assert!(text.contains(part), "{spec} {endpoints:?}: {part} in\n{text}");
        }
        for part in absent {
            assert!(!text.contains(part), "{spec} {endpoints:?}: no {part} in\n{text}");
        }
    }
}

#[test]
fn a_balancer_for_some_clients() {
    let mut object = service(json!({
        "type": "LoadBalancer", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"],
        "ports": [{"name": "web", "port": 80}], "loadBalancerSourceRanges": ["198.51.100.0/24", "fd00::/8"],
    }));
    object.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}))
        .expect("a status");
    let slices = slice(&[("10.244.1.2", ready(), "here")]);
    let text = golden(&compute(&ObjectKey::new("ns", "s"), &object, &[&slices], &Place::default()));
    assert!(text.contains("services4 { tcp . 203.0.113.9 . 80 : goto guard#1 }"), "{text}");
    assert!(text.contains("add rule guard#1 ip saddr 198.51.100.0/24 goto out#1\n"), "{text}");
    assert!(text.contains("add rule guard#1 drop") && !text.contains("fd00"), "{text}");
}

#[test]
fn differences_touch_only_what_changed() {
    let (one, two) = (("10.244.1.2", ready(), "here"), ("10.244.2.2", ready(), "there"));
    let before = rules(json!({}), std::slice::from_ref(&one));
    let after = rules(json!({}), &[one, two]);
    assert_eq!(difference(&before, &before), "");
    let script = difference(&before, &after);
    let count = |start: &str| script.lines().filter(|line| line.starts_with(start)).count();
    // A new endpoint, choice and entry; the old choice and entry go; the old endpoint stays.
    assert_eq!((count("add chain"), count("delete chain")), (3, 2), "{script}");
    assert_eq!((count("add element"), count("delete element")), (1, 1), "{script}");
    assert!(!script.contains("dnat ip to 10.244.1.2"), "{script}");
    let gone = difference(&after, &Rules::default());
    assert_eq!(gone.lines().filter(|line| line.starts_with("delete chain")).count(), after.chains.len());
    assert!(!gone.contains("add "));
    assert!(
        rebuild(&after).starts_with("add table inet corten\ndelete table inet corten\ntable inet corten {")
    );
}
