//! Roles and their bindings.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use crate::changes::How;
use crate::discovery::Discovery;
use crate::error::Error;
use crate::pods;

const GROUP: &str = "rbac.authorization.k8s.io";

#[derive(Args)]
pub(super) struct Role {
    name: String,
    /// What may be done
    #[arg(long, value_delimiter = ',')]
    verb: Vec<String>,
    /// With what: pods, deployments.apps, pods/log
    #[arg(long, value_delimiter = ',')]
    resource: Vec<String>,
    /// Only with these objects
    #[arg(long)]
    resource_name: Vec<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
pub(super) struct ClusterRole {
    #[command(flatten)]
    role: Role,
    /// Paths, such as /healthz
    #[arg(long, value_delimiter = ',')]
    non_resource_url: Vec<String>,
    /// The role is made of those with these labels
    #[arg(long, default_value = "")]
    aggregation_rule: String,
}

/// Whom a role is given to.
#[derive(Args)]
struct Subjects {
    /// Users
    #[arg(long)]
    user: Vec<String>,
    /// Groups
    #[arg(long)]
    group: Vec<String>,
    /// Service accounts: NAMESPACE:NAME
    #[arg(long)]
    serviceaccount: Vec<String>,
}

#[derive(Args)]
pub(super) struct Binding {
    name: String,
    /// The role
    #[arg(long, required_unless_present = "clusterrole", conflicts_with = "clusterrole")]
    role: Option<String>,
    /// The cluster role
    #[arg(long)]
    clusterrole: Option<String>,
    #[command(flatten)]
    subjects: Subjects,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
pub(super) struct ClusterBinding {
    name: String,
    /// The cluster role
    #[arg(long)]
    clusterrole: String,
    #[command(flatten)]
    subjects: Subjects,
    #[command(flatten)]
    how: How,
}

impl Role {
    /// A rule for each group that the resources are of.
    fn rules(&self, discovery: &Discovery) -> Result<Vec<Value>, Error> {
        if self.verb.is_empty() {
            return Err(Error::said("at least one verb must be specified"));
        }
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for word in &self.resource {
            let (kind, below) =
                word.split_once('/').map_or((word.as_str(), None), |(kind, below)| (kind, Some(below)));
            let (group, mut plural) = if kind == "*" {
                ("*".to_owned(), "*".to_owned())
            } else {
                let found = discovery.find(kind)?;
                (found.group.clone(), found.plural.clone())
            };
            if let Some(below) = below {
                plural = format!("{plural}/{below}");
            }
            let plurals = groups.entry(group).or_default();
            if !plurals.contains(&plural) {
                plurals.push(plural);
            }
        }
        let verbs =
            if self.verb.iter().any(|verb| verb == "*") { vec!["*".to_owned()] } else { self.verb.clone() };
        Ok(groups
            .into_iter()
            .map(|(group, resources)| {
                let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
                if !self.resource_name.is_empty() {
                    rule["resourceNames"] = json!(self.resource_name);
                }
                rule
            })
            .collect())
    }

    pub(super) fn object(self, discovery: &Discovery) -> Result<(Value, How), Error> {
        let rules = self.rules(discovery)?;
        if rules.is_empty() {
            return Err(Error::said("at least one resource must be specified"));
        }
        let object = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "Role",
            "metadata": {"name": self.name}, "rules": rules});
        Ok((object, self.how))
    }
}

impl ClusterRole {
    pub(super) fn object(self, discovery: &Discovery) -> Result<(Value, How), Error> {
        let mut object = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRole",
            "metadata": {"name": self.role.name}});
        if !self.aggregation_rule.is_empty() {
            let labels = pods::pairs(&self.aggregation_rule)?;
            object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
            object["rules"] = json!([]);
            return Ok((object, self.role.how));
        }
        let mut rules = self.role.rules(discovery)?;
        if !self.non_resource_url.is_empty() {
            rules.push(json!({"nonResourceURLs": self.non_resource_url, "verbs": self.role.verb}));
        }
        if rules.is_empty() {
            return Err(Error::said("one of resource or nonResourceURL must be specified"));
        }
        object["rules"] = rules.into();
        Ok((object, self.role.how))
    }
}

impl Subjects {
    fn list(&self) -> Result<Vec<Value>, Error> {
        let named = |kind: &str, names: &[String]| -> Vec<Value> {
            names.iter().map(|name| json!({"apiGroup": GROUP, "kind": kind, "name": name})).collect()
        };
        let mut all = named("User", &self.user);
        all.extend(named("Group", &self.group));
        for text in &self.serviceaccount {
            match text.split_once(':') {
                Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                    all.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
                }
                _ => return Err(Error::said("serviceaccount must be <namespace>:<name>")),
            }
        }
        Ok(all)
    }
}

fn binding(kind: &str, name: &str, role: (&str, &str), subjects: Vec<Value>) -> Value {
    let mut object = json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": role.0, "name": role.1}});
    if !subjects.is_empty() {
        object["subjects"] = subjects.into();
    }
    object
}

impl Binding {
    pub(super) fn object(self) -> Result<(Value, How), Error> {
        let role = match (&self.role, &self.clusterrole) {
            (Some(role), _) => ("Role", role.as_str()),
            (None, Some(role)) => ("ClusterRole", role.as_str()),
            (None, None) => return Err(Error::said("exactly one of clusterrole or role must be specified")),
        };
        Ok((binding("RoleBinding", &self.name, role, self.subjects.list()?), self.how))
    }
}

impl ClusterBinding {
    pub(super) fn object(self) -> Result<(Value, How), Error> {
        let role = ("ClusterRole", self.clusterrole.as_str());
        Ok((binding("ClusterRoleBinding", &self.name, role, self.subjects.list()?), self.how))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_made_by_group() {
        let role = |resources: &[&str]| Role {
            name: "r".into(),
            verb: vec!["get".into()],
            resource: resources.iter().map(|one| (*one).to_owned()).collect(),
            resource_name: Vec::new(),
            how: How::default(),
        };
        let discovery = crate::discovery::tests::sample();
        assert_eq!(
            role(&["po", "pods/log", "deploy"]).rules(&discovery).expect("rules"),
            [
                json!({"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get"]}),
                json!({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]})
            ]
        );
        assert!(role(&["nonsense"]).rules(&discovery).is_err());
        let subjects = Subjects { user: vec!["u".into()], group: vec![], serviceaccount: vec!["n:a".into()] };
        assert_eq!(subjects.list().expect("subjects").len(), 2);
        let bad = Subjects { user: vec![], group: vec![], serviceaccount: vec!["a".into()] };
        assert!(bad.list().is_err());
    }
}
