//! `create`: from files, or of some kinds from flags.

use std::collections::BTreeMap;
use std::path::Path;

use api::Object;
use base64::Engine as _;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Verb;
use crate::changes::How;
use crate::error::Error;
use crate::kube::{Info, Kube};
use crate::resource_builder::{self, Files};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Create {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    how: How,
    #[command(subcommand)]
    kind: Option<Kind>,
}

#[derive(Args)]
struct Data {
    name: String,
    /// A file, or every file of a directory; KEY=PATH names the key
    #[arg(long)]
    from_file: Vec<String>,
    /// KEY=VALUE
    #[arg(long)]
    from_literal: Vec<String>,
    /// A file of KEY=VALUE lines
    #[arg(long)]
    from_env_file: Vec<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Named {
    name: String,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Workload {
    name: String,
    /// The image to run
    #[arg(long)]
    image: String,
    /// How many replicas (deployments)
    #[arg(long, default_value_t = 1)]
    replicas: u32,
    /// The port that the container listens on
    #[arg(long)]
    port: Option<u16>,
    #[command(flatten)]
    how: How,
    /// The command to run
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(Subcommand)]
enum SecretKind {
    /// From files and values
    Generic(Data),
}

#[derive(Subcommand)]
enum Kind {
    /// A namespace
    #[command(alias = "ns")]
    Namespace(Named),
    /// A config map
    #[command(alias = "cm")]
    Configmap(Data),
    /// A secret
    #[command(subcommand)]
    Secret(SecretKind),
    /// A service account
    #[command(alias = "sa")]
    Serviceaccount(Named),
    /// A deployment
    #[command(alias = "deploy")]
    Deployment(Workload),
    /// A job
    Job(Workload),
}

impl Verb for Create {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let Some(kind) = self.kind else {
            if self.files.filenames.is_empty() {
                return Err(Error::said("must specify one of -f and -k"));
            }
            let mut errors = Vec::new();
            for info in resource_builder::from_files(kube, &self.files).await? {
                match make(kube, &info, &self.how).await {
                    Err(Error::Exit(code)) => return Err(Error::Exit(code)),
                    Err(error) => errors.push(info.blame("creating", error)),
                    Ok(()) => {}
                }
            }
            return Error::of_all(errors);
        };
        let (object, how) = kind.object()?;
        make_value(kube, object, &how).await
    }
}

/// Creates an object that was made from flags.
pub(super) async fn make_value(kube: &Kube, value: Value, how: &How) -> Result<(), Error> {
    let mut object = Object::from_value(value).map_err(|error| Error::said(error.to_string()))?;
    let resource = kube.discovery().await?.of_kind(object.api_version(), object.kind())?;
    let namespace = if resource.namespaced { kube.namespace()? } else { String::new() };
    if resource.namespaced && (how.dry_run == "none" || kube.demanded_namespace().is_some()) {
        object.set_at(&["metadata", "namespace"], namespace.clone());
    }
    let name = object.name().to_owned();
    make(kube, &Info { resource, namespace, name, object: Some(object), source: None }, how).await
}

async fn make(kube: &Kube, info: &Info, how: &How) -> Result<(), Error> {
    let made = how.create(kube, info).await?;
    let label = format!("{}/{}", info.resource.label(), made.name());
    how.report(&label, made, "created")
}

impl Kind {
    fn object(self) -> Result<(Value, How), Error> {
        Ok(match self {
            Self::Namespace(Named { name, how }) => {
                (json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}), how)
            }
            Self::Serviceaccount(Named { name, how }) => {
                (json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}), how)
            }
            Self::Configmap(data) => {
                let (mut texts, mut binary) = (Map::new(), Map::new());
                for (key, bytes) in data.read()? {
                    match String::from_utf8(bytes) {
                        Ok(text) => texts.insert(key, text.into()),
                        Err(error) => binary.insert(key, encode(error.as_bytes()).into()),
                    };
                }
                let mut object =
                    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": data.name}});
                if !texts.is_empty() {
                    object["data"] = Value::Object(texts);
                }
                if !binary.is_empty() {
                    object["binaryData"] = Value::Object(binary);
                }
                (object, data.how)
            }
            Self::Secret(SecretKind::Generic(data)) => {
                let texts: Map<String, Value> =
                    data.read()?.into_iter().map(|(key, bytes)| (key, encode(&bytes).into())).collect();
                let mut object =
                    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": data.name}});
                if !texts.is_empty() {
                    object["data"] = Value::Object(texts);
                }
                (object, data.how)
            }
            Self::Deployment(workload) => {
                let labels = json!({"app": workload.name});
                let object = json!({
                    "apiVersion": "apps/v1", "kind": "Deployment",
                    "metadata": {"name": workload.name, "labels": labels},
                    "spec": {
                        "replicas": workload.replicas,
                        "selector": {"matchLabels": labels},
                        "template": {"metadata": {"labels": labels}, "spec": {"containers": [workload.container()]}}}});
                (object, workload.how)
            }
            Self::Job(workload) => {
                let mut container = workload.container();
                container["name"] = workload.name.clone().into();
                let object = json!({
                    "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": workload.name},
                    "spec": {"template": {"spec": {"containers": [container], "restartPolicy": "Never"}}}});
                (object, workload.how)
            }
        })
    }
}

impl Workload {
    fn container(&self) -> Value {
        let last = self.image.rsplit('/').next().unwrap_or_default();
        let name = last.split([':', '@']).next().unwrap_or_default();
        let mut container = json!({"name": name, "image": self.image});
        if !self.command.is_empty() {
            container["command"] = json!(self.command);
        }
        if let Some(port) = self.port {
            container["ports"] = json!([{"containerPort": port}]);
        }
        container
    }
}

fn encode(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

impl Data {
    fn read(&self) -> Result<BTreeMap<String, Vec<u8>>, Error> {
        let mut found = BTreeMap::new();
        let mut put = |key: String, bytes: Vec<u8>| match found.insert(key.clone(), bytes) {
            Some(_) => {
                Err(Error::said(format!("cannot add key {key:?}, another key by that name already exists")))
            }
            None => Ok(()),
        };
        for source in &self.from_file {
            let (key, path) = match source.split_once('=') {
                Some((key, path)) => (Some(key), Path::new(path)),
                None => (None, Path::new(source)),
            };
            let unreadable =
                |error: std::io::Error| Error::said(format!("error reading {}: {error}", path.display()));
            let base = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
                for entry in std::fs::read_dir(path).map_err(unreadable)? {
                    let path = entry.map_err(unreadable)?.path();
                    if path.is_file() {
                        put(base(&path), std::fs::read(&path).map_err(unreadable)?)?;
                    }
                }
            } else {
                put(key.map_or_else(|| base(path), str::to_owned), std::fs::read(path).map_err(unreadable)?)?;
            }
        }
        let pair = |text: &str| {
            text.split_once('=')
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .ok_or_else(|| Error::said(format!("invalid literal source {text}, expected key=value")))
        };
        for literal in &self.from_literal {
            let (key, value) = pair(literal)?;
            put(key, value.into_bytes())?;
        }
        for path in &self.from_env_file {
            let text = std::fs::read_to_string(path)?;
            for line in
                text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'))
            {
                let (key, value) = pair(line)?;
                put(key, value.into_bytes())?;
            }
        }
        Ok(found)
    }
}
