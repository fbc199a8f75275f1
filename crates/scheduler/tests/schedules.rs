//! The scheduler against a real API server: binds what fits, says why the rest
//! does not, and tries again when the cluster changes.

use api::ObjectKey;
use api::types::core::v1::{Event, Node, Pod};
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

#[tokio::test(flavor = "multi_thread")]
async fn binds_what_fits_and_explains_the_rest() -> anyhow::Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.admin()?;
    let account = json!({"metadata": {"namespace": "default", "name": "default"}});
    // The controller that makes it does not run here; somebody else may have made it.
    let _ = client.create::<api::types::core::v1::ServiceAccount>(&serde_json::from_value(account)?).await;
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
    client.create(&pod("a", &json!({}))).await?;
    client.create(&pod("gated", &json!({"schedulingGates": [{"name": "x.io/wait"}]}))).await?;
    client.create(&pod("other", &json!({"schedulerName": "other"}))).await?;
    eventually("a is bound", || async { node_of(&client, "a").await.as_deref() == Some("n1") }).await?;
    client.create(&pod("b", &json!({}))).await?;
    eventually("b is bound", || async { node_of(&client, "b").await.is_some() }).await?;
    client.create(&pod("c", &json!({}))).await?;
    let refused = "0/1 nodes are available: 1 Insufficient cpu.";
    eventually("c is refused", || async { message_of(&client, "c").await.as_deref() == Some(refused) })
        .await?;
    assert!(
        running
            .verdicts
            .of(&ObjectKey::new("default", "c"))
            .is_some_and(|one| one.refusals.contains_key("n1"))
    );
    eventually("events", || async {
        let bound = events(&client, "a")
            .await
            .contains(&"Scheduled: Successfully assigned default/a to n1".to_owned());
        bound && events(&client, "c").await.contains(&format!("FailedScheduling: {refused}"))
    })
    .await?;

    let now = client::DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
    client.delete::<Pod>("default", "a", &now).await?;
    eventually("c takes a's place", || async { node_of(&client, "c").await.is_some() }).await?;
    assert_eq!((node_of(&client, "gated").await, node_of(&client, "other").await), (None, None));

    shell.shutdown.begin();
    running.finished().await
}
