//! Tables of plans, and whole sets in a faulty world.

use std::sync::Arc;
use std::time::Duration;

use api::ObjectKey;
use api::types::apps::v1::{ControllerRevision, StatefulSet};
use api::types::core::v1::{PersistentVolumeClaim, Pod};
use reconcile::simulation::{Feed, Replica, Simulation, World};
use reconcile::{Action, Failure, Moment, Plan};
use serde_json::{Value, json};

use super::{Observed, plan};
use crate::revisions;
use crate::testing::{context, kubelet, now, object, pod, running, told_status};

const NEW: &str = "web-new";
const OLD: &str = "web-old";

fn set(changes: Value) -> StatefulSet {
    let mut set = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "uid-set", "generation": 1},
        "spec": {
            "replicas": 3,
            "serviceName": "peers",
            "selector": {"matchLabels": {"app": "web"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "two"}]}},
        },
        "status": {"replicas": 0, "currentRevision": OLD},
    });
    api::patch::merge_patch(&mut set, changes);
    object(set)
}

fn with_claims(changes: Value) -> StatefulSet {
    let mut all = json!({"spec": {"volumeClaimTemplates": [{"metadata": {"name": "data"}}]}});
    api::patch::merge_patch(&mut all, changes);
    set(all)
}

/// The revision of a set's template, and one before it.
fn history(set: &StatefulSet) -> Vec<Arc<ControllerRevision>> {
    let revision = |set: &StatefulSet, name: &str, number: i64| {
        let planned = revisions::current(set, &[], None);
        let [Action::Create { object: created, .. }] = &planned.actions[..] else {
            panic!("{:?}", planned.actions)
        };
        let mut revision: ControllerRevision = object(created.clone());
        revision.metadata.name = Some(name.to_owned());
        revision.revision = number;
        Arc::new(revision)
    };
    let mut before = set.clone();
    let template = &mut before.spec.get_or_insert_default().template;
    template.spec.get_or_insert_default().containers[0].image = Some("one".to_owned());
    vec![revision(&before, OLD, 1), revision(set, NEW, 2)]
}

fn member(ordinal: i32, revision: &str, changes: Value) -> Pod {
    let name = format!("web-{ordinal}");
    let mut all = json!({"metadata": {
        "labels": {"controller-revision-hash": revision, "statefulset.kubernetes.io/pod-name": name},
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "uid-set", "controller": true}],
    }});
    api::patch::merge_patch(&mut all, changes);
    pod(&name, all)
}

fn up(ordinal: i32, revision: &str) -> Pod {
    member(ordinal, revision, running("a", "10.0.0.1", true))
}

fn down(ordinal: i32, revision: &str) -> Pod {
    member(ordinal, revision, running("a", "10.0.0.1", false))
}

fn leaving(ordinal: i32, revision: &str) -> Pod {
    let mut pod = up(ordinal, revision);
    pod.metadata.deletion_timestamp = Some(crate::status::time(now()));
    pod
}

fn claim(name: &str, owners: &[(&str, &str, &str)]) -> PersistentVolumeClaim {
    let owners: Vec<Value> = owners
        .iter()
        .map(|(kind, name, uid)| {
            let version = if *kind == "StatefulSet" { "apps/v1" } else { "v1" };
            json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true})
        })
        .collect();
    object(json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "ownerReferences": owners}}))
}

fn observed(set: &StatefulSet, pods: Vec<Pod>, claims: Vec<PersistentVolumeClaim>) -> Observed {
    Observed {
        set: Arc::new(set.clone()),
        pods: pods.into_iter().map(Arc::new).collect(),
        claims: claims
            .into_iter()
            .map(|one| (one.metadata.name.clone().unwrap_or_default(), Arc::new(one)))
            .collect(),
        revisions: history(set),
        namesake: None,
    }
}

fn plan_of(set: &StatefulSet, pods: Vec<Pod>) -> Plan {
    plan::plan(&observed(set, pods, vec![]), &Moment::at(now()))
}

/// What a plan does to which objects, but for the status and the news.
fn shape(plan: &Plan) -> Vec<String> {
    let name = |action: &Action| match action {
        Action::Create { object, .. } => object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        other => other.target().map(|target| target.name.clone()).unwrap_or_default(),
    };
    let matters = |action: &&Action| action.target().is_some_and(|target| target.subresource.is_empty());
    plan.actions.iter().filter(matters).map(|one| format!("{} {}", one.verb(), name(one))).collect()
}

fn created(plan: &Plan) -> Vec<Value> {
    let object = |action: &Action| match action {
        Action::Create { object, .. } => Some(object.clone()),
        _ => None,
    };
    plan.actions.iter().filter_map(object).collect()
}

#[test]
fn pods_start_in_order_and_wait_for_each_other() {
    let parallel = json!({"spec": {"podManagementPolicy": "Parallel"}});
    let patient = json!({"spec": {"minReadySeconds": 3600}});
    let failed = |ordinal| member(ordinal, NEW, json!({"status": {"phase": "Failed"}}));
    let table: Vec<(&str, Value, Vec<Pod>, Vec<&str>)> = vec![
        ("the first", json!({}), vec![], vec!["create web-0"]),
        ("the next", json!({}), vec![up(0, NEW)], vec!["create web-1"]),
        ("not before the first is ready", json!({}), vec![down(0, NEW)], vec![]),
        ("nor available", patient, vec![up(0, NEW)], vec![]),
        ("nor while it leaves", json!({}), vec![leaving(0, NEW)], vec![]),
        ("a gap is filled first", json!({}), vec![up(0, NEW), up(2, NEW)], vec!["create web-1"]),
        ("all at once", parallel.clone(), vec![down(1, NEW)], vec!["create web-0", "create web-2"]),
        ("a failed one goes", json!({}), vec![failed(0), up(1, NEW)], vec!["delete web-0"]),
        (
            "a failed one goes beside others",
            parallel,
            vec![failed(0), up(1, NEW), up(2, NEW)],
            vec!["delete web-0"],
        ),
        (
            "other first ordinals",
            json!({"spec": {"ordinals": {"start": 5}}}),
            vec![up(5, NEW)],
            vec!["create web-6"],
        ),
        (
            "a set that ends",
            json!({"metadata": {"deletionTimestamp": "2026-11-23T11:00:00Z"}}),
            vec![],
            vec![],
        ),
    ];
    for (name, changes, pods, expected) in table {
        assert_eq!(shape(&plan_of(&set(changes), pods)), expected, "{name}");
    }
}

#[test]
fn pods_are_removed_from_the_end() {
    let all = || vec![up(0, NEW), up(1, NEW), up(2, NEW)];
    let one = json!({"spec": {"replicas": 1}});
    let parallel = json!({"spec": {"replicas": 1, "podManagementPolicy": "Parallel"}});
    let moved = json!({"spec": {"replicas": 2, "ordinals": {"start": 1}}});
    let table: Vec<(&str, Value, Vec<Pod>, Vec<&str>)> = vec![
        ("the last", one.clone(), all(), vec!["delete web-2"]),
        ("one at a time", one.clone(), vec![up(0, NEW), up(1, NEW), leaving(2, NEW)], vec![]),
        (
            "a healthy one waits for a broken one",
            one.clone(),
            vec![up(0, NEW), down(1, NEW), up(2, NEW)],
            vec!["delete web-2"],
        ),
        ("a broken one waits for another", one.clone(), vec![up(0, NEW), down(1, NEW), down(2, NEW)], vec![]),
        (
            "a broken one alone goes",
            one.clone(),
            vec![up(0, NEW), up(1, NEW), down(2, NEW)],
            vec!["delete web-2"],
        ),
        ("none before the row is healthy", one, vec![down(0, NEW), up(1, NEW)], vec![]),
        ("all at once", parallel, all(), vec!["delete web-2", "delete web-1"]),
        ("those before the first ordinal", moved, all(), vec!["delete web-0"]),
    ];
    for (name, changes, pods, expected) in table {
        assert_eq!(shape(&plan_of(&set(changes), pods)), expected, "{name}");
    }
}

#[test]
fn an_update_replaces_from_the_end_as_far_as_its_strategy_says() {
    let rolling = |rolling: Value| json!({"spec": {"updateStrategy": {"rollingUpdate": rolling}}});
    let on_delete = json!({"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}});
    let two = rolling(json!({"maxUnavailable": 2}));
    let parallel = |mut changes: Value| {
        changes["spec"]["podManagementPolicy"] = "Parallel".into();
        changes
    };
    let old = || vec![up(0, OLD), up(1, OLD), up(2, OLD)];
    let table: Vec<(&str, Value, Vec<Pod>, Vec<&str>)> = vec![
        ("the last", json!({}), old(), vec!["delete web-2"]),
        ("then the one before", json!({}), vec![up(0, OLD), up(1, OLD), up(2, NEW)], vec!["delete web-1"]),
        ("which waits", parallel(json!({})), vec![up(0, OLD), up(1, OLD), down(2, NEW)], vec![]),
        (
            "a broken old one is replaced",
            parallel(json!({})),
            vec![up(0, OLD), up(1, OLD), down(2, OLD)],
            vec!["delete web-2"],
        ),
        (
            "not below the partition",
            rolling(json!({"partition": 2})),
            vec![up(0, OLD), up(1, OLD), up(2, NEW)],
            vec![],
        ),
        ("above it", rolling(json!({"partition": 2})), old(), vec!["delete web-2"]),
        ("by hand", on_delete, old(), vec![]),
        ("two at a time", two.clone(), old(), vec!["delete web-2", "delete web-1"]),
        (
            "counting what is down",
            parallel(two),
            vec![down(0, OLD), up(1, OLD), up(2, OLD)],
            vec!["delete web-2"],
        ),
        ("a share, at least one", rolling(json!({"maxUnavailable": "1%"})), old(), vec!["delete web-2"]),
    ];
    for (name, changes, pods, expected) in table {
        assert_eq!(shape(&plan_of(&set(changes), pods)), expected, "{name}");
    }
}

#[test]
fn a_new_pod_gets_the_revision_of_its_side_of_the_partition() {
    let image = |changes: Value, pods: Vec<Pod>| {
        let plan = plan_of(&set(changes), pods);
        let pod = created(&plan).first().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (
            text(&pod["spec"]["containers"][0]["image"]),
            text(&pod["metadata"]["labels"]["controller-revision-hash"]),
        )
    };
    let below = json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 1}}}});
    assert_eq!(image(below.clone(), vec![]), ("one".to_owned(), OLD.to_owned()));
    assert_eq!(image(below, vec![up(0, OLD)]), ("two".to_owned(), NEW.to_owned()));
    let no_partition = json!({
        "spec": {"updateStrategy": {"rollingUpdate": null}}, "status": {"currentReplicas": 1}});
    assert_eq!(image(no_partition.clone(), vec![]).1, OLD);
    assert_eq!(image(no_partition, vec![up(0, OLD)]).1, NEW);
}

#[test]
fn a_pod_has_its_name_its_place_and_its_claims() {
    let plan = plan_of(&with_claims(json!({"spec": {"ordinals": {"start": 4}}})), vec![]);
    let [claim, pod] = &created(&plan)[..] else { panic!("{plan:?}") };
    assert_eq!(claim["metadata"]["name"], "data-web-4");
    assert_eq!(claim["metadata"]["labels"], json!({"app": "web"}));
    assert_eq!(pod["metadata"]["name"], "web-4");
    assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!("web-4"), &json!("peers")));
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "web-4");
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "4");
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-4"}}])
    );
}

#[test]
fn a_claim_on_its_way_out_keeps_the_pod_waiting() {
    let mut going = claim("data-web-0", &[]);
    going.metadata.deletion_timestamp = Some(crate::status::time(now()));
    let set = with_claims(json!({}));
    let plan = plan::plan(&observed(&set, vec![], vec![going]), &Moment::at(now()));
    assert_eq!(shape(&plan), [""; 0]);
    assert!(format!("{plan:?}").contains("pvc data-web-0 is being deleted"));
    let scales_away = json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}});
    let stale = claim("data-web-0", &[("Pod", "web-0", "an earlier one")]);
    let plan = plan::plan(&observed(&with_claims(scales_away), vec![], vec![stale]), &Moment::at(now()));
    assert_eq!(shape(&plan), [""; 0]);
}

#[test]
fn claims_belong_to_whom_the_retention_policy_says() {
    let owner = |deleted: &str, scaled: &str, replicas: i32, owners: &[(&str, &str, &str)]| {
        let set = with_claims(json!({"spec": {
            "replicas": replicas,
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}}));
        let mut pod = up(0, NEW);
        pod.spec.get_or_insert_default().volumes = Some(super::claims::volumes(&set, &[], 0));
        let plan =
            plan::plan(&observed(&set, vec![pod], vec![claim("data-web-0", owners)]), &Moment::at(now()));
        let patched = plan.actions.iter().find_map(|action| match action {
            Action::Patch { target, patch: client::Patch::Merge(patch) } if target.name == "data-web-0" => {
                let owners = patch["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
                Some(owners.iter().map(|one| one["uid"].as_str().unwrap_or_default().to_owned()).collect())
            }
            _ => None,
        });
        patched.map(|owners: Vec<String>| owners.join(","))
    };
    let set = ("StatefulSet", "web", "uid-set");
    let gone = |uid: &str| Some(uid.to_owned());
    assert_eq!(owner("Retain", "Retain", 1, &[]), None);
    assert_eq!(owner("Retain", "Retain", 1, &[set]), gone(""));
    assert_eq!(owner("Delete", "Retain", 1, &[]), gone("uid-set"));
    assert_eq!(owner("Delete", "Retain", 0, &[set]), None);
    assert_eq!(owner("Retain", "Delete", 1, &[]), None);
    assert_eq!(owner("Retain", "Delete", 0, &[]), gone("uid-web-0"));
    assert_eq!(owner("Delete", "Delete", 1, &[]), gone("uid-set"));
    assert_eq!(owner("Delete", "Delete", 0, &[set]), gone("uid-web-0"));
    assert_eq!(owner("Delete", "Delete", 1, &[("StatefulSet", "web", "earlier")]), None);
    assert_eq!(owner("Delete", "Delete", 1, &[("Backup", "b", "uid-b")]), None);
    assert_eq!(owner("Delete", "Delete", 1, &[("Backup", "b", "uid-b"), set]), gone("uid-b"));
}

#[test]
fn a_member_that_lost_its_label_gets_it_back() {
    let bare = member(0, NEW, json!({"metadata": {"labels": {"statefulset.kubernetes.io/pod-name": null}}}));
    let mut pod: Pod = bare;
    pod.status = up(0, NEW).status;
    let plan = plan_of(&set(json!({"spec": {"replicas": 1}})), vec![pod]);
    assert_eq!(shape(&plan), ["patch web-0"]);
    assert!(format!("{plan:?}").contains("Update Pod web-0 in StatefulSet web successful"));
}

#[test]
fn pods_of_other_names_are_let_go_and_orphans_of_the_set_taken() {
    let mut stranger = up(0, NEW);
    stranger.metadata.name = Some("other-0".to_owned());
    let mut orphan = up(1, NEW);
    orphan.metadata.owner_references = None;
    let shape = shape(&plan_of(&set(json!({"spec": {"replicas": 2}})), vec![stranger, orphan]));
    assert_eq!(shape, ["patch other-0", "patch web-1", "create web-0"]);
}

#[test]
fn the_status_counts_and_a_finished_update_becomes_current() {
    let half = plan_of(&set(json!({})), vec![up(0, OLD), up(1, OLD), up(2, NEW)]);
    assert_eq!(
        told_status(&half),
        json!({
            "observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "availableReplicas": 3,
            "currentReplicas": 1, "updatedReplicas": 1, "currentRevision": OLD, "updateRevision": NEW,
            "collisionCount": 0,
        }),
        "one more is on its way out"
    );
    let done = told_status(&plan_of(&set(json!({})), vec![up(0, NEW), up(1, NEW), up(2, NEW)]));
    assert_eq!((&done["currentRevision"], &done["currentReplicas"]), (&json!(NEW), &json!(3)));
    let waits =
        plan_of(&set(json!({"spec": {"minReadySeconds": 3600}})), vec![up(0, NEW), up(1, NEW), up(2, NEW)]);
    assert_eq!(told_status(&waits)["availableReplicas"], 0);
    assert_eq!(waits.wake_after, Some(Duration::from_secs(1800)));
    let failed =
        Moment { failure: Some(Failure { verb: "create", message: "no".into() }), ..Moment::at(now()) };
    let first = plan::plan(&observed(&set(json!({})), vec![], vec![]), &failed);
    assert_eq!(first.actions.first().map(Action::verb), Some("patch"), "people learn of it first");
}

#[test]
fn the_history_is_written_first_and_kept_short() {
    let set = set(json!({"spec": {"revisionHistoryLimit": 0}}));
    let mut fresh = observed(&set, vec![], vec![]);
    fresh.revisions.truncate(1);
    let plan = plan::plan(&fresh, &Moment::at(now()));
    assert_eq!(shape(&plan).len(), 1, "{plan:?}");
    assert_eq!(created(&plan)[0]["kind"], "ControllerRevision");
    fresh.namesake = Some(Arc::clone(&fresh.revisions[0]));
    let collides = plan::plan(&fresh, &Moment::at(now()));
    assert_eq!(told_status(&collides), json!({"collisionCount": 1}));
    let unused = |pods: Vec<Pod>| {
        let mut observed = observed(&set, pods, vec![]);
        let mut third = (*observed.revisions[0]).clone();
        third.metadata.name = Some("web-older".to_owned());
        third.revision = 0;
        observed.revisions.push(Arc::new(third));
        shape(&plan::plan(&observed, &Moment::at(now())))
    };
    let all = |revision: &str| vec![up(0, revision), up(1, NEW), up(2, NEW)];
    assert_eq!(unused(all(NEW)), ["delete web-older"]);
    assert_eq!(unused(all("web-older")), ["delete web-0"]);
}

fn replica() -> Replica {
    let context = context();
    let loops = vec![super::start(&context)];
    let caches = &context.caches;
    let feeds = vec![
        Feed::of(&caches.stateful_sets()),
        Feed::of(&caches.pods()),
        Feed::of(&caches.claims()),
        Feed::of(&caches.controller_revisions()),
    ];
    Replica { loops, feeds }
}

/// In the whole history of a world no pod starts before all before it are ready.
fn starts_in_order(world: &World) -> bool {
    let mut ready = std::collections::BTreeSet::new();
    let mut known = std::collections::BTreeSet::new();
    world.history().iter().filter(|change| change.resource.1 == "pods").all(|change| {
        let Some(object) = &change.object else {
            ready.remove(&change.key.name);
            known.remove(&change.key.name);
            return true;
        };
        let pod: Pod = object_of(object);
        let ordinal = super::identity::split(&change.key.name).map_or(0, |(_, ordinal)| ordinal);
        let is_new = known.insert(change.key.name.clone());
        if crate::pods::is_ready(&pod) {
            ready.insert(change.key.name.clone());
        }
        !is_new || (0..ordinal).all(|before| ready.contains(&format!("web-{before}")))
    })
}

fn object_of(value: &Value) -> Pod {
    object(value.clone())
}

#[test]
fn in_any_order_and_with_faults_the_row_is_kept_and_moved() {
    for seed in 0..20 {
        let mut world = World::at(now());
        world.put(&with_claims(json!({"metadata": {"uid": null}, "status": null})));
        let mut simulation = Simulation::new(seed, world, replica, Box::new(kubelet));
        simulation.disturb(300);
        simulation.settle(Duration::from_secs(30));
        assert!(starts_in_order(&simulation.world), "seed {seed}");
        simulation.world.edit::<StatefulSet>(&ObjectKey::new("ns", "web"), |set| {
            set.set_at(
                &["spec", "template", "spec"],
                json!({"containers": [{"name": "c", "image": "three"}]}),
            );
            set.set_at(&["spec", "replicas"], 2);
        });
        simulation.disturb(300);
        simulation.settle(Duration::from_secs(30));
        let sets: Vec<StatefulSet> = simulation.world.list();
        let status = sets[0].status.clone().unwrap_or_default();
        let counts = (status.replicas, status.updated_replicas, status.available_replicas);
        assert_eq!(counts, (2, Some(2), Some(2)), "seed {seed}");
        assert_eq!(status.current_revision, status.update_revision, "seed {seed}");
        assert_eq!(simulation.world.list::<Pod>().len(), 2, "seed {seed}");
        assert_eq!(simulation.world.list::<PersistentVolumeClaim>().len(), 3, "seed {seed}");
        assert_eq!(simulation.world.list::<ControllerRevision>().len(), 2, "seed {seed}");
    }
}
