//! Room on nodes, and the ways to prefer nodes by it.

use serde_json::{Value, json};

use super::{complaint, objection, one_node, plain, raw_score, with};
use crate::cluster::Cluster;
use crate::events::Event;
use crate::plugins::balance::BalancedAllocation;
use crate::plugins::fit::NodeResourcesFit;
use crate::plugins::{Filter as _, Plugin as _, Prepared};
use crate::testing::{node_json, on_node, pod_info, pod_json};

fn requests(requests: Value) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": requests}}]})
}

fn partly_taken() -> Cluster {
    let mut cluster = one_node(json!({}), json!({}));
    cluster.set_pod(&on_node(pod_json("x", requests(json!({"cpu": "3", "memory": "1Gi"}))), "n1"));
    cluster
}

#[test]
fn room() {
    let mut cluster = partly_taken();
    for (spec, expected) in [
        (json!({"cpu": "1"}), None),
        (json!({"cpu": "1001m"}), Some("Insufficient cpu")),
        (json!({"cpu": "2", "memory": "8Gi"}), Some("Insufficient cpu, Insufficient memory")),
        (json!({"ephemeral-storage": "2Gi"}), Some("Insufficient ephemeral-storage")),
        (json!({"x.io/gpu": "2"}), None),
        (json!({"x.io/gpu": "3"}), Some("Insufficient x.io/gpu")),
        (json!({"x.io/other": "1"}), Some("Insufficient x.io/other")),
        (json!({"hugepages-2Mi": "2Mi"}), Some("Insufficient hugepages-2Mi")),
    ] {
        let pod = pod_info("p", requests(spec.clone()));
        let words = objection(&plain::<NodeResourcesFit>(), &pod, cluster.snapshot(), "n1");
        assert_eq!(words.as_deref(), expected, "{spec}");
    }
    cluster.set_pod(&on_node(pod_json("y", json!({})), "n1"));
    let words = objection(&plain::<NodeResourcesFit>(), &pod_info("p", json!({})), cluster.snapshot(), "n1");
    assert_eq!(words.as_deref(), Some("Too many pods"));
}

#[test]
fn ignored_resources_are_not_missed() {
    let mut cluster = partly_taken();
    let plugin =
        with::<NodeResourcesFit>(json!({"ignoredResources": ["x.io/a"], "ignoredResourceGroups": ["y.io"]}));
    for (name, fits) in [("x.io/a", true), ("y.io/b", true), ("x.io/c", false)] {
        let pod = pod_info("p", requests(json!({name: "1"})));
        assert_eq!(objection(&plugin, &pod, cluster.snapshot(), "n1").is_none(), fits, "{name}");
    }
}

#[test]
fn what_is_short_is_told_and_whether_eviction_may_help() {
    let mut cluster = partly_taken();
    let plugin = plain::<NodeResourcesFit>();
    let told = |cluster: &mut Cluster, cpu: &str| {
        let pod = pod_info("p", requests(json!({"cpu": cpu})));
        let Prepared::Facts(facts) = plugin.prepare(&pod, cluster.snapshot()) else { panic!("no facts") };
        let node = cluster.snapshot().node("n1").expect("a node");
        let objection = plugin.check(&facts, node).expect_err("too much");
        let shortage = objection.reasons[0].shortage.clone().expect("a shortage");
        (shortage.of.into_owned(), shortage.asked, shortage.left, objection.can_be_evicted_away)
    };
    assert_eq!(told(&mut cluster, "4"), ("cpu".to_owned(), 4000, 1000, true));
    assert_eq!(told(&mut cluster, "5"), ("cpu".to_owned(), 5000, 1000, false));
}

#[test]
fn empty_nodes_score_best_and_even_use_is_kept() {
    let (fit, balance) = (plain::<NodeResourcesFit>(), plain::<BalancedAllocation>());
    for (spec, free, balanced) in [
        (json!({"cpu": "2", "memory": "4Gi"}), 50, 75),
        (json!({"cpu": "4", "memory": "8Gi"}), 0, 75),
        (json!({"cpu": "4", "memory": "0"}), 50, 50),
        (json!({"cpu": "1", "memory": "4Gi"}), 62, 68),
    ] {
        let mut cluster = one_node(json!({}), json!({}));
        assert_eq!(raw_score(&fit, requests(spec.clone()), &mut cluster), free, "{spec}");
        assert_eq!(raw_score(&balance, requests(spec.clone()), &mut cluster), balanced, "{spec}");
    }
    // What evens out the use scores more than what keeps it.
    let mut cluster = partly_taken();
    assert_eq!(raw_score(&balance, requests(json!({"memory": "5Gi"})), &mut cluster), 91);
    assert_eq!(raw_score(&balance, requests(json!({})), &mut cluster), 0);
}

#[test]
fn balance_counts_more_than_two_resources() {
    let resources = json!([{"name": "cpu"}, {"name": "memory"}, {"name": "x.io/gpu", "weight": 1}]);
    let plugin = with::<BalancedAllocation>(json!({"resources": resources}));
    let mut cluster = one_node(json!({}), json!({}));
    // Shares 1/2, 1/2 and 1: a deviation of 0.2357.
    let spec = requests(json!({"cpu": "2", "memory": "4Gi", "x.io/gpu": "2"}));
    assert_eq!(raw_score(&plugin, spec, &mut cluster), 50 + (50 + 76 - 100) / 2);
    let twice = json!({"resources": [{"name": "cpu"}, {"name": "cpu"}]});
    assert!(complaint::<BalancedAllocation>(twice).contains("listed twice"));
}

#[test]
fn strategies() {
    let strategy = |strategy: Value| with::<NodeResourcesFit>(json!({"scoringStrategy": strategy}));
    let most = strategy(json!({"type": "MostAllocated"}));
    let weighted = json!([{"name": "cpu", "weight": 3}, {"name": "memory", "weight": 1}, {"name": "x.io/gpu", "weight": 5}]);
    let most_weighted = strategy(json!({"type": "MostAllocated", "resources": weighted}));
    let shape = json!([{"utilization": 0, "score": 0}, {"utilization": 50, "score": 10}, {"utilization": 100, "score": 4}]);
    let ratio =
        strategy(json!({"type": "RequestedToCapacityRatio", "requestedToCapacityRatio": {"shape": shape}}));
    for (spec, expected) in [
        (json!({"cpu": "2", "memory": "2Gi"}), [37, 43, 75]),
        (json!({"cpu": "4", "memory": "8Gi"}), [100, 100, 40]),
        (json!({"cpu": "3", "memory": "8Gi", "x.io/gpu": "1"}), [87, 63, 55]),
    ] {
        let mut cluster = one_node(json!({}), json!({}));
        let scores = [&most, &most_weighted, &ratio]
            .map(|plugin| raw_score(plugin, requests(spec.clone()), &mut cluster));
        assert_eq!(scores, expected, "{spec}");
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused_with_what_to_do() {
    let strategy = |strategy: Value| complaint::<NodeResourcesFit>(json!({"scoringStrategy": strategy}));
    for (given, words) in [
        (json!({"type": "Odd"}), "unknown variant `Odd`"),
        (json!({"type": "RequestedToCapacityRatio"}), "needs requestedToCapacityRatio"),
        (json!({"requestedToCapacityRatio": {"shape": []}}), "or leave it out"),
        (json!({"resources": [{"name": "cpu", "weight": 101}]}), "not in 1 to 100"),
        (
            json!({"type": "RequestedToCapacityRatio", "requestedToCapacityRatio": {"shape": []}}),
            "at least one point",
        ),
        (
            json!({"type": "RequestedToCapacityRatio", "requestedToCapacityRatio": {"shape": [
                {"utilization": 5, "score": 1}, {"utilization": 5, "score": 2}]}}),
            "in order",
        ),
    ] {
        assert!(strategy(given.clone()).contains(words), "{given}: {}", strategy(given.clone()));
    }
    assert!(complaint::<NodeResourcesFit>(json!({"ignoredResourceGroups": ["a/b"]})).contains("slash"));
}

#[test]
fn only_more_of_what_is_asked_for_helps() {
    let node = |cpu: &str, memory: &str| {
        let allocatable = json!({"cpu": cpu, "memory": memory, "pods": "9"});
        crate::snapshot::NodeInfo::new(std::sync::Arc::new(node_json("n", allocatable, json!({}), json!({}))))
    };
    let pod = pod_info("p", requests(json!({"cpu": "3"})));
    let helps = |event: &Event<'_>| plain::<NodeResourcesFit>().is_helped_by(&pod, event);
    let (small, large, more_memory) = (node("2", "1Gi"), node("4", "1Gi"), node("4", "2Gi"));
    assert!(helps(&Event::NodeAdded(&large)) && !helps(&Event::NodeAdded(&small)));
    assert!(helps(&Event::NodeChanged { old: &small, new: &large }));
    assert!(!helps(&Event::NodeChanged { old: &large, new: &more_memory }));
    let asks = |cpu: &str, memory: &str| pod_info("x", requests(json!({"cpu": cpu, "memory": memory})));
    assert!(helps(&Event::PodChanged { old: &asks("2", "1Gi"), new: &asks("1", "1Gi") }));
    assert!(!helps(&Event::PodChanged { old: &asks("2", "2Gi"), new: &asks("2", "1Gi") }));
}
