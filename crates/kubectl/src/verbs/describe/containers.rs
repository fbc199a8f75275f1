//! Containers of pods and of their templates.

use serde_json::Value;

use super::text::{Text, bracketed, entries, flag, items, number, text, text_or, time};

/// A group of containers. A pod, unlike a template, has statuses and values
/// that its environment refers to.
pub(super) struct Group<'a> {
    pub(super) title: &'a str,
    pub(super) containers: &'a Value,
    pub(super) statuses: &'a Value,
    pub(super) pod: Option<&'a Value>,
    /// What stands before the lines.
    pub(super) space: &'a str,
}

pub(super) fn write(out: &mut Text, group: &Group<'_>) {
    let none = if items(group.containers).next().is_none() { " <none>" } else { "" };
    out.line(0, format_args!("{}{}:{none}", group.space, group.title));
    for container in items(group.containers) {
        let status = items(group.statuses).find(|status| status["name"] == container["name"]);
        basics(out, container, status, group.space);
        words(out, "Command", &container["command"]);
        words(out, "Args", &container["args"]);
        if let Some(status) = status {
            state(out, "State", &status["state"]);
            if status["lastState"].get("terminated").is_some() {
                state(out, "Last State", &status["lastState"]);
            }
            out.field_at(2, "Ready", flag(&status["ready"], "False"));
            out.field_at(2, "Restart Count", number(&status["restartCount"]));
        }
        resources(out, &container["resources"], 2);
        for (title, field) in
            [("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")]
        {
            if container.get(field).is_some() {
                out.field_at(2, title, probe(&container[field]));
            }
        }
        environment(out, container, group.pod);
        mounts(out, container);
    }
}

fn basics(out: &mut Text, container: &Value, status: Option<&Value>, space: &str) {
    let indent = if space.is_empty() { "" } else { " " };
    out.line(1, format_args!("{indent}{}:", text(&container["name"])));
    if let Some(status) = status {
        out.field_at(2, "Container ID", text(&status["containerID"]));
    }
    out.field_at(2, "Image", text(&container["image"]));
    if let Some(status) = status {
        out.field_at(2, "Image ID", text(&status["imageID"]));
    }
    for (title, field) in [("Port", "containerPort"), ("Host Port", "hostPort")] {
        let ports: Vec<String> = items(&container["ports"])
            .map(|port| {
                let plain = format!("{}/{}", number(&port[field]), text_or(&port["protocol"], "TCP"));
                match text(&port["name"]) {
                    "" => plain,
                    name => format!("{plain} ({name})"),
                }
            })
            .collect();
        match ports.len() {
            0 => out.field_at(2, title, "<none>"),
            1 => out.field_at(2, title, &ports[0]),
            _ => out.field_at(2, &format!("{title}s"), ports.join(", ")),
        }
    }
    let profile = &container["securityContext"]["seccompProfile"];
    if !profile.is_null() {
        out.field_at(2, "SeccompProfile", text(&profile["type"]));
        if profile["type"] == "Localhost" {
            out.field_at(3, "LocalhostProfile", text(&profile["localhostProfile"]));
        }
    }
}

fn words(out: &mut Text, title: &str, words: &Value) {
    if items(words).next().is_none() {
        return;
    }
    out.line(2, format_args!("{title}:"));
    for line in items(words).flat_map(|word| text(word).split('\n')) {
        out.line(3, line);
    }
}

fn state(out: &mut Text, title: &str, state: &Value) {
    if let Some(running) = state.get("running") {
        out.field_at(2, title, "Running");
        out.field_at(3, "Started", time(&running["startedAt"]));
    } else if let Some(end) = state.get("terminated") {
        out.field_at(2, title, "Terminated");
        for (title, field) in [("Reason", "reason"), ("Message", "message")] {
            if !text(&end[field]).is_empty() {
                out.field_at(3, title, text(&end[field]));
            }
        }
        out.field_at(3, "Exit Code", number(&end["exitCode"]));
        if number(&end["signal"]) > 0 {
            out.field_at(3, "Signal", number(&end["signal"]));
        }
        out.field_at(3, "Started", time(&end["startedAt"]));
        out.field_at(3, "Finished", time(&end["finishedAt"]));
    } else {
        out.field_at(2, title, "Waiting");
        let reason = text(&state["waiting"]["reason"]);
        if !reason.is_empty() {
            out.field_at(3, "Reason", reason);
        }
    }
}

/// Limits and requests.
pub(super) fn resources(out: &mut Text, resources: &Value, level: usize) {
    for (title, field) in [("Limits", "limits"), ("Requests", "requests")] {
        if entries(&resources[field]).next().is_some() {
            out.line(level, format_args!("{title}:"));
        }
        for (name, quantity) in entries(&resources[field]) {
            out.field_at(level + 1, name, crate::jsonpath::plain(quantity));
        }
    }
}

/// A probe in one line.
fn probe(probe: &Value) -> String {
    let at = |field: &str, default: i64| probe[field].as_i64().unwrap_or(default);
    let attributes = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        at("initialDelaySeconds", 0),
        at("timeoutSeconds", 0),
        at("periodSeconds", 0),
        at("successThreshold", 0),
        at("failureThreshold", 0)
    );
    if let Some(exec) = probe.get("exec") {
        format!("exec {} {attributes}", bracketed(&exec["command"]))
    } else if let Some(http) = probe.get("httpGet") {
        let port = crate::jsonpath::plain(&http["port"]);
        let scheme = text_or(&http["scheme"], "http").to_lowercase();
        let path = text(&http["path"]);
        let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
        format!("http-get {scheme}://{}:{port}{slash}{path} {attributes}", text(&http["host"]))
    } else if let Some(tcp) = probe.get("tcpSocket") {
        format!("tcp-socket {}:{} {attributes}", text(&tcp["host"]), crate::jsonpath::plain(&tcp["port"]))
    } else if let Some(grpc) = probe.get("grpc") {
        format!("grpc <pod>:{} {} {attributes}", number(&grpc["port"]), text(&grpc["service"]))
    } else {
        format!("unknown {attributes}")
    }
}

fn environment(out: &mut Text, container: &Value, pod: Option<&Value>) {
    if items(&container["envFrom"]).next().is_some() {
        out.line(2, "Environment Variables from:");
        for one in items(&container["envFrom"]) {
            let (from, reference) = match one.get("configMapRef") {
                Some(reference) => ("ConfigMap", reference),
                None => ("Secret", &one["secretRef"]),
            };
            let optional = reference["optional"] == true;
            let with = match text(&one["prefix"]) {
                "" => String::new(),
                prefix => format!(" with prefix '{prefix}'"),
            };
            out.line(3, format_args!("{}\t{from}{with}\tOptional: {optional}", text(&reference["name"])));
        }
    }
    let none = if items(&container["env"]).next().is_none() { "\t<none>" } else { "" };
    out.line(2, format_args!("Environment:{none}"));
    for one in items(&container["env"]) {
        let name = text(&one["name"]);
        let Some(from) = one.get("valueFrom") else {
            let mut title = format!("{name}:");
            for line in text(&one["value"]).split('\n') {
                out.line(3, format_args!("{title}\t{line}"));
                title.clear();
            }
            continue;
        };
        if let Some(value) = referred(from, container, pod) {
            out.field_at(3, name, value);
        }
    }
}

/// What a variable is set to, and from where.
fn referred(from: &Value, container: &Value, pod: Option<&Value>) -> Option<String> {
    if let Some(field) = from.get("fieldRef") {
        let path = text(&field["fieldPath"]);
        let value = pod.map(|pod| field_of(pod, path)).unwrap_or_default();
        return Some(format!("{value} ({}:{path})", text_or(&field["apiVersion"], "v1")));
    }
    if let Some(field) = from.get("resourceFieldRef") {
        let resource = text(&field["resource"]);
        return Some(format!(
            "{} ({resource})",
            resource_value(container, resource, text(&field["divisor"]))
        ));
    }
    let optional = |reference: &Value| reference["optional"] == true;
    if let Some(key) = from.get("secretKeyRef") {
        return Some(format!(
            "<set to the key '{}' in secret '{}'>\tOptional: {}",
            text(&key["key"]),
            text(&key["name"]),
            optional(key)
        ));
    }
    let key = from.get("configMapKeyRef")?;
    Some(format!(
        "<set to the key '{}' of config map '{}'>\tOptional: {}",
        text(&key["key"]),
        text(&key["name"]),
        optional(key)
    ))
}

fn field_of(pod: &Value, path: &str) -> String {
    if let Some((field, rest)) = path.split_once("['")
        && let Some(key) = rest.strip_suffix("']")
    {
        return text(&pod["metadata"][field.trim_start_matches("metadata.")][key]).to_owned();
    }
    let mut at = pod;
    for part in path.split('.') {
        at = &at[part];
    }
    match at {
        Value::Null => String::new(),
        Value::Object(_) => entries(at)
            .map(|(key, value)| format!("{key}=\"{}\"", text(value)))
            .collect::<Vec<_>>()
            .join("\n"),
        value => crate::jsonpath::plain(value),
    }
}

/// A resource of a container in units of a divisor, rounded up.
fn resource_value(container: &Value, resource: &str, divisor: &str) -> String {
    let (part, name) = resource.split_once('.').unwrap_or((resource, ""));
    let read = |text: &str| text.parse::<api::Quantity>().map(|quantity| quantity.millis());
    let set = container["resources"][part].get(name).map(crate::jsonpath::plain);
    let Ok(value) = read(set.as_deref().unwrap_or("0")) else { return String::new() };
    let divisor = read(if ["", "0"].contains(&divisor) { "1" } else { divisor }).unwrap_or(1000).max(1);
    match value {
        0 if part == "limits" && ["cpu", "memory"].contains(&name) => "node allocatable".into(),
        value => ((value + divisor - 1) / divisor).to_string(),
    }
}

fn mounts(out: &mut Text, container: &Value) {
    let none = if items(&container["volumeMounts"]).next().is_none() { "\t<none>" } else { "" };
    out.line(2, format_args!("Mounts:{none}"));
    let mut mounts: Vec<&Value> = items(&container["volumeMounts"]).collect();
    mounts.sort_by_key(|mount| text(&mount["mountPath"]));
    for mount in mounts {
        let mode = if mount["readOnly"] == true { "ro" } else { "rw" };
        let path = match text(&mount["subPath"]) {
            "" => String::new(),
            path => format!(",path={path:?}"),
        };
        out.line(
            3,
            format_args!("{} from {} ({mode}{path})", text(&mount["mountPath"]), text(&mount["name"])),
        );
    }
    let mut devices: Vec<&Value> = items(&container["volumeDevices"]).collect();
    devices.sort_by_key(|device| text(&device["devicePath"]));
    if !devices.is_empty() {
        out.line(2, format_args!("Devices:{none}"));
    }
    for device in devices {
        out.line(3, format_args!("{} from {}", text(&device["devicePath"]), text(&device["name"])));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn probes_are_shown() {
        let table = [
            (
                json!({"httpGet": {"path": "/x", "port": 80, "scheme": "HTTP"}, "periodSeconds": 10}),
                "http-get http://:80/x",
            ),
            (json!({"tcpSocket": {"port": "web"}, "periodSeconds": 10}), "tcp-socket :web"),
            (json!({"exec": {"command": ["a", "b"]}, "periodSeconds": 10}), "exec [a b]"),
            (json!({"grpc": {"port": 9}, "periodSeconds": 10}), "grpc <pod>:9 "),
        ];
        for (value, start) in table {
            assert_eq!(
                probe(&value),
                format!("{start} delay=0s timeout=0s period=10s #success=0 #failure=0")
            );
        }
    }

    #[test]
    fn variables_say_where_they_come_from() {
        let container = json!({"resources": {"limits": {"memory": "64Mi"}}});
        let pod = json!({"metadata": {"name": "p", "labels": {"a/b": "c"}}, "status": {"podIP": "1.2.3.4"}});
        let table = [
            (json!({"fieldRef": {"fieldPath": "status.podIP"}}), "1.2.3.4 (v1:status.podIP)"),
            (json!({"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}), "c (v1:metadata.labels['a/b'])"),
            (
                json!({"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}),
                "64 (limits.memory)",
            ),
            (json!({"resourceFieldRef": {"resource": "limits.cpu"}}), "node allocatable (limits.cpu)"),
            (
                json!({"secretKeyRef": {"name": "s", "key": "k"}}),
                "<set to the key 'k' in secret 's'>\tOptional: false",
            ),
        ];
        for (from, expected) in table {
            assert_eq!(referred(&from, &container, Some(&pod)).as_deref(), Some(expected));
        }
    }
}
