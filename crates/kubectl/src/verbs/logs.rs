//! `logs`: of a pod, of a workload's pods, or of pods that a selector finds.

use api::Object;
use clap::Args;
use serde_json::Value;
use wire::node::{LogsRequest, PodRef};

use super::Verb;
use crate::error::Error;
use crate::kube::{Kube, parse_duration};
use crate::output;
use crate::resource_builder;

#[derive(Args)]
pub(crate) struct Logs {
    /// POD, or TYPE/NAME, and a container
    words: Vec<String>,
    /// Pods with these labels
    #[arg(short = 'l', long, default_value = "")]
    selector: String,
    /// Follow
    #[arg(short = 'f', long)]
    follow: bool,
    /// The container
    #[arg(short = 'c', long)]
    container: Option<String>,
    /// The container's previous run
    #[arg(short = 'p', long)]
    previous: bool,
    /// The last lines; -1 for all
    #[arg(long, allow_hyphen_values = true)]
    tail: Option<i64>,
    /// Not older than this
    #[arg(long)]
    since: Option<String>,
    /// Not older than this RFC 3339 time
    #[arg(long, default_value = "")]
    since_time: String,
    /// At most this many bytes
    #[arg(long)]
    limit_bytes: Option<i64>,
    /// Put the time before each line
    #[arg(long)]
    timestamps: bool,
}

impl Verb for Logs {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let namespace = kube.namespace()?;
        let pods = self.pods(kube, &namespace).await?;
        for pod in pods {
            self.one(kube, &namespace, &pod).await?;
        }
        Ok(())
    }
}

impl Logs {
    /// The pods that are meant; of a workload the first, as kubectl takes it.
    async fn pods(&self, kube: &Kube, namespace: &str) -> Result<Vec<Object>, Error> {
        let discovery = kube.discovery().await?;
        let pods = discovery.of_kind("v1", "Pod")?;
        if !self.selector.is_empty() {
            if self.follow {
                return Err(Error::said("--follow with a selector is not available: name one pod"));
            }
            return kube.list(pods.target(namespace, ""), &self.selector, "").await;
        }
        let Some(first) = self.words.first() else {
            return Err(Error::said("expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'."));
        };
        if !first.contains('/') {
            return match kube.get(pods.target(namespace, first)).await {
                Err(Error::Server { status, .. }) if status.reason == api::Reason::NotFound => {
                    Err(Error::said(format!(
                        "error from server (NotFound): {} in namespace {namespace:?}",
                        status.message
                    )))
                }
                other => Ok(vec![other?]),
            };
        }
        let wanted = resource_builder::read_words(discovery, std::slice::from_ref(first))?.remove(0);
        let name = wanted.name.unwrap_or_default();
        let object = kube.get(wanted.resource.target(namespace, &name)).await?;
        if wanted.resource == pods {
            return Ok(vec![object]);
        }
        let selector = selector_of(&object)
            .ok_or_else(|| Error::said(format!("cannot get the logs from {}", wanted.resource.kind)))?;
        let mut found = kube.list(pods.target(namespace, ""), &selector, "").await?;
        if found.is_empty() {
            return Err(Error::said("timed out waiting for the condition: the workload has no pods"));
        }
        if found.len() > 1 {
            eprintln!("Found {} pods, using pod/{}", found.len(), found[0].name());
        }
        found.truncate(1);
        Ok(found)
    }

    async fn one(&self, kube: &Kube, namespace: &str, pod: &Object) -> Result<(), Error> {
        let container = match self.container.as_ref().or_else(|| self.words.get(1)) {
            Some(name) => name.clone(),
            None => default_container(pod)?,
        };
        let since = match &self.since {
            Some(text) => i64::try_from(parse_duration(text)?.as_secs()).ok(),
            None => None,
        };
        let default_tail = if self.selector.is_empty() { None } else { Some(10) };
        let request = LogsRequest {
            pod: Some(PodRef {
                namespace: namespace.to_owned(),
                name: pod.name().to_owned(),
                container,
                ..Default::default()
            }),
            follow: self.follow,
            previous: self.previous,
            since_seconds: since,
            since_time: self.since_time.clone(),
            timestamps: self.timestamps,
            tail_lines: self.tail.or(default_tail).filter(|lines| *lines >= 0),
            limit_bytes: self.limit_bytes,
            stream: String::new(),
        };
        let mut chunks = kube.client().await?.node().logs(request).await?.into_inner();
        while let Some(chunk) = chunks.message().await? {
            output::write_bytes(&chunk.data)?;
        }
        Ok(())
    }
}

/// A workload's selector in query syntax.
fn selector_of(object: &Object) -> Option<String> {
    let selector = object.at(&["spec", "selector"])?;
    let labels = selector.get("matchLabels").unwrap_or(selector).as_object()?;
    let pairs: Vec<String> =
        labels.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect();
    (!pairs.is_empty()).then(|| pairs.join(","))
}

/// The only container, the annotated one, or the first with a word about it.
fn default_container(pod: &Object) -> Result<String, Error> {
    let containers = pod.at(&["spec", "containers"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let names: Vec<&str> = containers.iter().filter_map(|one| one["name"].as_str()).collect();
    if let Some(name) =
        pod.annotation("kubectl.kubernetes.io/default-container").filter(|name| names.contains(name))
    {
        return Ok(name.to_owned());
    }
    let Some(first) = names.first() else {
        return Err(Error::said(format!("pod {} has no containers", pod.name())));
    };
    if names.len() > 1 {
        eprintln!("Defaulted container {first:?} out of: {}", names.join(", "));
    }
    Ok((*first).to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_and_containers_are_chosen() {
        let web = Object::from_value(json!({"spec": {"selector": {"matchLabels": {"a": "1", "b": "2"}}}}))
            .expect("object");
        assert_eq!(selector_of(&web).as_deref(), Some("a=1,b=2"));
        let service = Object::from_value(json!({"spec": {"selector": {"app": "w"}}})).expect("object");
        assert_eq!(selector_of(&service).as_deref(), Some("app=w"));
        assert_eq!(selector_of(&Object::default()), None);
        let mut pod = Object::from_value(json!({"spec": {"containers": [{"name": "x"}, {"name": "y"}]}}))
            .expect("object");
        assert_eq!(default_container(&pod).expect("first"), "x");
        pod.set_at(&["metadata", "annotations", "kubectl.kubernetes.io/default-container"], "y");
        assert_eq!(default_container(&pod).expect("annotated"), "y");
        assert!(default_container(&Object::default()).is_err());
    }
}
