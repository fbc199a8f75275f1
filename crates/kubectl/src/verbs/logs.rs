//! `logs`: of a pod, of a workload's pods, or of pods that a selector finds.

use std::time::Duration;

use api::Object;
use clap::Args;
use futures::stream::{FuturesUnordered, StreamExt as _};
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
    /// Of all containers of the pods
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    all_containers: bool,
    /// Of all pods of a workload, with the source before each line
    #[arg(long)]
    all_pods: bool,
    /// Put the pod and container before each line
    #[arg(long)]
    prefix: bool,
    /// Go on where a log cannot be read
    #[arg(long)]
    ignore_errors: bool,
    /// How many logs may be followed at once
    #[arg(long, default_value_t = 5)]
    max_log_requests: usize,
    /// How long to wait until a pod is there
    #[arg(long, default_value = "20s")]
    pod_running_timeout: String,
}

impl Verb for Logs {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        self.check()?;
        let namespace = kube.namespace()?;
        let mut sources = Vec::new();
        for pod in self.pods(kube, &namespace).await? {
            for container in self.containers(&pod)? {
                sources.push((pod.name().to_owned(), container));
            }
        }
        if self.follow && sources.len() > self.max_log_requests {
            return Err(Error::said(format!(
                "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, use \
                 --max-log-requests to increase the limit",
                sources.len(),
                self.max_log_requests
            )));
        }
        let read = |(pod, container): (String, String)| {
            let namespace = &namespace;
            let logs = &self;
            async move {
                match logs.one(kube, namespace, &pod, &container).await {
                    Err(error) if logs.ignore_errors => output::line(error),
                    other => other,
                }
            }
        };
        if self.follow && sources.len() > 1 {
            let mut all: FuturesUnordered<_> = sources.into_iter().map(read).collect();
            while let Some(outcome) = all.next().await {
                outcome?;
            }
        } else {
            for source in sources {
                read(source).await?;
            }
        }
        Ok(())
    }
}

impl Logs {
    fn check(&self) -> Result<(), Error> {
        if self.since.is_some() && !self.since_time.is_empty() {
            return Err(Error::said("at most one of `sinceTime` or `sinceSeconds` may be specified"));
        }
        if let Some(container) = self.container.as_ref().filter(|_| self.all_containers) {
            return Err(Error::said(format!(
                "--all-containers=true should not be specified with container name {container}"
            )));
        }
        if self.container.is_some() && self.words.len() == 2 {
            return Err(Error::said("only one of -c or an inline [CONTAINER] arg is allowed"));
        }
        if self.tail.is_some_and(|lines| lines < -1) {
            return Err(Error::said("--tail must be greater than or equal to -1"));
        }
        if !self.selector.is_empty() && !self.words.is_empty() {
            return Err(Error::said("only a selector (-l) or a POD name is allowed"));
        }
        Ok(())
    }

    /// The pods that are meant; of a workload one, unless all are wanted.
    async fn pods(&self, kube: &Kube, namespace: &str) -> Result<Vec<Object>, Error> {
        let discovery = kube.discovery().await?;
        let kind = discovery.of_kind("v1", "Pod")?;
        if !self.selector.is_empty() {
            let found = kube.list(kind.target(namespace, ""), &self.selector, "").await?;
            if found.is_empty() {
                eprintln!("No resources found in {namespace} namespace.");
            }
            return Ok(found);
        }
        let Some(first) = self.words.first() else {
            return Err(Error::said(
                "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument \
                 for the logs command",
            ));
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
        let until = crate::clock::deadline(parse_duration(&self.pod_running_timeout)?);
        let mut found = loop {
            let found = kube.list(kind.target(namespace, ""), &selector, "").await?;
            if !found.is_empty() {
                break found;
            }
            if until.is_some_and(|until| tokio::time::Instant::now() >= until) {
                return Err(Error::said("timed out waiting for the condition"));
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        };
        if self.all_pods {
            return Ok(found);
        }
        if found.len() > 1 {
            eprintln!("Found {} pods, using pod/{}", found.len(), found[0].name());
        }
        found.truncate(1);
        Ok(found)
    }

    fn containers(&self, pod: &Object) -> Result<Vec<String>, Error> {
        if self.all_containers {
            return Ok(pods::all_containers(pod));
        }
        let wanted = self.container.as_ref().or_else(|| self.words.get(1));
        match wanted {
            Some(name) if pods::all_containers(pod).contains(name) => Ok(vec![name.clone()]),
            Some(name) => Err(Error::said(format!("container {name} is not valid for pod {}", pod.name()))),
            None => Ok(vec![pods::container(pod, None, false)?]),
        }
    }

    async fn one(&self, kube: &Kube, namespace: &str, pod: &str, container: &str) -> Result<(), Error> {
        let since = match &self.since {
            Some(text) => i64::try_from(parse_duration(text)?.as_secs()).ok(),
            None => None,
        };
        let default_tail = if self.selector.is_empty() { None } else { Some(10) };
        let request = LogsRequest {
            pod: Some(PodRef {
                namespace: namespace.to_owned(),
                name: pod.to_owned(),
                container: container.to_owned(),
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
        let prefix = match self.prefix || self.all_pods {
            true => format!("[pod/{pod}/{container}] "),
            false => String::new(),
        };
        let mut chunks = kube.client().await?.node().logs(request).await?.into_inner();
        let mut rest = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            rest.extend_from_slice(&chunk.data);
            output::write_bytes(&whole_lines(&mut rest, &prefix))?;
        }
        if !rest.is_empty() {
            output::write_bytes(&[prefix.as_bytes(), &rest].concat())?;
        }
        Ok(())
    }
}

/// Takes the lines that are complete, so that logs that are followed at once
/// do not mix within a line, and puts the prefix before each.
fn whole_lines(rest: &mut Vec<u8>, prefix: &str) -> Vec<u8> {
    let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
    let left = rest.split_off(end + 1);
    let lines = std::mem::replace(rest, left);
    if prefix.is_empty() {
        return lines;
    }
    lines.split_inclusive(|byte| *byte == b'\n').flat_map(|line| [prefix.as_bytes(), line].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole() {
        let mut rest = b"one\ntwo\nthr".to_vec();
        assert_eq!(whole_lines(&mut rest, "[p] "), b"[p] one\n[p] two\n");
        assert_eq!(rest, b"thr");
        assert!(whole_lines(&mut rest, "").is_empty());
        rest.extend_from_slice(b"ee\n");
        assert_eq!(whole_lines(&mut rest, ""), b"three\n");
        assert!(rest.is_empty());
    }
}
