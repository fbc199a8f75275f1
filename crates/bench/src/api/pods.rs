//! Pods through the whole admission chain: alone, and where a limit range and a quota
//! have their say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;

use super::load::{Http, run_load};
use super::server::Server;
use super::show;

const RANGE: &str = r#"{"metadata":{"name":"range"},"spec":{"limits":[
    {"type":"Container","default":{"cpu":"200m","memory":"64Mi"},"max":{"cpu":"2"}}]}}"#;
const QUOTA: &str = r#"{"metadata":{"name":"quota"},"spec":{"hard":
    {"pods":"1000000","requests.cpu":"1000000","limits.memory":"1000000Gi"}}}"#;

/// How many create at once.
const CLIENTS: [usize; 2] = [1, 32];

fn pod(number: u64) -> String {
    format!(
        r#"{{"metadata":{{"name":"p{number}","labels":{{"app":"web","pod-template-hash":"5f6c"}}}},
        "spec":{{"containers":[{{"name":"web","image":"example.org/web:1","ports":[{{"containerPort":80}}],
        "env":[{{"name":"A","value":"b"}}],"resources":{{"requests":{{"cpu":"100m","memory":"32Mi"}}}},
        "livenessProbe":{{"httpGet":{{"path":"/","port":80}}}},
        "volumeMounts":[{{"name":"data","mountPath":"/data"}}]}}],
        "volumes":[{{"name":"data","emptyDir":{{}}}}]}}}}"#
    )
}

pub(super) async fn run(server: &Server, http: &Http, duration: Duration) -> anyhow::Result<()> {
    for (namespace, what, limits) in [
        ("pods", "create a pod", &[][..]),
        ("limited", "with quota and limits", &[("limitranges", RANGE), ("resourcequotas", QUOTA)]),
    ] {
        let all = format!("/api/v1/namespaces/{namespace}");
        create(http, "/api/v1/namespaces", &format!(r#"{{"metadata":{{"name":"{namespace}"}}}}"#)).await?;
        // No controller makes it here.
        create(http, &format!("{all}/serviceaccounts"), r#"{"metadata":{"name":"default"}}"#).await?;
        for (resource, object) in limits {
            create(http, &format!("{all}/{resource}"), object).await?;
        }
        let (path, next) = (format!("{all}/pods"), Arc::new(AtomicU64::new(0)));
        for clients in CLIENTS {
            let measured = run_load(server, clients, duration, |_| {
                let (http, path, next) = (http.clone(), path.clone(), Arc::clone(&next));
                async move { create(&http, &path, &pod(next.fetch_add(1, Ordering::Relaxed))).await }
            })
            .await?;
            show(&format!("{what}, {clients} clients"), &measured);
        }
    }
    Ok(())
}

async fn create(http: &Http, path: &str, object: &str) -> anyhow::Result<()> {
    let answer = http.post(path, object.to_owned()).await?;
    ensure!(answer.0 == 201, "create in {path}: {}", String::from_utf8_lossy(&answer.1));
    Ok(())
}
