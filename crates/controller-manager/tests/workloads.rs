//! More controllers against a real API server; the test plays the kubelet.

use api::types::apps::v1::{Deployment, StatefulSet};
use api::types::autoscaling::v2::HorizontalPodAutoscaler;
use api::types::batch::v1::{CronJob, Job};
use api::types::core::v1::{Endpoints, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service};
use api::types::discovery::v1::EndpointSlice;
use api::types::policy::v1::PodDisruptionBudget;
use api::types::resource::v1::{ResourceClaim, ResourceClaimTemplate};
use api::types::storage::v1::StorageClass;
use clap::Parser as _;
use client::{Client, Patch};
use controller_manager::flags::Flags;
use daemon::Shell;
use reconcile::Metrics;
use serde_json::{Value, json};
use testkit::{ControlPlane, eventually};

use crate::controls::{all, object, play_kubelet};

fn labelled(label: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": label}},
        "spec": {"containers": [{"name": "c", "image": "one"}]},
    })
}

/// A stateful set has its row of pods, each with a claim, and moves it.
async fn keeps_a_row(client: &Client) -> anyhow::Result<()> {
    let set = json!({
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {
            "replicas": 2,
            "serviceName": "db",
            "selector": {"matchLabels": {"app": "db"}},
            "template": labelled("db"),
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}],
        },
    });
    client.create(&object::<StatefulSet>(set)).await?;
    let serves = |image: &'static str| async move {
        play_kubelet(client).await;
        let Ok(set) = client.get::<StatefulSet>("default", "db").await else { return false };
        let status = set.status.unwrap_or_default();
        let second = client.get::<Pod>("default", "db-1").await.ok().and_then(|pod| pod.spec);
        let image_of = second.and_then(|spec| spec.containers.first()?.image.clone());
        status.available_replicas == Some(2)
            && status.current_revision == status.update_revision
            && image_of.as_deref() == Some(image)
    };
    eventually("the row", || serves("one")).await?;
    assert!(client.find::<PersistentVolumeClaim>("default", "data-db-1").await?.is_some());
    let image = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "two"}]);
    client.patch::<StatefulSet>("default", "db", &Patch::Json(image)).await?;
    eventually("the update", || serves("two")).await
}

/// A cron job serves the time that it missed.
async fn runs_on_time(client: &Client) -> anyhow::Result<()> {
    let cron_job = json!({
        "metadata": {"name": "nightly", "namespace": "default"},
        "spec": {"schedule": "0 * * * *", "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "one"}]}}}}},
    });
    client.create(&object::<CronJob>(cron_job)).await?;
    let earlier = json!({"status": {"lastScheduleTime": "2026-01-01T00:00:00Z"}});
    client.patch_status::<CronJob>("default", "nightly", &Patch::Merge(earlier)).await?;
    eventually("the job", || async {
        play_kubelet(client).await;
        let status = client.get::<CronJob>("default", "nightly").await.ok().and_then(|one| one.status);
        let status = status.unwrap_or_default();
        let jobs = client.list::<Job>(&all("")).await.map_or(0, |list| list.items.len());
        status.last_successful_time.is_some() && status.active.is_none() && jobs == 1
    })
    .await
}

/// A budget counts a deployment's pods; an autoscaler finds its size, but no metrics.
async fn counts_and_scales(client: &Client) -> anyhow::Result<()> {
    let deployment = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": labelled("web")},
    });
    client.create(&object::<Deployment>(deployment)).await?;
    let budget = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": "web"}}},
    });
    client.create(&object::<PodDisruptionBudget>(budget)).await?;
    eventually("the budget", || async {
        play_kubelet(client).await;
        let budget = client.get::<PodDisruptionBudget>("default", "web").await.ok();
        let status = budget.and_then(|budget| budget.status).unwrap_or_default();
        (status.expected_pods, status.desired_healthy, status.disruptions_allowed)
            == (Some(3), Some(2), Some(1))
    })
    .await?;
    let autoscaler = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 4, "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
        },
    });
    client.create(&object::<HorizontalPodAutoscaler>(autoscaler)).await?;
    eventually("the autoscaler's bounds", || async {
        let deployment = client.get::<Deployment>("default", "web").await.ok();
        let autoscaler = client.get::<HorizontalPodAutoscaler>("default", "web").await.ok();
        let desired = autoscaler.and_then(|one| one.status).map(|status| status.desired_replicas);
        (deployment.and_then(|one| one.spec?.replicas), desired) == (Some(4), Some(4))
    })
    .await
}

/// Endpoints that somebody writes are shown as a slice, for as long as they are there.
async fn mirrors(client: &Client) -> anyhow::Result<()> {
    let service =
        json!({"metadata": {"name": "outside", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}});
    client.create(&object::<Service>(service)).await?;
    let endpoints = json!({
        "metadata": {"name": "outside", "namespace": "default"},
        "subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}],
    });
    client.create(&object::<Endpoints>(endpoints)).await?;
    let shown = || async {
        let slices = client.list::<EndpointSlice>(&all("kubernetes.io/service-name=outside")).await;
        let slices = slices.map(|list| list.items).unwrap_or_default();
        let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        endpoints.flat_map(|endpoint| endpoint.addresses.clone()).collect::<Vec<String>>()
    };
    eventually("the slice", || async { shown().await == ["10.1.2.3"] }).await?;
    client.delete::<Endpoints>("default", "outside", &client::DeleteOptions::default()).await?;
    eventually("the slice is gone", || async { shown().await.is_empty() }).await
}

/// A claim gets a directory on the node that was chosen, and a pod takes it away again.
async fn provides_directories(client: &Client) -> anyhow::Result<()> {
    let host = json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}}});
    client.create(&object::<Node>(host)).await?;
    let class = json!({
        "metadata": {"name": "local"}, "provisioner": "corten.dev/local-path",
        "volumeBindingMode": "WaitForFirstConsumer",
    });
    client.create(&object::<StorageClass>(class)).await?;
    let claim = json!({
        "metadata": {"name": "files", "namespace": "default",
            "annotations": {"volume.kubernetes.io/selected-node": "n1"}},
        "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}},
    });
    client.create(&object::<PersistentVolumeClaim>(claim)).await?;
    let bound = || async {
        let claim = client.get::<PersistentVolumeClaim>("default", "files").await.ok()?;
        claim.status?.phase.filter(|phase| phase == "Bound").and(claim.spec?.volume_name)
    };
    eventually("the claim is bound", || async { bound().await.is_some() }).await?;
    let volume = bound().await.unwrap_or_default();
    client.delete::<PersistentVolumeClaim>("default", "files", &client::DeleteOptions::default()).await?;
    let cleaner = format!("clean-{volume}");
    eventually("the cleaning pod", || async { client.get::<Pod>("kube-system", &cleaner).await.is_ok() })
        .await?;
    let done = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    client.patch_status::<Pod>("kube-system", &cleaner, &done).await?;
    eventually("the volume is gone", || async {
        matches!(client.find::<PersistentVolume>("", &volume).await, Ok(None))
    })
    .await
}

/// A pod's claim of devices is made from its template.
async fn makes_resource_claims(client: &Client) -> anyhow::Result<()> {
    let request = json!({"name": "r", "exactly": {"deviceClassName": "any"}});
    let template = json!({
        "metadata": {"name": "devices", "namespace": "default"},
        "spec": {"spec": {"devices": {"requests": [request]}}},
    });
    client.create(&object::<ResourceClaimTemplate>(template)).await?;
    let pod = json!({
        "metadata": {"name": "user", "namespace": "default"},
        "spec": {
            "containers": [{"name": "c", "image": "i"}],
            "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "devices"}],
        },
    });
    client.create(&object::<Pod>(pod)).await?;
    eventually("the pod names its claim", || async {
        let pod = client.get::<Pod>("default", "user").await.ok();
        let statuses = pod.and_then(|pod| pod.status?.resource_claim_statuses).unwrap_or_default();
        let name = statuses.into_iter().find_map(|one| one.resource_claim_name).unwrap_or_default();
        name.starts_with("user-gpu-") && client.get::<ResourceClaim>("default", &name).await.is_ok()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_are_kept_counted_and_scaled() -> anyhow::Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.admin()?;
    let shell = Shell::quiet();
    let user =
        Client::new(&plane.session("system:kube-controller-manager", &[])?, "kube-controller-manager")?;
    let flags = Flags::try_parse_from(["kube-controller-manager", "--kubeconfig=none"])?;
    let (inner, stop) = (shell.clone(), shell.shutdown.clone());
    let running = daemon::tasks::spawn("controllers", async move {
        let ends = async move { stop.begun().await };
        controller_manager::control(flags, "PEM".into(), user, &inner, Metrics::default(), ends).await;
    });

    eventually("the default account", || async {
        client.get::<api::types::core::v1::ServiceAccount>("default", "default").await.is_ok()
    })
    .await?;
    keeps_a_row(&client).await?;
    runs_on_time(&client).await?;
    counts_and_scales(&client).await?;
    mirrors(&client).await?;
    provides_directories(&client).await?;
    makes_resource_claims(&client).await?;

    shell.shutdown.begin();
    running.await?;
    Ok(())
}
