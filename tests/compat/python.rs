//! The Python client: typed and dynamic objects, watches, streams. The tests
//! themselves are in `python/`.

use std::process::Stdio;

use testkit::{ControlPlane, Node};
use tokio::process::Command;

use crate::program;

async fn run(script: &str) {
    let sources = program::sources("python");
    let requirements = std::fs::read_to_string(sources.join("requirements.txt")).expect("requirements");
    let packages = program::installed("python", &requirements, |folder| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
        pip.arg("--target").arg(folder).arg("--requirement").arg(sources.join("requirements.txt"));
        pip
    })
    .await;
    let plane = ControlPlane::start().await.expect("starts");
    let node = Node::start(&plane, "n").await.expect("starts");
    node.run("p").await.expect("a pod");
    let mut python = Command::new("python3");
    python.stdin(Stdio::null());
    python.args(["-B", "-m", "unittest", "--verbose", script]).current_dir(&sources);
    python.env("PYTHONPATH", packages).env("KUBECONFIG", plane.kubeconfig().expect("a kubeconfig"));
    // Where the client keeps what it has discovered.
    python.env("TMPDIR", plane.folder());
    program::run_well(&mut python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_objects() {
    run("typed.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dynamic_objects() {
    run("dynamic.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches() {
    run("watches.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams() {
    run("streams.py").await;
}
