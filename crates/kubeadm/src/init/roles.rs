//! The roles and bindings with which nodes join, under upstream's names.

use anyhow::Context as _;
use api::Reason;
use client::{Client, Target, WriteOptions};
use serde_json::{Value, json};

use crate::settings::CONFIG_MAP;
use crate::token::NODE_GROUP;

const GROUP: &str = "rbac.authorization.k8s.io";
const NODES: &str = "system:nodes";

fn subjects(groups: &[&str]) -> Value {
    groups.iter().map(|name| json!({"kind": "Group", "apiGroup": GROUP, "name": name})).collect()
}

fn bind(name: &str, role: &str, groups: &[&str]) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role}, "subjects": subjects(groups),
    })
}

/// The objects.
fn all() -> Vec<Value> {
    let approved = |what: &str| format!("system:certificates.k8s.io:certificatesigningrequests:{what}");
    let version = format!("{GROUP}/v1");
    let config = "kubeadm:nodes-kubeadm-config";
    vec![
        bind("kubeadm:cluster-admins", "cluster-admin", &["kubeadm:cluster-admins"]),
        bind("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", &[NODE_GROUP]),
        bind("kubeadm:node-autoapprove-bootstrap", &approved("nodeclient"), &[NODE_GROUP]),
        bind("kubeadm:node-autoapprove-certificate-rotation", &approved("selfnodeclient"), &[NODES]),
        // kube-proxy runs beside the kubelet, as the node that it serves.
        bind("kubeadm:node-proxier", "system:node-proxier", &[NODES]),
        json!({
            "apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "kubeadm:get-nodes"},
            "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]}],
        }),
        bind("kubeadm:get-nodes", "kubeadm:get-nodes", &[NODE_GROUP]),
        json!({
            "apiVersion": version, "kind": "Role", "metadata": {"name": config, "namespace": "kube-system"},
            "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [CONFIG_MAP]}],
        }),
        json!({
            "apiVersion": version, "kind": "RoleBinding", "metadata": {"name": config, "namespace": "kube-system"},
            "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": config},
            "subjects": subjects(&[NODE_GROUP, NODES]),
        }),
    ]
}

/// Makes those that are missing.
///
/// # Errors
/// The server's refusal.
pub async fn ensure(client: &Client) -> anyhow::Result<()> {
    for object in all() {
        let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
        let kind = text(&object["kind"]);
        let target = Target {
            group: GROUP.to_owned(),
            version: "v1".to_owned(),
            resource: format!("{}s", kind.to_lowercase()),
            namespace: text(&object["metadata"]["namespace"]),
            ..Target::default()
        };
        let json = object.to_string().into_bytes();
        match client.create_json(target, json.into(), &WriteOptions::default()).await {
            Ok(_) => {}
            Err(status) if status.reason == Reason::AlreadyExists => {}
            Err(status) => {
                let name = text(&object["metadata"]["name"]);
                return Err(status).with_context(|| format!("make the {kind} {name}"));
            }
        }
    }
    Ok(())
}
