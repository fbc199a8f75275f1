//! Which checks make up a level in a version, and what they find in a pod
//! (upstream: `k8s.io/pod-security-admission/policy`).

use serde_json::Value;

use super::super::pods::CONTAINERS;
use super::levels::{Level, Standard, Version};
use super::{baseline, restricted};

/// A pod, or the template of one.
#[derive(Clone, Copy)]
pub(super) struct Pod<'a> {
    pub(super) metadata: &'a Value,
    pub(super) spec: &'a Value,
}

/// What a check has against a pod: in a word, and in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    reason: String,
    detail: String,
}

impl Finding {
    pub(super) fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { reason: reason.into(), detail: detail.into() }
    }
}

pub(super) type Check = fn(&Pod<'_>) -> Option<Finding>;

/// A check, with the first minor version of each of its forms.
pub(super) struct Versioned {
    pub(super) name: &'static str,
    pub(super) forms: &'static [(u32, Check)],
    /// A check of the level below that this one replaces.
    pub(super) replaces: Option<&'static str>,
}

/// The last minor version that changed a check.
const NEWEST: u32 = 35;

/// Everything that a standard has against a pod, in the order of upstream.
pub(super) fn findings(standard: Standard, pod: &Pod<'_>) -> Vec<Finding> {
    let minor = match standard.version {
        Version::Latest => NEWEST,
        Version::Minor(minor) => minor.min(NEWEST),
    };
    let form = |check: &'static Versioned| {
        check.forms.iter().rev().find(|(since, _)| *since <= minor).map(|(_, form)| *form)
    };
    let strict: Vec<&Versioned> = match standard.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => Vec::new(),
        Level::Restricted => restricted::CHECKS.iter().filter(|check| form(check).is_some()).collect(),
    };
    let replaced: Vec<&str> = strict.iter().filter_map(|check| check.replaces).collect();
    let kept = baseline::CHECKS.iter().filter(|check| !replaced.contains(&check.name));
    kept.chain(strict).filter_map(form).filter_map(|check| check(pod)).collect()
}

/// The findings in a word each.
pub(super) fn reasons(findings: &[Finding]) -> String {
    findings.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>().join(", ")
}

/// The findings in full.
pub(super) fn details(findings: &[Finding]) -> String {
    let told = findings.iter().map(|one| match one.detail.as_str() {
        "" => one.reason.clone(),
        detail => format!("{} ({detail})", one.reason),
    });
    told.collect::<Vec<_>>().join(", ")
}

/// A list; empty where there is none.
pub(super) fn list<'a>(of: &'a Value, field: &str) -> &'a [Value] {
    of[field].as_array().map_or(&[], Vec::as_slice)
}

/// A text; empty where there is none.
pub(super) fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field].as_str().unwrap_or_default()
}

impl<'a> Pod<'a> {
    /// Every container: those that begin, those that run, those for debugging.
    pub(super) fn containers(&self) -> impl Iterator<Item = &'a Value> {
        let spec = self.spec;
        CONTAINERS.into_iter().flat_map(move |field| list(spec, field))
    }

    /// The names of the containers that something holds for.
    pub(super) fn containers_where(&self, holds: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|one| holds(one)).map(|one| text(one, "name")).collect()
    }

    /// The pod's own security context.
    pub(super) fn security(&self) -> &'a Value {
        &self.spec["securityContext"]
    }

    /// Whether the pod has users of its own, who are nobody on the node.
    pub(super) fn has_own_users(&self) -> bool {
        self.spec["hostUsers"] == false
    }

    pub(super) fn is_windows(&self) -> bool {
        text(&self.spec["os"], "name") == "windows"
    }
}

pub(super) const fn plural<'a>(one: &'a str, more: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { more }
}

/// `"a", "b"`.
pub(super) fn quoted<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect::<Vec<_>>().join(", ")
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn these(containers: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", containers.len()), quoted(containers))
}

/// Who sets something: the pod, and some of its containers. Empty: nobody.
pub(super) fn setters(pod: bool, containers: &[&str]) -> String {
    let mut setters = Vec::new();
    if pod {
        setters.push("pod".to_owned());
    }
    if !containers.is_empty() {
        setters.push(these(containers));
    }
    setters.join(" and ")
}
