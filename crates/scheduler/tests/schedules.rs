//! The scheduler against a real API server: binds what fits, says why the rest
//! does not, tries again when the cluster changes, and makes room.

use api::ObjectKey;
use api::types::core::v1::{Event, Node, Pod, ServiceAccount};
use api::types::scheduling::v1::PriorityClass;
use client::election::Election;
use client::{Client, ListOptions, Patch};
use daemon::Shell;
use scheduler::config::Configuration;
use serde_json::{Value, json};
use testkit::{ControlPlane, eventually};

fn pod(name: &str, spec: &Value) -> Pod {
    let mut spec = spec.clone();
    spec["containers"] = json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]);
    serde_json::from_value(json!({"metadata": {"namespace": "default", "name": name}, "spec": spec}))
        .expect("a pod")
}

async fn node_of(client: &Client, name: &str) -> Option<String> {
    client.get::<Pod>("default", name).await.ok()?.spec?.node_name
}

async fn message_of(client: &Client, name: &str) -> Option<String> {
    let pod = client.get::<Pod>("default", name).await.ok()?;
    let conditions = pod.status?.conditions?;
    conditions.into_iter().find(|one| one.type_ == "PodScheduled" && one.status == "False")?.message
}

async fn events(client: &Client, pod: &str) -> Vec<String> {
    let options = ListOptions { namespace: "default".into(), ..ListOptions::default() };
    let list = client.list::<Event>(&options).await.expect("events");
    let about = list.items.into_iter().filter(|event| event.involved_object.name.as_deref() == Some(pod));
    about
        .map(|event| format!("{}: {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default()))
        .collect()
}

/// A control plane with one node of two cores, and a scheduler at work.
struct Working {
    plane: ControlPlane,
    client: Client,
    shell: Shell,
    running: scheduler::assemble::Running,
}

impl Working {
    async fn start() -> anyhow::Result<Self> {
        let plane = ControlPlane::start().await?;
        let client = plane.admin()?;
        let account = json!({"metadata": {"namespace": "default", "name": "default"}});
        // The controller that makes it does not run here; somebody else may have made it.
        let _ = client.create::<ServiceAccount>(&serde_json::from_value(account)?).await;
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n1"}}))?;
        client.create(&node).await?;
        let status = json!({"status": {
            "capacity": {"cpu": "2", "memory": "1Gi", "pods": "10"},
            "allocatable": {"cpu": "2", "memory": "1Gi", "pods": "10"},
        }});
        client.patch_status::<Node>("", "n1", &Patch::Merge(status)).await?;
        // A new node is tainted until the node lifecycle controller finds it ready.
        client.patch::<Node>("", "n1", &Patch::Merge(json!({"spec": {"taints": null}}))).await?;
        let shell = Shell::quiet();
        let user = Client::new(&plane.session("system:kube-scheduler", &[])?, "kube-scheduler")?;
        let election = Election::new("kube-scheduler", "test");
        let running = scheduler::assemble::start(user, Some(election), &Configuration::default(), &shell)?;
        Ok(Self { plane, client, shell, running })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.shell.shutdown.begin();
        self.running.finished().await?;
        drop(self.plane);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn binds_what_fits_and_explains_the_rest() -> anyhow::Result<()> {
    let working = Working::start().await?;
    let client = &working.client;
    client.create(&pod("a", &json!({}))).await?;
    client.create(&pod("gated", &json!({"schedulingGates": [{"name": "x.io/wait"}]}))).await?;
    client.create(&pod("other", &json!({"schedulerName": "other"}))).await?;
    eventually("a is bound", || async { node_of(client, "a").await.as_deref() == Some("n1") }).await?;
    client.create(&pod("b", &json!({}))).await?;
    eventually("b is bound", || async { node_of(client, "b").await.is_some() }).await?;
    client.create(&pod("c", &json!({}))).await?;
    let refused = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
                   1 No preemption victims found for incoming pod.";
    eventually("c is refused", || async { message_of(client, "c").await.as_deref() == Some(refused) })
        .await?;
    let explanation = working.running.verdicts.explain(&ObjectKey::new("default", "c")).expect("a record");
    assert_eq!(
        (&*explanation.refusals[0].node, &*explanation.refusals[0].plugin),
        ("n1", "NodeResourcesFit")
    );
    eventually("events", || async {
        let bound = events(client, "a")
            .await
            .contains(&"Scheduled: Successfully assigned default/a to n1".to_owned());
        bound && events(client, "c").await.contains(&format!("FailedScheduling: {refused}"))
    })
    .await?;

    let now = client::DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
    client.delete::<Pod>("default", "a", &now).await?;
    eventually("c takes a's place", || async { node_of(client, "c").await.is_some() }).await?;
    assert_eq!((node_of(client, "gated").await, node_of(client, "other").await), (None, None));
    working.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn makes_room_for_important_pods() -> anyhow::Result<()> {
    let working = Working::start().await?;
    let client = &working.client;
    let class = json!({"metadata": {"name": "high"}, "value": 1000});
    client.create::<PriorityClass>(&serde_json::from_value(class)?).await?;
    for name in ["low", "other"] {
        client.create(&pod(name, &json!({}))).await?;
        eventually("it is bound", || async { node_of(client, name).await.is_some() }).await?;
    }
    let started = json!({"status": {"startTime": "2026-01-01T00:00:00Z"}});
    client.patch_status::<Pod>("default", "other", &Patch::Merge(started)).await?;
    client.create(&pod("high", &json!({"priorityClassName": "high"}))).await?;
    // The younger of two pods goes: the one that has not started.
    eventually("the victim is told and deleted", || async {
        let Ok(victim) = client.get::<Pod>("default", "low").await else { return false };
        let told = victim.status.into_iter().flat_map(|status| status.conditions.unwrap_or_default());
        let reasons: Vec<_> =
            told.filter(|one| one.type_ == "DisruptionTarget").map(|one| one.reason).collect();
        victim.metadata.deletion_timestamp.is_some() && reasons == [Some("PreemptionByScheduler".to_owned())]
    })
    .await?;
    eventually("the node is claimed", || async {
        let pod = client.get::<Pod>("default", "high").await.ok();
        pod.and_then(|pod| pod.status?.nominated_node_name).as_deref() == Some("n1")
    })
    .await?;
    let uid = client.get::<Pod>("default", "high").await?.metadata.uid.unwrap_or_default();
    let words = format!("Preempted: Preempted by pod {uid} on node n1");
    eventually("the event", || async { events(client, "low").await.contains(&words) }).await?;
    let now = client::DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
    client.delete::<Pod>("default", "low", &now).await?;
    eventually("the room is taken", || async { node_of(client, "high").await.is_some() }).await?;
    assert!(client.get::<Pod>("default", "other").await?.metadata.deletion_timestamp.is_none());
    working.stop().await
}
