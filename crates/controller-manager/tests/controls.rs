//! The controllers against a real API server; the test plays the kubelet.

use api::types::apps::v1::{DaemonSet, Deployment, ReplicaSet};
use api::types::batch::v1::Job;
use api::types::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    ResourceQuota, Secret, Service, ServiceAccount,
};
use api::types::discovery::v1::EndpointSlice;
use clap::Parser as _;
use client::{Client, DeleteOptions, ListOptions, Patch};
use controller_manager::flags::Flags;
use daemon::Shell;
use reconcile::Metrics;
use serde_json::{Value, json};
use testkit::{ControlPlane, eventually};

pub(crate) fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("a valid object")
}

pub(crate) fn all(labels: &str) -> ListOptions {
    ListOptions { namespace: "default".into(), labels: labels.into(), ..ListOptions::default() }
}

/// Runs each pod that waits; those of jobs end at once.
pub(crate) async fn play_kubelet(client: &Client) {
    let pods = client.list::<Pod>(&all("")).await.map(|list| list.items).unwrap_or_default();
    for (number, pod) in pods.iter().enumerate() {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if pod.metadata.deletion_timestamp.is_some() {
            let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
            // It may be gone by now.
            let _ = client.delete::<Pod>("default", name, &now).await;
        } else if phase.is_none_or(|phase| phase == "Pending") {
            let address = format!("10.244.0.{}", number + 1);
            let is_job = pod.metadata.labels.iter().flatten().any(|(key, _)| key == "job-name");
            let status = json!({"status": {
                "phase": if is_job { "Succeeded" } else { "Running" },
                "podIP": address, "podIPs": [{"ip": address}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            }});
            // Somebody may have changed it meanwhile; the next round sees it.
            let _ = client.patch_status::<Pod>("default", name, &Patch::Merge(status)).await;
        }
    }
}

async fn pods(client: &Client, labels: &str) -> usize {
    client.list::<Pod>(&all(labels)).await.map_or(usize::MAX, |list| list.items.len())
}

async fn deployed(client: &Client, image: &str, revision: &str) -> bool {
    play_kubelet(client).await;
    let Ok(deployment) = client.get::<Deployment>("default", "web").await else { return false };
    let status = deployment.status.unwrap_or_default();
    let annotations = deployment.metadata.annotations.unwrap_or_default();
    let list = client.list::<Pod>(&all("app=web")).await.map(|list| list.items).unwrap_or_default();
    let new = list.iter().filter(|pod| {
        pod.spec.as_ref().is_some_and(|spec| spec.containers[0].image.as_deref() == Some(image))
    });
    status.available_replicas == Some(3)
        && status.updated_replicas == Some(3)
        && annotations.get("deployment.kubernetes.io/revision").map(String::as_str) == Some(revision)
        && (new.count(), list.len()) == (3, 3)
}

/// Namespaces and nodes are furnished.
async fn furnishes(client: &Client) -> anyhow::Result<()> {
    client.create(&object::<Node>(json!({"metadata": {"name": "n1"}}))).await?;
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    client.patch_status::<Node>("", "n1", &Patch::Merge(ready)).await?;
    eventually("the default account", || async {
        client.get::<ServiceAccount>("default", "default").await.is_ok()
    })
    .await?;
    eventually("the root certificate", || async {
        client.get::<ConfigMap>("default", "kube-root-ca.crt").await.is_ok()
    })
    .await?;
    eventually("the node's range", || async {
        let node = client.get::<Node>("", "n1").await.ok();
        node.and_then(|node| node.spec?.pod_cidr).as_deref() == Some("10.244.0.0/24")
    })
    .await?;
    Ok(())
}

/// A deployment rolls out, behind a service, and again.
async fn rolls_out(client: &Client) -> anyhow::Result<()> {
    let deployment = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "one"}]},
            },
        },
    });
    client.create(&object::<Deployment>(deployment)).await?;
    let service = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    client.create(&object::<Service>(service)).await?;
    eventually("the first rollout", || deployed(client, "one", "1")).await?;
    eventually("endpoints", || async {
        let slices = client.list::<EndpointSlice>(&all("kubernetes.io/service-name=web")).await;
        let slices = slices.map(|list| list.items).unwrap_or_default();
        let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        let is_ready =
            |conditions: &api::types::discovery::v1::EndpointConditions| conditions.ready == Some(true);
        let serving = endpoints.filter(|one| one.conditions.as_ref().is_some_and(is_ready)).count();
        let legacy = client
            .get::<Endpoints>("default", "web")
            .await
            .ok()
            .and_then(|one| one.subsets)
            .unwrap_or_default();
        let addresses = legacy.first().and_then(|subset| subset.addresses.as_ref()).map_or(0, Vec::len);
        (serving, addresses) == (3, 3)
    })
    .await?;
    let image = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "two"}]);
    client.patch::<Deployment>("default", "web", &Patch::Json(image)).await?;
    eventually("the second rollout", || deployed(client, "two", "2")).await?;
    eventually("its events", || async {
        let events = client.list::<Event>(&all("")).await.map(|list| list.items).unwrap_or_default();
        events.iter().any(|event| {
            event.message.as_deref().is_some_and(|text| text.starts_with("Scaled down replica set web-"))
        })
    })
    .await?;
    Ok(())
}

/// A job runs to its end, a daemon set to each node.
async fn runs_jobs_and_daemons(client: &Client) -> anyhow::Result<()> {
    let job = json!({
        "metadata": {"name": "once", "namespace": "default"},
        "spec": {"completions": 3, "parallelism": 2, "template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "one"}]}}},
    });
    client.create(&object::<Job>(job)).await?;
    eventually("the job", || async {
        play_kubelet(client).await;
        let status =
            client.get::<Job>("default", "once").await.ok().and_then(|job| job.status).unwrap_or_default();
        status.succeeded == Some(3) && status.completion_time.is_some()
    })
    .await?;
    let daemons = json!({
        "metadata": {"name": "agent", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {"containers": [{"name": "c", "image": "one"}]},
            },
        },
    });
    client.create(&object::<DaemonSet>(daemons)).await?;
    eventually("the daemon", || async {
        play_kubelet(client).await;
        let status = client.get::<DaemonSet>("default", "agent").await.ok().and_then(|set| set.status);
        status.is_some_and(|status| (status.number_ready, status.updated_number_scheduled) == (1, Some(1)))
    })
    .await?;
    Ok(())
}

/// What is deleted takes what it owns with it.
async fn cleans_up(client: &Client) -> anyhow::Result<()> {
    client.delete::<Deployment>("default", "web", &DeleteOptions::default()).await?;
    let foreground =
        DeleteOptions { propagation_policy: Some("Foreground".into()), ..DeleteOptions::default() };
    client.delete::<Job>("default", "once", &foreground).await?;
    eventually("the garbage is gone", || async {
        play_kubelet(client).await;
        let sets = client.list::<ReplicaSet>(&all("")).await.map_or(usize::MAX, |list| list.items.len());
        let job = client.find::<Job>("default", "once").await.ok().flatten();
        (sets, pods(client, "app=web").await, pods(client, "job-name=once").await, job) == (0, 0, 0, None)
    })
    .await?;
    client.create(&object::<Namespace>(json!({"metadata": {"name": "brief"}}))).await?;
    client.create(&object::<ConfigMap>(json!({"metadata": {"name": "c", "namespace": "brief"}}))).await?;
    client.delete::<Namespace>("", "brief", &DeleteOptions::default()).await?;
    eventually("the namespace is gone", || async {
        matches!(client.find::<Namespace>("", "brief").await, Ok(None))
    })
    .await?;
    Ok(())
}

/// What is gone is given back to its quota.
async fn recounts_quotas(client: &Client) -> anyhow::Result<()> {
    client.create(&object::<Namespace>(json!({"metadata": {"name": "limited"}}))).await?;
    let hard = json!({"hard": {"count/secrets": "1", "pods": "1"}});
    let metadata = |name: &str| json!({"name": name, "namespace": "limited"});
    let quota = json!({"metadata": metadata("q"), "spec": hard});
    client.create(&object::<ResourceQuota>(quota)).await?;
    let used = |amount: &'static str| async move {
        let quota = client.get::<ResourceQuota>("limited", "q").await.ok()?;
        let status = quota.status.map(|status| json!(status.used))?;
        Some(status == json!({"count/secrets": amount, "pods": amount}))
    };
    eventually("the quota is known", || async { used("0").await == Some(true) }).await?;
    let secret = |name: &str| object::<Secret>(json!({"metadata": metadata(name)}));
    let pod = |name: &str| {
        let spec = json!({"containers": [{"name": "c", "image": "i"}]});
        object::<Pod>(json!({"metadata": metadata(name), "spec": spec}))
    };
    eventually("the account", || async { client.create(&pod("a")).await.is_ok() }).await?;
    client.create(&secret("a")).await?;
    assert_eq!(used("1").await, Some(true), "charged with the object");
    for refused in [client.create(&secret("b")).await.err(), client.create(&pod("b")).await.err()] {
        assert!(refused.is_some_and(|status| status.message.contains("exceeded quota: q")));
    }
    let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    client.delete::<Secret>("limited", "a", &now).await?;
    client.delete::<Pod>("limited", "a", &now).await?;
    eventually("what was used is free", || async { used("0").await == Some(true) }).await?;
    client.create(&pod("b")).await?;
    // Recounting beside creates frees nothing that is in use.
    let limited = ListOptions { namespace: "limited".into(), ..ListOptions::default() };
    for round in 0..10 {
        eventually("there is room", || async {
            let creates = (0..6).map(|number| {
                let secret = secret(&format!("s{round}-{number}"));
                async move { client.create(&secret).await.is_ok() }
            });
            futures::future::join_all(creates).await.contains(&true)
        })
        .await?;
        let secrets = client.list::<Secret>(&limited).await?.items;
        assert_eq!(secrets.len(), 1, "round {round}");
        let name = secrets[0].metadata.name.as_deref().unwrap_or_default();
        client.delete::<Secret>("limited", name, &now).await?;
    }
    Ok(())
}

/// Claims stay while a pod on a node uses them, volumes while they are bound.
async fn protects_storage(client: &Client) -> anyhow::Result<()> {
    let sized = json!({"requests": {"storage": "1Gi"}});
    let claim = json!({"metadata": {"name": "data", "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": sized}});
    client.create(&object::<PersistentVolumeClaim>(claim)).await?;
    let pod = json!({"metadata": {"name": "user", "namespace": "default"}, "spec": {
        "nodeName": "elsewhere", "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
    client.create(&object::<Pod>(pod)).await?;
    let volume = json!({"metadata": {"name": "disk"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/disk"}}});
    client.create(&object::<PersistentVolume>(volume)).await?;
    eventually("claim and volume find each other", || async {
        let claim = client.get::<PersistentVolumeClaim>("default", "data").await.ok();
        let volume = client.get::<PersistentVolume>("", "disk").await.ok();
        let phases = (claim.and_then(|one| one.status?.phase), volume.and_then(|one| one.status?.phase));
        phases == (Some("Bound".to_owned()), Some("Bound".to_owned()))
    })
    .await?;
    let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    client.delete::<PersistentVolumeClaim>("default", "data", &now).await?;
    client.delete::<PersistentVolume>("", "disk", &now).await?;
    // Another claim, which nobody uses, goes: so the first one was looked at too.
    let idle = json!({"metadata": {"name": "idle", "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": sized}});
    client.create(&object::<PersistentVolumeClaim>(idle)).await?;
    client.delete::<PersistentVolumeClaim>("default", "idle", &now).await?;
    eventually("the claim that nobody uses is gone", || async {
        matches!(client.find::<PersistentVolumeClaim>("default", "idle").await, Ok(None))
    })
    .await?;
    assert!(client.find::<PersistentVolumeClaim>("default", "data").await?.is_some(), "a pod uses it");
    assert!(client.find::<PersistentVolume>("", "disk").await?.is_some(), "it is bound");
    client.delete::<Pod>("default", "user", &now).await?;
    eventually("what is no longer used is gone", || async {
        matches!(client.find::<PersistentVolumeClaim>("default", "data").await, Ok(None))
            && matches!(client.find::<PersistentVolume>("", "disk").await, Ok(None))
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_become_what_they_say() -> anyhow::Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.admin()?;
    let shell = Shell::quiet();
    let user =
        Client::new(&plane.session("system:kube-controller-manager", &[])?, "kube-controller-manager")?;
    let flags = Flags::try_parse_from([
        "kube-controller-manager",
        "--kubeconfig=none",
        "--allocate-node-cidrs",
        "--cluster-cidr=10.244.0.0/16",
    ])?;
    let (inner, stop) = (shell.clone(), shell.shutdown.clone());
    let running = daemon::tasks::spawn("controllers", async move {
        let ends = async move { stop.begun().await };
        controller_manager::control(flags, "PEM".into(), user, &inner, Metrics::default(), ends).await;
    });

    furnishes(&client).await?;
    rolls_out(&client).await?;
    runs_jobs_and_daemons(&client).await?;
    recounts_quotas(&client).await?;
    protects_storage(&client).await?;
    cleans_up(&client).await?;

    shell.shutdown.begin();
    running.await?;
    Ok(())
}
