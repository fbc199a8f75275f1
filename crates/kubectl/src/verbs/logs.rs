//! `logs`: of a pod, of a workload's pods, or of pods that a selector finds.

use api::Object;
use clap::Args;
use wire::node::{LogsRequest, PodRef};

use super::Verb;
use crate::error::Error;
use crate::kube::{Kube, parse_duration};
use crate::{output, pods, resource_builder};

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
        for pod in self.pods(kube, &namespace).await? {
            self.one(kube, &namespace, &pod).await?;
        }
        Ok(())
    }
}

impl Logs {
    /// The pods that are meant; of a workload the first, as kubectl takes it.
    async fn pods(&self, kube: &Kube, namespace: &str) -> Result<Vec<Object>, Error> {
        let discovery = kube.discovery().await?;
        let kind = discovery.of_kind("v1", "Pod")?;
        if !self.selector.is_empty() {
            if self.follow {
                return Err(Error::said("--follow with a selector is not available: name one pod"));
            }
            return kube.list(kind.target(namespace, ""), &self.selector, "").await;
        }
        let Some(first) = self.words.first() else {
            return Err(Error::said("expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'."));
        };
        if !first.contains('/') {
            return match kube.get(kind.target(namespace, first)).await {
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
        if wanted.resource == kind {
            return Ok(vec![object]);
        }
        let selector = pods::selector_of(&object)
            .ok_or_else(|| Error::said(format!("cannot get the logs from {}", wanted.resource.kind)))?;
        let mut found = kube.list(kind.target(namespace, ""), &selector, "").await?;
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
            None => pods::container(pod, None, false)?,
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
