//! The JavaScript client: objects, watches and informers, streams. The tests
//! themselves are in `node/`.

use std::process::Stdio;

use testkit::{ControlPlane, Node};
use tokio::process::Command;

use crate::program;

async fn run(script: &str) {
    let sources = program::sources("node");
    let read = |name: &str| std::fs::read_to_string(sources.join(name)).expect("a file of the tests");
    let (package, lock) = (read("package.json"), read("package-lock.json"));
    let packages = program::installed("node", &format!("{package}{lock}"), |folder| {
        std::fs::write(folder.join("package.json"), &package).expect("is written");
        std::fs::write(folder.join("package-lock.json"), &lock).expect("is written");
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(folder);
        npm
    })
    .await;
    // A module finds its packages from where it is.
    std::fs::copy(sources.join(script), packages.join(script)).expect("is copied");
    let plane = ControlPlane::start().await.expect("starts");
    let node = Node::start(&plane, "n").await.expect("starts");
    node.run("p").await.expect("a pod");
    let mut node = Command::new("node");
    node.arg(script).current_dir(&packages).stdin(Stdio::null());
    node.env("KUBECONFIG", plane.kubeconfig().expect("a kubeconfig"));
    program::run_well(&mut node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects() {
    run("objects.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches() {
    run("watches.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams() {
    run("streams.mjs").await;
}
