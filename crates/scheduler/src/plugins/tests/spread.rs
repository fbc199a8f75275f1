//! Spreading over zones and nodes.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{complaint, objection, plain, scores, with};
use crate::cluster::Cluster;
use crate::events::Event;
use crate::plugins::spread::PodTopologySpread;
use crate::plugins::{Filter as _, Plugin as _, Prepared, Shift};
use crate::pod::PodInfo;
use crate::testing::{cluster, info, labelled, labelled_node, on_node};

const WORDS: &str = "node(s) didn't match pod topology spread constraints";

/// Nodes a and b in zone 1, c in zone 2, d without zone, with so many web pods each.
fn zones(pods: [usize; 4]) -> Cluster {
    let node =
        |name: &str, zone: &str| labelled_node(name, json!({"zone": zone, "kubernetes.io/hostname": name}));
    let stray = labelled_node("d", json!({"kubernetes.io/hostname": "d"}));
    let mut cluster = cluster(vec![node("a", "1"), node("b", "1"), node("c", "2"), stray]);
    for (node, count) in ["a", "b", "c", "d"].into_iter().zip(pods) {
        for number in 0..count {
            cluster.set_pod(&on_node(web(&format!("{node}{number}"), json!({})), node));
        }
    }
    cluster
}

fn web(name: &str, spec: Value) -> api::types::core::v1::Pod {
    labelled(name, json!({"app": "web"}), spec)
}

fn constraint(more: Value) -> Value {
    let mut constraint = json!({
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    });
    constraint.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    constraint
}

fn spread(constraints: &[Value], more: Value) -> Arc<PodInfo> {
    let mut spec = json!({"topologySpreadConstraints": constraints});
    spec.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    info(web("p", spec))
}

fn fits(cluster: &mut Cluster, pod: &PodInfo) -> Vec<&'static str> {
    let plugin = plain::<PodTopologySpread>();
    let snapshot = cluster.snapshot();
    ["a", "b", "c", "d"]
        .into_iter()
        .filter(|node| objection(&plugin, pod, snapshot, node).is_none())
        .collect()
}

#[test]
fn the_fullest_domain_is_closed() {
    let pod = spread(&[constraint(json!({}))], json!({}));
    assert_eq!(fits(&mut zones([0, 0, 0, 0]), &pod), ["a", "b", "c"]);
    assert_eq!(fits(&mut zones([1, 0, 0, 9]), &pod), ["c"]);
    assert_eq!(fits(&mut zones([1, 0, 1, 0]), &pod), ["a", "b", "c"]);
    assert_eq!(fits(&mut zones([1, 0, 2, 0]), &pod), ["a", "b"]);
    let wider = spread(&[constraint(json!({"maxSkew": 2}))], json!({}));
    assert_eq!(fits(&mut zones([1, 0, 0, 0]), &wider), ["a", "b", "c"]);
    let mut cluster = zones([1, 0, 0, 0]);
    let words = |node: &str, cluster: &mut Cluster| {
        objection(&plain::<PodTopologySpread>(), &pod, cluster.snapshot(), node)
    };
    assert_eq!(words("a", &mut cluster).as_deref(), Some(WORDS));
    assert_eq!(words("d", &mut cluster), Some(format!("{WORDS} (missing required label)")));
}

#[test]
fn too_few_domains_count_as_an_empty_one() {
    let of = |count: i64| spread(&[constraint(json!({"minDomains": count}))], json!({}));
    assert_eq!(fits(&mut zones([1, 0, 1, 0]), &of(2)), ["a", "b", "c"]);
    assert_eq!(fits(&mut zones([1, 0, 1, 0]), &of(3)), [""; 0]);
    assert_eq!(fits(&mut zones([1, 0, 0, 0]), &of(3)), ["c"]);
}

#[test]
fn nodes_that_the_pod_does_not_want_do_not_count_unless_asked_to() {
    let wants = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["1"]}]}]}}}});
    let of = |policy: &str| spread(&[constraint(json!({"nodeAffinityPolicy": policy}))], wants.clone());
    // Only zone 1 counts: it is the emptiest and the fullest.
    assert_eq!(fits(&mut zones([3, 0, 0, 0]), &of("Honor")), ["a", "b", "c"]);
    assert_eq!(fits(&mut zones([3, 0, 0, 0]), &of("Ignore")), ["c"]);
}

#[test]
fn tainted_nodes_count_unless_asked_not_to() {
    let of = |policy: &str| spread(&[constraint(json!({"nodeTaintsPolicy": policy}))], json!({}));
    let mut tainted = zones([1, 0, 0, 0]);
    let mut node = labelled_node("c", json!({"zone": "2"}));
    let taints = json!([{"key": "k", "effect": "NoSchedule"}]);
    node.spec.get_or_insert_default().taints = serde_json::from_value(taints).expect("taints");
    tainted.set_node(&Arc::new(node));
    assert_eq!(fits(&mut tainted, &of("Ignore")), ["c"]);
    assert_eq!(fits(&mut tainted, &of("Honor")), ["a", "b", "c"]);
}

#[test]
fn all_keys_must_be_there_for_a_node_to_count() {
    let by_node = constraint(json!({"topologyKey": "kubernetes.io/hostname"}));
    let pod = spread(&[constraint(json!({})), by_node.clone()], json!({}));
    // The pods on d, which has no zone, are nowhere.
    assert_eq!(fits(&mut zones([1, 0, 1, 5]), &pod), ["b"]);
    assert_eq!(fits(&mut zones([1, 0, 1, 5]), &spread(&[by_node], json!({}))), ["b"]);
}

#[test]
fn the_values_of_listed_labels_are_the_pods_own() {
    let mut cluster = zones([1, 0, 0, 0]);
    let pod = spread(&[constraint(json!({"matchLabelKeys": ["version", "none"]}))], json!({}));
    assert_eq!(fits(&mut cluster, &pod), ["c"]);
    let labels = json!({"app": "web", "version": "2"});
    let spec = json!({"topologySpreadConstraints": [constraint(json!({"matchLabelKeys": ["version"]}))]});
    let newer = info(labelled("p", labels, spec));
    assert_eq!(fits(&mut cluster, &newer), ["a", "b", "c"]);
}

#[test]
fn pods_that_leave_and_pods_of_other_namespaces_do_not_count() {
    let mut cluster = zones([0, 0, 0, 0]);
    let mut leaving = web("x", json!({"nodeName": "a"}));
    leaving.metadata.deletion_timestamp = Some(api::openapi::apimachinery::pkg::apis::meta::v1::Time(
        "2026-01-01T00:00:00Z".parse().expect("a time"),
    ));
    cluster.set_pod(&info(leaving));
    let mut other = web("y", json!({"nodeName": "a"}));
    other.metadata.namespace = Some("other".into());
    cluster.set_pod(&info(other));
    assert_eq!(fits(&mut cluster, &spread(&[constraint(json!({}))], json!({}))), ["a", "b", "c"]);
}

#[test]
fn a_pod_that_leaves_in_thought_makes_room() {
    let mut cluster = zones([2, 0, 1, 0]);
    let (plugin, pod) = (plain::<PodTopologySpread>(), spread(&[constraint(json!({}))], json!({})));
    let snapshot = cluster.snapshot();
    let Prepared::Facts(mut facts) = plugin.prepare(&pod, snapshot) else { panic!("no facts") };
    let (node, gone) = (snapshot.node("a").expect("a node"), info(web("a0", json!({}))));
    assert!(plugin.check(&facts, node).is_err());
    plugin.shift(&mut facts, &Shift { pod: &gone, node, by: -1 });
    assert!(plugin.check(&facts, node).is_ok());
    plugin.shift(&mut facts, &Shift { pod: &gone, node, by: 1 });
    assert!(plugin.check(&facts, node).is_err());
}

#[test]
fn emptier_domains_score_better() {
    let soft = constraint(json!({"whenUnsatisfiable": "ScheduleAnyway"}));
    let pod = spread(std::slice::from_ref(&soft), json!({}));
    let plugin = plain::<PodTopologySpread>();
    let mut cluster = zones([1, 1, 1, 0]);
    let nodes = ["a", "b", "c", "d"];
    // Two zones: weight ln 4; zone 1 has 2 pods, zone 2 one. The node without a zone scores nothing.
    assert_eq!(scores(&plugin, &pod, cluster.snapshot(), &nodes), Some(vec![33, 33, 100, 0]));
    assert_eq!(scores(&plugin, &pod, zones([0; 4]).snapshot(), &nodes), Some(vec![100, 100, 100, 0]));
    let hard = spread(&[constraint(json!({}))], json!({}));
    assert_eq!(scores(&plugin, &hard, cluster.snapshot(), &nodes), None);
}

#[test]
fn pods_without_constraints_are_spread_like_their_service() {
    let plugin = plain::<PodTopologySpread>();
    let mut cluster = zones([3, 0, 0, 0]);
    let pod = info(web("p", json!({})));
    let nodes = ["a", "b", "c", "d"];
    assert_eq!(scores(&plugin, &pod, cluster.snapshot(), &nodes), None);
    let service = serde_json::from_value(json!({"metadata": {}, "spec": {"selector": {"app": "web"}}}));
    let key = api::ObjectKey::new("ns", "web");
    cluster.surroundings().workloads.set_service(&key, Some(&service.expect("a service")));
    let spread = scores(&plugin, &pod, cluster.snapshot(), &nodes).expect("scores");
    assert!(spread[0] < spread[1] && spread[1] == spread[3], "{spread:?}");
    cluster.surroundings().workloads.set_service(&key, None);
    assert_eq!(scores(&plugin, &pod, cluster.snapshot(), &nodes), None);
}

#[test]
fn pods_without_constraints_are_spread_like_their_owner() {
    let list = with::<PodTopologySpread>(json!({"defaultingType": "List", "defaultConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}));
    let mut pod = web("p", json!({}));
    let owner =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}]);
    pod.metadata.owner_references = serde_json::from_value(owner).expect("owners");
    let pod = info(pod);
    let mut cluster = zones([1, 0, 0, 0]);
    assert_eq!(objection(&list, &pod, cluster.snapshot(), "a"), None);
    let set = json!({"metadata": {}, "spec": {"selector": {"matchLabels": {"app": "web"}}}});
    let set = serde_json::from_value(set).expect("a replica set");
    let key = api::ObjectKey::new("ns", "r");
    cluster.surroundings().workloads.set_replica_set(&key, Some(&set));
    assert_eq!(objection(&list, &pod, cluster.snapshot(), "a").as_deref(), Some(WORDS));
    assert_eq!(objection(&list, &pod, cluster.snapshot(), "c"), None);
}

#[test]
fn default_constraints_are_checked() {
    let list = |constraint: Value| {
        complaint::<PodTopologySpread>(json!({"defaultingType": "List", "defaultConstraints": [constraint]}))
    };
    let good = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"});
    assert_eq!(list(good.clone()), "");
    for (field, value, words) in [
        ("maxSkew", json!(0), "greater than zero"),
        ("topologyKey", json!(""), "missing"),
        ("whenUnsatisfiable", json!("Odd"), "must be"),
        ("labelSelector", json!({}), "leave it out"),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        assert!(list(bad.clone()).contains(words), "{bad}");
    }
    let system = complaint::<PodTopologySpread>(json!({"defaultConstraints": [good]}));
    assert!(system.contains("defaultingType: List"), "{system}");
}

#[test]
fn only_events_that_move_counts_or_domains_help() {
    let pod = spread(&[constraint(json!({"nodeTaintsPolicy": "Honor"}))], json!({}));
    let helps = |event: &Event<'_>| plain::<PodTopologySpread>().is_helped_by(&pod, event);
    let (web_pod, other) = (info(web("x", json!({}))), info(labelled("y", json!({"app": "db"}), json!({}))));
    assert!(helps(&Event::PodRemoved(&web_pod)) && helps(&Event::PodAdded(&web_pod)));
    assert!(!helps(&Event::PodRemoved(&other)) && !helps(&Event::PodAdded(&other)));
    assert!(helps(&Event::PodChanged { old: &web_pod, new: &other }));
    assert!(!helps(&Event::PodChanged { old: &other, new: &other }));
    let node = |zone: Value| {
        let labels = if zone.is_null() { json!({}) } else { json!({"zone": zone}) };
        crate::snapshot::NodeInfo::new(Arc::new(labelled_node("n", labels)))
    };
    let (one, two, none) = (node(json!("1")), node(json!("2")), node(json!(null)));
    assert!(helps(&Event::NodeAdded(&one)) && helps(&Event::NodeRemoved(&one)));
    assert!(!helps(&Event::NodeAdded(&none)) && !helps(&Event::NodeRemoved(&none)));
    assert!(
        helps(&Event::NodeChanged { old: &one, new: &two })
            && helps(&Event::NodeChanged { old: &none, new: &one })
    );
    assert!(!helps(&Event::NodeChanged { old: &one, new: &one }));
}
