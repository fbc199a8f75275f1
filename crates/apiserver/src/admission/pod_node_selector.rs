//! The pods of a namespace run on its nodes only (upstream's `PodNodeSelector`; off
//! unless it is asked for).
//!
//! Which nodes these are says an annotation of the namespace, or the plugin's
//! configuration: a default for the cluster, and for single namespaces what pods may
//! select at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use api::{Object, Status};
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::configuration::from_value;
use super::{Operation, Parts, Plugin, Request, reading};
use crate::cache::WatchCache;

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
/// The entry that is about all namespaces without an annotation.
const DEFAULT: &str = "clusterDefaultNodeSelector";

type Labels = BTreeMap<String, String>;

/// Labels by namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeSelectors(BTreeMap<String, Labels>);

impl NodeSelectors {
    pub(super) fn read(value: Value) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct File {
            pod_node_selector_plugin_config: BTreeMap<String, String>,
        }
        let file: File = from_value(value)?;
        let read = |(namespace, text): (String, String)| {
            let labels = labels(&text).with_context(|| format!("the selector of {namespace:?}"))?;
            Ok((namespace, labels))
        };
        file.pod_node_selector_plugin_config.into_iter().map(read).collect::<anyhow::Result<_>>().map(Self)
    }
}

pub(super) struct PodNodeSelector {
    cache: Arc<WatchCache>,
    selectors: NodeSelectors,
}

impl PodNodeSelector {
    pub(super) fn new(parts: &Parts) -> Self {
        Self { cache: parts.cache(), selectors: parts.configuration.node_selectors.clone() }
    }

    /// What the pods of a namespace select.
    async fn of_namespace(&self, name: &str) -> Result<Labels, Status> {
        let namespace = reading::namespace_object(&self.cache, name).await?;
        match namespace.annotation(ANNOTATION) {
            Some(text) => labels(text).map_err(|error| Status::internal(error.to_string())),
            None => Ok(self.selectors.0.get(DEFAULT).cloned().unwrap_or_default()),
        }
    }

    async fn merge(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let wanted = self.of_namespace(request.namespace).await?;
        let Some(pod) = &mut request.object else { return Ok(()) };
        let mut selector = selector(pod).cloned().unwrap_or_default();
        for (key, value) in &wanted {
            selector.entry(key.clone()).or_insert_with(|| value.as_str().into());
        }
        if !selector.is_empty() {
            pod.set_at(&["spec", "nodeSelector"], selector);
        }
        self.judge(request, &wanted)
    }

    fn judge(&self, request: &Request<'_>, wanted: &Labels) -> Result<(), Status> {
        let Some(pod) = &request.object else { return Ok(()) };
        let none = Map::new();
        let selector = selector(pod).unwrap_or(&none);
        if wanted.iter().any(|(key, value)| selector.get(key).is_some_and(|other| other != value)) {
            return Err(
                request.forbidden("pod node label selector conflicts with its namespace node label selector")
            );
        }
        let allowed = self.selectors.0.get(request.namespace).filter(|allowed| !allowed.is_empty());
        let is_allowed = |(key, value): (&String, &Value)| {
            allowed.is_none_or(|allowed| allowed.get(key).is_some_and(|one| value == one))
        };
        if selector.iter().all(is_allowed) {
            return Ok(());
        }
        Err(request.forbidden("pod node label selector labels conflict with its namespace whitelist"))
    }
}

impl Plugin for PodNodeSelector {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move { if is_meant(request) { self.merge(request).await } else { Ok(()) } })
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !is_meant(request) {
                return Ok(());
            }
            self.judge(request, &self.of_namespace(request.namespace).await?)
        })
    }
}

fn is_meant(request: &Request<'_>) -> bool {
    request.is("", "pods", "") && request.operation == Operation::Create
}

fn selector(pod: &Object) -> Option<&Map<String, Value>> {
    pod.at(&["spec", "nodeSelector"]).and_then(Value::as_object)
}

/// `KEY=VALUE,KEY=VALUE`.
fn labels(text: &str) -> anyhow::Result<Labels> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').with_context(|| format!("invalid selector: [{pair}]"))?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read() {
        let found = labels(" a=b , c= ").expect("reads");
        assert_eq!(found, [("a", "b"), ("c", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert!(labels("").expect("reads").is_empty());
        assert_eq!(labels("a").expect_err("an error").to_string(), "invalid selector: [a]");
    }
}
