//! The row of a pod (`printPod`).

use api::Object;
use jiff::Timestamp;
use serde_json::Value;

use crate::fields::Fields;
use crate::kinds::cells::or_none;
use crate::metadata::age;

pub(super) fn row(pod: &Object, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (pod.field("spec"), pod.field("status"));
    let mut count = Count::new(pod);
    count.init_containers();
    if !count.initializing || condition(status, "Initialized") {
        count.containers();
    }
    let reason = ended(pod, count.reason);
    let restarts = match count.last_restart {
        Some(last) if count.restarts != 0 => {
            let ago = api::time::human_duration(now.as_second() - last.as_second());
            format!("{} ({ago} ago)", count.restarts)
        }
        _ => count.restarts.to_string(),
    };
    let ready = format!("{}/{}", count.ready, count.total);
    let address = status.list("podIPs").first().map_or("", |one| one.text("ip"));
    vec![
        pod.name().into(),
        ready.into(),
        reason.into(),
        restarts.into(),
        age(pod, now).into(),
        or_none(address).into(),
        or_none(spec.text("nodeName")).into(),
        or_none(status.text("nominatedNodeName")).into(),
        gates(spec, status).into(),
    ]
}

/// What is read off the containers on the way to a row.
struct Count<'a> {
    spec: &'a Value,
    status: &'a Value,
    reason: String,
    total: usize,
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
    sidecar_restarts: i64,
    last_sidecar_restart: Option<Timestamp>,
    initializing: bool,
}

impl<'a> Count<'a> {
    fn new(pod: &'a Object) -> Self {
        let (spec, status) = (pod.field("spec"), pod.field("status"));
        let mut reason = status.text("reason");
        if reason.is_empty() {
            reason = status.text("phase");
        }
        let gated =
            |one: &&Value| one.text("type") == "PodScheduled" && one.text("reason") == "SchedulingGated";
        if status.list("conditions").iter().any(|one| gated(&one)) {
            reason = "SchedulingGated";
        }
        let sidecars = spec.list("initContainers").iter().filter(|one| is_sidecar(one)).count();
        Self {
            spec,
            status,
            reason: reason.to_owned(),
            total: spec.list("containers").len() + sidecars,
            ready: 0,
            restarts: 0,
            last_restart: None,
            sidecar_restarts: 0,
            last_sidecar_restart: None,
            initializing: false,
        }
    }

    fn init_containers(&mut self) {
        let declared = self.spec.list("initContainers");
        for (index, container) in self.status.list("initContainerStatuses").iter().enumerate() {
            let restarts = container.int("restartCount").unwrap_or_default();
            let last = last_end(container);
            self.restarts += restarts;
            self.last_restart = self.last_restart.max(last);
            let name = container.text("name");
            let sidecar = declared.iter().any(|one| one.text("name") == name && is_sidecar(one));
            if sidecar {
                self.sidecar_restarts += restarts;
                self.last_sidecar_restart = self.last_sidecar_restart.max(last);
            }
            let state = container.field("state");
            let terminated = state.field("terminated");
            let waiting = state.field("waiting").text("reason");
            if !terminated.is_null() && terminated.int("exitCode").unwrap_or_default() == 0 {
                continue;
            }
            if sidecar && container.flag("started") {
                self.ready += usize::from(container.flag("ready"));
                continue;
            }
            self.reason = if !terminated.is_null() {
                format!("Init:{}", end_reason(terminated))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{}", declared.len())
            };
            self.initializing = true;
            return;
        }
    }

    fn containers(&mut self) {
        self.restarts = self.sidecar_restarts;
        self.last_restart = self.last_sidecar_restart;
        let (mut running, mut failure) = (false, None);
        for container in self.status.list("containerStatuses").iter().rev() {
            self.restarts += container.int("restartCount").unwrap_or_default();
            self.last_restart = self.last_restart.max(last_end(container));
            let state = container.field("state");
            let terminated = state.field("terminated");
            let waiting = state.field("waiting").text("reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if !terminated.is_null() {
                self.reason = end_reason(terminated);
                if terminated.int("exitCode").unwrap_or_default() != 0 {
                    failure = Some(self.reason.clone());
                }
            } else if container.flag("ready") && state.has("running") {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            if running && condition(self.status, "Ready") {
                self.reason = "Running".into();
            } else if let Some(failure) = failure {
                self.reason = failure;
            } else if running {
                self.reason = "NotReady".into();
            }
        }
    }
}

fn is_sidecar(container: &Value) -> bool {
    container.text("restartPolicy") == "Always"
}

fn last_end(container: &Value) -> Option<Timestamp> {
    api::time::parse(container.below(&["lastState", "terminated"]).text("finishedAt"))
}

fn end_reason(terminated: &Value) -> String {
    let signal = terminated.int("signal").unwrap_or_default();
    match (terminated.text("reason"), signal) {
        ("", 0) => format!("ExitCode:{}", terminated.int("exitCode").unwrap_or_default()),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn ended(pod: &Object, reason: String) -> String {
    let status = pod.field("status");
    if !pod.is_terminating() {
        reason
    } else if status.text("reason") == "NodeLost" {
        "Unknown".to_owned()
    } else if matches!(status.text("phase"), "Failed" | "Succeeded") {
        reason
    } else {
        "Terminating".to_owned()
    }
}

fn condition(status: &Value, kind: &str) -> bool {
    status.list("conditions").iter().any(|one| one.text("type") == kind && one.text("status") == "True")
}

fn gates(spec: &Value, status: &Value) -> String {
    let gates = spec.list("readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = gates.iter().filter(|gate| condition(status, gate.text("conditionType"))).count();
    format!("{open}/{}", gates.len())
}
