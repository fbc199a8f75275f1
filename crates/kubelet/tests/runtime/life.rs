//! A pod's whole life: made, restarted, found again, deleted without a trace.

use std::sync::Arc;
use std::time::Instant;

use kubelet::cluster::PodChange;
use kubelet::pod::PodId;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::machine::{IMAGE, Kubelet, Machine, PATIENCE, log_of, pod, run, until};

const UID: &str = "0af1d3a0-1111-4222-8333-444455556666";

fn test_pod() -> Value {
    let image = IMAGE;
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "life", "namespace": "default", "uid": UID, "generation": 1},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "volumes": [
                {"name": "scratch", "emptyDir": {}},
                {"name": "memory", "emptyDir": {"medium": "Memory"}},
                {"name": "config", "configMap": {"name": "any"}},
            ],
            "initContainers": [
                {"name": "init", "image": image, "command": ["sh", "-c", "echo made-by-init > /scratch/file"],
                    "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]},
                {"name": "side", "image": image, "restartPolicy": "Always",
                    "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]},
            ],
            "containers": [{
                "name": "main", "image": image,
                "command": ["sh", "-c", "echo out $GREETING $(MY_IP); echo err >&2; cat /scratch/file /config/greeting; trap 'exit 0' TERM; while :; do sleep 0.2; done"],
                "env": [
                    {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "any", "key": "greeting"}}},
                    {"name": "MY_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                ],
                "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}},
                "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                "lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "echo hook > /memory/hook"]}}},
                "readinessProbe": {"exec": {"command": ["cat", "/memory/hook"]}, "periodSeconds": 1},
                "volumeMounts": [
                    {"name": "scratch", "mountPath": "/scratch"}, {"name": "memory", "mountPath": "/memory"},
                    {"name": "config", "mountPath": "/config"},
                    {"name": "scratch", "mountPath": "/part", "subPath": "a/b"},
                ],
            }],
        }
    })
}

fn id() -> PodId {
    PodId { uid: UID.to_owned(), namespace: "default".to_owned(), name: "life".to_owned() }
}

async fn life(machine: &Machine) {
    let cluster = Arc::new(Fake::default());
    let tools = machine.tools(&cluster).await;

    let kubelet = Kubelet::start(&tools);
    kubelet.synced().await;
    let begun = Instant::now();
    kubelet.send(PodChange::Set(pod(test_pod()))).await;
    let status = until("a ready pod", async || {
        let status = cluster.statuses.lock().get("life").cloned()?;
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True").then_some(status)
    })
    .await;
    println!("ready after {:?}", begun.elapsed());
    assert_eq!(status["phase"], "Running", "{status:#}");
    assert_eq!(
        status["initContainerStatuses"][0]["state"]["terminated"]["reason"], "Completed",
        "{status:#}"
    );
    assert_eq!(status["initContainerStatuses"][1]["started"], true);
    assert_eq!(status["qosClass"], "Burstable");
    let ip = status["podIP"].as_str().expect("an address").to_owned();
    assert!(ip.starts_with("10.88.7."), "{ip}");

    let observed = tools.runtime.observe(UID).await.expect("observe");
    let main = observed.latest("main").expect("main").clone();
    let command = ["sh", "-c", "hostname; cat /memory/hook; echo x > /part/y; cat /scratch/a/b/y; exit 7"]
        .map(str::to_owned);
    let outcome = tools.runtime.exec_to_end(&main.id, &command, PATIENCE).await.expect("exec");
    assert_eq!((outcome.code, String::from_utf8_lossy(&outcome.output).as_ref()), (7, "life\nhook\nx\n"));
    let expected = format!("out hello {ip}\nerr\nmade-by-init\nhello");
    until("the log", async || {
        let text = log_of(&tools, &id(), "main").await;
        let has_all = expected.lines().all(|line| text.lines().any(|have| have == line));
        has_all.then_some(())
    })
    .await;

    // A crash and a restart: the same processes, untouched.
    kubelet.crash().await;
    let kubelet = Kubelet::start(&tools);
    let mut seen = test_pod();
    seen["status"] = status;
    kubelet.send(PodChange::Set(pod(seen.clone()))).await;
    kubelet.synced().await;
    until("rediscovery", async || {
        let (_, shown) = kubelet.pods.find("default", "life", UID)?;
        shown.observed.latest("main").filter(|record| record.is_running() && record.id == main.id).map(drop)
    })
    .await;
    let again = tools.runtime.observe(UID).await.expect("observe");
    assert_eq!(
        again.latest("main").map(|record| &record.state),
        Some(&main.state),
        "the process is the same"
    );
    assert_eq!(again.containers.len(), 3, "nothing was started");

    // A container that dies is started again.
    tools.runtime.kill(&main.id, nix::sys::signal::Signal::SIGKILL).await.expect("kill");
    let second = until("a restart", async || {
        let (_, shown) = kubelet.pods.find("default", "life", UID)?;
        shown.observed.latest("main").filter(|record| record.is_running() && record.attempt == 1).cloned()
    })
    .await;
    assert_ne!(second.id, main.id);
    until("the restart in the status", async || {
        let status = cluster.statuses.lock().get("life").cloned()?;
        let container = &status["containerStatuses"][0];
        (container["restartCount"] == 1 && container["lastState"]["terminated"]["exitCode"] == 137)
            .then_some(())
    })
    .await;

    // Deletion: everything goes.
    seen["metadata"]["deletionTimestamp"] =
        json!((jiff::Timestamp::now() + jiff::SignedDuration::from_secs(5)).to_string());
    seen["metadata"]["deletionGracePeriodSeconds"] = json!(5);
    kubelet.send(PodChange::Set(pod(seen))).await;
    until("the deletion", async || cluster.deleted.lock().contains(&"life".to_owned()).then_some(())).await;
    kubelet.send(PodChange::Gone(id())).await;

    machine.assert_clean(&tools).await;
    kubelet.crash().await;
}

async fn speed(machine: &Machine) {
    let cluster = Arc::new(Fake::default());
    let tools = machine.tools(&cluster).await;
    let kubelet = Kubelet::start(&tools);
    kubelet.synced().await;
    let simple = |number: u32| {
        pod(json!({
            "metadata": {"name": format!("quick-{number}"), "namespace": "default", "uid": format!("0af1d3a0-1111-4222-8333-{number:012}")},
            "spec": {"containers": [{"name": "c", "image": IMAGE, "command": ["sleep", "1000"]}]}
        }))
    };
    for number in 0..3 {
        let begun = Instant::now();
        let wanted = simple(number);
        kubelet.send(PodChange::Set(Arc::clone(&wanted))).await;
        let name = format!("quick-{number}");
        until("a running pod", async || {
            let status = cluster.statuses.lock().get(&name).cloned()?;
            (status["phase"] == "Running").then_some(())
        })
        .await;
        println!("{name} running after {:?}", begun.elapsed());
    }
    for number in 0..3 {
        kubelet.send(PodChange::Gone(kubelet::pod::id(&simple(number)))).await;
    }
    until("the end of all", async || tools.runtime.pods().await.ok()?.is_empty().then_some(())).await;
    until("no mounts", async || machine.mounts().is_empty().then_some(())).await;
    kubelet.crash().await;
}

#[test]
fn a_pods_whole_life() {
    run(async |machine| {
        life(machine).await;
        speed(machine).await;
    });
}
