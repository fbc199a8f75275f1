//! The crate table of the architecture, enforced: an edge between crates of
//! this workspace that the table does not have fails the build.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// Each crate and what it may use. Adding an edge is a decision: see
/// `docs/decisions/`.
const TABLE: [(&str, &[&str]); 17] = [
    ("wire", &[]),
    ("api", &[]),
    ("daemon", &[]),
    ("resources", &["api"]),
    ("store", &["wire", "daemon"]),
    ("client", &["api", "wire"]),
    ("reconcile", &["client", "api", "wire"]),
    ("apiserver", &["resources", "store", "client", "wire", "daemon", "api"]),
    ("scheduler", &["reconcile", "client", "api", "daemon", "wire"]),
    ("controller-manager", &["reconcile", "client", "api", "daemon", "wire"]),
    ("kube-proxy", &["reconcile", "client", "api", "daemon"]),
    ("kube-dns", &["reconcile", "client", "api", "daemon"]),
    ("kubelet", &["reconcile", "client", "api", "daemon", "wire", "resources"]),
    ("kubectl", &["client", "api", "wire"]),
    ("kubeadm", &["client", "api", "daemon"]),
    ("bench", &["store", "wire", "daemon", "client", "api", "kubeadm"]),
    (
        "testkit",
        &[
            "api",
            "apiserver",
            "client",
            "controller-manager",
            "daemon",
            "kubeadm",
            "kubelet",
            "resources",
            "scheduler",
            "store",
            "wire",
        ],
    ),
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

#[test]
fn every_edge_is_in_the_table() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let known: BTreeSet<&str> = TABLE.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, known, "the table lists the crates that there are");
    for package in packages {
        let name = package["name"].as_str().expect("name");
        let (_, allowed) = TABLE.iter().find(|(one, _)| *one == name).expect("listed above");
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let on = dependency["name"].as_str().expect("name");
            // Tests may use the test kit and anything that it may use.
            if dependency["kind"] == "dev" || !names.contains(on) {
                continue;
            }
            assert!(on != "testkit", "{name} uses the test kit outside its tests");
            assert!(allowed.contains(&on), "{name} must not depend on {on}");
        }
    }
}
