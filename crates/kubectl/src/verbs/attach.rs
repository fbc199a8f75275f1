//! `attach`: the streams of a container's own process.

use std::time::Duration;

use api::Object;
use clap::Args;
use serde_json::Value;
use wire::node::ExecStart;

use super::Verb;
use super::exec::Streams;
use crate::error::Error;
use crate::kube::{Kube, parse_duration};
use crate::pods;
use crate::remote::{self, Call};

#[derive(Args)]
pub(crate) struct Attach {
    /// POD, or TYPE/NAME
    words: Vec<String>,
    #[command(flatten)]
    streams: Streams,
}

impl Verb for Attach {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let limit = parse_duration(&self.streams.pod_running_timeout)?;
        let word = match self.words.as_slice() {
            [word] => word.clone(),
            [kind, name] => format!("{kind}/{name}"),
            [] => return Err(Error::said("at least 1 argument is required for attach")),
            _ => {
                return Err(Error::said(
                    "expected POD, TYPE/NAME, or TYPE NAME, (at most 2 arguments) saw more",
                ));
            }
        };
        let pod = pods::of_word(kube, &word, limit).await?;
        join(kube, &pod, &self.streams).await
    }
}

/// Joins the container of a pod.
pub(super) async fn join(kube: &Kube, pod: &Object, streams: &Streams) -> Result<(), Error> {
    let phase = pod.text(&["status", "phase"]);
    if phase == "Succeeded" || phase == "Failed" {
        return Err(Error::said(format!(
            "cannot attach a container in a completed pod; current phase is {phase}"
        )));
    }
    let container = pods::container(pod, streams.container.as_deref(), streams.quiet)?;
    let has_tty = spec_of(pod, &container).is_some_and(|spec| spec["tty"] == true);
    if streams.tty && !has_tty && !streams.quiet {
        eprintln!("error: Unable to use a TTY - container {container} did not allocate one");
    }
    let streams = Streams { tty: streams.tty && has_tty, ..streams.clone() };
    let tty = streams.is_raw();
    if streams.stdin && tty && !streams.quiet {
        eprintln!("If you don't see a command prompt, try pressing enter.");
    }
    let start = ExecStart {
        pod: Some(pods::reference(pod, container)),
        command: Vec::new(),
        stdin: streams.stdin,
        stdout: true,
        stderr: !has_tty,
        tty,
    };
    remote::run(kube, Call::Attach, start).await
}

fn spec_of<'a>(pod: &'a Object, container: &str) -> Option<&'a Value> {
    ["containers", "initContainers", "ephemeralContainers"].iter().find_map(|field| {
        let list = pod.at(&["spec", field])?.as_array()?;
        list.iter().find(|one| one["name"] == container)
    })
}

/// Waits until a pod runs or is done; or until it is done.
pub(super) async fn until_running(
    kube: &Kube,
    pod: &Object,
    limit: Duration,
    done: bool,
) -> Result<Object, Error> {
    let pods = kube.discovery().await?.of_kind("v1", "Pod")?;
    let until = crate::clock::deadline(limit);
    let phases: &[&str] = if done { &["Succeeded", "Failed"] } else { &["Running", "Succeeded", "Failed"] };
    loop {
        let now = kube.get(pods.target(pod.namespace(), pod.name())).await?;
        if phases.contains(&now.text(&["status", "phase"])) {
            return Ok(now);
        }
        if until.is_some_and(|until| tokio::time::Instant::now() >= until) {
            return Err(Error::said("timed out waiting for the condition"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
