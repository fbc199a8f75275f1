//! The whole daemon against a real API server: it waits for the lease, leads,
//! and gives the lease up when told to stop.

use api::types::coordination::v1::Lease;
use api::types::core::v1::ServiceAccount;
use clap::Parser as _;
use controller_manager::flags::Flags;
use daemon::Shell;
use testkit::{ControlPlane, eventually};

async fn holder(client: &client::Client) -> Option<String> {
    let lease = client.find::<Lease>("kube-system", "kube-controller-manager").await.ok()??;
    lease.spec?.holder_identity
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_is_held_while_it_runs_and_given_up_at_the_end() -> anyhow::Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.admin()?;
    let session = plane.session("system:kube-controller-manager", &[])?;
    let (certificate, key) = session.identity.expect("a certificate");
    let file = |name: &str, content: &[u8]| -> anyhow::Result<std::path::PathBuf> {
        let path = plane.folder().join(name);
        std::fs::write(&path, content)?;
        Ok(path)
    };
    let ca = file("ca.pem", &session.ca.expect("a CA").read()?)?;
    let certificate = file("user.pem", &certificate.read()?)?;
    let key = file("user.key", &key.read()?)?;
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": plane.server(), "certificate-authority": ca}}],
        "users": [{"name": "u", "user": {"client-certificate": certificate, "client-key": key}}],
    });
    let kubeconfig = file("kubeconfig", config.to_string().as_bytes())?;
    let flags = Flags::try_parse_from(["x".into(), "--kubeconfig".into(), kubeconfig.into_os_string()])?;

    let shell = Shell::quiet();
    let running = daemon::tasks::spawn("daemon", controller_manager::run(flags, shell.clone()));
    eventually("it leads", || async { holder(&client).await.is_some_and(|holder| !holder.is_empty()) })
        .await?;
    eventually("it acts", || async { client.get::<ServiceAccount>("default", "default").await.is_ok() })
        .await?;
    assert!(shell.health.metrics_text().contains("workqueue_depth"));
    shell.shutdown.begin();
    running.await??;
    assert_eq!(holder(&client).await.unwrap_or_default(), "", "the lease is free for another");
    Ok(())
}
