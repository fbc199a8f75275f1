use serde_json::json;

use super::levels::Version;
use super::*;

fn standard(level: Level, minor: u32) -> Standard {
    Standard { level, version: if minor == 0 { Version::Latest } else { Version::Minor(minor) } }
}

/// What a level has against a pod whose one container `c` and spec are changed.
fn found(standard: Standard, changes: Value) -> String {
    let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "c"}]}});
    api::patch::merge_patch(&mut pod, changes);
    details(&findings(standard, &Pod { metadata: &pod["metadata"], spec: &pod["spec"] }))
}

fn container(security: Value) -> Value {
    json!({"spec": {"containers": [{"name": "c", "securityContext": security}]}})
}

const HARD: &str = r#"{"allowPrivilegeEscalation": false, "runAsNonRoot": true,
    "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}"#;

fn hardened(changes: Value) -> Value {
    let mut security: Value = serde_json::from_str(HARD).expect("JSON");
    api::patch::merge_patch(&mut security, changes);
    container(security)
}

#[test]
fn baseline_refuses_the_ways_out() {
    let baseline = standard(Level::Baseline, 0);
    let table = [
        (json!({}), ""),
        (
            json!({"spec": {"hostNetwork": true, "hostPID": true, "hostIPC": true}}),
            "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)",
        ),
        (
            container(json!({"privileged": true})),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            container(json!({"capabilities": {"add": ["NET_ADMIN", "CHOWN", "BPF"]}})),
            "non-default capabilities (container \"c\" must not include \"BPF\", \"NET_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            json!({"spec": {"volumes": [{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "hostPath": {}}]}}),
            "hostPath volumes (volumes \"a\", \"b\")",
        ),
        (
            json!({"spec": {"containers": [
                {"name": "c", "ports": [{"hostPort": 80}, {"hostPort": 443}]}, {"name": "d", "ports": [{"hostPort": 80}]}]}}),
            "hostPort (containers \"c\", \"d\" use hostPorts 443, 80)",
        ),
        (
            json!({"spec": {"containers": [{"name": "c", "livenessProbe": {"httpGet": {"host": "h"}}}]}}),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"h\")",
        ),
        (
            container(json!({"procMount": "Unmasked"})),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            json!({"spec": {"securityContext": {"seLinuxOptions": {"type": "spc_t", "user": "u", "role": "r"}}}}),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set; role may not be set)",
        ),
        (
            container(json!({"seccompProfile": {"type": "Unconfined"}})),
            "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            json!({"spec": {"securityContext": {"sysctls": [{"name": "a"}, {"name": "net.ipv4.tcp_rmem"}, {"name": "b"}]}}}),
            "forbidden sysctls (a, b)",
        ),
        (
            json!({"spec": {"securityContext": {"windowsOptions": {"hostProcess": true}}}}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}},
                "spec": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}}),
            "forbidden AppArmor profiles (pod and annotation must not set AppArmor profile type to \"Unconfined\", \"container.apparmor.security.beta.kubernetes.io/c=\"unconfined\"\")",
        ),
    ];
    for (changes, expected) in table {
        assert_eq!(found(baseline, changes.clone()), expected, "{changes}");
    }
    assert_eq!(found(standard(Level::Privileged, 0), container(json!({"privileged": true}))), "");
}

#[test]
fn restricted_wants_hardened_pods() {
    let restricted = standard(Level::Restricted, 0);
    assert_eq!(
        found(restricted, json!({})),
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    let mut volumes = hardened(json!({}));
    volumes["spec"]["volumes"] =
        json!([{"name": "h", "hostPath": {"path": "/"}}, {"name": "s", "secret": {}}]);
    let table = [
        (hardened(json!({})), ""),
        (volumes, "restricted volume types (volume \"h\" uses restricted volume type \"hostPath\")"),
        (
            hardened(json!({"capabilities": {"add": ["NET_BIND_SERVICE", "CHOWN"]}})),
            "unrestricted capabilities (container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            hardened(json!({"runAsNonRoot": false})),
            "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false)",
        ),
        (hardened(json!({"runAsUser": 0})), "runAsUser=0 (container \"c\" must not set runAsUser=0)"),
        (
            hardened(json!({"seccompProfile": {"type": "Unconfined"}})),
            "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
    ];
    for (changes, expected) in table {
        assert_eq!(found(restricted, changes.clone()), expected, "{changes}");
    }
}

#[test]
fn rules_are_those_of_their_version() {
    let table = [
        (Level::Restricted, 24, hardened(json!({"runAsNonRoot": null, "runAsUser": 0})), 2),
        (Level::Restricted, 22, hardened(json!({"runAsUser": 0})), 0),
        (Level::Restricted, 18, hardened(json!({"seccompProfile": null})), 0),
        (Level::Restricted, 7, hardened(json!({"allowPrivilegeEscalation": null})), 0),
        (
            Level::Baseline,
            31,
            json!({"spec": {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}}}),
            1,
        ),
        (
            Level::Baseline,
            99,
            json!({"spec": {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}}}),
            0,
        ),
        (
            Level::Baseline,
            34,
            json!({"spec": {"hostUsers": false, "containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]}}),
            1,
        ),
        (
            Level::Baseline,
            35,
            json!({"spec": {"hostUsers": false, "containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]}}),
            0,
        ),
    ];
    for (level, minor, changes, expected) in table {
        let found = found(standard(level, minor), changes.clone());
        assert_eq!(found.matches(" (").count(), expected, "v1.{minor} {changes}: {found}");
    }
}

#[test]
fn only_new_images_are_judged() {
    let pod = |spec: Value| Object::from_value(json!({"spec": spec})).expect("an object");
    let old = pod(json!({"containers": [{"name": "c", "image": "a"}]}));
    let table = [
        (json!({"containers": [{"name": "c", "image": "a", "tty": true}]}), false),
        (json!({"containers": [{"name": "c", "image": "b"}]}), true),
        (
            json!({"containers": [{"name": "c", "image": "a"}], "ephemeralContainers": [{"name": "d", "image": "a"}]}),
            true,
        ),
    ];
    for (spec, expected) in table {
        assert_eq!(runs_something_new(&pod(spec.clone()), &old), expected, "{spec}");
    }
}

#[test]
fn pods_that_are_there_are_told_together() {
    let pod = |name: &str, spec: Value| {
        Object::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("an object")
    };
    let host = json!({"hostNetwork": true});
    let pods = [
        pod("b", host.clone()),
        pod("a", host.clone()),
        pod("c", host),
        pod("x", json!({"volumes": [{"name": "v", "hostPath": {}}]})),
        pod("fine", json!({})),
    ];
    assert_eq!(
        warn_of_pods("n", standard(Level::Baseline, 30), &pods),
        [
            "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:v1.30\"",
            "a (and 2 other pods): host namespaces",
            "x: hostPath volumes",
        ]
    );
}
