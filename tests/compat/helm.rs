//! Stock Helm: a chart installed, upgraded, rolled back and uninstalled.

use std::process::Stdio;

use tokio::process::Command;

use crate::kubectl::{Kubectl, programs};
use crate::program;

struct Helm<'k>(&'k Kubectl);

impl Helm<'_> {
    async fn run(&self, arguments: &[&str]) -> program::Said {
        let mut helm = Command::new(programs().await.join("helm"));
        helm.args(arguments).current_dir(program::sources("")).stdin(Stdio::null());
        let folder = self.0.plane.folder();
        helm.env("KUBECONFIG", folder.join("admin.conf")).env("HOME", folder);
        program::run(&mut helm).await
    }

    async fn ok(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments).await;
        assert!(said.success, "{arguments:?}: {}", said.stderr);
        said.stdout
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_lives() {
    let kubectl = Kubectl::start().await;
    let helm = Helm(&kubectl);
    let text = ["get", "cm", "r", "-o", "jsonpath={.data.text}"];
    let installed = helm.ok(&["install", "r", "helm", "--wait", "--timeout=30s"]).await;
    assert!(installed.contains("STATUS: deployed\nREVISION: 1\n"), "{installed}");
    let data = r#"{"deployments":"true","minor":"36","namespace":"default","text":"one"}"#;
    kubectl.says(&["get", "cm", "r", "-o", "jsonpath={.data}"], data).await;
    // The hook's object is gone; the release is kept in a secret.
    let secrets = ["get", "secrets", "-o", "custom-columns=:.metadata.name,:.type", "--no-headers"];
    kubectl.shows(&secrets, &["sh.helm.release.v1.r.v1 helm.sh/release.v1"]).await;
    let twice = helm.run(&["install", "r", "helm"]).await;
    assert!(
        !twice.success && twice.stderr.contains("cannot reuse a name that is still in use"),
        "{}",
        twice.stderr
    );

    let dry = helm.ok(&["upgrade", "r", "helm", "--set=text=dry", "--dry-run=server"]).await;
    assert!(dry.contains("text: \"dry\"\n"), "{dry}");
    helm.ok(&["upgrade", "r", "helm", "--set=text=two,is_public=false"]).await;
    kubectl.says(&text, "two").await;
    kubectl.says(&["get", "svc", "r", "--ignore-not-found"], "").await;
    helm.ok(&["rollback", "r", "1"]).await;
    kubectl.says(&text, "one").await;
    kubectl.ok(&["get", "svc", "r"]).await;
    let history = helm.ok(&["history", "r", "-o", "json"]).await;
    let history: serde_json::Value = serde_json::from_str(&history).expect("JSON");
    let history: Vec<_> =
        history.as_array().into_iter().flatten().map(|one| one["status"].as_str()).collect();
    assert_eq!(history, [Some("superseded"), Some("superseded"), Some("deployed")]);
    let manager = ["get", "cm", "r", "-o", "jsonpath={.metadata.managedFields[*].manager}"];
    kubectl.says(&manager, "helm").await;
    assert_eq!(helm.ok(&["uninstall", "r"]).await, "release \"r\" uninstalled\n");
    kubectl.says(&["get", "cm,svc,secret", "-l", "!component", "-o", "name"], "").await;
}
