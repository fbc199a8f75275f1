//! How much a namespace's pods may ask of their nodes: the Pod Security
//! Standards, chosen by the namespace's labels (upstream's `PodSecurity`).
//!
//! Start in [`PodSecurity`]; what labels mean is in [`levels`], the configuration in
//! [`settings`], which checks make
//! up a level in [`checks`], the checks themselves in [`baseline`] and
//! [`restricted`].

mod baseline;
mod checks;
mod levels;
mod restricted;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use api::selector::Labels as _;
use api::{Object, Status};
use futures::future::BoxFuture;
use serde_json::Value;

use super::{Operation, Parts, Plugin, Request};
use crate::audit;
use crate::cache::{Selected, WatchCache};
use checks::{Pod, details, findings, reasons};
use levels::{Level, Policy, Standard};

pub(super) use settings::Settings;

/// The annotation of a recorded request by what it was exempt.
const EXEMPT: &str = "pod-security.kubernetes.io/exempt";
/// Pods that are looked at when a namespace becomes stricter.
const MOST_PODS: usize = 3000;
/// Parts of a pod that say nothing about what it may do.
const HARMLESS: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

pub(super) struct PodSecurity {
    cache: Arc<WatchCache>,
    settings: Settings,
}

impl PodSecurity {
    pub(super) fn new(parts: &Parts) -> Self {
        Self { cache: parts.cache(), settings: parts.configuration.pod_security.clone() }
    }

    fn judge(&self, request: &mut Request<'_>) -> Result<(), Status> {
        match (request.kind.group.as_str(), request.kind.resource.as_str()) {
            ("", "namespaces") if request.subresource.is_empty() => self.judge_namespace(request),
            ("", "pods") if !HARMLESS.contains(&request.subresource) => self.judge_pod(request),
            (group, resource) if request.subresource.is_empty() => match template_of(group, resource) {
                Some(path) => self.warn_of_template(request, path),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The policy of the request's namespace.
    fn policy(&self, request: &Request<'_>) -> Result<Policy, Status> {
        let namespace = self.cache.resource("", "namespaces").get("", request.namespace);
        let namespace = namespace
            .ok_or_else(|| Status::internal(format!("failed to lookup namespace {:?}", request.namespace)))?;
        Ok(self.settings.defaults.with_labels(|name| namespace.label(name)).0)
    }

    fn judge_pod(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let changes = matches!(request.operation, Operation::Create | Operation::Update);
        let Some(pod) = request.object.as_ref().filter(|_| changes && !self.is_exempt(request)) else {
            return Ok(());
        };
        let policy = self.policy(request)?;
        let is_as_before = request.old.as_ref().is_some_and(|old| !runs_something_new(pod, old));
        if policy.is_privileged() || !is_as_before {
            audit::annotate("pod-security.kubernetes.io/enforce-policy", || policy.enforce.to_string());
        }
        if policy.is_privileged() || is_as_before {
            return Ok(());
        }
        let null = Value::Null;
        let seen =
            Pod { metadata: pod.get("metadata").unwrap_or(&null), spec: pod.get("spec").unwrap_or(&null) };
        if self.is_exempt_class(seen.spec) {
            return Ok(());
        }
        let found = findings(policy.enforce, &seen);
        if !found.is_empty() {
            let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, details(&found));
            return Err(request.forbidden(&why));
        }
        let told = record_and_warn(&policy, &seen, request);
        request.warnings.extend(told);
        Ok(())
    }

    fn warn_of_template(&self, request: &mut Request<'_>, path: &[&str]) -> Result<(), Status> {
        let changes = matches!(request.operation, Operation::Create | Operation::Update);
        let Some(template) = request.object.as_ref().filter(|_| changes).and_then(|one| one.at(path)) else {
            return Ok(());
        };
        if self.is_exempt(request) {
            return Ok(());
        }
        // A workload is not refused for what only its pods are judged by.
        let Ok(policy) = self.policy(request) else { return Ok(()) };
        let seen = Pod { metadata: &template["metadata"], spec: &template["spec"] };
        if self.is_exempt_class(seen.spec) {
            return Ok(());
        }
        let told = record_and_warn(&policy, &seen, request);
        request.warnings.extend(told);
        Ok(())
    }

    fn judge_namespace(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let Some(new) = &request.object else { return Ok(()) };
        let (policy, errors) = self.policy_of(new);
        let before = request.old.as_ref().map(|old| self.policy_of(old));
        if !errors.is_empty() && before.as_ref().is_none_or(|(_, old)| *old != errors) {
            return Err(Status::invalid("", "Namespace", new.name(), &errors));
        }
        let name = new.name().to_owned();
        let Some((before, _)) = before else {
            let warning = self.warn_of_exemption(new, policy);
            request.warnings.extend(warning);
            return Ok(());
        };
        let (now, then) = (policy.enforce, before.enforce);
        let is_looser = now.version == then.version && now.level <= then.level;
        if request.operation != Operation::Update || now.level == Level::Privileged || is_looser {
            return Ok(());
        }
        let warnings = if self.settings.exemptions.namespace(&name) {
            self.warn_of_exemption(new, policy).into_iter().collect()
        } else {
            self.existing_pods(&name, now)
        };
        request.warnings.extend(warnings);
        Ok(())
    }

    /// Whether this request is not looked at, which is recorded.
    fn is_exempt(&self, request: &Request<'_>) -> bool {
        let by = self.settings.exemptions.request(request.namespace, &request.caller.user.name);
        if let Some(by) = by {
            audit::annotate(EXEMPT, || by.to_owned());
        }
        by.is_some()
    }

    fn is_exempt_class(&self, spec: &Value) -> bool {
        let is_exempt = self.settings.exemptions.runtime_class(spec);
        if is_exempt {
            audit::annotate(EXEMPT, || "runtimeClass".to_owned());
        }
        is_exempt
    }

    fn policy_of(&self, namespace: &Object) -> (Policy, api::ErrorList) {
        self.settings.defaults.with_labels(label_of(namespace))
    }

    /// What is said to who labels a namespace that is not looked at.
    fn warn_of_exemption(&self, namespace: &Object, policy: Policy) -> Option<String> {
        let name = namespace.name();
        let is_ignored = self.settings.exemptions.namespace(name)
            && !policy.is_privileged()
            && policy != self.settings.defaults;
        is_ignored.then(|| {
            let set = policy.set_by(label_of(namespace));
            format!("namespace {name:?} is exempt from Pod Security, and the policy ({set}) will be ignored")
        })
    }

    /// What is there already and would not be let in any more.
    fn existing_pods(&self, namespace: &str, standard: Standard) -> Vec<String> {
        let selected = Selected { namespace: namespace.to_owned(), ..Selected::default() };
        let (stored, _) = self.cache.resource("", "pods").list(&selected, 0, None);
        let pods: Vec<Object> = stored.iter().filter_map(|pod| pod.object().ok()).collect();
        warn_of_pods(namespace, standard, &pods)
    }
}

impl Plugin for PodSecurity {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move { self.judge(request) })
    }
}

fn label_of<'a>(namespace: &'a Object) -> impl Fn(&str) -> Option<&'a str> {
    |name| namespace.labels()?.get(name)?.as_str()
}

/// Where a kind has the template of its pods.
const fn template_path(depth: usize) -> &'static [&'static str] {
    match depth {
        0 => &["template"],
        1 => &["spec", "template"],
        _ => &["spec", "jobTemplate", "spec", "template"],
    }
}

fn template_of(group: &str, resource: &str) -> Option<&'static [&'static str]> {
    Some(match (group, resource) {
        ("", "podtemplates") => template_path(0),
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => template_path(1),
        ("batch", "cronjobs") => template_path(2),
        _ => return None,
    })
}

/// Records what the audited level finds; what the client is warned of.
fn record_and_warn(policy: &Policy, pod: &Pod<'_>, request: &Request<'_>) -> Option<String> {
    let audited = findings(policy.audit, pod);
    if !audited.is_empty() {
        audit::annotate("pod-security.kubernetes.io/audit-violations", || {
            format!("would violate PodSecurity \"{}\": {}", policy.audit, details(&audited))
        });
        tracing::info!(
            kind = request.kind.kind, namespace = request.namespace, name = request.name,
            user = request.caller.user.name, standard = %policy.audit, found = details(&audited),
            "would violate PodSecurity"
        );
    }
    let found = findings(policy.warn, pod);
    (!found.is_empty()).then(|| format!("would violate PodSecurity \"{}\": {}", policy.warn, details(&found)))
}

/// Whether a change of a pod brings an image or a container.
fn runs_something_new(new: &Object, old: &Object) -> bool {
    let of = |pod: &Object, field: &str| -> Vec<(String, String)> {
        let containers = pod.at(&["spec", field]).and_then(Value::as_array);
        let pair =
            |one: &Value| (checks::text(one, "name").to_owned(), checks::text(one, "image").to_owned());
        containers.into_iter().flatten().map(pair).collect()
    };
    let images = |pod: &Object, field: &str| -> Vec<String> {
        of(pod, field).into_iter().map(|(_, image)| image).collect()
    };
    let before = of(old, "ephemeralContainers");
    ["containers", "initContainers"].iter().any(|field| images(new, field) != images(old, field))
        || of(new, "ephemeralContainers").iter().any(|one| !before.contains(one))
}

/// Warnings about the pods of a namespace, one for each set of findings.
fn warn_of_pods(namespace: &str, standard: Standard, pods: &[Object]) -> Vec<String> {
    // One pod of each controller first: the others are like it.
    let mut seen = HashSet::new();
    let (first, rest): (Vec<&Object>, Vec<&Object>) = pods.iter().partition(|pod| {
        let owner = pod.owner_references().find(|owner| owner.controller);
        owner.is_none_or(|owner| seen.insert(owner.uid.to_owned()))
    });
    let mut counted: BTreeMap<String, (&str, usize)> = BTreeMap::new();
    for pod in first.into_iter().chain(rest).take(MOST_PODS) {
        let null = Value::Null;
        let (metadata, spec) = (pod.get("metadata").unwrap_or(&null), pod.get("spec").unwrap_or(&null));
        let found = findings(standard, &Pod { metadata, spec });
        if !found.is_empty() {
            let (name, count) = counted.entry(reasons(&found)).or_insert((pod.name(), 0));
            *name = (*name).min(pod.name());
            *count += 1;
        }
    }
    let mut warnings = Vec::new();
    if pods.len() > MOST_PODS {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {MOST_PODS} of {} existing pods",
            pods.len()
        ));
    }
    if !counted.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{standard}\""
        ));
    }
    let mut each: Vec<String> = counted
        .into_iter()
        .map(|(reasons, (name, count))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            more => format!("{name} (and {} other pods): {reasons}", more - 1),
        })
        .collect();
    each.sort();
    warnings.extend(each);
    warnings
}
