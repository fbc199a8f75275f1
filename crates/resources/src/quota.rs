//! What an object uses of a resource quota, and which quotas it falls under
//! (`pkg/quota/v1`). Shared by admission, which charges quotas, and by the
//! controller, which counts what is there.

use api::{Object, Quantity};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::amounts::{Amounts, Counting, Side, add, of_pod, read};
use crate::fields::Fields;
use crate::kinds::pod::resources::{is_huge_page, is_native, quantity};
use crate::kinds::pod::{is_extended, qos_class};

const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
const IMPLICIT_DEVICES: &str = "deviceclass.resource.kubernetes.io/";
const REQUESTS: &str = "requests.";
/// The most devices that a claim for all of them can get.
const ALL_DEVICES: i64 = 32;
/// The annotation that named a claim's class before there was a field.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

const POD_NAMES: [&str; 11] = [
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
/// What every container must ask for where it is limited.
const MUST_ASK: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// How the objects of one resource are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evaluator {
    /// Pods: compute resources.
    Pods,
    /// Services: node ports and load balancers.
    Services,
    /// Persistent volume claims: storage, by class too.
    Claims,
    /// Claims of devices, by class.
    Devices,
    /// Everything else: how many there are, under these names.
    Count(Vec<String>),
}

/// What one object uses, and what decides under which quotas it falls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    usage: Amounts,
    /// Usage that ends, and when it does so by itself.
    passing: Amounts,
    until: Option<Timestamp>,
    traits: Traits,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Traits {
    is_pod: bool,
    terminating: bool,
    best_effort: bool,
    cross_namespace: bool,
    priority_class: String,
    is_claim: bool,
    attributes_classes: Vec<String>,
}

impl Measured {
    /// The usage at a time.
    #[must_use]
    pub fn usage(&self, now: Timestamp) -> Amounts {
        let mut usage = self.usage.clone();
        if self.until.is_none_or(|until| now <= until) {
            add(&mut usage, &self.passing);
        }
        usage
    }

    /// Whether a quota's scopes all include the object.
    #[must_use]
    pub fn is_in(&self, scopes: &[Scope]) -> bool {
        scopes.iter().all(|scope| scope.includes(&self.traits))
    }
}

/// One scope of a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    name: String,
    operator: String,
    values: Vec<String>,
}

impl Scope {
    /// All scopes of a quota.
    #[must_use]
    pub fn of(quota: &Object) -> Vec<Self> {
        let spec = quota.field("spec");
        let plain = spec.list("scopes").iter().filter_map(Value::as_str).map(|name| Self {
            name: name.to_owned(),
            operator: "Exists".to_owned(),
            values: Vec::new(),
        });
        let selected = spec.field("scopeSelector").list("matchExpressions").iter().map(|one| Self {
            name: one.text("scopeName").to_owned(),
            operator: one.text("operator").to_owned(),
            values: one.list("values").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        });
        plain.chain(selected).collect()
    }

    fn includes(&self, of: &Traits) -> bool {
        match self.name.as_str() {
            "Terminating" => of.is_pod && of.terminating,
            "NotTerminating" => of.is_pod && !of.terminating,
            "BestEffort" => of.is_pod && of.best_effort,
            "NotBestEffort" => of.is_pod && !of.best_effort,
            "CrossNamespacePodAffinity" => of.is_pod && of.cross_namespace,
            "PriorityClass" => of.is_pod && self.selects(&of.priority_class),
            "VolumeAttributesClass" if !of.is_claim => false,
            "VolumeAttributesClass" if of.attributes_classes.is_empty() => self.selects(""),
            "VolumeAttributesClass" => of.attributes_classes.iter().any(|name| self.selects(name)),
            _ => false,
        }
    }

    fn selects(&self, value: &str) -> bool {
        let listed = self.values.iter().any(|one| one == value);
        match self.operator.as_str() {
            "Exists" => !value.is_empty(),
            "DoesNotExist" => value.is_empty(),
            "In" => !value.is_empty() && listed,
            "NotIn" => value.is_empty() || !listed,
            _ => false,
        }
    }
}

impl Evaluator {
    /// The evaluator of a resource; `None` for what no quota counts.
    #[must_use]
    pub fn of(group: &str, resource: &str) -> Option<Self> {
        Some(match (group, resource) {
            ("" | "events.k8s.io", "events") | ("", "bindings" | "componentstatuses") => return None,
            ("authentication.k8s.io" | "authorization.k8s.io", _) => return None,
            ("", "pods") => Self::Pods,
            ("", "services") => Self::Services,
            ("", "persistentvolumeclaims") => Self::Claims,
            ("resource.k8s.io", "resourceclaims") => Self::Devices,
            ("", "configmaps" | "resourcequotas" | "replicationcontrollers" | "secrets") => {
                Self::Count(vec![count_name(group, resource), resource.to_owned()])
            }
            _ => Self::Count(vec![count_name(group, resource)]),
        })
    }

    /// Whether a change can raise what an object uses.
    #[must_use]
    pub fn watches_update(&self, subresource: &str, new: &Object, old: &Object) -> bool {
        match (self, subresource) {
            (Self::Pods, "") => is_terminating(new) != is_terminating(old),
            (Self::Pods, "resize") | (Self::Services | Self::Claims | Self::Devices, "") => true,
            _ => false,
        }
    }

    /// Whether a limit of this name is about these objects.
    #[must_use]
    pub fn counts(&self, name: &str) -> bool {
        match self {
            Self::Pods => {
                POD_NAMES.contains(&name)
                    || name.starts_with("hugepages-")
                    || name.starts_with("requests.hugepages-")
                    || is_extended_limit(name)
            }
            Self::Services => {
                matches!(
                    name,
                    "count/services" | "services" | "services.nodeports" | "services.loadbalancers"
                )
            }
            Self::Claims => {
                let plain = name.split_once(STORAGE_CLASS).map_or(name, |(_, plain)| plain);
                name == "count/persistentvolumeclaims"
                    || matches!(plain, "persistentvolumeclaims" | "requests.storage")
            }
            Self::Devices => name == "count/resourceclaims.resource.k8s.io" || name.ends_with(DEVICE_CLASS),
            Self::Count(names) => names.iter().any(|one| one == name),
        }
    }

    /// What an object uses.
    #[must_use]
    pub fn measure(&self, object: &Object) -> Measured {
        match self {
            Self::Pods => pod(object),
            Self::Services => Measured { usage: service(object), ..Measured::default() },
            Self::Claims => claim(object),
            Self::Devices => Measured { usage: devices(object), ..Measured::default() },
            Self::Count(_) => self.one(),
        }
    }

    /// What any object uses where only their number counts.
    #[must_use]
    pub fn one(&self) -> Measured {
        let names = match self {
            Self::Count(names) => names.as_slice(),
            _ => &[],
        };
        let usage = names.iter().map(|name| (name.clone(), Quantity::from_units(1))).collect();
        Measured { usage, ..Measured::default() }
    }

    /// What a quota on `limited` demands of an object besides room.
    ///
    /// # Errors
    /// What it does not say.
    pub fn demands(&self, limited: &[String], object: &Object) -> Result<(), String> {
        let spec = object.field("spec");
        let whole = spec.field("resources");
        let has_own = ["requests", "limits"].iter().any(|side| {
            whole
                .entries(side)
                .any(|(name, _)| matches!(name.as_str(), "cpu" | "memory") || is_huge_page(name))
        });
        if *self != Self::Pods || has_own {
            return Ok(());
        }
        let mut missing = Vec::new();
        let mut wanted: Vec<&str> =
            limited.iter().map(String::as_str).filter(|name| MUST_ASK.contains(name)).collect();
        wanted.sort_unstable();
        for name in wanted {
            let lists = ["containers", "initContainers"];
            let silent = lists.iter().flat_map(|list| spec.list(list)).filter(|container| {
                let resources = container.field("resources");
                let (side, plain) = match name.split_once('.') {
                    Some((side, plain)) => (side, plain),
                    None => ("requests", name),
                };
                !resources.field(side).has(plain)
            });
            let mut names: Vec<&str> = silent.map(|container| container.text("name")).collect();
            names.sort_unstable();
            names.dedup();
            if !names.is_empty() {
                missing.push(format!("{name} for: {}", names.join(",")));
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(format!("must specify {}", missing.join("; "))) }
    }
}

/// The name under which the objects of a resource are counted.
#[must_use]
pub fn count_name(group: &str, resource: &str) -> String {
    if group.is_empty() { format!("count/{resource}") } else { format!("count/{resource}.{group}") }
}

fn is_extended_limit(name: &str) -> bool {
    let Some(plain) = name.strip_prefix(REQUESTS) else { return false };
    !is_native(name) || plain.starts_with(IMPLICIT_DEVICES)
}

fn one(name: &str) -> (String, Quantity) {
    (name.to_owned(), Quantity::from_units(1))
}

fn is_terminating(pod: &Object) -> bool {
    pod.field("spec").int("activeDeadlineSeconds").is_some_and(|seconds| seconds >= 0)
}

fn pod(pod: &Object) -> Measured {
    let mut measured = Measured {
        usage: Amounts::from([one("count/pods")]),
        traits: Traits {
            is_pod: true,
            terminating: is_terminating(pod),
            best_effort: qos_class(pod) == "BestEffort",
            cross_namespace: reaches_other_namespaces(pod),
            priority_class: pod.field("spec").text("priorityClassName").to_owned(),
            ..Traits::default()
        },
        ..Measured::default()
    };
    if matches!(pod.field("status").text("phase"), "Failed" | "Succeeded") {
        return measured;
    }
    let counting = Counting { overhead: true, status: true, huge_pages: true };
    let (requests, limits) = (of_pod(pod, Side::Requests, counting), of_pod(pod, Side::Limits, counting));
    measured.passing = computed(&requests, &limits);
    let grace = pod.integer(&["metadata", "deletionGracePeriodSeconds"]);
    let deleted = pod.deletion_timestamp().and_then(api::time::parse);
    if let (Some(deleted), Some(grace)) = (deleted, grace) {
        measured.until = deleted.checked_add(SignedDuration::from_secs(grace)).ok();
    }
    measured
}

fn computed(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::from([one("pods")]);
    for (name, amount) in requests {
        let compute = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
        if compute || is_huge_page(name) {
            usage.insert(name.clone(), *amount);
        }
        if compute || is_huge_page(name) || is_extended(name) || name.starts_with(IMPLICIT_DEVICES) {
            usage.insert(format!("{REQUESTS}{name}"), *amount);
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = limits.get(name) {
            usage.insert(format!("limits.{name}"), *amount);
        }
    }
    usage
}

fn reaches_other_namespaces(pod: &Object) -> bool {
    let affinity = pod.field("spec").field("affinity");
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let rules = affinity.field(kind);
        let required = rules.list("requiredDuringSchedulingIgnoredDuringExecution").iter();
        let preferred = rules.list("preferredDuringSchedulingIgnoredDuringExecution").iter();
        let mut terms = required.chain(preferred.map(|weighted| weighted.field("podAffinityTerm")));
        terms.any(|term| !term.list("namespaces").is_empty() || term.has("namespaceSelector"))
    })
}

fn service(service: &Object) -> Amounts {
    let spec = service.field("spec");
    let ports = spec.list("ports");
    let all = i64::try_from(ports.len()).unwrap_or(i64::MAX);
    let named = ports.iter().filter(|port| port.int("nodePort").unwrap_or_default() != 0).count();
    let named = i64::try_from(named).unwrap_or(i64::MAX);
    let (node_ports, balancers) = match spec.text("type") {
        "NodePort" => (all, 0),
        "LoadBalancer" if spec.field("allocateLoadBalancerNodePorts") == false => (named, 1),
        "LoadBalancer" => (all, 1),
        _ => (0, 0),
    };
    Amounts::from([
        one("count/services"),
        one("services"),
        ("services.nodeports".to_owned(), Quantity::from_units(node_ports)),
        ("services.loadbalancers".to_owned(), Quantity::from_units(balancers)),
    ])
}

fn claim(claim: &Object) -> Measured {
    let (spec, status) = (claim.field("spec"), claim.field("status"));
    let class = claim.annotation(BETA_CLASS).unwrap_or_else(|| spec.text("storageClassName"));
    let mut usage = Amounts::from([one("persistentvolumeclaims"), one("count/persistentvolumeclaims")]);
    let size = spec.below(&["resources", "requests", "storage"]);
    let held = status.below(&["allocatedResources", "storage"]);
    if !size.is_null() {
        usage.insert("requests.storage".to_owned(), quantity(size).max(quantity(held)));
    }
    if !class.is_empty() {
        let own: Vec<(String, Quantity)> = ["persistentvolumeclaims", "requests.storage"]
            .iter()
            .filter_map(|name| Some((format!("{class}{STORAGE_CLASS}{name}"), *usage.get(*name)?)))
            .collect();
        usage.extend(own);
    }
    let mut classes: Vec<String> = [
        spec.text("volumeAttributesClassName"),
        status.text("currentVolumeAttributesClassName"),
        status.field("modifyVolumeStatus").text("targetVolumeAttributesClassName"),
    ]
    .iter()
    .filter(|name| !name.is_empty())
    .map(|name| (*name).to_owned())
    .collect();
    classes.dedup();
    let traits = Traits { is_claim: true, attributes_classes: classes, ..Traits::default() };
    Measured { usage, traits, ..Measured::default() }
}

fn devices(claim: &Object) -> Amounts {
    let number = |request: &Value| match request.text("allocationMode") {
        "ExactCount" => request.int("count").unwrap_or_default(),
        "All" => ALL_DEVICES,
        _ => 0,
    };
    let mut usage = Amounts::from([one("count/resourceclaims.resource.k8s.io")]);
    for request in claim.field("spec").field("devices").list("requests") {
        // Of alternatives, the worst for each class.
        let mut most = Amounts::new();
        let alternatives = request.list("firstAvailable").iter();
        for one in alternatives.chain(request.has("exactly").then(|| request.field("exactly"))) {
            let name = format!("{}{DEVICE_CLASS}", one.text("deviceClassName"));
            let wanted = Quantity::from_units(number(one));
            let held = most.entry(name).or_insert(Quantity::ZERO);
            *held = (*held).max(wanted);
        }
        add(&mut usage, &most);
    }
    usage
}

/// The limits of a quota that are in force: those of its status.
#[must_use]
pub fn hard(quota: &Object) -> Amounts {
    read(quota.field("status").field("hard"))
}

/// The amounts as a resource list.
#[must_use]
pub fn to_list(amounts: &Amounts) -> Value {
    amounts.iter().map(|(name, amount)| (name.clone(), Value::from(amount.to_string()))).collect()
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
