//! `create`: from files, or of some kinds from flags.

mod data;
mod ingress;
mod policy;
mod rbac;
mod service;
mod token;
mod workload;

use api::Object;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

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
struct Named {
    name: String,
    #[command(flatten)]
    how: How,
}

#[derive(Subcommand)]
enum Kind {
    /// A namespace
    #[command(alias = "ns")]
    Namespace(Named),
    /// A config map
    #[command(alias = "cm")]
    Configmap(data::Data),
    /// A secret
    #[command(subcommand)]
    Secret(data::Secret),
    /// A service account
    #[command(alias = "sa")]
    Serviceaccount(Named),
    /// A deployment
    #[command(alias = "deploy")]
    Deployment(workload::Deployment),
    /// A job
    Job(workload::Job),
    /// A cron job
    #[command(alias = "cj")]
    Cronjob(workload::CronJob),
    /// A service
    #[command(subcommand, alias = "svc")]
    Service(service::Service),
    /// An ingress
    #[command(alias = "ing")]
    Ingress(ingress::Ingress),
    /// A role
    Role(rbac::Role),
    /// A cluster role
    Clusterrole(rbac::ClusterRole),
    /// A role binding
    Rolebinding(rbac::Binding),
    /// A cluster role binding
    Clusterrolebinding(rbac::ClusterBinding),
    /// A resource quota
    #[command(alias = "resourcequota")]
    Quota(policy::Quota),
    /// A disruption budget
    #[command(alias = "pdb")]
    Poddisruptionbudget(policy::Budget),
    /// A priority class
    #[command(alias = "pc")]
    Priorityclass(policy::PriorityClass),
    /// A token of a service account
    Token(token::Token),
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
        let (object, how) = match kind {
            Kind::Token(token) => return token.run(kube).await,
            Kind::Job(job) => job.object(kube).await?,
            Kind::Role(role) => role.object(kube.discovery().await?)?,
            Kind::Clusterrole(role) => role.object(kube.discovery().await?)?,
            other => other.object()?,
        };
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
    /// The object of a kind that flags alone describe.
    fn object(self) -> Result<(Value, How), Error> {
        let named = |kind: &str, Named { name, how }: Named| {
            (json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}), how)
        };
        match self {
            Self::Namespace(one) => Ok(named("Namespace", one)),
            Self::Serviceaccount(one) => Ok(named("ServiceAccount", one)),
            Self::Configmap(data) => data.config_map(),
            Self::Secret(secret) => secret.object(),
            Self::Deployment(deployment) => Ok(deployment.object()),
            Self::Cronjob(job) => Ok(job.object()),
            Self::Service(service) => service.object(),
            Self::Ingress(ingress) => ingress.object(),
            Self::Rolebinding(binding) => binding.object(),
            Self::Clusterrolebinding(binding) => binding.object(),
            Self::Quota(quota) => quota.object(),
            Self::Poddisruptionbudget(budget) => budget.object(),
            Self::Priorityclass(class) => Ok(class.object()),
            Self::Job(_) | Self::Role(_) | Self::Clusterrole(_) | Self::Token(_) => {
                Err(Error::said("this kind is made with what the server knows"))
            }
        }
    }
}
