//! The verbs, one file each. A new verb is a file and a line in [`TABLE`].

mod annotate;
mod api_resources;
mod api_versions;
mod apply;
mod attach;
mod auth;
mod autoscale;
mod certificate;
mod cluster_info;
mod completion;
mod config;
mod cordon;
mod cp;
mod create;
mod delete;
mod describe;
mod diff;
mod drain;
mod edit;
mod events;
mod exec;
mod explain;
mod expose;
mod get;
mod label;
mod logs;
mod options;
mod patch;
mod port_forward;
mod replace;
mod rollout;
mod run;
mod scale;
mod set;
mod taint;
mod top;
mod version;
mod wait;

use std::pin::Pin;

use clap::{ArgMatches, Args, Command};

use crate::error::Error;
use crate::kube::Kube;

type Outcome<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>>;

/// One verb of the command line.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Adds the verb's flags.
    pub(crate) augment: fn(Command) -> Command,
    /// Runs it.
    pub(crate) run: for<'a> fn(&'a ArgMatches, &'a Kube) -> Outcome<'a>,
}

/// What a verb's file has: its flags, as a value that runs.
trait Verb: Args + Sized {
    async fn run(self, kube: &Kube) -> Result<(), Error>;
}

const fn verb<V: Verb + 'static>(name: &'static str, about: &'static str) -> Entry {
    Entry {
        name,
        about,
        augment: V::augment_args,
        run: |matches, kube| {
            Box::pin(async move {
                let verb = V::from_arg_matches(matches).map_err(|error| Error::said(error.to_string()))?;
                verb.run(kube).await
            })
        },
    }
}

/// Every verb.
pub(crate) const TABLE: &[Entry] = &[
    verb::<create::Create>("create", "Create a resource from a file or from flags"),
    verb::<run::Run>("run", "Run a particular image on the cluster"),
    verb::<expose::Expose>("expose", "Expose a workload, pod or service as a new service"),
    verb::<set::Set>("set", "Set specific features on objects"),
    verb::<edit::Edit>("edit", "Edit a resource on the server"),
    verb::<replace::Replace>("replace", "Replace a resource by file"),
    verb::<autoscale::Autoscale>("autoscale", "Auto-scale a workload"),
    verb::<get::Get>("get", "Display one or many resources"),
    verb::<describe::Describe>("describe", "Show details of one or many resources"),
    verb::<delete::Delete>("delete", "Delete resources by file, name, or selector"),
    verb::<apply::Apply>("apply", "Apply a configuration to a resource by file"),
    verb::<logs::Logs>("logs", "Print the logs of a container"),
    verb::<exec::Exec>("exec", "Execute a command in a container"),
    verb::<attach::Attach>("attach", "Attach to a running container"),
    verb::<port_forward::PortForward>("port-forward", "Forward one or more local ports to a pod"),
    verb::<cp::Cp>("cp", "Copy files and directories to and from containers"),
    verb::<wait::Wait>("wait", "Wait until objects are gone or a condition holds"),
    verb::<cordon::Cordon>("cordon", "Mark a node as unschedulable"),
    verb::<cordon::Uncordon>("uncordon", "Mark a node as schedulable"),
    verb::<drain::Drain>("drain", "Drain a node in preparation for maintenance"),
    verb::<taint::Taint>("taint", "Update the taints on one or more nodes"),
    verb::<top::Top>("top", "Display resource use"),
    verb::<cluster_info::ClusterInfo>("cluster-info", "Display cluster information"),
    verb::<events::Events>("events", "List events"),
    verb::<diff::Diff>("diff", "Diff the live version against a would-be applied version"),
    verb::<auth::Auth>("auth", "Inspect authorization"),
    verb::<certificate::Certificate>("certificate", "Modify certificate resources"),
    verb::<config::Config>("config", "Modify kubeconfig files"),
    verb::<patch::PatchVerb>("patch", "Update fields of a resource"),
    verb::<scale::Scale>("scale", "Set a new size for a workload"),
    verb::<rollout::Rollout>("rollout", "Manage the rollout of a resource"),
    verb::<label::Label>("label", "Update the labels on a resource"),
    verb::<annotate::Annotate>("annotate", "Update the annotations on a resource"),
    verb::<explain::Explain>("explain", "Get documentation for a resource"),
    verb::<api_resources::ApiResources>("api-resources", "Print the API resources of the server"),
    verb::<api_versions::ApiVersions>("api-versions", "Print the API versions of the server"),
    verb::<completion::Completion>("completion", "Output shell completion code"),
    verb::<options::Options>("options", "Print the flags inherited by all commands"),
    verb::<version::Version>("version", "Print the client and server versions"),
];
