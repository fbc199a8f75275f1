//! What is planned for claims on nodes, and what is written.

use std::sync::Arc;

use api::types::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::{Value, json};

use super::bind::Writes;
use super::*;
use crate::testing::{labelled_node, pod_info};

/// A claim of 1Gi in the class `late`, changed.
fn claim(name: &str, more: Value) -> Arc<PersistentVolumeClaim> {
    let mut claim = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": format!("uid-{name}")},
        "spec": {"storageClassName": "late", "accessModes": ["ReadWriteOnce"],
                 "resources": {"requests": {"storage": "1Gi"}}},
    });
    api::patch::merge_patch(&mut claim, more);
    Arc::new(serde_json::from_value(claim).expect("a claim"))
}

/// A free volume in the class `late` on the node `a`, changed.
fn volume(name: &str, size: &str, more: Value) -> Arc<PersistentVolume> {
    let terms = json!([{"matchExpressions": [{"key": "host", "operator": "In", "values": ["a"]}]}]);
    let mut volume = json!({
        "metadata": {"name": name},
        "spec": {"storageClassName": "late", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size},
                 "nodeAffinity": {"required": {"nodeSelectorTerms": terms}}},
        "status": {"phase": "Available"},
    });
    api::patch::merge_patch(&mut volume, more);
    Arc::new(serde_json::from_value(volume).expect("a volume"))
}

fn storage(
    claims: &[Arc<PersistentVolumeClaim>],
    volumes: &[Arc<PersistentVolume>],
    class: Value,
) -> Volumes {
    let mut storage = Volumes::default();
    for claim in claims {
        storage.set_claim(&ObjectKey::of(&**claim), Some(Arc::clone(claim)));
    }
    for volume in volumes {
        storage.set_volume(volume.metadata.name.as_deref().unwrap_or_default(), Some(Arc::clone(volume)));
    }
    let mut late = json!({"metadata": {"name": "late"}, "provisioner": NOBODY, "volumeBindingMode": WAITS});
    api::patch::merge_patch(&mut late, class);
    storage.set_class("late", Some(Arc::new(serde_json::from_value(late).expect("a class"))));
    storage
}

fn node(name: &str) -> NodeInfo {
    NodeInfo::new(Arc::new(labelled_node(name, json!({"host": name, "zone": "1"}))))
}

fn using(claims: &[&str]) -> Arc<PodInfo> {
    let volumes: Vec<Value> = claims
        .iter()
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
        .collect();
    pod_info("p", json!({"volumes": volumes}))
}

/// Volumes that are found, and claims for which they are to be made.
fn planned(storage: &Volumes, claims: &[&str], on: &str) -> Result<(Vec<String>, usize), String> {
    let words = |objection: Objection| {
        objection.reasons.iter().map(|one| one.text.to_string()).collect::<Vec<_>>().join(", ")
    };
    let wishes = Wishes::of(&using(claims), storage).map_err(words)?.expect("wishes");
    let plan = wishes.plan(&node(on)).map_err(words)?;
    let found = plan.bindings.iter().map(|(volume, _)| volume.metadata.name.clone().unwrap_or_default());
    Ok((found.collect(), plan.provisions.len()))
}

fn found(names: &[&str]) -> Result<(Vec<String>, usize), String> {
    Ok((names.iter().map(|name| (*name).to_owned()).collect(), 0))
}

const NOTHING: &str = "node(s) didn't find available persistent volumes to bind";

#[test]
fn the_smallest_volume_that_suits_is_found() {
    let volumes = [
        volume("big", "9Gi", json!({})),
        volume("good", "2Gi", json!({})),
        volume("small", "500Mi", json!({})),
        volume("block", "1Gi", json!({"spec": {"volumeMode": "Block"}})),
        volume("busy", "1Gi", json!({"status": {"phase": "Bound"}})),
        volume("shared", "1Gi", json!({"spec": {"accessModes": ["ReadOnlyMany"]}})),
        volume("theirs", "1Gi", json!({"spec": {"claimRef": {"namespace": "ns", "name": "other"}}})),
    ];
    let storage = storage(&[claim("c", json!({}))], &volumes, json!({}));
    assert_eq!(planned(&storage, &["c"], "a"), found(&["good"]));
    assert_eq!(planned(&storage, &["c"], "b"), Err(NOTHING.to_owned()));
}

#[test]
fn a_volume_that_is_meant_for_the_claim_wins() {
    let mine = json!({"spec": {"claimRef": {"namespace": "ns", "name": "c"}}});
    let volumes = [volume("good", "1Gi", json!({})), volume("mine", "9Gi", mine)];
    let storage = storage(&[claim("c", json!({}))], &volumes, json!({}));
    assert_eq!(planned(&storage, &["c"], "a"), found(&["mine"]));
}

#[test]
fn small_claims_choose_first_and_no_volume_is_given_twice() {
    let large = claim("large", json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}));
    let volumes = [volume("two", "2Gi", json!({})), volume("one", "1Gi", json!({}))];
    let storage = storage(&[large, claim("c", json!({}))], &volumes, json!({}));
    assert_eq!(planned(&storage, &["large", "c"], "a"), found(&["one", "two"]));
    let selector = json!({"spec": {"selector": {"matchLabels": {"disk": "ssd"}}}});
    let picky = self::storage(&[claim("c", selector)], &volumes, json!({}));
    assert_eq!(planned(&picky, &["c"], "a"), Err(NOTHING.to_owned()));
}

#[test]
fn volumes_are_made_where_the_class_and_the_driver_allow() {
    let with = |class: Value| storage(&[claim("c", json!({}))], &[], class);
    let made = json!({"provisioner": "csi.example.com"});
    assert_eq!(planned(&with(made.clone()), &["c"], "b"), Ok((vec![], 1)));
    let zone = |zone: &str| {
        json!({"provisioner": "csi.example.com", "allowedTopologies": [
            {"matchLabelExpressions": [{"key": "zone", "values": [zone]}]}]})
    };
    assert_eq!(planned(&with(zone("1")), &["c"], "b"), Ok((vec![], 1)));
    assert_eq!(planned(&with(zone("2")), &["c"], "b"), Err(NOTHING.to_owned()));
    let mut limited = with(made);
    let driver = json!({"metadata": {"name": "csi.example.com"}, "spec": {"storageCapacity": true}});
    limited.set_driver("csi.example.com", Some(Arc::new(serde_json::from_value(driver).expect("a driver"))));
    assert_eq!(planned(&limited, &["c"], "b"), Err("node(s) did not have enough free storage".to_owned()));
    for (size, fits) in [("500Mi", false), ("1Gi", true)] {
        let room = json!({"metadata": {"namespace": "x", "name": "r"}, "storageClassName": "late",
                          "nodeTopology": {"matchLabels": {"zone": "1"}}, "capacity": size});
        let room = Arc::new(serde_json::from_value(room).expect("a capacity"));
        limited.set_capacity(&ObjectKey::new("x", "r"), Some(room));
        assert_eq!(planned(&limited, &["c"], "b").is_ok(), fits, "{size}");
    }
}

#[test]
fn a_claim_whose_node_is_selected_goes_nowhere_else() {
    let selected = claim("c", json!({"metadata": {"annotations": {SELECTED_NODE: "b"}}}));
    let storage = storage(&[selected], &[], json!({"provisioner": "csi.example.com"}));
    assert_eq!(planned(&storage, &["c"], "b"), Ok((vec![], 1)));
    assert_eq!(planned(&storage, &["c"], "a"), Err(NOTHING.to_owned()));
}

#[test]
fn bound_volumes_must_be_reachable() {
    let bound = |volume: &str| {
        let spec = json!({"volumeName": volume});
        claim("c", json!({"metadata": {"annotations": {BIND_COMPLETED: "yes"}}, "spec": spec}))
    };
    let storage =
        |volume: &str| self::storage(&[bound(volume)], &[self::volume("v", "1Gi", json!({}))], json!({}));
    assert_eq!(planned(&storage("v"), &["c"], "a"), found(&[]));
    assert_eq!(
        planned(&storage("v"), &["c"], "b"),
        Err("node(s) didn't match PersistentVolume's node affinity".to_owned())
    );
    assert_eq!(
        planned(&storage("gone"), &["c"], "a"),
        Err("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)".to_owned())
    );
}

#[test]
fn claims_that_cannot_be_used_yet_are_told() {
    let words = |storage: &Volumes, pod: &PodInfo| {
        Wishes::of(pod, storage).err().map(|objection| objection.reasons[0].text.to_string())
    };
    let now = json!({"volumeBindingMode": "Immediate"});
    let unbound = storage(&[claim("c", json!({}))], &[], now);
    assert_eq!(
        words(&unbound, &using(&["c"])).as_deref(),
        Some("pod has unbound immediate PersistentVolumeClaims")
    );
    assert_eq!(words(&unbound, &using(&["x"])).as_deref(), Some("persistentvolumeclaim \"x\" not found"));
    let leaving = claim("c", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    assert_eq!(
        words(&storage(&[leaving], &[], json!({})), &using(&["c"])).as_deref(),
        Some("persistentvolumeclaim \"c\" is being deleted")
    );
    let lost = claim("c", json!({"spec": {"volumeName": "v"}, "status": {"phase": "Lost"}}));
    assert_eq!(
        words(&storage(&[lost], &[], json!({})), &using(&["c"])).as_deref(),
        Some("persistentvolumeclaim \"c\" bound to non-existent persistentvolume \"v\"")
    );
    let ephemeral = pod_info("p", json!({"volumes": [{"name": "e", "ephemeral": {}}]}));
    let waiting = "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-e\"";
    assert_eq!(words(&storage(&[], &[], json!({})), &ephemeral).as_deref(), Some(waiting));
    let stolen = storage(&[claim("p-e", json!({}))], &[], json!({}));
    assert!(words(&stolen, &ephemeral).is_some_and(|words| words.contains("pod is not owner")));
}

#[test]
fn what_was_decided_counts_until_it_is_seen_or_taken_back() {
    let mut storage =
        storage(&[claim("c", json!({})), claim("d", json!({}))], &[volume("v", "1Gi", json!({}))], json!({}));
    let wishes = Wishes::of(&using(&["c"]), &storage).expect("usable").expect("wishes");
    let writes = Writes::new(&wishes.plan(&node("a")).expect("a plan"), "a");
    writes.assume(&mut storage);
    assert_eq!(planned(&storage, &["d"], "a"), Err(NOTHING.to_owned()));
    assert_eq!(planned(&storage, &["c"], "a"), found(&["v"]), "it is still the claim's own");
    writes.forget(&mut storage);
    assert_eq!(planned(&storage, &["d"], "a"), found(&["v"]));
    writes.assume(&mut storage);
    storage.set_volume("v", Some(volume("v", "1Gi", json!({}))));
    assert_eq!(planned(&storage, &["d"], "a"), found(&["v"]), "a newer volume replaces what was decided");
}
