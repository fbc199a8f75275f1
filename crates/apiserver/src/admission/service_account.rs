//! Every pod runs as a service account that exists, with a token of its own
//! mounted where programs look for it.

use std::sync::Arc;

use api::{Object, Status};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};
use crate::cache::WatchCache;

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Upstream's lifetime for such tokens, in seconds.
const TOKEN_SECONDS: i64 = 3607;

pub(super) struct ServiceAccount {
    cache: Arc<WatchCache>,
}

impl ServiceAccount {
    pub(super) const fn new(cache: Arc<WatchCache>) -> Self {
        Self { cache }
    }

    async fn admit(&self, request: &mut Request<'_>) -> Result<(), Status> {
        if !request.is("", "pods", "") || request.operation != Operation::Create {
            return Ok(());
        }
        let Some(mut pod) = request.object.take() else { return Ok(()) };
        let admitted = self.equip(request, &mut pod).await;
        request.object = Some(pod);
        admitted
    }

    async fn equip(&self, request: &Request<'_>, pod: &mut Object) -> Result<(), Status> {
        // Mirror pods stand for pods that run whatever the cluster says.
        if pod.annotation("kubernetes.io/config.mirror").is_some() {
            return Ok(());
        }
        if pod.text(&["spec", "serviceAccountName"]).is_empty() {
            pod.set_at(&["spec", "serviceAccountName"], "default");
        }
        let name = pod.text(&["spec", "serviceAccountName"]).to_owned();
        pod.set_at(&["spec", "serviceAccount"], name.as_str());
        let account = self.find(request.namespace, &name).await?.ok_or_else(|| {
            request.forbidden(&format!(
                "error looking up service account {}/{name}: serviceaccount {name:?} not found",
                request.namespace
            ))
        })?;
        let wanted = pod
            .at(&["spec", "automountServiceAccountToken"])
            .or_else(|| account.get("automountServiceAccountToken"))
            .and_then(Value::as_bool)
            .unwrap_or(true);
        if wanted {
            mount_token(pod);
        }
        if pod.at(&["spec", "imagePullSecrets"]).is_none()
            && let Some(secrets) = account.get("imagePullSecrets")
        {
            pod.set_at(&["spec", "imagePullSecrets"], secrets.clone());
        }
        Ok(())
    }

    async fn find(&self, namespace: &str, name: &str) -> Result<Option<Object>, Status> {
        let accounts = self.cache.resource("", "serviceaccounts");
        let mut found = accounts.get(namespace, name);
        if found.is_none() {
            self.cache.refreshed().await.map_err(|error| crate::registry::store_failed(&error))?;
            found = accounts.get(namespace, name);
        }
        found.map(|stored| stored.object().map_err(Status::internal)).transpose()
    }
}

impl Plugin for ServiceAccount {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.admit(request))
    }
}

fn mount_token(pod: &mut Object) {
    let volume = existing_token_volume(pod)
        .unwrap_or_else(|| format!("kube-api-access-{}", crate::registry::random_suffix()));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let Some(containers) = pod.at(&["spec", list]).and_then(Value::as_array) else { continue };
        let mut containers = containers.clone();
        for container in &mut containers {
            let mounts = container.get("volumeMounts").and_then(Value::as_array).cloned().unwrap_or_default();
            if mounts.iter().any(|mount| mount["mountPath"] == MOUNT) {
                continue;
            }
            let mut mounts = mounts;
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT}));
            container["volumeMounts"] = mounts.into();
            mounted = true;
        }
        pod.set_at(&["spec", list], containers);
    }
    if mounted && existing_token_volume(pod).is_none() {
        let mut volumes = pod.at(&["spec", "volumes"]).and_then(Value::as_array).cloned().unwrap_or_default();
        volumes.push(token_volume(&volume));
        pod.set_at(&["spec", "volumes"], volumes);
    }
}

fn existing_token_volume(pod: &Object) -> Option<String> {
    let volumes = pod.at(&["spec", "volumes"])?.as_array()?;
    let names = volumes.iter().filter_map(|volume| volume["name"].as_str());
    names.filter(|name| name.starts_with("kube-api-access-")).map(str::to_owned).next()
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_mounted_once_in_every_container() {
        let mut pod = Object::default();
        pod.set_at(
            &["spec", "containers"],
            json!([{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "x", "mountPath": MOUNT}]}]),
        );
        mount_token(&mut pod);
        let once = pod.clone();
        mount_token(&mut pod);
        assert_eq!(pod, once);
        let volumes = pod.at(&["spec", "volumes"]).and_then(Value::as_array).expect("volumes");
        assert_eq!(volumes.len(), 1);
        assert_eq!(
            pod.at(&["spec", "containers"]).expect("list")[0]["volumeMounts"][0]["name"],
            volumes[0]["name"]
        );
        assert_eq!(
            pod.at(&["spec", "containers"]).expect("list")[1]["volumeMounts"].as_array().map(Vec::len),
            Some(1)
        );
    }
}
