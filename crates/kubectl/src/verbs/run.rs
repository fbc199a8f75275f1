//! `run`: one pod of an image, and its streams if they are wanted.

use api::Object;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use wire::node::LogsRequest;

use super::Verb;
use super::attach;
use super::exec::Streams;
use crate::changes::{DryRun, How};
use crate::error::Error;
use crate::kube::{Info, Kube, parse_duration};
use crate::{output, pods};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Restart {
    #[value(name = "Always")]
    Always,
    #[value(name = "OnFailure")]
    OnFailure,
    #[value(name = "Never")]
    Never,
}

#[derive(Args)]
pub(crate) struct Run {
    /// The pod's name
    name: String,
    /// The image to run
    #[arg(long)]
    image: String,
    /// Always, OnFailure, or Never
    #[arg(long, value_enum, default_value = "Always")]
    restart: Restart,
    /// The words after -- are the command, not its arguments
    #[arg(long)]
    command: bool,
    /// KEY=VALUE
    #[arg(long)]
    env: Vec<String>,
    /// Labels of the pod
    #[arg(short = 'l', long, default_value = "")]
    labels: String,
    /// KEY=VALUE
    #[arg(long)]
    annotations: Vec<String>,
    /// The port that the container listens on
    #[arg(long)]
    port: Option<u16>,
    /// Put a service in front of the pod
    #[arg(long)]
    expose: bool,
    /// Always, IfNotPresent, or Never
    #[arg(long, default_value = "")]
    image_pull_policy: String,
    /// Run with all rights
    #[arg(long)]
    privileged: bool,
    /// JSON or YAML that is merged into the pod
    #[arg(long, default_value = "")]
    overrides: String,
    /// Attach to the pod; the default with -i
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    attach: Option<bool>,
    /// Keep standard input open after the first attach ends
    #[arg(long)]
    leave_stdin_open: bool,
    /// Delete the pod afterwards
    #[arg(long)]
    rm: bool,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the container a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// Print only what the container prints
    #[arg(short = 'q', long)]
    quiet: bool,
    /// How long to wait until the pod runs
    #[arg(long, default_value = "1m0s")]
    pod_running_timeout: String,
    #[command(flatten)]
    how: How,
    /// The arguments, or the command
    #[arg(last = true)]
    words: Vec<String>,
}

impl Verb for Run {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let attached = self.attach.unwrap_or(self.stdin);
        let dry_run = self.how.dry_run()?;
        if self.rm && !attached {
            return Err(Error::said("--rm should only be used for attached containers"));
        }
        if attached && dry_run != DryRun::None {
            return Err(Error::said(
                "--dry-run=[server|client] can't be used with attached containers options (--attach, --stdin, or --tty)",
            ));
        }
        if self.tty && !self.stdin {
            return Err(Error::said("-i/--stdin is required for containers with -t/--tty=true"));
        }
        if self.expose && self.port.is_none() {
            return Err(Error::said("--port must be set when exposing a service"));
        }
        let pod = self.made(kube, self.pod()?).await?;
        let created = self.how.create(kube, &pod).await?;
        let service = if self.expose { Some(self.made(kube, self.service()?).await?) } else { None };
        if let Some(service) = &service {
            let object = self.how.create(kube, service).await?;
            self.how.report(&service.label(), object, "created")?;
        }
        if !attached {
            return self.how.report(&pod.label(), created, "created");
        }
        let outcome = self.join(kube, &created).await;
        if self.rm {
            for info in [Some(&pod), service.as_ref()].into_iter().flatten() {
                kube.delete(info.target(), &client::DeleteOptions::default()).await?;
                if !self.quiet {
                    output::line(super::delete::said(info, "deleted"))?;
                }
            }
        }
        outcome
    }
}

impl Run {
    async fn made(&self, kube: &Kube, value: Value) -> Result<Info, Error> {
        let mut object = Object::from_value(value).map_err(|error| Error::said(error.to_string()))?;
        let resource = kube.discovery().await?.of_kind(object.api_version(), object.kind())?;
        let namespace = kube.namespace()?;
        if self.how.dry_run()? != DryRun::Client || kube.demanded_namespace().is_some() {
            object.set_at(&["metadata", "namespace"], namespace.clone());
        }
        let name = object.name().to_owned();
        Ok(Info { resource, namespace, name, object: Some(object), source: None })
    }

    fn labels(&self) -> Result<Value, Error> {
        if self.labels.is_empty() {
            Ok(json!({"run": self.name}))
        } else {
            Ok(Value::Object(pods::pairs(&self.labels)?))
        }
    }

    fn pod(&self) -> Result<Value, Error> {
        let mut container = json!({"name": self.name, "image": self.image});
        if !self.words.is_empty() {
            container[if self.command { "command" } else { "args" }] = json!(self.words);
        }
        let pair = |text: &String, what: &str| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Error::said(format!("invalid {what}: {text}"))),
        };
        if !self.env.is_empty() {
            let env = self
                .env
                .iter()
                .map(|text| pair(text, "env").map(|(name, value)| json!({"name": name, "value": value})))
                .collect::<Result<Vec<_>, _>>()?;
            container["env"] = env.into();
        }
        if let Some(port) = self.port {
            container["ports"] = json!([{"containerPort": port}]);
        }
        if !self.image_pull_policy.is_empty() {
            container["imagePullPolicy"] = self.image_pull_policy.clone().into();
        }
        if self.privileged {
            container["securityContext"] = json!({"privileged": true});
        }
        for (field, set) in
            [("stdin", self.stdin), ("stdinOnce", self.stdin && !self.leave_stdin_open), ("tty", self.tty)]
        {
            if set {
                container[field] = true.into();
            }
        }
        let restart = match self.restart {
            Restart::Always => "Always",
            Restart::OnFailure => "OnFailure",
            Restart::Never => "Never",
        };
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "labels": self.labels()?},
            "spec": {"containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": restart}});
        for text in &self.annotations {
            let (key, value) = pair(text, "annotation")?;
            pod["metadata"]["annotations"][key] = value.into();
        }
        if !self.overrides.is_empty() {
            let patch = api::yaml::parse(&self.overrides)
                .map_err(|error| Error::said(format!("invalid --overrides: {error}")))?;
            api::patch::merge_patch(&mut pod, patch);
        }
        Ok(pod)
    }

    fn service(&self) -> Result<Value, Error> {
        let port = json!({"port": self.port, "protocol": "TCP", "targetPort": self.port});
        Ok(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": self.name},
            "spec": {"selector": self.labels()?, "ports": [port]}}))
    }

    /// Joins the pod's streams, or prints what it said if it is done already,
    /// and gives its exit code where it is not started again.
    async fn join(&self, kube: &Kube, pod: &Object) -> Result<(), Error> {
        let limit = parse_duration(&self.pod_running_timeout)?;
        let now = attach::until_running(kube, pod, limit, false).await?;
        if now.text(&["status", "phase"]) == "Running" {
            let streams = Streams {
                container: Some(self.name.clone()),
                stdin: self.stdin,
                tty: self.tty,
                quiet: self.quiet,
                pod_running_timeout: self.pod_running_timeout.clone(),
            };
            match attach::join(kube, &now, &streams).await {
                // It may have ended in between: its log tells the same.
                Err(Error::Server { .. }) => self.print_log(kube, &now).await?,
                // How it ended is told below, where it is known why too.
                Err(Error::Ended(_)) => {}
                other => other?,
            }
        } else {
            self.print_log(kube, &now).await?;
        }
        if self.leave_stdin_open || self.restart == Restart::Always {
            return Ok(());
        }
        let end = attach::until_running(kube, pod, limit, true).await?;
        if end.text(&["status", "phase"]) == "Succeeded" {
            return Ok(());
        }
        let state = end.at(&["status", "containerStatuses"]).map(|list| &list[0]["state"]["terminated"]);
        let code = state.and_then(|state| state["exitCode"].as_i64()).unwrap_or_default();
        let text = |field: &str| state.and_then(|state| state[field].as_str()).unwrap_or_default();
        let label = format!("pod {}/{}", end.namespace(), end.name());
        if code == 0 {
            return Err(Error::said(format!("{label} failed with unknown exit code")));
        }
        eprintln!("{label} terminated ({})\n{}", text("reason"), text("message"));
        Err(Error::Exit(u8::try_from(code & 0xff).unwrap_or(1)))
    }

    async fn print_log(&self, kube: &Kube, pod: &Object) -> Result<(), Error> {
        let request =
            LogsRequest { pod: Some(pods::reference(pod, self.name.clone())), ..LogsRequest::default() };
        let mut chunks = kube.client().await?.node().logs(request).await?.into_inner();
        while let Some(chunk) = chunks.message().await? {
            output::write_bytes(&chunk.data)?;
        }
        Ok(())
    }
}
