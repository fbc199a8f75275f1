//! The audit policy: which requests are recorded, and how much of them. Pure.
//!
//! `audit.k8s.io/v1`, `Policy`: the first rule that fits a request says.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use crate::authn::User;
use crate::authz::Attributes;

/// How much of a request is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub(super) enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who did what, without bodies.
    Metadata,
    /// And the request's body.
    Request,
    /// And the answer's.
    RequestResponse,
}

impl Level {
    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// When in a request's life an event is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Stage {
    /// Before anything is done.
    RequestReceived,
    /// The head of a long answer is sent.
    ResponseStarted,
    /// The answer is sent.
    ResponseComplete,
    /// The server failed.
    Panic,
}

impl Stage {
    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// What is recorded of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// How much.
    pub(super) level: Level,
    /// Without an event at these.
    pub(super) omitted: Vec<Stage>,
    /// Bodies without their managed fields.
    pub(super) omits_managed_fields: bool,
}

/// The policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Policy {
    api_version: String,
    kind: String,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Resources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// It cannot be read, or is no policy.
    pub(super) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("the audit policy {}", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let value = api::yaml::parse(text).context("is no YAML")?;
        let policy: Self = serde_json::from_value(value).context("has something that no policy has")?;
        ensure!(
            (policy.api_version.as_str(), policy.kind.as_str()) == ("audit.k8s.io/v1", "Policy"),
            "is no Policy of audit.k8s.io/v1, but {:?} of {:?}",
            policy.kind,
            policy.api_version
        );
        ensure!(!policy.rules.is_empty(), "loaded illegal policy with 0 rules");
        for (index, rule) in policy.rules.iter().enumerate() {
            rule.check().with_context(|| format!("rules[{index}]"))?;
        }
        Ok(policy)
    }

    /// What is recorded of a request; there is no user where nobody could be told.
    pub(super) fn judge(&self, user: Option<&User>, ask: &Attributes) -> Decision {
        match self.rules.iter().find(|rule| rule.matches(user, ask)) {
            Some(rule) => Decision {
                level: rule.level,
                omitted: [rule.omit_stages.as_slice(), &self.omit_stages].concat(),
                omits_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
            },
            None => Decision::default(),
        }
    }
}

impl Rule {
    fn check(&self) -> anyhow::Result<()> {
        let has_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if has_resources && !self.urls.is_empty() {
            bail!("nonResourceURLs: rules cannot apply to both regular resources and non-resource URLs");
        }
        for url in self.urls.iter().filter(|url| *url != "*") {
            ensure!(
                url.starts_with('/'),
                "nonResourceURLs: {url:?}: non-resource URL rules must begin with a '/' character"
            );
            let body = url.strip_suffix('*').unwrap_or(url);
            ensure!(
                !body.contains('*'),
                "nonResourceURLs: {url:?}: non-resource URL wildcards '*' must be the final character of the rule"
            );
        }
        for one in &self.resources {
            if !matches!(one.group.as_str(), "" | "*") {
                let wrong = resources::names::dns_subdomain(&one.group, false);
                ensure!(wrong.is_empty(), "resources: group {:?}: {}", one.group, wrong.join(","));
            }
            ensure!(
                one.resource_names.is_empty() || !one.resources.is_empty(),
                "resources: using resourceNames requires at least one resource"
            );
        }
        Ok(())
    }

    fn matches(&self, user: Option<&User>, ask: &Attributes) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|one| one == wanted);
        if !self.users.is_empty() && !user.is_some_and(|user| has(&self.users, &user.name)) {
            return false;
        }
        let is_in = |user: &User| user.groups.iter().any(|group| has(&self.user_groups, group));
        if !self.user_groups.is_empty() && !user.is_some_and(is_in) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, &ask.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            let is_there = self.namespaces.is_empty() || has(&self.namespaces, &ask.namespace);
            let is_one = self.resources.is_empty() || self.resources.iter().any(|one| one.matches(ask));
            return !ask.resource.is_empty() && is_there && is_one;
        }
        if !self.urls.is_empty() {
            let matches = |url: &String| match url.strip_suffix('*') {
                Some(prefix) => ask.path.starts_with(prefix),
                None => *url == ask.path,
            };
            return ask.resource.is_empty() && self.urls.iter().any(matches);
        }
        true
    }
}

impl Resources {
    fn matches(&self, ask: &Attributes) -> bool {
        if self.group != "*" && self.group != ask.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !self.resource_names.contains(&ask.name) {
            return false;
        }
        self.resources.iter().any(|one| match one.split_once('/') {
            _ if one == "*" => true,
            None => ask.subresource.is_empty() && *one == ask.resource,
            Some((resource, "*")) => resource == ask.resource,
            Some(("*", part)) => part == ask.subresource,
            Some((resource, part)) => resource == ask.resource && part == ask.subresource,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Attributes {
        if resource.starts_with('/') {
            return Attributes { verb: verb.into(), path: resource.into(), ..Attributes::default() };
        }
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  users: [system:kube-proxy]
  verbs: [watch]
  resources: [{group: '', resources: [endpoints, services]}]
- level: None
  userGroups: [system:authenticated]
  nonResourceURLs: ['/api*', /version]
- level: Request
  resources: [{resources: [configmaps], resourceNames: [special]}]
  namespaces: [kube-system]
  omitManagedFields: false
- level: Metadata
  resources: [{group: '', resources: [secrets, 'pods/*', '*/scale']}]
  omitStages: [ResponseStarted]
- level: RequestResponse
  resources: [{group: apps}]
- level: Metadata
  namespaces: ['']
";

    #[test]
    fn the_first_rule_that_fits_says() {
        let policy = Policy::parse(POLICY).expect("a policy");
        let jane =
            User { name: "jane".into(), groups: vec!["system:authenticated".into()], ..User::default() };
        let proxy = User { name: "system:kube-proxy".into(), ..User::default() };
        let table = [
            (Some(&proxy), ask("watch", "", "services", "", ""), Level::None),
            (Some(&proxy), ask("list", "", "services", "", ""), Level::Metadata),
            (Some(&jane), ask("get", "", "/api/x", "", ""), Level::None),
            (None, ask("get", "", "/api/x", "", ""), Level::None),
            (Some(&jane), ask("get", "", "configmaps", "kube-system", "special"), Level::Request),
            (Some(&jane), ask("get", "", "configmaps", "kube-system", "other"), Level::None),
            (Some(&jane), ask("get", "", "pods/log", "n", "p"), Level::Metadata),
            (Some(&jane), ask("get", "", "pods", "n", "p"), Level::Metadata),
            (Some(&jane), ask("get", "", "replicationcontrollers/scale", "n", "p"), Level::Metadata),
            (Some(&jane), ask("get", "apps", "deployments/status", "n", "p"), Level::RequestResponse),
            (None, ask("get", "", "nodes", "", "w"), Level::Metadata),
        ];
        for (user, ask, level) in table {
            assert_eq!(policy.judge(user, &ask).level, level, "{ask:?}");
        }
        let secret = policy.judge(Some(&jane), &ask("get", "", "secrets", "n", "s"));
        assert_eq!(secret.omitted, [Stage::ResponseStarted, Stage::RequestReceived]);
        assert!(secret.omits_managed_fields);
        let special = policy.judge(Some(&jane), &ask("get", "", "configmaps", "kube-system", "special"));
        assert!(!special.omits_managed_fields);
    }

    #[test]
    fn what_is_no_policy() {
        let with = |rules: &str| format!("{{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{rules}]}}");
        for text in [
            "{}".to_owned(),
            with(""),
            with("{level: Some}"),
            with("{}"),
            with("{level: None, omitStages: [Later]}"),
            with("{level: None, nonResourceURLs: [a]}"),
            with("{level: None, nonResourceURLs: ['/a*b']}"),
            with("{level: None, nonResourceURLs: [/a], namespaces: [n]}"),
            with("{level: None, resources: [{resourceNames: [n]}]}"),
            with("{level: None, resources: [{group: apps/v1}]}"),
        ] {
            assert!(Policy::parse(&text).is_err(), "{text}");
        }
        assert!(Policy::parse(&with("{level: None}")).is_ok());
    }
}
