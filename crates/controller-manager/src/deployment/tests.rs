//! Tables of plans, and rollouts in a faulty world.

use std::sync::Arc;
use std::time::Duration;

use api::ObjectKey;
use api::types::apps::v1::{Deployment, ReplicaSet};
use api::types::core::v1::Pod;
use reconcile::simulation::{Dice, Feed, Replica, Simulation, World};
use reconcile::{Action, Moment, Plan};
use serde_json::{Value, json};

use super::scale::{Limits, Part, split};
use super::{Observed, plan, revisions};
use crate::testing::{context, deployment, kubelet, now};

/// A replica set as the deployment would make it.
fn set(of: &Deployment, revision: i64, replicas: i32, available: i32) -> ReplicaSet {
    let mut set = revisions::new_set(of, revision, replicas);
    set.metadata.uid = Some(format!("uid-{}", set.metadata.name.clone().unwrap_or_default()));
    set.metadata.generation = Some(1);
    let status = set.status.get_or_insert_default();
    status.replicas = replicas;
    status.available_replicas = Some(available);
    status.ready_replicas = Some(available);
    status.observed_generation = Some(1);
    status.terminating_replicas = Some(0);
    set
}

fn plan_of(deployment: &Deployment, sets: Vec<ReplicaSet>) -> Plan {
    let sets: Vec<Arc<ReplicaSet>> = sets.into_iter().map(Arc::new).collect();
    let name = revisions::new_name(deployment);
    let namesake = sets.iter().find(|set| set.metadata.name.as_ref() == Some(&name)).cloned();
    let deployment = Arc::new(deployment.clone());
    let observed = Observed { deployment, replica_sets: sets, busy: Vec::new(), namesake };
    plan::plan(&observed, &Moment::at(now()))
}

fn events(plan: &Plan) -> Vec<&str> {
    let text = |action: &'_ Action| matches!(action, Action::Event(_));
    plan.actions
        .iter()
        .filter(|action| text(action))
        .map(|action| match action {
            Action::Event(note) => note.message.as_str(),
            _ => "",
        })
        .collect()
}

fn with_image(image: &str) -> Deployment {
    let mut changed = deployment(4);
    changed.spec.get_or_insert_default().template.spec.get_or_insert_default().containers[0].image =
        Some(image.to_owned());
    changed
}

#[test]
fn the_first_replica_set_carries_revision_one_and_the_sizes() {
    let deployment = deployment(4);
    let plan = plan_of(&deployment, vec![]);
    let Action::Create { object, .. } = &plan.actions[0] else { panic!("{plan:?}") };
    let annotations = &object["metadata"]["annotations"];
    assert_eq!(annotations[revisions::REVISION], "1");
    assert_eq!((&annotations[revisions::DESIRED], &annotations[revisions::MOST]), (&json!("4"), &json!("5")));
    let hash = &object["metadata"]["labels"]["pod-template-hash"];
    assert_eq!(&object["spec"]["selector"]["matchLabels"]["pod-template-hash"], hash);
    assert_eq!(&object["spec"]["template"]["metadata"]["labels"]["pod-template-hash"], hash);
    let name = revisions::new_name(&deployment);
    assert_eq!(events(&plan), [format!("Scaled up replica set {name} from 0 to 4")]);
    assert!(format!("{plan:?}").contains("NewReplicaSetCreated"));
}

#[test]
fn a_rollout_surges_and_keeps_enough_available() {
    let (before, after) = (deployment(4), with_image("two"));
    let old = set(&before, 1, 4, 4);
    let first = plan_of(&after, vec![old.clone()]);
    assert!(events(&first)[0].ends_with("from 0 to 1"), "{:?}", events(&first));
    let second = plan_of(&after, vec![old, set(&after, 2, 1, 0)]);
    assert!(events(&second)[0].ends_with("from 4 to 3"), "{:?}", events(&second));
    let third = plan_of(&after, vec![set(&before, 1, 3, 3), set(&after, 2, 1, 1)]);
    assert!(events(&third)[0].ends_with("from 1 to 2"), "{:?}", events(&third));
    let none = plan_of(&after, vec![set(&before, 1, 3, 3), set(&after, 2, 2, 0)]);
    assert_eq!(events(&none), [""; 0], "nothing may move");
}

#[test]
fn going_back_to_an_old_template_raises_its_revision() {
    let (one, two) = (deployment(4), with_image("two"));
    let plan = plan_of(&one, vec![set(&one, 1, 0, 0), set(&two, 2, 4, 4)]);
    let text = format!("{plan:?}");
    assert!(text.contains(r#""deployment.kubernetes.io/revision": String("3")"#), "{text}");
    assert!(text.contains(r#""deployment.kubernetes.io/revision-history": String("1")"#), "{text}");
}

#[test]
fn a_name_that_is_taken_counts_as_a_collision() {
    let deployment = deployment(1);
    let mut taken = set(&with_image("two"), 1, 1, 1);
    taken.metadata.owner_references = None;
    taken.metadata.labels = None;
    let observed = Observed {
        deployment: Arc::new(deployment),
        replica_sets: vec![],
        busy: vec![],
        namesake: Some(Arc::new(taken)),
    };
    let plan = plan::plan(&observed, &Moment::at(now()));
    assert_eq!(plan.actions.len(), 1);
    assert!(format!("{plan:?}").contains(r#""collisionCount": Number(1)"#), "{plan:?}");
}

#[test]
fn a_growth_in_the_middle_of_a_rollout_is_shared_in_proportion() {
    let limits = Limits { replicas: 15, surge: 3, unavailable: 2 };
    let part = |replicas| Part { replicas, most_before: 13 };
    // Upstream's documented example: 8 and 5 of 10+3 become 11 and 7 of 15+3.
    assert_eq!(split(&[part(8), part(5)], limits), [11, 7]);
    let zero = Limits { replicas: 0, surge: 0, unavailable: 0 };
    assert_eq!(split(&[part(8), part(5)], zero), [0, 0]);
}

#[test]
fn limits_round_surge_up_and_unavailability_down_but_never_both_to_nothing() {
    let mut one = deployment(1);
    assert_eq!(Limits::of(&one), Limits { replicas: 1, surge: 1, unavailable: 0 });
    let strategy = one.spec.get_or_insert_default().strategy.get_or_insert_default();
    strategy.rolling_update.get_or_insert_default().max_surge = Some(api::IntOrString::Int(0));
    assert_eq!(Limits::of(&one), Limits { replicas: 1, surge: 0, unavailable: 1 });
}

#[test]
fn an_idle_deployment_is_left_alone() {
    let mut deployment = deployment(4);
    let sets = vec![set(&deployment, 1, 4, 4)];
    let mut rounds = 0;
    loop {
        let plan = plan_of(&deployment, sets.clone());
        if plan.actions.is_empty() {
            return;
        }
        rounds += 1;
        assert!(rounds < 4, "{plan:?}");
        let mut value: Value = serde_json::to_value(&deployment).expect("JSON");
        for action in &plan.actions {
            if let Action::Patch { patch: client::Patch::Merge(patch), .. } = action {
                api::patch::merge_patch(&mut value, patch.clone());
            }
        }
        deployment = serde_json::from_value(value).expect("a deployment");
    }
}

fn replica() -> Replica {
    let context = context();
    let loops = vec![super::start(&context), crate::replicaset::start(&context)];
    let caches = &context.caches;
    Replica {
        loops,
        feeds: vec![
            Feed::of(&caches.deployments()),
            Feed::of(&caches.replica_sets()),
            Feed::of(&caches.pods()),
        ],
    }
}

fn live_pods(world: &World) -> usize {
    world.list::<Pod>().iter().filter(|pod| crate::pods::is_active(pod)).count()
}

#[test]
fn in_any_order_and_with_faults_a_rollout_ends_at_the_new_template() {
    for seed in 0..25 {
        let mut world = World::at(now());
        world.put(&deployment(4));
        let key = ObjectKey::new("ns", "web");
        let most = std::rc::Rc::new(std::cell::Cell::new(0));
        let seen = std::rc::Rc::clone(&most);
        let surroundings = move |world: &mut World, dice: &mut Dice| {
            let asked =
                |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
            seen.set(seen.get().max(world.list::<ReplicaSet>().iter().map(asked).sum()));
            kubelet(world, dice)
        };
        let mut simulation = Simulation::new(seed, world, replica, Box::new(surroundings));
        simulation.disturb(400);
        simulation.world.edit::<Deployment>(&key, |deployment| {
            deployment.set_at(
                &["spec", "template", "spec"],
                json!({"containers": [{"name": "c", "image": "two"}]}),
            );
        });
        simulation.disturb(400);
        simulation.settle(Duration::from_secs(30));
        let sets: Vec<ReplicaSet> = simulation.world.list();
        let busy: Vec<&ReplicaSet> =
            sets.iter().filter(|set| set.spec.as_ref().and_then(|spec| spec.replicas) != Some(0)).collect();
        assert_eq!(busy.len(), 1, "seed {seed}: one replica set has all pods");
        let deployments: Vec<Deployment> = simulation.world.list();
        assert!(revisions::carries(busy[0], &deployments[0]), "seed {seed}");
        assert!(sets.len() <= 2, "seed {seed}: no replica set is made twice");
        assert_eq!(live_pods(&simulation.world), 4, "seed {seed}");
        assert!(most.get() <= 5, "seed {seed}: {} pods asked for at once", most.get());
        let status = deployments[0].status.clone().unwrap_or_default();
        assert_eq!((status.updated_replicas, status.available_replicas), (Some(4), Some(4)), "seed {seed}");
        let conditions = status.conditions.unwrap_or_default();
        let reason = conditions
            .iter()
            .find(|condition| condition.type_ == "Progressing")
            .and_then(|one| one.reason.clone());
        assert_eq!(reason.as_deref(), Some("NewReplicaSetAvailable"), "seed {seed}");
    }
}
