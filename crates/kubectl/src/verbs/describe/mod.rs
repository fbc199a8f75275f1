//! `describe`: one file per kind that has a layout of its own, and a line in
//! [`KINDS`]; every other kind is written field by field. What a description
//! needs beside the object is asked for by queries, which are data, so that
//! each layout is a pure function.

mod configmap;
mod containers;
mod cronjob;
mod csinode;
mod csr;
mod daemonset;
mod deployment;
mod endpoints;
mod endpointslice;
mod events;
mod generic;
mod horizontalpodautoscaler;
mod ingress;
mod ingressclass;
mod ipaddress;
mod job;
mod limitrange;
mod namespace;
mod networkpolicy;
mod node;
mod persistentvolume;
mod persistentvolumeclaim;
mod pod;
mod poddisruptionbudget;
mod priorityclass;
mod replicaset;
mod resourcequota;
mod role;
mod rolebinding;
mod secret;
mod service;
mod serviceaccount;
mod servicecidr;
mod statefulset;
mod storageclass;
mod template;
#[cfg(test)]
mod tests;
mod text;
mod volumes;

use std::sync::Arc;

use api::Object;
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::Verb;
use crate::discovery::{Discovery, Resource};
use crate::error::Error;
use crate::kube::{Info, Kube};
use crate::output;
use crate::resource_builder::{self, Files, Selection};
pub(super) use deployment::REVISION;
pub(super) use events::interval;
pub(super) use role::compact_lines as compact_rules;
pub(super) use template::raw as raw_template;
use text::Text;

#[derive(Args)]
pub(crate) struct Describe {
    /// TYPE, TYPE NAME_PREFIX, or TYPE/NAME
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Only objects with these labels
    #[arg(short = 'l', long, default_value = "")]
    selector: String,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Show the events of the objects
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    show_events: bool,
    /// Read lists in chunks of this size
    #[arg(long, default_value_t = 500)]
    chunk_size: u64,
}

/// A kind with a layout of its own.
struct Kind {
    group: &'static str,
    kind: &'static str,
    /// Whether events are part of its description.
    events: bool,
    /// What else it shows.
    related: fn(&Value) -> Vec<Query>,
    write: fn(&mut Text, &Subject<'_>),
}

/// Objects that a description shows beside its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Query {
    api_version: &'static str,
    kind: &'static str,
    namespace: String,
    labels: String,
    fields: String,
}

/// What a layout is given.
struct Subject<'a> {
    object: &'a Value,
    /// The answers to the queries, in their order.
    related: Vec<Result<Vec<Value>, String>>,
    now: Timestamp,
}

impl Subject<'_> {
    /// The answer to a query; nothing where it was refused.
    fn related(&self, index: usize) -> &[Value] {
        self.related.get(index).and_then(|answer| answer.as_deref().ok()).unwrap_or_default()
    }
}

const fn nothing(_object: &Value) -> Vec<Query> {
    Vec::new()
}

/// The kinds with layouts of their own.
const KINDS: &[Kind] = &[
    Kind { group: "", kind: "Pod", events: true, related: nothing, write: pod::write },
    Kind { group: "", kind: "Node", events: true, related: node::related, write: node::write },
    Kind {
        group: "apps",
        kind: "Deployment",
        events: true,
        related: deployment::related,
        write: deployment::write,
    },
    Kind {
        group: "apps",
        kind: "ReplicaSet",
        events: true,
        related: template::own_pods,
        write: replicaset::write,
    },
    Kind {
        group: "",
        kind: "ReplicationController",
        events: true,
        related: template::own_pods,
        write: replicaset::write_controller,
    },
    Kind {
        group: "apps",
        kind: "DaemonSet",
        events: true,
        related: template::own_pods,
        write: daemonset::write,
    },
    Kind {
        group: "apps",
        kind: "StatefulSet",
        events: true,
        related: template::own_pods,
        write: statefulset::write,
    },
    Kind { group: "batch", kind: "Job", events: true, related: nothing, write: job::write },
    Kind { group: "batch", kind: "CronJob", events: true, related: nothing, write: cronjob::write },
    Kind { group: "", kind: "Service", events: true, related: service::related, write: service::write },
    Kind { group: "", kind: "Endpoints", events: true, related: nothing, write: endpoints::write },
    Kind {
        group: "discovery.k8s.io",
        kind: "EndpointSlice",
        events: true,
        related: nothing,
        write: endpointslice::write,
    },
    Kind {
        group: "networking.k8s.io",
        kind: "Ingress",
        events: true,
        related: ingress::related,
        write: ingress::write,
    },
    Kind {
        group: "networking.k8s.io",
        kind: "IngressClass",
        events: true,
        related: nothing,
        write: ingressclass::write,
    },
    Kind {
        group: "networking.k8s.io",
        kind: "NetworkPolicy",
        events: false,
        related: nothing,
        write: networkpolicy::write,
    },
    Kind {
        group: "networking.k8s.io",
        kind: "ServiceCIDR",
        events: true,
        related: nothing,
        write: servicecidr::write,
    },
    Kind {
        group: "networking.k8s.io",
        kind: "IPAddress",
        events: true,
        related: nothing,
        write: ipaddress::write,
    },
    Kind { group: "", kind: "ConfigMap", events: true, related: nothing, write: configmap::write },
    Kind { group: "", kind: "Secret", events: false, related: nothing, write: secret::write },
    Kind { group: "", kind: "ServiceAccount", events: true, related: nothing, write: serviceaccount::write },
    Kind {
        group: "",
        kind: "Namespace",
        events: false,
        related: namespace::related,
        write: namespace::write,
    },
    Kind { group: "", kind: "ResourceQuota", events: false, related: nothing, write: resourcequota::write },
    Kind { group: "", kind: "LimitRange", events: false, related: nothing, write: limitrange::write },
    Kind {
        group: "",
        kind: "PersistentVolume",
        events: true,
        related: nothing,
        write: persistentvolume::write,
    },
    Kind {
        group: "",
        kind: "PersistentVolumeClaim",
        events: true,
        related: persistentvolumeclaim::related,
        write: persistentvolumeclaim::write,
    },
    Kind {
        group: "storage.k8s.io",
        kind: "StorageClass",
        events: true,
        related: nothing,
        write: storageclass::write,
    },
    Kind { group: "storage.k8s.io", kind: "CSINode", events: true, related: nothing, write: csinode::write },
    Kind {
        group: "rbac.authorization.k8s.io",
        kind: "Role",
        events: false,
        related: nothing,
        write: role::write,
    },
    Kind {
        group: "rbac.authorization.k8s.io",
        kind: "ClusterRole",
        events: false,
        related: nothing,
        write: role::write,
    },
    Kind {
        group: "rbac.authorization.k8s.io",
        kind: "RoleBinding",
        events: false,
        related: nothing,
        write: rolebinding::write,
    },
    Kind {
        group: "rbac.authorization.k8s.io",
        kind: "ClusterRoleBinding",
        events: false,
        related: nothing,
        write: rolebinding::write,
    },
    Kind {
        group: "autoscaling",
        kind: "HorizontalPodAutoscaler",
        events: true,
        related: nothing,
        write: horizontalpodautoscaler::write,
    },
    Kind {
        group: "policy",
        kind: "PodDisruptionBudget",
        events: true,
        related: nothing,
        write: poddisruptionbudget::write,
    },
    Kind {
        group: "scheduling.k8s.io",
        kind: "PriorityClass",
        events: true,
        related: nothing,
        write: priorityclass::write,
    },
    Kind {
        group: "certificates.k8s.io",
        kind: "CertificateSigningRequest",
        events: true,
        related: nothing,
        write: csr::write,
    },
];

/// Every kind that has no layout of its own.
const OTHERS: Kind = Kind { group: "", kind: "", events: true, related: nothing, write: generic::write };

fn kind_of(resource: &Resource) -> &'static Kind {
    let fits = |one: &&Kind| one.group == resource.group && one.kind == resource.kind;
    KINDS.iter().find(fits).unwrap_or(&OTHERS)
}

impl Verb for Describe {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        if self.words.is_empty() && self.files.filenames.is_empty() {
            return Err(Error::said(
                "You must specify the type of resource to describe. Use \"kubectl api-resources\" for a complete \
                 list of supported resources.",
            ));
        }
        let mut errors = Vec::new();
        let mut first = true;
        let mut infos = self.infos(kube).await?;
        if infos.is_empty() {
            if self.all_namespaces {
                eprintln!("No resources found");
            } else {
                eprintln!("No resources found in {} namespace.", kube.namespace()?);
            }
        }
        while !infos.is_empty() {
            let info = infos.remove(0);
            match self.one(kube, &info).await {
                Ok(text) => {
                    output::write(&format!("{}{text}", if first { "" } else { "\n\n" }))?;
                    first = false;
                }
                Err(error) if error.is_not_found() && self.is_one_word() => {
                    match self.of_prefix(kube, &info).await? {
                        none if none.is_empty() => return Err(error),
                        found => infos = found,
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        Error::of_all(errors)
    }
}

impl Describe {
    /// `TYPE NAME`: a name that may be the start of several.
    fn is_one_word(&self) -> bool {
        self.words.len() == 2 && self.files.filenames.is_empty()
    }

    async fn infos(&self, kube: &Kube) -> Result<Vec<Info>, Error> {
        let selection = Selection {
            labels: &self.selector,
            all: true,
            all_namespaces: self.all_namespaces,
            ..Selection::new(&self.words, &self.files)
        };
        resource_builder::resolve(kube, &selection).await
    }

    /// The objects whose names start as a word does that names none.
    async fn of_prefix(&self, kube: &Kube, info: &Info) -> Result<Vec<Info>, Error> {
        let objects = kube.list(info.resource.target(&info.namespace, ""), &self.selector, "").await?;
        let of = |object: Object| Info {
            resource: info.resource.clone(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
            object: Some(object),
            source: None,
        };
        Ok(objects.into_iter().filter(|one| one.name().starts_with(&info.name)).map(of).collect())
    }

    async fn one(&self, kube: &Kube, info: &Info) -> Result<String, Error> {
        let kind = kind_of(&info.resource);
        let mut object = kube.get(info.target()).await?.into_value();
        // The object of a get has its type; a server may leave it out in lists.
        object["kind"] = info.resource.kind.clone().into();
        object["apiVersion"] = info.resource.api_version().into();
        let discovery = kube.discovery().await?;
        let mut related = Vec::new();
        for query in (kind.related)(&object) {
            related.push(ask(kube, discovery, &query).await);
        }
        let now = crate::clock::now();
        let mut out = Text::default();
        (kind.write)(&mut out, &Subject { object: &object, related, now });
        if kind.events && self.show_events {
            let mut found = Vec::new();
            for query in events::of(&object) {
                found.extend(ask(kube, discovery, &query).await.unwrap_or_default());
            }
            events::write(&mut out, &mut found, now);
        }
        Ok(out.laid_out())
    }
}

async fn ask(kube: &Kube, discovery: &Discovery, query: &Query) -> Result<Vec<Value>, String> {
    let resource: Arc<Resource> =
        discovery.of_kind(query.api_version, query.kind).map_err(|error| error.to_string())?;
    let target = resource.target(&query.namespace, "");
    match kube.list(target, &query.labels, &query.fields).await {
        Ok(objects) => Ok(objects.into_iter().map(Object::into_value).collect()),
        Err(Error::Server { status, .. }) => Err(status.message),
        Err(error) => Err(error.to_string()),
    }
}
