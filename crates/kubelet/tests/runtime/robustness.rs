//! What goes wrong around pods: a kubelet or a containerd that dies, an API server
//! that is away, objects that are missing, containers that will not end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kubelet::cluster::PodChange;
use kubelet::images::credentials::Credentials;
use kubelet::images::{PullPolicy, Wish};
use kubelet::pod::PodId;
use kubelet::runtime::record::State;
use kubelet::worker::task::Tools;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::machine::{IMAGE, Kubelet, Machine, PATIENCE, log_of, pod, run, until, within};

fn a_pod(name: &str, command: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-of-{name}")},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": IMAGE, "command": ["sh", "-c", command]}]}
    })
}

fn id(name: &str) -> PodId {
    PodId { uid: format!("uid-of-{name}"), namespace: "default".to_owned(), name: name.to_owned() }
}

async fn phase(cluster: &Fake, name: &str, wanted: &str) -> Value {
    until(&format!("{name} {wanted}"), async || {
        cluster.status(name).filter(|status| status["phase"] == wanted)
    })
    .await
}

async fn gone(kubelet: &Kubelet, names: &[&str]) {
    for name in names {
        kubelet.send(PodChange::Gone(id(name))).await;
    }
    until("the end of all", async || kubelet.pods.list().is_empty().then_some(())).await;
}

/// A kubelet that is killed at any moment of a pod's start: the pod comes up, its
/// program runs once, and in the end nothing is left.
async fn killed_while_starting(machine: &Machine) {
    let cluster = Arc::new(Fake::default());
    let tools = machine.tools(&cluster).await;
    for (round, pause) in [0, 5, 10, 20, 30, 45, 60, 80, 100, 130, 160, 200].into_iter().enumerate() {
        let name = format!("p{round}");
        let count = machine.path(&format!("count-{round}"));
        std::fs::create_dir(&count).expect("mkdir");
        let mut wanted = a_pod(&name, "echo x >> /count/runs; sleep 1000");
        wanted["spec"]["volumes"] = json!([{"name": "count", "hostPath": {"path": count}}]);
        wanted["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "count", "mountPath": "/count"}]);
        let kubelet = Kubelet::start(&tools);
        kubelet.synced().await;
        kubelet.send(PodChange::Set(pod(wanted.clone()))).await;
        // Not for something to happen: for the crash to come at another moment.
        tokio::time::sleep(Duration::from_millis(pause)).await;
        kubelet.crash().await;
        let kubelet = Kubelet::start(&tools);
        kubelet.send(PodChange::Set(pod(wanted))).await;
        kubelet.synced().await;
        let is_running = async || cluster.status(&name).filter(|status| status["phase"] == "Running");
        if within(PATIENCE, is_running).await.is_none() {
            let observed = tools.runtime.observe(&id(&name).uid).await;
            let (told, status) = (cluster.told.lock(), cluster.status(&name));
            panic!("killed after {pause} ms, {name} does not run: {told:?} {status:#?} {observed:#?}");
        }
        let runs = || std::fs::read_to_string(count.join("runs")).unwrap_or_default();
        until("the program", async || (!runs().is_empty()).then_some(())).await;
        assert_eq!(runs(), "x\n", "after {pause} ms");
        // What containerd was still making for the first kubelet is the second one's to find.
        let observed = until("one sandbox", async || {
            let observed = tools.runtime.observe(&id(&name).uid).await.expect("observe");
            (observed.sandboxes.len() == 1).then_some(observed)
        })
        .await;
        assert_eq!(observed.running().count(), 1, "after {pause} ms: {observed:?}");
        gone(&kubelet, &[&name]).await;
        until("no container", async || tools.runtime.pods().await.expect("pods").is_empty().then_some(()))
            .await;
        kubelet.crash().await;
        machine.assert_clean(&tools).await;
    }
    // A root that containerd was late to make has no record: the next kubelet finds it.
    let kubelet = Kubelet::start(&tools);
    until("no root remains", async || (!snapshots(machine).contains("Active")).then_some(())).await;
    kubelet.crash().await;
}

fn snapshots(machine: &Machine) -> String {
    let output = std::process::Command::new("ctr")
        .args(["--address", &machine.path("c.sock").display().to_string(), "-n", &machine.namespace()])
        .args(["snapshots", "ls"])
        .output()
        .expect("ctr runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn is_running(tools: &Tools, name: &str) -> Option<(String, State)> {
    let observed = tools.runtime.observe(&id(name).uid).await.ok()?;
    observed.latest("c").filter(|record| record.is_running()).map(|one| (one.id.clone(), one.state.clone()))
}

/// containerd and the API server go and come back; the processes do not notice,
/// and the kubelet catches up.
async fn absences(machine: &mut Machine) {
    let cluster = Arc::new(Fake::default());
    let tools = machine.tools(&cluster).await;
    let kubelet = Kubelet::start(&tools);
    kubelet.synced().await;
    kubelet.send(PodChange::Set(pod(a_pod("stays", "sleep 1000")))).await;
    kubelet
        .send(PodChange::Set(pod(a_pod("ends", "cat; until test -e /go; do sleep 0.05; done; exit 3"))))
        .await;
    phase(&cluster, "stays", "Running").await;
    phase(&cluster, "ends", "Running").await;
    let before = is_running(&tools, "stays").await.expect("runs");

    machine.restart_containerd();
    let again = until("containerd again", async || is_running(&tools, "stays").await).await;
    assert_eq!(again, before, "the process did not notice");

    // An end while the API server is away is reported when it is back.
    cluster.is_away.store(true, Ordering::SeqCst);
    let ends = until("the other pod", async || is_running(&tools, "ends").await).await.0;
    let touch = ["touch", "/go"].map(str::to_owned);
    until("the end begins", async || {
        let done = tools.runtime.exec_to_end(&ends, &touch, Duration::from_secs(5)).await;
        // The container may end so soon that it takes the command with it.
        let has_ended = is_running(&tools, "ends").await.is_none();
        (has_ended || done.is_ok_and(|done| done.code == 0)).then_some(())
    })
    .await;
    until("the end", async || {
        let (_, shown) = kubelet.pods.find("default", "ends", "")?;
        (shown.status.phase.as_deref() == Some("Failed")).then_some(())
    })
    .await;
    assert_eq!(cluster.status("ends").expect("a status")["phase"], "Running", "nobody was there to be told");
    cluster.is_away.store(false, Ordering::SeqCst);
    let status = phase(&cluster, "ends", "Failed").await;
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    gone(&kubelet, &["stays", "ends"]).await;
    machine.assert_clean(&tools).await;
    kubelet.crash().await;
}

/// Missing objects, last words, a container that ignores its signal, one that is
/// added later.
async fn ways_of_containers(machine: &Machine) {
    let cluster = Arc::new(Fake::default());
    let tools = machine.tools(&cluster).await;
    let kubelet = Kubelet::start(&tools);
    kubelet.synced().await;

    // A volume's config map is missing at first.
    cluster.missing_maps.lock().push("late".to_owned());
    let mut waits = a_pod("waits", "cat /config/greeting; sleep 1000");
    waits["spec"]["volumes"] = json!([{"name": "config", "configMap": {"name": "late"}}]);
    waits["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "config", "mountPath": "/config"}]);
    kubelet.send(PodChange::Set(pod(waits))).await;
    let event = "FailedMount MountVolume.SetUp failed for volume \"config\" : configmap \"late\" not found";
    until("FailedMount", async || cluster.has_told(event).then_some(())).await;
    let waiting = cluster.status("waits").expect("a status");
    assert_eq!(waiting["containerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating");
    cluster.missing_maps.lock().clear();
    phase(&cluster, "waits", "Running").await;

    // Last words out of a log whose last line has no end, after a huge one.
    let mut dies =
        a_pod("dies", "yes | head -c 100000; echo; echo some trouble; echo -n the last words; exit 9");
    dies["spec"]["containers"][0]["terminationMessagePolicy"] = "FallbackToLogsOnError".into();
    kubelet.send(PodChange::Set(pod(dies))).await;
    let status = phase(&cluster, "dies", "Failed").await;
    let message = &status["containerStatuses"][0]["state"]["terminated"]["message"];
    assert!(message.as_str().is_some_and(|text| text.ends_with("some trouble\nthe last words")), "{message}");

    // One line of megabytes comes back whole.
    let long = a_pod("long", "head -c 3000000 /dev/zero | busybox tr '\\000' a; echo");
    kubelet.send(PodChange::Set(pod(long))).await;
    phase(&cluster, "long", "Succeeded").await;
    let log = log_of(&tools, &id("long"), "c").await;
    assert_eq!((log.len(), log.lines().count()), (3_000_001, 1));

    // An ephemeral container sees the processes of the one that it is to look into.
    let mut looked_into = a_pod("looked-into", "trap '' TERM; while :; do sleep 0.1; done");
    kubelet.send(PodChange::Set(pod(looked_into.clone()))).await;
    phase(&cluster, "looked-into", "Running").await;
    looked_into["spec"]["ephemeralContainers"] = json!([{"name": "debugger", "image": IMAGE,
        "targetContainerName": "c", "command": ["sh", "-c", "cat /proc/1/cmdline; exit 2"]}]);
    kubelet.send(PodChange::Set(pod(looked_into.clone()))).await;
    let status = until("the debugger's end", async || {
        let status = cluster.status("looked-into")?;
        status["ephemeralContainerStatuses"][0]["state"]["terminated"].is_object().then_some(status)
    })
    .await;
    assert_eq!(status["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"], 2, "{status:#}");
    assert_eq!(status["phase"], "Running", "the pod does not depend on it");
    assert!(
        log_of(&tools, &id("looked-into"), "debugger").await.contains("trap"),
        "the other's first process"
    );

    // It ignores SIGTERM: ended when the grace period is over, not before.
    looked_into["metadata"]["deletionTimestamp"] =
        json!((jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3)).to_string());
    looked_into["metadata"]["deletionGracePeriodSeconds"] = json!(3);
    let begun = Instant::now();
    kubelet.send(PodChange::Set(pod(looked_into))).await;
    until("the deletion", async || cluster.deleted.lock().contains(&"looked-into".to_owned()).then_some(()))
        .await;
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1900) && took < Duration::from_secs(10), "{took:?}");
    gone(&kubelet, &["waits", "dies", "long", "looked-into"]).await;
    machine.assert_clean(&tools).await;
    kubelet.crash().await;
    let none = Credentials::default();
    let wish = Wish { image: IMAGE, policy: PullPolicy::Never, credentials: &none, pod: "p" };
    tools.images.ensure(wish, &|| {}).await.expect("the image stays");
}

#[test]
fn a_kubelet_killed_while_pods_start() {
    run(async |machine| killed_while_starting(machine).await);
}

#[test]
fn containerd_and_api_server_go_and_come_back() {
    run(async |machine| absences(machine).await);
}

#[test]
fn what_containers_do() {
    run(async |machine| ways_of_containers(machine).await);
}
