//! What every verb is given: the kubeconfig in use, the client, discovery, and
//! the requests that all verbs share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::{Object, Status};
use bytes::Bytes;
use clap::ArgMatches;
use client::kubeconfig::{Impersonation, Kubeconfig, Material, NamedCluster, NamedContext, Session};
use client::{Client, DeleteOptions, ListOptions, Patch, Target, WriteOptions};
use serde_json::Value;
use tokio::sync::OnceCell;
use wire::objects as pb;

use crate::discovery::Discovery;
use crate::error::Error;
use crate::schema::Schema;

/// What flags say instead of the kubeconfig.
#[derive(Clone, Debug, Default)]
struct Overrides {
    server: Option<String>,
    cluster: Option<String>,
    user: Option<String>,
    token: Option<String>,
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
    impersonation: Impersonation,
}

/// The cluster and user of one command line. Nothing is read or connected
/// before it is wanted.
pub(crate) struct Kube {
    kubeconfig: Option<PathBuf>,
    pub(crate) context: Option<String>,
    namespace: Option<String>,
    timeout: Option<String>,
    overrides: Overrides,
    /// The name in managed fields.
    manager: String,
    client: OnceCell<Client>,
    discovery: OnceCell<Discovery>,
}

impl Kube {
    pub(crate) fn from_flags(matches: &ArgMatches) -> Self {
        let own = flags_of_verb(matches);
        let text = |name: &str| {
            matches.get_one::<String>(name).filter(|_| !own.iter().any(|one| one == name)).cloned()
        };
        Self {
            kubeconfig: text("kubeconfig").map(PathBuf::from),
            context: text("context"),
            namespace: text("namespace"),
            timeout: text("request-timeout"),
            overrides: Overrides {
                server: text("server"),
                cluster: text("cluster"),
                user: text("user"),
                token: text("token"),
                authority: text("certificate-authority").map(PathBuf::from),
                certificate: text("client-certificate").map(PathBuf::from),
                key: text("client-key").map(PathBuf::from),
                server_name: text("tls-server-name"),
                impersonation: impersonation_of(matches),
            },
            manager: text("field-manager").unwrap_or_else(|| manager_of(matches).to_owned()),
            client: OnceCell::new(),
            discovery: OnceCell::new(),
        }
    }

    /// The kubeconfig files: the flag's, `$KUBECONFIG`'s, or `~/.kube/config`.
    pub(crate) fn config_paths(&self) -> Vec<PathBuf> {
        if let Some(path) = &self.kubeconfig {
            return vec![path.clone()];
        }
        let named: Vec<PathBuf> = std::env::var_os("KUBECONFIG")
            .map(|list| std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect())
            .unwrap_or_default();
        if named.is_empty() {
            vec![PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".kube/config")]
        } else {
            named
        }
    }

    /// The kubeconfig; of several files, the first that says something wins,
    /// and files that are not there do not matter if one is.
    pub(crate) fn config(&self) -> Result<Kubeconfig, Error> {
        let paths = self.config_paths();
        let mut found: Option<Kubeconfig> = None;
        let mut missing = None;
        for path in &paths {
            match Kubeconfig::load(path) {
                Ok(config) => match &mut found {
                    None => found = Some(config),
                    Some(first) => add(first, config),
                },
                Err(client::kubeconfig::KubeconfigError::Read { source, path })
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    missing = Some(client::kubeconfig::KubeconfigError::Read { path, source });
                }
                Err(error) => return Err(error.into()),
            }
        }
        match (found, missing) {
            (Some(config), _) => Ok(config),
            (None, Some(error)) => Err(error.into()),
            (None, None) => Err(Error::said("no kubeconfig is named")),
        }
    }

    pub(crate) fn session(&self) -> Result<Session, Error> {
        let over = &self.overrides;
        let mut config = match self.config() {
            Ok(config) => config,
            // Flags may say all that there is to say.
            Err(_) if over.server.is_some() => Kubeconfig::default(),
            Err(error) => return Err(error),
        };
        let mut context = self.context.clone();
        if over.cluster.is_some() || over.user.is_some() || config.contexts.is_empty() {
            let name = context.unwrap_or_else(|| config.current_context.clone());
            let mut chosen = config
                .contexts
                .iter()
                .find(|one| one.name == name)
                .map(|one| one.context.clone())
                .unwrap_or_default();
            if let Some(cluster) = &over.cluster {
                chosen.cluster.clone_from(cluster);
            }
            if let Some(user) = &over.user {
                chosen.user.clone_from(user);
            }
            if over.server.is_some() && !config.clusters.iter().any(|one| one.name == chosen.cluster) {
                config
                    .clusters
                    .push(NamedCluster { name: chosen.cluster.clone(), ..NamedCluster::default() });
            }
            // No name of a file's: those are not empty.
            config.contexts.insert(0, NamedContext { name: String::new(), context: chosen });
            context = Some(String::new());
        }
        let mut session = config.session(context.as_deref())?;
        if let Some(server) = &over.server {
            session.server.clone_from(server);
        }
        if let Some(path) = &over.authority {
            session.ca = Some(Material::File(path.clone()));
        }
        if let Some(token) = &over.token {
            session.token = Some(Material::Bytes(token.clone().into_bytes()));
        }
        if let (Some(certificate), Some(key)) = (&over.certificate, &over.key) {
            session.identity = Some((Material::File(certificate.clone()), Material::File(key.clone())));
        }
        if over.server_name.is_some() {
            session.server_name.clone_from(&over.server_name);
        }
        if over.impersonation != Impersonation::default() {
            let wanted = over.impersonation.clone();
            let user = if wanted.user.is_empty() { session.impersonation.user } else { wanted.user.clone() };
            session.impersonation = Impersonation { user, ..wanted };
        }
        Ok(session)
    }

    /// The namespace to work in.
    pub(crate) fn namespace(&self) -> Result<String, Error> {
        match &self.namespace {
            Some(name) => Ok(name.clone()),
            None => Ok(self.session()?.namespace),
        }
    }

    /// The namespace that the command line demands, if it does.
    pub(crate) fn demanded_namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    pub(crate) async fn client(&self) -> Result<&Client, Error> {
        self.client
            .get_or_try_init(|| async { Ok(Client::new(&self.session()?, self.manager.as_str())?) })
            .await
    }

    pub(crate) async fn discovery(&self) -> Result<&Discovery, Error> {
        self.discovery
            .get_or_try_init(|| async {
                let client = self.client().await?;
                let list = self.in_time(client.discover()).await?;
                Ok(Discovery::parse(&list.into_value()))
            })
            .await
    }

    /// The OpenAPI document of a group version; `None` where it has none.
    pub(crate) async fn schema(&self, group: &str, version: &str) -> Result<Option<Schema>, Error> {
        let request = pb::OpenApiRequest { group: group.to_owned(), version: version.to_owned() };
        match self.client().await?.objects().open_api(request).await {
            Ok(answer) => Ok(Some(Schema::new(serde_json::from_slice(&answer.into_inner().json)?))),
            Err(status) => match client::of_grpc(&status) {
                status if status.reason == api::Reason::NotFound => Ok(None),
                status => Err(status.into()),
            },
        }
    }

    /// Bounds a request by `--request-timeout`.
    pub(crate) async fn in_time<T>(
        &self,
        request: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Error> {
        let limit = match self.timeout.as_deref() {
            None => Duration::ZERO,
            Some(text) => parse_duration(text)?,
        };
        if limit.is_zero() {
            return Ok(request.await?);
        }
        match tokio::time::timeout(limit, request).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Error::said(format!("no answer from the server within {limit:?}"))),
        }
    }

    pub(crate) async fn get(&self, target: Target) -> Result<Object, Error> {
        let answer = self.in_time(self.client().await?.get_json(target)).await?;
        Ok(Object::from_slice(&answer.json)?)
    }

    pub(crate) async fn find(&self, target: Target) -> Result<Option<Object>, Error> {
        match self.get(target).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn list(
        &self,
        target: Target,
        labels: &str,
        fields: &str,
    ) -> Result<Vec<Object>, Error> {
        let options = ListOptions {
            namespace: target.namespace.clone(),
            labels: labels.to_owned(),
            fields: fields.to_owned(),
            ..ListOptions::default()
        };
        let list = self.in_time(self.client().await?.list_json(target, &options)).await?;
        list.items.iter().map(|json| Ok(Object::from_slice(json)?)).collect()
    }

    pub(crate) async fn create(
        &self,
        target: Target,
        object: &Object,
        options: &WriteOptions,
    ) -> Result<Object, Error> {
        let body = Bytes::from(object.to_vec());
        let answer = self.in_time(self.client().await?.create_json(target, body, options)).await?;
        finish(&answer)
    }

    pub(crate) async fn update(
        &self,
        target: Target,
        object: &Object,
        options: &WriteOptions,
    ) -> Result<Object, Error> {
        let body = Bytes::from(object.to_vec());
        let answer = self.in_time(self.client().await?.update_json(target, body, options)).await?;
        finish(&answer)
    }

    pub(crate) async fn patch(
        &self,
        target: Target,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Object, Error> {
        let answer = self.in_time(self.client().await?.patch_json(target, patch, options)).await?;
        finish(&answer)
    }

    pub(crate) async fn delete(&self, target: Target, options: &DeleteOptions) -> Result<Value, Error> {
        let answer = self.in_time(self.client().await?.delete_json(target, options)).await?;
        Ok(serde_json::from_slice(&answer.json)?)
    }
}

/// The global flags' names that the verb takes for something else, such as
/// the user whom a role is bound to.
fn flags_of_verb(matches: &ArgMatches) -> Vec<String> {
    let command = crate::command();
    let (mut command, mut matches) = (&command, matches);
    let mut own = Vec::new();
    while let Some((name, below)) = matches.subcommand() {
        let Some(verb) = command.find_subcommand(name) else { break };
        // What is global is not in the verb's list before the command line is built.
        own.extend(verb.get_arguments().map(|flag| flag.get_id().to_string()));
        (command, matches) = (verb, below);
    }
    own
}

/// Whom the flags say to act as.
fn impersonation_of(matches: &ArgMatches) -> Impersonation {
    let all = |name: &str| -> Vec<String> { matches.get_many(name).into_iter().flatten().cloned().collect() };
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let mut extra = std::collections::BTreeMap::<String, Vec<String>>::new();
    for entry in all("as-user-extra") {
        let (key, value) = entry.split_once('=').unwrap_or((&entry, ""));
        extra.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    Impersonation { user: text("as"), uid: text("as-uid"), groups: all("as-group"), extra }
}

/// What each verb is called in managed fields, as upstream has it.
fn manager_of(matches: &ArgMatches) -> &'static str {
    match matches.subcommand() {
        Some(("apply", flags)) if !flags.get_flag("server_side") => "kubectl-client-side-apply",
        Some((verb, _)) => match verb {
            "annotate" => "kubectl-annotate",
            "autoscale" => "kubectl-autoscale",
            "create" => "kubectl-create",
            "edit" => "kubectl-edit",
            "expose" => "kubectl-expose",
            "label" => "kubectl-label",
            "patch" => "kubectl-patch",
            "replace" => "kubectl-replace",
            "rollout" => "kubectl-rollout",
            "run" => "kubectl-run",
            "set" => "kubectl-set",
            "taint" => "kubectl-taint",
            _ => "kubectl",
        },
        None => "kubectl",
    }
}

/// Adds what a kubeconfig says that one before it does not.
fn add(first: &mut Kubeconfig, more: Kubeconfig) {
    if first.current_context.is_empty() {
        first.current_context = more.current_context;
    }
    for one in more.clusters {
        if !first.clusters.iter().any(|known| known.name == one.name) {
            first.clusters.push(one);
        }
    }
    for one in more.users {
        if !first.users.iter().any(|known| known.name == one.name) {
            first.users.push(one);
        }
    }
    for one in more.contexts {
        if !first.contexts.iter().any(|known| known.name == one.name) {
            first.contexts.push(one);
        }
    }
    for (key, value) in more.other {
        first.other.entry(key).or_insert(value);
    }
}

fn finish(answer: &pb::Object) -> Result<Object, Error> {
    for warning in &answer.warnings {
        eprintln!("Warning: {warning}");
    }
    Ok(Object::from_slice(&answer.json)?)
}

/// A duration as flags take it: `30s`, `1m30s`, `2h`, or bare seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, Error> {
    let bad = || Error::said(format!("invalid duration {text:?}"));
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
        rest = &rest[unit..];
    }
    Ok(total)
}

/// What one object is called in messages, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub(crate) resource: Arc<crate::discovery::Resource>,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The object as a file has it, or as the server had it.
    pub(crate) object: Option<Object>,
    /// The file.
    pub(crate) source: Option<String>,
}

impl Info {
    pub(crate) fn target(&self) -> Target {
        self.resource.target(&self.namespace, &self.name)
    }

    /// `deployment.apps/web`.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.resource.label(), self.name)
    }

    /// Adds the file to an error.
    pub(crate) fn blame(&self, doing: &str, error: Error) -> Error {
        match &self.source {
            Some(source) => error.while_doing(format!("error when {doing} {source:?}")),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_named_in_managed_fields() {
        let manager = |line: &[&str]| Kube::from_flags(&crate::command().get_matches_from(line)).manager;
        assert_eq!(manager(&["kubectl", "apply", "-f", "x"]), "kubectl-client-side-apply");
        assert_eq!(manager(&["kubectl", "apply", "-f", "x", "--server-side"]), "kubectl");
        assert_eq!(manager(&["kubectl", "label", "pod", "p", "a=b"]), "kubectl-label");
        assert_eq!(manager(&["kubectl", "label", "pod", "p", "a=b", "--field-manager", "me"]), "me");
    }

    #[test]
    fn a_verbs_own_flags_are_not_global_ones() {
        let user = |line: &[&str]| {
            let matches = crate::command().get_matches_from(line);
            Kube::from_flags(&matches).overrides.user
        };
        assert_eq!(user(&["kubectl", "get", "pods", "--user", "bob"]).as_deref(), Some("bob"));
        assert_eq!(user(&["kubectl", "create", "rolebinding", "x", "--role", "r", "--user", "bob"]), None);
        assert_eq!(user(&["kubectl", "config", "set-context", "x", "--user", "bob"]), None);
    }

    #[test]
    fn kubeconfigs_are_joined() {
        let config = |text: &str| -> Kubeconfig {
            api::yaml::from_value(api::yaml::parse(text).expect("yaml")).expect("config")
        };
        let mut first = config("contexts: [{name: a, context: {cluster: one}}]");
        add(
            &mut first,
            config("current-context: a\ncontexts: [{name: a, context: {cluster: two}}, {name: b}]"),
        );
        assert_eq!((first.current_context.as_str(), first.contexts.len()), ("a", 2));
        assert_eq!(first.contexts[0].context.cluster, "one");
    }

    #[test]
    fn durations_are_read() {
        for (text, millis) in
            [("30s", 30_000), ("1m30s", 90_000), ("2h", 7_200_000), ("5", 5_000), ("1.5s", 1_500)]
        {
            assert_eq!(parse_duration(text).expect(text).as_millis(), millis);
        }
        assert!(parse_duration("soon").is_err());
        assert!(parse_duration("3y").is_err());
    }
}
