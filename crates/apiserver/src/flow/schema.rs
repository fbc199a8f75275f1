//! Flow schemas and priority levels as they are configured, and which schema a
//! request belongs to.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::queues::Queuing;
use crate::authn::User;
use crate::authz::Attributes;

/// More queues than this are not made, whatever a level says: each takes memory.
const MOST_QUEUES: i64 = 1 << 17;

/// A flow schema.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SchemaSpec {
    pub(super) priority_level_configuration: Named,
    pub(super) matching_precedence: i64,
    distinguisher_method: Option<Distinguisher>,
    rules: Vec<PolicyRule>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    pub(super) name: String,
    namespace: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Distinguisher {
    r#type: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PolicyRule {
    subjects: Vec<Subject>,
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<PathRule>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Subject {
    kind: String,
    user: Option<Named>,
    group: Option<Named>,
    service_account: Option<Named>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    cluster_scope: bool,
    namespaces: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PathRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    urls: Vec<String>,
}

/// Whether a list has a text, or is the wildcard.
fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == "*" || one == wanted)
}

impl SchemaSpec {
    /// Whether a request belongs to this schema.
    pub(super) fn matches(&self, user: &User, ask: &Attributes) -> bool {
        self.rules.iter().any(|rule| {
            rule.subjects.iter().any(|subject| subject.is(user))
                && if ask.resource.is_empty() {
                    rule.non_resource_rules.iter().any(|rule| rule.matches(ask))
                } else {
                    rule.resource_rules.iter().any(|rule| rule.matches(ask))
                }
        })
    }

    /// The hash of the flow that a request belongs to.
    pub(super) fn flow(&self, name: &str, user: &User, ask: &Attributes) -> u64 {
        let flow = match self.distinguisher_method.as_ref().map(|method| method.r#type.as_str()) {
            Some("ByUser") => user.name.as_str(),
            Some("ByNamespace") => ask.namespace.as_str(),
            _ => "",
        };
        let mut hash = Sha256::new();
        hash.update(name);
        hash.update([0]);
        hash.update(flow);
        let digest = hash.finalize();
        digest.iter().take(8).rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}

impl Subject {
    fn is(&self, user: &User) -> bool {
        match self.kind.as_str() {
            "User" => self.user.as_ref().is_some_and(|one| one.name == "*" || one.name == user.name),
            "Group" => self.group.as_ref().is_some_and(|one| one.name == "*" || user.is_in(&one.name)),
            "ServiceAccount" => self.service_account.as_ref().is_some_and(|one| {
                let account = user.name.strip_prefix("system:serviceaccount:");
                let parts = account.and_then(|account| account.split_once(':'));
                parts.is_some_and(|(namespace, name)| {
                    namespace == one.namespace && (one.name == "*" || one.name == name)
                })
            }),
            _ => false,
        }
    }
}

impl ResourceRule {
    fn matches(&self, ask: &Attributes) -> bool {
        let names = |one: &String| {
            one == "*"
                || match one.split_once('/') {
                    None => ask.subresource.is_empty() && *one == ask.resource,
                    Some((resource, part)) => resource == ask.resource && part == ask.subresource,
                }
        };
        has(&self.verbs, &ask.verb)
            && self.resources.iter().any(names)
            && has(&self.api_groups, &ask.group)
            && if ask.namespace.is_empty() {
                self.cluster_scope
            } else {
                has(&self.namespaces, &ask.namespace)
            }
    }
}

impl PathRule {
    fn matches(&self, ask: &Attributes) -> bool {
        let is_below = |rule: &String| {
            let prefix = rule.strip_suffix('*').unwrap_or(rule);
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
            ask.path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
        };
        has(&self.verbs, &ask.verb)
            && self.urls.iter().any(|url| url == "*" || *url == ask.path || is_below(url))
    }
}

/// A priority level.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LevelSpec {
    r#type: String,
    limited: Option<Limited>,
    exempt: Option<Limited>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Limited {
    nominal_concurrency_shares: i64,
    lendable_percent: i64,
    borrowing_limit_percent: Option<i64>,
    limit_response: Response,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Response {
    r#type: String,
    queuing: Option<QueuingSpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct QueuingSpec {
    queues: i64,
    hand_size: i64,
    queue_length_limit: i64,
}

/// The seats of a level, from its shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) nominal: u64,
    /// What remains when everything lendable is lent.
    pub(super) lower: u64,
    /// With all that may be borrowed.
    pub(super) upper: u64,
    /// The widest that one request may be.
    pub(super) widest: u64,
}

impl LevelSpec {
    pub(super) fn is_exempt(&self) -> bool {
        self.r#type == "Exempt"
    }

    fn common(&self) -> Limited {
        let common = if self.is_exempt() { &self.exempt } else { &self.limited };
        common.clone().unwrap_or_default()
    }

    pub(super) fn shares(&self) -> u64 {
        u64::try_from(self.common().nominal_concurrency_shares).unwrap_or(0)
    }

    pub(super) fn queuing(&self) -> Queuing {
        if self.is_exempt() {
            return Queuing::Exempt;
        }
        match self.common().limit_response {
            Response { r#type, queuing: Some(queuing) } if r#type == "Queue" => {
                let count = |number: i64| usize::try_from(number.clamp(1, MOST_QUEUES)).unwrap_or(1);
                Queuing::Queues {
                    count: count(queuing.queues),
                    hand: count(queuing.hand_size),
                    length: count(queuing.queue_length_limit),
                }
            }
            _ => Queuing::Reject,
        }
    }

    /// The level's part of `server` seats, where all levels have `shares` together.
    pub(super) fn limits(&self, server: u64, shares: u64) -> Limits {
        let common = self.common();
        let nominal = (server * self.shares()).div_ceil(shares.max(1));
        let percent = |of: u64, percent: i64| {
            let percent = u64::try_from(percent).unwrap_or(0);
            of.saturating_mul(percent).saturating_add(50) / 100
        };
        let lendable = percent(nominal, common.lendable_percent).min(nominal);
        let borrowed = common.borrowing_limit_percent.map_or(server, |limit| percent(nominal, limit));
        let widest = match self.queuing() {
            // At most so much that a hand of queues can still be served.
            Queuing::Queues { hand, .. } => (nominal * 15).div_ceil(100).min(nominal / hand as u64).max(1),
            Queuing::Exempt | Queuing::Reject => u64::MAX,
        };
        Limits { nominal, lower: nominal - lendable, upper: nominal.saturating_add(borrowed), widest }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn schemas() -> Vec<(String, SchemaSpec)> {
        let read = |one: Value| {
            let name = one["metadata"]["name"].as_str().expect("a name").to_owned();
            (name, serde_json::from_value::<SchemaSpec>(one["spec"].clone()).expect("a schema"))
        };
        let mut all: Vec<_> = resources::flow_control::schemas().into_iter().map(read).collect();
        all.sort_by_key(|(name, spec)| (spec.matching_precedence, name.clone()));
        all
    }

    fn ask(verb: &str, what: &str, namespace: &str) -> Attributes {
        let (group, resource) = what.split_once(':').unwrap_or(("", what));
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
            ..Attributes::default()
        }
    }

    #[test]
    fn who_belongs_where() {
        let user = |name: &str, groups: &[&str]| User {
            name: name.into(),
            groups: groups
                .iter()
                .map(|group| (*group).to_owned())
                .chain(["system:authenticated".into()])
                .collect(),
            ..User::default()
        };
        let node = user("system:node:w", &["system:nodes"]);
        let account = user("system:serviceaccount:n:a", &["system:serviceaccounts"]);
        let own = user("system:serviceaccount:kube-system:a", &["system:serviceaccounts"]);
        let table = [
            (&node, ask("update", "coordination.k8s.io:leases", "kube-node-lease"), "system-node-high"),
            (&node, ask("patch", "nodes/status", ""), "system-node-high"),
            (&node, ask("list", "pods", ""), "system-nodes"),
            (&user("a", &["system:masters"]), ask("list", "pods", ""), "exempt"),
            (&user("jane", &[]), ask("get", "/readyz/ping", ""), "probes"),
            (&user("jane", &[]), ask("get", "/readyzz", ""), "global-default"),
            (&user("jane", &[]), ask("list", "pods", "n"), "global-default"),
            (&account, ask("list", "pods", "n"), "service-accounts"),
            (&own, ask("list", "pods", "n"), "kube-system-service-accounts"),
            (&own, ask("update", "coordination.k8s.io:leases", "kube-system"), "system-leader-election"),
            (&user("system:kube-scheduler", &[]), ask("create", "pods/binding", "n"), "kube-scheduler"),
            (
                &user("system:kube-scheduler", &[]),
                ask("get", "coordination.k8s.io:leases", "n"),
                "system-leader-election",
            ),
        ];
        let schemas = schemas();
        for (user, ask, expected) in table {
            let found = schemas.iter().find(|(_, spec)| spec.matches(user, &ask));
            assert_eq!(found.map(|(name, _)| name.as_str()), Some(expected), "{} {ask:?}", user.name);
        }
    }

    #[test]
    fn flows_are_told_apart_as_the_schema_says() {
        let schemas = schemas();
        let spec = |name: &str| &schemas.iter().find(|(one, _)| one == name).expect("there").1;
        let (jane, bob) = (User { name: "jane".into(), ..User::default() }, User::default());
        let by_user = spec("global-default");
        assert_ne!(
            by_user.flow("s", &jane, &ask("get", "pods", "n")),
            by_user.flow("s", &bob, &ask("get", "pods", "n"))
        );
        let by_namespace = spec("kube-scheduler");
        assert_eq!(
            by_namespace.flow("s", &jane, &ask("get", "pods", "n")),
            by_namespace.flow("s", &bob, &ask("get", "pods", "n"))
        );
        assert_ne!(
            by_namespace.flow("s", &jane, &ask("get", "pods", "n")),
            by_namespace.flow("s", &jane, &ask("get", "pods", "m"))
        );
    }

    #[test]
    fn limits_follow_shares() {
        let specs: Vec<(String, LevelSpec)> = resources::flow_control::levels()
            .into_iter()
            .map(|one| {
                let spec = serde_json::from_value(one["spec"].clone()).expect("a level");
                (one["metadata"]["name"].as_str().expect("a name").to_owned(), spec)
            })
            .collect();
        let shares: u64 = specs.iter().map(|(_, spec)| spec.shares()).sum();
        assert_eq!(shares, 245);
        let limits = |name: &str| {
            specs
                .iter()
                .find(|(one, _)| one == name)
                .map(|(_, spec)| spec.limits(600, shares))
                .expect("there")
        };
        assert_eq!(limits("exempt"), Limits { nominal: 0, lower: 0, upper: 600, widest: u64::MAX });
        assert_eq!(limits("system"), Limits { nominal: 74, lower: 50, upper: 674, widest: 12 });
        assert_eq!(limits("workload-low"), Limits { nominal: 245, lower: 24, upper: 845, widest: 37 });
    }
}
