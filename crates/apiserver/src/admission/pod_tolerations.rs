//! What the pods of a namespace tolerate by themselves, and what they may tolerate
//! at all (upstream's `PodTolerationRestriction`; off unless it is asked for): by
//! annotations of the namespace, or the plugin's configuration.

use std::sync::Arc;

use anyhow::Context as _;
use api::{Object, Status};
use futures::future::BoxFuture;
use resources::kinds::pod::qos_class;
use serde::Deserialize;
use serde_json::{Value, json};

use super::configuration::{from_value, take_kind};
use super::pods::list;
use super::tolerations::{includes, merged};
use super::{Operation, Parts, Plugin, Request, reading};
use crate::cache::WatchCache;

const GROUP: &str = "podtolerationrestriction.admission.k8s.io/v1alpha1";
const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";

/// The plugin's configuration: for namespaces that say nothing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tolerations {
    default: Vec<Value>,
    whitelist: Vec<Value>,
}

impl Tolerations {
    pub(super) fn read(mut value: Value) -> anyhow::Result<Self> {
        take_kind(&mut value, "Configuration", &[GROUP])?;
        from_value(value)
    }
}

pub(super) struct PodTolerationRestriction {
    cache: Arc<WatchCache>,
    of_cluster: Tolerations,
}

impl PodTolerationRestriction {
    pub(super) fn new(parts: &Parts) -> Self {
        Self { cache: parts.cache(), of_cluster: parts.configuration.tolerations.clone() }
    }

    async fn merge(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let namespace = reading::namespace_object(&self.cache, request.namespace).await?;
        let Some(pod) = &mut request.object else { return Ok(()) };
        let mut more = Vec::new();
        if request.operation == Operation::Create {
            more = annotated(&namespace, DEFAULTS)?.unwrap_or_else(|| self.of_cluster.default.clone());
        }
        if qos_class(pod) != "BestEffort" {
            more.push(json!({
                "key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule",
            }));
        }
        if !more.is_empty() {
            let merged = merged(list(pod, "tolerations"), &more);
            pod.set_at(&["spec", "tolerations"], merged);
        }
        self.judge_in(request, &namespace)
    }

    async fn judge(&self, request: &Request<'_>) -> Result<(), Status> {
        self.judge_in(request, &reading::namespace_object(&self.cache, request.namespace).await?)
    }

    fn judge_in(&self, request: &Request<'_>, namespace: &Object) -> Result<(), Status> {
        let Some(pod) = &request.object else { return Ok(()) };
        let own = annotated(namespace, ALLOWED)?;
        let scope = if own.is_some() { "namespace" } else { "cluster" };
        let allowed = own.as_ref().unwrap_or(&self.of_cluster.whitelist);
        let mut tolerations = list(pod, "tolerations").iter();
        if allowed.is_empty() || tolerations.all(|one| allowed.iter().any(|other| includes(other, one))) {
            return Ok(());
        }
        Err(Status::internal(format!(
            "pod tolerations (possibly merged with namespace default tolerations) conflict with its {scope} whitelist"
        )))
    }
}

impl Plugin for PodTolerationRestriction {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move { if is_meant(request) { self.merge(request).await } else { Ok(()) } })
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move { if is_meant(request) { self.judge(request).await } else { Ok(()) } })
    }
}

fn is_meant(request: &Request<'_>) -> bool {
    request.is("", "pods", "") && matches!(request.operation, Operation::Create | Operation::Update)
}

/// The tolerations of an annotation; nothing if there is none.
fn annotated(namespace: &Object, name: &str) -> Result<Option<Vec<Value>>, Status> {
    let Some(text) = namespace.annotation(name) else { return Ok(None) };
    if text.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let read = serde_json::from_str(text).with_context(|| format!("annotation {name} of the namespace"));
    read.map(Some).map_err(|error| Status::internal(format!("{error:#}")))
}
