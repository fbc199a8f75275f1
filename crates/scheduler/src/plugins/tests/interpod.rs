//! Affinity between pods.

use serde_json::{Value, json};

use super::{complaint, objection, plain, scores, with};
use crate::cluster::Cluster;
use crate::events::Event;
use crate::plugins::interpod::InterPodAffinity;
use crate::plugins::{Filter as _, Plugin as _, Prepared, Shift};
use crate::testing::{cluster, info, labelled, labelled_node, on_node};

const NODES: [&str; 4] = ["a", "b", "c", "d"];

/// Nodes a and b in zone 1, c in zone 2, d without zone.
fn zones() -> Cluster {
    let node = |name: &str, zone: &str| labelled_node(name, json!({"zone": zone, "host": name}));
    let stray = labelled_node("d", json!({"host": "d"}));
    cluster(vec![node("a", "1"), node("b", "1"), node("c", "2"), stray])
}

fn term(app: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
}

fn near(kind: &str, terms: &[Value]) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
}

fn preferring(kind: &str, weight: i64, term: &Value) -> Value {
    let terms = json!([{"weight": weight, "podAffinityTerm": term}]);
    json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": terms}}})
}

fn app(name: &str, app: &str, spec: Value) -> api::types::core::v1::Pod {
    labelled(name, json!({"app": app}), spec)
}

fn fits(cluster: &mut Cluster, pod: api::types::core::v1::Pod) -> Vec<&'static str> {
    let (plugin, pod, snapshot) = (plain::<InterPodAffinity>(), info(pod), cluster.snapshot());
    NODES.into_iter().filter(|node| objection(&plugin, &pod, snapshot, node).is_none()).collect()
}

#[test]
fn required_pods_must_be_in_the_domain() {
    let mut cluster = zones();
    cluster.set_pod(&on_node(app("x", "db", json!({})), "a"));
    assert_eq!(fits(&mut cluster, app("p", "web", near("podAffinity", &[term("db", "zone")]))), ["a", "b"]);
    assert_eq!(fits(&mut cluster, app("p", "web", near("podAffinity", &[term("db", "host")]))), ["a"]);
    assert_eq!(fits(&mut cluster, app("p", "web", near("podAffinity", &[term("no", "zone")]))), [""; 0]);
    let both = near("podAffinity", &[term("db", "zone"), term("db", "host")]);
    assert_eq!(fits(&mut cluster, app("p", "web", both)), ["a"]);
    // One pod must be meant by all terms.
    cluster.set_pod(&on_node(app("y", "mq", json!({})), "a"));
    let two_pods = near("podAffinity", &[term("db", "zone"), term("mq", "zone")]);
    assert_eq!(fits(&mut cluster, app("p", "web", two_pods)), [""; 0]);
}

#[test]
fn the_first_of_its_kind_needs_no_company() {
    let mut cluster = zones();
    let alike = || app("p", "web", near("podAffinity", &[term("web", "zone")]));
    assert_eq!(fits(&mut cluster, alike()), ["a", "b", "c"]);
    cluster.set_pod(&on_node(app("x", "web", json!({})), "c"));
    assert_eq!(fits(&mut cluster, alike()), ["c"]);
}

#[test]
fn forbidden_pods_close_their_domain_both_ways() {
    let mut cluster = zones();
    cluster.set_pod(&on_node(app("x", "db", json!({})), "a"));
    let away = |key: &str| near("podAntiAffinity", &[term("db", key)]);
    assert_eq!(fits(&mut cluster, app("p", "web", away("zone"))), ["c", "d"]);
    assert_eq!(fits(&mut cluster, app("p", "web", away("host"))), ["b", "c", "d"]);
    // A pod that is there forbids this one.
    let mut cluster = zones();
    cluster.set_pod(&on_node(app("x", "web", away("zone")), "a"));
    assert_eq!(fits(&mut cluster, app("p", "db", json!({}))), ["c", "d"]);
    assert_eq!(fits(&mut cluster, app("p", "web", json!({}))), NODES);
    let words =
        objection(&plain::<InterPodAffinity>(), &info(app("p", "db", json!({}))), cluster.snapshot(), "a");
    assert_eq!(words.as_deref(), Some("node(s) didn't satisfy existing pods anti-affinity rules"));
    cluster.remove_pod("x");
    assert_eq!(fits(&mut cluster, app("p", "db", json!({}))), NODES);
}

#[test]
fn namespaces_are_named_selected_or_the_pods_own() {
    let mut cluster = zones();
    for (name, team) in [("ns", "x"), ("other", "y"), ("third", "y")] {
        let labels = Some([("team".to_owned(), team.to_owned())].into());
        cluster.surroundings().set_namespace(name, Some(labels));
    }
    let mut there = app("x", "db", json!({}));
    there.metadata.namespace = Some("other".into());
    cluster.set_pod(&on_node(there, "a"));
    let away = |more: Value| {
        let mut term = term("db", "host");
        term.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        app("p", "web", near("podAntiAffinity", &[term]))
    };
    let all_but_a = ["b", "c", "d"];
    assert_eq!(fits(&mut cluster, away(json!({}))), NODES);
    assert_eq!(fits(&mut cluster, away(json!({"namespaces": ["other"]}))), all_but_a);
    assert_eq!(fits(&mut cluster, away(json!({"namespaceSelector": {}}))), all_but_a);
    let select = |team: &str| away(json!({"namespaceSelector": {"matchLabels": {"team": team}}}));
    assert_eq!(fits(&mut cluster, select("y")), all_but_a);
    assert_eq!(fits(&mut cluster, select("x")), NODES);
    // The same, of a pod that is there, about a pod that comes.
    let mut forbids = select("y");
    forbids.metadata.uid = Some("forbids".into());
    cluster.set_pod(&on_node(forbids, "b"));
    let mut comes = app("q", "db", json!({}));
    assert_eq!(fits(&mut cluster, comes.clone()), NODES);
    comes.metadata.namespace = Some("third".into());
    assert_eq!(fits(&mut cluster, comes), ["a", "c", "d"]);
}

#[test]
fn pods_come_and_go_in_thought() {
    let mut cluster = zones();
    let away = near("podAntiAffinity", &[term("db", "zone")]);
    cluster.set_pod(&on_node(app("x", "db", json!({})), "a"));
    cluster.set_pod(&on_node(app("y", "other", near("podAntiAffinity", &[term("web", "zone")])), "a"));
    let (plugin, pod, snapshot) =
        (plain::<InterPodAffinity>(), info(app("p", "web", away)), cluster.snapshot());
    let Prepared::Facts(mut facts) = plugin.prepare(&pod, snapshot) else { panic!("no facts") };
    let node = snapshot.node("a").expect("a node");
    let [x, y] = ["x", "y"].map(|uid| node.pods.iter().find(|pod| pod.uid == uid).expect("a pod").clone());
    plugin.shift(&mut facts, &Shift { pod: &x, node, by: -1 });
    assert!(plugin.check(&facts, node).is_err());
    plugin.shift(&mut facts, &Shift { pod: &y, node, by: -1 });
    assert!(plugin.check(&facts, node).is_ok());
    // One that forbids this pod by another label.
    let comes = info(app("z", "other", near("podAntiAffinity", &[term("web", "host")])));
    plugin.shift(&mut facts, &Shift { pod: &comes, node, by: 1 });
    assert!(plugin.check(&facts, node).is_err());
}

#[test]
fn preferences_add_up_over_pods_and_go_both_ways() {
    let mut cluster = zones();
    let plugin = plain::<InterPodAffinity>();
    let score = |cluster: &mut Cluster, spec: Value| {
        scores(&plugin, &info(app("p", "web", spec)), cluster.snapshot(), &NODES)
    };
    assert_eq!(score(&mut cluster, json!({})), None);
    for (name, node) in [("x", "a"), ("y", "c"), ("z", "c")] {
        cluster.set_pod(&on_node(app(name, "db", json!({})), node));
    }
    let likes = preferring("podAffinity", 10, &term("db", "zone"));
    assert_eq!(score(&mut cluster, likes), Some(vec![50, 50, 100, 0]));
    let dislikes = preferring("podAntiAffinity", 10, &term("db", "zone"));
    assert_eq!(score(&mut cluster, dislikes), Some(vec![50, 50, 0, 100]));
    // Pods that are there like, require or dislike this one.
    cluster.set_pod(&on_node(app("l", "other", preferring("podAffinity", 4, &term("web", "host"))), "a"));
    cluster.set_pod(&on_node(app("r", "other", near("podAffinity", &[term("web", "host")])), "b"));
    cluster.set_pod(&on_node(app("d", "other", preferring("podAntiAffinity", 4, &term("web", "host"))), "c"));
    assert_eq!(score(&mut cluster, json!({})), Some(vec![100, 62, 0, 50]));
}

#[test]
fn weights_and_preferences_of_others_can_be_configured() {
    let mut cluster = zones();
    cluster.set_pod(&on_node(app("r", "other", near("podAffinity", &[term("web", "host")])), "b"));
    cluster.set_pod(&on_node(app("l", "other", preferring("podAffinity", 4, &term("web", "host"))), "a"));
    let score = |args: Value, cluster: &mut Cluster| {
        let plugin = with::<InterPodAffinity>(args);
        scores(&plugin, &info(app("p", "web", json!({}))), cluster.snapshot(), &["a", "b", "c"])
    };
    assert_eq!(score(json!({"hardPodAffinityWeight": 8}), &mut cluster), Some(vec![50, 100, 0]));
    assert_eq!(score(json!({"hardPodAffinityWeight": 0}), &mut cluster), Some(vec![100, 0, 0]));
    assert_eq!(score(json!({"ignorePreferredTermsOfExistingPods": true}), &mut cluster), None);
    let complaint = complaint::<InterPodAffinity>(json!({"hardPodAffinityWeight": 101}));
    assert!(complaint.contains("not in 0 to 100"), "{complaint}");
}

#[test]
fn only_pods_and_labels_that_terms_mean_help() {
    let near_db = info(app("p", "web", near("podAffinity", &[term("db", "zone")])));
    let away_from_db = info(app("p", "web", near("podAntiAffinity", &[term("db", "zone")])));
    let (db, other) = (info(app("x", "db", json!({}))), info(app("x", "other", json!({}))));
    let hates_web = info(app("x", "other", near("podAntiAffinity", &[term("web", "zone")])));
    let helps = |pod, event: &Event<'_>| plain::<InterPodAffinity>().is_helped_by(pod, event);
    assert!(helps(&near_db, &Event::PodAdded(&db)) && !helps(&near_db, &Event::PodAdded(&other)));
    assert!(helps(&near_db, &Event::PodChanged { old: &other, new: &db }));
    assert!(!helps(&near_db, &Event::PodRemoved(&db)));
    assert!(helps(&away_from_db, &Event::PodRemoved(&db)) && helps(&near_db, &Event::PodRemoved(&hates_web)));
    assert!(!helps(&away_from_db, &Event::PodRemoved(&other)));
    let node =
        |labels: Value| crate::snapshot::NodeInfo::new(std::sync::Arc::new(labelled_node("n", labels)));
    let (one, two, none) = (node(json!({"zone": "1"})), node(json!({"zone": "2"})), node(json!({})));
    assert!(helps(&near_db, &Event::NodeAdded(&one)) && !helps(&near_db, &Event::NodeAdded(&none)));
    assert!(helps(&near_db, &Event::NodeChanged { old: &none, new: &one }));
    assert!(!helps(&near_db, &Event::NodeChanged { old: &one, new: &none }));
    assert!(helps(&away_from_db, &Event::NodeChanged { old: &one, new: &none }));
    assert!(helps(&away_from_db, &Event::NodeChanged { old: &one, new: &two }));
    assert!(!helps(&away_from_db, &Event::NodeChanged { old: &none, new: &one }));
}
