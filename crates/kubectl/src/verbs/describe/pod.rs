//! Pods.

use super::Subject;
use super::containers::{self, Group};
use super::template::{tolerations, topology};
use super::text::{Text, age, controller, items, number, text, text_or, time};
use super::volumes;

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let pod = subject.object;
    let (spec, status) = (&pod["spec"], &pod["status"]);
    head(out, subject);
    out.field("IP", text(&status["podIP"]));
    if items(&status["podIPs"]).next().is_none() {
        out.field("IPs", "<none>");
    } else {
        out.line(0, "IPs:");
        for one in items(&status["podIPs"]) {
            out.field_at(1, "IP", text(&one["ip"]));
        }
    }
    if let Some(owner) = controller(pod) {
        out.field("Controlled By", owner);
    }
    if !text(&status["nominatedNodeName"]).is_empty() {
        out.field("NominatedNodeName", text(&status["nominatedNodeName"]));
    }
    if spec.get("resources").is_some() {
        out.line(0, "Resources:");
        containers::resources(out, &spec["resources"], 1);
    }
    for (title, field, statuses) in [
        ("Init Containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
        ("Ephemeral Containers", "ephemeralContainers", "ephemeralContainerStatuses"),
    ] {
        if field != "containers" && items(&spec[field]).next().is_none() {
            continue;
        }
        let group =
            Group { title, containers: &spec[field], statuses: &status[statuses], pod: Some(pod), space: "" };
        containers::write(out, &group);
    }
    conditions(out, subject);
    volumes::of_pod(out, &spec["volumes"], "");
    out.field("QoS Class", text_or(&status["qosClass"], "BestEffort"));
    out.labels("Node-Selectors", &spec["nodeSelector"]);
    tolerations(out, "Tolerations", &spec["tolerations"]);
    topology(out, &spec["topologySpreadConstraints"], "");
    if let Some(group) = spec.get("schedulingGroup") {
        out.line(0, "SchedulingGroup:");
        out.field_at(1, "PodGroupName", text(&group["podGroupName"]));
    }
}

fn head(out: &mut Text, subject: &Subject<'_>) {
    let pod = subject.object;
    let (metadata, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    out.field("Name", text(&metadata["name"]));
    out.field("Namespace", text(&metadata["namespace"]));
    if let Some(priority) = spec["priority"].as_i64() {
        out.field("Priority", priority);
    }
    for (title, field) in [
        ("Priority Class Name", "priorityClassName"),
        ("Runtime Class Name", "runtimeClassName"),
        ("Service Account", "serviceAccountName"),
    ] {
        if !text(&spec[field]).is_empty() {
            out.field(title, text(&spec[field]));
        }
    }
    match text(&spec["nodeName"]) {
        "" => out.field("Node", "<none>"),
        node => out.field("Node", format_args!("{node}/{}", text(&status["hostIP"]))),
    }
    if status.get("startTime").is_some() {
        out.field("Start Time", time(&status["startTime"]));
    }
    out.metadata(pod);
    let done = ["Failed", "Succeeded"].contains(&text(&status["phase"]));
    if metadata.get("deletionTimestamp").is_some() && !done {
        let since = age(&metadata["deletionTimestamp"], subject.now);
        out.field("Status", format_args!("Terminating (lasts {since})"));
        out.field(
            "Termination Grace Period",
            format_args!("{}s", number(&metadata["deletionGracePeriodSeconds"])),
        );
    } else {
        out.field("Status", text(&status["phase"]));
    }
    for (title, field) in [("Reason", "reason"), ("Message", "message")] {
        if !text(&status[field]).is_empty() {
            out.field(title, text(&status[field]));
        }
    }
    let profile = &spec["securityContext"]["seccompProfile"];
    if !profile.is_null() {
        out.field("SeccompProfile", text(&profile["type"]));
        if profile["type"] == "Localhost" {
            out.field("LocalhostProfile", text(&profile["localhostProfile"]));
        }
    }
}

fn conditions(out: &mut Text, subject: &Subject<'_>) {
    let (spec, status) = (&subject.object["spec"], &subject.object["status"]);
    if items(&spec["readinessGates"]).next().is_some() {
        out.line(0, "Readiness Gates:\n  Type\tStatus");
        for gate in items(&spec["readinessGates"]) {
            let condition = items(&status["conditions"]).find(|one| one["type"] == gate["conditionType"]);
            let now = condition.map_or("<none>", |one| text(&one["status"]));
            out.line(1, format_args!("{} \t{now} ", text(&gate["conditionType"])));
        }
    }
    if items(&status["conditions"]).next().is_some() {
        out.line(0, "Conditions:\n  Type\tStatus");
        for one in items(&status["conditions"]) {
            out.line(1, format_args!("{} \t{} ", text(&one["type"]), text(&one["status"])));
        }
    }
}
