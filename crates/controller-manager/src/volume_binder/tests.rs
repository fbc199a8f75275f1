//! Tables of plans, and claims and volumes that find each other in a faulty world.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::types::core::v1::{PersistentVolume, PersistentVolumeClaim};
use api::types::storage::v1::StorageClass;
use reconcile::simulation::{Feed, Replica, Simulation, World};
use reconcile::{Action, Plan};
use serde_json::{Value, json};

use super::{ObservedClaim, ObservedVolume, claims, volumes};
use crate::testing::{context, now, object};

fn claim(changes: Value) -> PersistentVolumeClaim {
    let mut claim = json!({
        "metadata": {"name": "c", "namespace": "ns", "uid": "uid-c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "5Gi"}}},
    });
    api::patch::merge_patch(&mut claim, changes);
    object(claim)
}

fn volume(name: &str, size: &str, changes: Value) -> PersistentVolume {
    let mut volume = json!({
        "metadata": {"name": name, "uid": format!("uid-{name}")},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "persistentVolumeReclaimPolicy": "Retain"},
        "status": {"phase": "Available"},
    });
    api::patch::merge_patch(&mut volume, changes);
    object(volume)
}

fn class(mode: &str) -> StorageClass {
    object(json!({"metadata": {"name": "fast"}, "provisioner": "example.com/p", "volumeBindingMode": mode}))
}

fn claimed(uid: &str) -> Value {
    json!({"spec": {"claimRef": {"namespace": "ns", "name": "c", "uid": uid}}})
}

fn observed(claim: PersistentVolumeClaim, volumes: Vec<PersistentVolume>) -> ObservedClaim {
    ObservedClaim {
        claim: Arc::new(claim),
        volumes: volumes.into_iter().map(Arc::new).collect(),
        class: None,
        default_class: None,
        waiting_pods: vec![],
    }
}

/// What a plan does to what, and the reasons of its events.
fn shape(plan: &Plan) -> Vec<String> {
    let text = |action: &Action| match action {
        Action::Event(note) => note.reason.clone(),
        other => {
            let target = other.target();
            let part = target.map_or("", |target| target.subresource.as_str());
            format!("{} {}", target.map_or("", |target| target.name.as_str()), part).trim().to_owned()
        }
    };
    plan.actions.iter().map(text).collect()
}

fn chosen(claim: PersistentVolumeClaim, volumes: Vec<PersistentVolume>) -> String {
    shape(&claims::plan(&observed(claim, volumes))).into_iter().next().unwrap_or_default()
}

fn patches(plan: &Plan) -> Vec<Value> {
    let patch = |action: &Action| match action {
        Action::Patch { patch: client::Patch::Merge(patch), .. } => Some(patch.clone()),
        _ => None,
    };
    plan.actions.iter().filter_map(patch).collect()
}

#[test]
fn a_claim_gets_the_smallest_volume_that_does() {
    let two = json!({"spec": {"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]}});
    let table: Vec<(&str, Value, Vec<PersistentVolume>, &str)> = vec![
        ("the smallest", json!({}), vec![volume("b", "8Gi", json!({})), volume("a", "6Gi", json!({}))], "a"),
        ("not too small", json!({}), vec![volume("b", "8Gi", json!({})), volume("a", "4Gi", json!({}))], "b"),
        (
            "with the fewest modes",
            json!({}),
            vec![volume("a", "6Gi", two.clone()), volume("b", "8Gi", json!({}))],
            "b",
        ),
        (
            "with the wanted modes",
            json!({"spec": {"accessModes": ["ReadOnlyMany"]}}),
            vec![volume("a", "6Gi", json!({})), volume("b", "8Gi", two)],
            "b",
        ),
        (
            "of its class",
            json!({"spec": {"storageClassName": "x"}}),
            vec![
                volume("a", "6Gi", json!({})),
                volume("b", "8Gi", json!({"spec": {"storageClassName": "x"}})),
            ],
            "b",
        ),
        (
            "of its mode",
            json!({"spec": {"volumeMode": "Block"}}),
            vec![volume("a", "6Gi", json!({})), volume("b", "8Gi", json!({"spec": {"volumeMode": "Block"}}))],
            "b",
        ),
        (
            "that it selects",
            json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}}),
            vec![
                volume("a", "6Gi", json!({})),
                volume("b", "8Gi", json!({"metadata": {"labels": {"a": "b"}}})),
            ],
            "b",
        ),
        (
            "that is free",
            json!({}),
            vec![
                volume("a", "6Gi", claimed("other")),
                volume("b", "8Gi", json!({"status": {"phase": "Released"}})),
            ],
            "FailedBinding",
        ),
        (
            "that is meant for it",
            json!({}),
            vec![volume("a", "6Gi", json!({})), volume("b", "8Gi", claimed(""))],
            "b",
        ),
        (
            "that is not going",
            json!({}),
            vec![volume("a", "6Gi", json!({"metadata": {"deletionTimestamp": "2026-11-23T11:00:00Z"}}))],
            "FailedBinding",
        ),
    ];
    for (name, changes, volumes, expected) in table {
        assert_eq!(chosen(claim(changes), volumes), expected, "{name}");
    }
}

#[test]
fn a_binding_is_written_on_both_sides() {
    let plan = claims::plan(&observed(claim(json!({})), vec![volume("v", "6Gi", json!({}))]));
    assert_eq!(shape(&plan), ["v", "v status", "c", "c status"]);
    let all = patches(&plan);
    assert_eq!(all[0]["spec"]["claimRef"]["uid"], "uid-c");
    assert_eq!(all[0]["metadata"]["annotations"], json!({"pv.kubernetes.io/bound-by-controller": "yes"}));
    assert_eq!(all[2]["spec"]["volumeName"], "v");
    assert_eq!(all[2]["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"], "yes");
    assert_eq!(
        (&all[3]["status"]["phase"], &all[3]["status"]["capacity"]),
        (&json!("Bound"), &json!({"storage": "6Gi"}))
    );
    let done = json!({
        "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": "v"},
        "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "3Gi"}},
    });
    let mut bound = claimed("uid-c");
    bound["status"]["phase"] = "Bound".into();
    let kept = claims::plan(&observed(claim(done), vec![volume("v", "6Gi", bound)]));
    assert_eq!(kept, Plan::default(), "it may be about to grow");
}

#[test]
fn a_named_volume_must_do() {
    let named = || claim(json!({"spec": {"volumeName": "v"}}));
    let table = [
        ("it is not there", vec![], vec!["c status"]),
        ("it is free", vec![volume("v", "6Gi", json!({}))], vec!["v", "v status", "c", "c status"]),
        ("it is too small", vec![volume("v", "1Gi", json!({}))], vec!["VolumeMismatch", "c status"]),
        ("it is meant for it", vec![volume("v", "6Gi", claimed(""))], vec!["v", "v status", "c", "c status"]),
        ("it is another's", vec![volume("v", "6Gi", claimed("other"))], vec!["FailedBinding", "c status"]),
    ];
    for (name, volumes, expected) in table {
        assert_eq!(shape(&claims::plan(&observed(named(), volumes))), expected, "{name}");
    }
}

#[test]
fn a_bound_claim_can_lose_its_volume() {
    let bound = |name: Value| {
        claim(json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
                     "spec": {"volumeName": name}, "status": {"phase": "Bound"}}))
    };
    let lost = |claim, volumes| shape(&claims::plan(&observed(claim, volumes)));
    assert_eq!(lost(bound(Value::Null), vec![]), ["c status", "ClaimLost"]);
    assert_eq!(lost(bound(json!("v")), vec![]), ["c status", "ClaimLost"]);
    assert_eq!(
        lost(bound(json!("v")), vec![volume("v", "6Gi", claimed("x"))]),
        ["c status", "ClaimMisbound"]
    );
    let mut gone = bound(json!("v"));
    gone.status.get_or_insert_default().phase = Some("Lost".to_owned());
    assert_eq!(lost(gone, vec![]), [""; 0]);
}

#[test]
fn without_a_volume_somebody_is_asked_for_one() {
    let of = |changes: Value, class: Option<StorageClass>, pods: &[&str]| {
        let mut all =
            observed(claim(changes), vec![volume("v", "6Gi", json!({"spec": {"storageClassName": "fast"}}))]);
        all.volumes.retain(|_| pods.first() == Some(&"with a volume"));
        all.class = class.map(Arc::new);
        all.waiting_pods = pods.iter().map(|pod| (*pod).to_owned()).collect();
        claims::plan(&all)
    };
    let fast = json!({"spec": {"storageClassName": "fast"}});
    let asked = of(fast.clone(), Some(class("Immediate")), &[]);
    assert_eq!(shape(&asked), ["c", "ExternalProvisioning"]);
    let annotations = &patches(&asked)[0]["metadata"]["annotations"];
    assert_eq!(annotations["volume.kubernetes.io/storage-provisioner"], "example.com/p");
    assert_eq!(shape(&of(fast.clone(), None, &[])), ["ProvisioningFailed"]);
    let late = || Some(class("WaitForFirstConsumer"));
    assert_eq!(shape(&of(fast.clone(), late(), &[])), ["WaitForFirstConsumer", "c status"]);
    assert_eq!(shape(&of(fast.clone(), late(), &["p"])), ["WaitForPodScheduled", "c status"]);
    assert_eq!(
        shape(&of(fast.clone(), late(), &["with a volume"]))[0],
        "WaitForPodScheduled",
        "the scheduler chooses"
    );
    let mut placed = fast;
    placed["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] = "n".into();
    assert_eq!(shape(&of(placed, late(), &[])), ["c", "ExternalProvisioning"]);
    let mut open = observed(claim(json!({"spec": {"storageClassName": null}})), vec![]);
    open.claim = Arc::new({
        let mut claim = (*open.claim).clone();
        claim.spec.get_or_insert_default().storage_class_name = None;
        claim
    });
    open.default_class = Some(Arc::new(class("Immediate")));
    assert_eq!(patches(&claims::plan(&open))[0]["spec"], json!({"storageClassName": "fast"}));
}

#[test]
fn a_volume_follows_its_claim_and_its_policy() {
    let of = |changes: Value, claim: Option<PersistentVolumeClaim>| {
        let volume = Arc::new(volume("v", "6Gi", changes));
        volumes::plan(&ObservedVolume { volume, claim: claim.map(Arc::new) })
    };
    let merged = |mut one: Value, other: Value| {
        api::patch::merge_patch(&mut one, other);
        one
    };
    let with = |volume: &str| Some(claim(json!({"spec": {"volumeName": volume}})));
    let policy =
        |policy: &str| merged(claimed("uid-c"), json!({"spec": {"persistentVolumeReclaimPolicy": policy}}));
    let phase =
        |plan: &Plan| patches(plan).last().map(|patch| patch["status"]["phase"].clone()).unwrap_or_default();
    assert_eq!(of(json!({}), None), Plan::default());
    assert_eq!(phase(&of(json!({"status": null}), None)), "Available");
    assert_eq!(phase(&of(claimed("uid-c"), with("v"))), "Bound");
    assert_eq!(of(claimed("uid-c"), with("")), Plan::default(), "the claim's loop goes on");
    assert_eq!(phase(&of(policy("Retain"), None)), "Released");
    let external = merged(
        policy("Delete"),
        json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "p"}}}),
    );
    assert_eq!(phase(&of(external.clone(), None)), "Released");
    assert_eq!(phase(&of(external, with("other"))), "Released", "it is not needed any more");
    assert_eq!(shape(&of(policy("Delete"), None)), ["v status", "v status", "VolumeFailedDelete"]);
    assert_eq!(shape(&of(policy("Recycle"), None)), ["v status", "v status", "VolumeFailedRecycle"]);
    let freed = of(
        merged(
            claimed("uid-c"),
            json!({"metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}}),
        ),
        with("other"),
    );
    assert_eq!(patches(&freed)[0]["spec"], json!({"claimRef": null}));
    let meant = of(claimed("uid-c"), with("other"));
    assert_eq!(patches(&meant)[0]["spec"], json!({"claimRef": {"uid": null}}));
}

fn replica() -> Replica {
    let context = context();
    let loops = vec![super::start(&context), super::start_volumes(&context)];
    let caches = &context.caches;
    let feeds = vec![
        Feed::of(&caches.claims()),
        Feed::of(&caches.volumes()),
        Feed::of(&caches.storage_classes()),
        Feed::of(&caches.pods()),
    ];
    Replica { loops, feeds }
}

#[test]
fn in_any_order_and_with_faults_each_claim_has_a_volume_of_its_own() {
    for seed in 0..30 {
        let mut world = World::at(now());
        for name in ["c1", "c2", "c3"] {
            world.put(&claim(json!({"metadata": {"name": name, "uid": null}})));
        }
        for name in ["v1", "v2", "v3"] {
            world.put(&volume(name, "6Gi", json!({"metadata": {"uid": null}, "status": null})));
        }
        let mut simulation = Simulation::new(seed, world, replica, Box::new(|_, _| false));
        simulation.disturb(300);
        simulation.settle(Duration::from_secs(5));
        let claims: Vec<PersistentVolumeClaim> = simulation.world.list();
        let phases: BTreeSet<Option<String>> = claims
            .iter()
            .map(|claim| claim.status.as_ref().and_then(|status| status.phase.clone()))
            .collect();
        assert_eq!(phases, [Some("Bound".to_owned())].into(), "seed {seed}");
        let names: BTreeSet<Option<String>> = claims
            .iter()
            .map(|claim| claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()))
            .collect();
        assert_eq!(names.len(), 3, "seed {seed}: {names:?}");
    }
}
