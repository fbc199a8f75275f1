//! The loop against a real API server: what is written there arrives in the
//! kernel of a network namespace of this test's own. Needs root, `ip` and `nft`.

use std::process::Command;

use api::types::core::v1::Service;
use api::types::discovery::v1::EndpointSlice;
use client::{Cache, Client, DeleteOptions, Scope};
use daemon::{Shell, tasks};
use kube_proxy::kernel::Nft;
use kube_proxy::metrics::Metrics;
use kube_proxy::programmer::Programmer;
use kube_proxy::rules::Place;
use kube_proxy::run::{BY_SERVICE, Caches, Loop, Parts, service_terms};
use serde_json::json;
use testkit::{ControlPlane, eventually};

struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let name = format!("kp{}f", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status().expect("run ip");
        assert!(made.success());
        Self(name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing more can be done about a failure here.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_arrives_in_the_kernel() -> anyhow::Result<()> {
    let namespace = Namespace::new();
    let nft = Nft::in_namespace(&namespace.0);
    let plane = ControlPlane::start().await?;
    let admin = plane.admin()?;
    let user = Client::new(&plane.session("system:kube-proxy", &[])?, "kube-proxy")?;
    let shell = Shell::quiet();
    let caches = Caches {
        services: Cache::start(&user, Scope::default()),
        slices: Cache::start_indexed(&user, Scope::default(), vec![(BY_SERVICE, service_terms)]),
        nodes: Cache::start(&user, Scope::default()),
    };
    tokio::join!(caches.services.synced(), caches.slices.synced(), caches.nodes.synced());
    let parts = Parts {
        place: Place { node: "n".to_owned(), cluster_cidr: Vec::new() },
        programmer: Programmer::new(nft.clone()),
        routes: None,
        metrics: shell.health.metrics(Metrics::register),
        clock: shell.clock.clone(),
    };
    let running = tasks::spawn("loop", Loop::new(caches, parts).run(shell.shutdown.clone()));

    let service =
        json!({"metadata": {"namespace": "default", "name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let service: Service = admin.create(&serde_json::from_value(service)?).await?;
    let address = service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
    let holds = |map: &'static str| {
        let (nft, key) = (nft.clone(), format!("tcp . {address} . 80"));
        async move {
            let Ok(Some(programmed)) = nft.read().await else { return false };
            programmed.elements.contains_key(&(map.to_owned(), key))
        }
    };
    eventually("a service without endpoints is refused", || holds("empty4")).await?;
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": [{"addresses": ["10.244.1.2"]}],
    }))?;
    admin.create(&slice).await?;
    eventually("an endpoint is used", || holds("services4")).await?;
    assert!(!holds("empty4").await);
    admin.delete::<Service>("default", "s", &DeleteOptions::default()).await?;
    eventually("a service is forgotten", || async { !holds("services4").await && !holds("empty4").await })
        .await?;

    shell.shutdown.begin();
    running.await?;
    Ok(())
}
