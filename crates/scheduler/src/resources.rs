//! Amounts of resources: what a pod asks for, what a node has.
//!
//! The formula for a pod is upstream's `PodRequests`: the sum of its containers
//! and sidecars, or the largest moment of its start if that is more; amounts for
//! the whole pod replace the sum where the pod has them; overhead comes on top.
//! A container that is being resized counts with the largest of what it asks
//! for, what the node has promised, and what it still has.

use std::collections::BTreeMap;

use api::openapi::apimachinery::pkg::api::resource::Quantity as Text;
use api::types::core::v1::{Container, ContainerStatus, Pod, ResourceRequirements};

/// What is assumed, for scores only, of a container that asks for no processor time.
const USUAL_MILLICORES: i64 = 100;
/// What is assumed, for scores only, of a container that asks for no memory.
const USUAL_MEMORY: i64 = 200 << 20;

type Map = BTreeMap<String, Text>;

/// Amounts. Processor time is in thousandths of a core, the rest in whole units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Processor time, millicores.
    pub cpu: i64,
    /// Memory, bytes.
    pub memory: i64,
    /// Local disk, bytes.
    pub ephemeral_storage: i64,
    /// Huge pages, extended resources, and what else has a name of that kind.
    pub others: BTreeMap<String, i64>,
}

impl Amounts {
    /// Amounts from the API's map; texts that are no quantity count as nothing
    /// (the API server lets none pass), and so do names that no pod can ask for.
    #[must_use]
    pub fn from_map(map: Option<&Map>) -> Self {
        let mut amounts = Self::default();
        for (name, text) in map.into_iter().flatten() {
            let quantity = api::Quantity::try_from(text).unwrap_or_default();
            match name.as_str() {
                "cpu" => amounts.cpu = quantity.millis(),
                "memory" => amounts.memory = quantity.units(),
                "ephemeral-storage" => amounts.ephemeral_storage = quantity.units(),
                other if is_counted(other) => {
                    amounts.others.insert(other.to_owned(), quantity.units());
                }
                _ => {}
            }
        }
        amounts
    }

    /// The amount of a resource by its name.
    #[must_use]
    pub fn of(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            other => self.others.get(other).copied().unwrap_or(0),
        }
    }

    /// The resources of which there is any, with their amounts.
    pub fn present(&self) -> impl Iterator<Item = (&str, i64)> {
        let core =
            [("cpu", self.cpu), ("memory", self.memory), ("ephemeral-storage", self.ephemeral_storage)];
        let others = self.others.iter().map(|(name, amount)| (name.as_str(), *amount));
        core.into_iter().chain(others).filter(|(_, amount)| *amount != 0)
    }

    /// Adds other amounts.
    pub fn add(&mut self, other: &Self) {
        self.merge(other, i64::saturating_add);
    }

    /// Takes other amounts away.
    pub fn subtract(&mut self, other: &Self) {
        self.merge(other, i64::saturating_sub);
        if !other.others.is_empty() {
            self.others.retain(|_, amount| *amount != 0);
        }
    }

    fn raise_to(&mut self, other: &Self) {
        self.merge(other, i64::max);
    }

    fn merge(&mut self, other: &Self, join: fn(i64, i64) -> i64) {
        self.cpu = join(self.cpu, other.cpu);
        self.memory = join(self.memory, other.memory);
        self.ephemeral_storage = join(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.others {
            let own = self.others.entry(name.clone()).or_default();
            *own = join(*own, *amount);
        }
    }
}

/// Whether the resource is one that vendors name, `vendor.example/thing`.
#[must_use]
pub fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

/// Whether a resource beside the three of every node is counted.
#[must_use]
pub fn is_counted(name: &str) -> bool {
    is_extended(name)
        || name.starts_with("hugepages-")
        || name.contains("kubernetes.io/")
        || name.starts_with("attachable-volumes-")
}

/// What a pod takes of its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// What it asks for.
    pub asked: Amounts,
    /// The same, with usual amounts for containers that ask for nothing: what
    /// scores count it with while it is on a node.
    pub for_scores: Amounts,
}

impl Requests {
    /// The requests of a pod.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let asked = total(pod, Usual::default());
        let whole = whole_pod(pod).is_some();
        let usual =
            Usual { cpu: !(whole && is_named(pod, "cpu")), memory: !(whole && is_named(pod, "memory")) };
        let for_scores = if usual == Usual::default() { asked.clone() } else { total(pod, usual) };
        Self { asked, for_scores }
    }

    /// What scores count a pod with that is looking for a node.
    #[must_use]
    pub fn scored(pod: &Pod) -> Amounts {
        total(pod, Usual { cpu: true, memory: true })
    }
}

/// For which resources usual amounts are assumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usual {
    cpu: bool,
    memory: bool,
}

fn total(pod: &Pod, usual: Usual) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::default() };
    let is_infeasible = is_resize_infeasible(pod);
    let of = |container: &Container, may_be_resized: bool| {
        let status = may_be_resized.then(|| status_of(pod, &container.name)).flatten();
        amounts_of(container, status, is_infeasible, usual)
    };
    let mut running = Amounts::default();
    for container in &spec.containers {
        running.add(&of(container, true));
    }
    let (mut sidecars, mut starting) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let is_sidecar = is_sidecar(container);
        let mut moment = of(container, is_sidecar);
        if is_sidecar {
            running.add(&moment);
            sidecars.add(&moment);
            moment = sidecars.clone();
        } else {
            moment.add(&sidecars);
        }
        starting.raise_to(&moment);
    }
    running.raise_to(&starting);
    replace_by_whole(&mut running, pod, is_infeasible);
    running.add(&Amounts::from_map(spec.overhead.as_ref()));
    running
}

fn amounts_of(
    container: &Container,
    status: Option<&ContainerStatus>,
    is_infeasible: bool,
    usual: Usual,
) -> Amounts {
    let spec = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let actual = status.and_then(|status| Some((status, status.resources.as_ref()?)));
    let mut lists = vec![spec];
    if let Some((status, actual)) = actual {
        lists = effective(spec, actual, status.allocated_resources.as_ref(), is_infeasible);
    }
    let mut amounts = Amounts::default();
    for list in &lists {
        amounts.raise_to(&Amounts::from_map(*list));
    }
    let names = |name| lists.iter().flatten().any(|list| list.contains_key(name));
    if usual.cpu && !names("cpu") {
        amounts.cpu = USUAL_MILLICORES;
    }
    if usual.memory && !names("memory") {
        amounts.memory = USUAL_MEMORY;
    }
    amounts
}

/// The lists whose largest amounts count while a resize is under way.
fn effective<'a>(
    spec: Option<&'a Map>,
    actual: &'a ResourceRequirements,
    allocated: Option<&'a Map>,
    is_infeasible: bool,
) -> Vec<Option<&'a Map>> {
    let mut lists = vec![actual.requests.as_ref(), allocated];
    if !is_infeasible {
        lists.push(spec);
    }
    lists
}

/// Amounts for the whole pod exist for processor time, memory and huge pages.
fn replace_by_whole(amounts: &mut Amounts, pod: &Pod, is_infeasible: bool) {
    let Some(requests) = whole_pod(pod) else { return };
    let status = pod.status.as_ref();
    let actual = status.and_then(|status| status.resources.as_ref());
    let allocated = status.and_then(|status| status.allocated_resources.as_ref());
    let lists = actual.map_or_else(
        || vec![Some(requests)],
        |actual| effective(Some(requests), actual, allocated, is_infeasible),
    );
    let mut whole = Amounts::default();
    for list in lists {
        whole.raise_to(&Amounts::from_map(list));
    }
    for name in requests.keys().filter(|name| is_for_whole_pods(name)) {
        match name.as_str() {
            "cpu" => amounts.cpu = whole.cpu,
            "memory" => amounts.memory = whole.memory,
            other => {
                amounts.others.insert(other.to_owned(), whole.of(other));
            }
        }
    }
}

/// The requests for the whole pod, if it has any that count.
fn whole_pod(pod: &Pod) -> Option<&Map> {
    let requests = pod.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.keys().any(|name| is_for_whole_pods(name)).then_some(requests)
}

fn is_for_whole_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Whether anything of a pod names a resource among its requests.
fn is_named(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let lists = containers.filter_map(|one| one.resources.as_ref()?.requests.as_ref());
    lists.chain(whole_pod(pod)).chain(&spec.overhead).any(|list| list.contains_key(name))
}

fn status_of<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses];
    lists.into_iter().flatten().flatten().find(|one| one.name == container)
}

fn is_resize_infeasible(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let pending = conditions.into_iter().find(|condition| condition.type_ == "PodResizePending");
    pending.is_some_and(|condition| condition.reason.as_deref() == Some("Infeasible"))
}

/// Whether an init container keeps running beside the others.
#[must_use]
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::pod_json;

    fn cpu(value: Value) -> i64 {
        Requests::of(&pod_json("p", value)).asked.cpu
    }

    fn container(cpu: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    fn sidecar(cpu: &str) -> Value {
        let mut value = container(cpu);
        value["restartPolicy"] = "Always".into();
        value
    }

    #[test]
    fn a_pod_asks_for_its_largest_moment() {
        let one = container("100m");
        for (init, expected) in [
            (vec![], 200),
            (vec![container("150m")], 200),
            (vec![container("300m")], 300),
            (vec![sidecar("50m")], 250),
            (vec![sidecar("50m"), container("300m")], 350),
            (vec![container("300m"), sidecar("50m")], 300),
        ] {
            let spec = json!({"containers": [one, one], "initContainers": init});
            assert_eq!(cpu(spec.clone()), expected, "{init:?}");
            let mut more = spec.clone();
            more["overhead"] = json!({"cpu": "10m"});
            assert_eq!(cpu(more), expected + 10);
            let mut whole = spec;
            whole["resources"] = json!({"requests": {"cpu": "1"}});
            assert_eq!(cpu(whole), 1000);
        }
    }

    #[test]
    fn scores_assume_usual_amounts() {
        let requests = Requests::of(&pod_json("p", json!({"containers": [{"name": "c"}, container("1")]})));
        assert_eq!((requests.for_scores.cpu, requests.for_scores.memory), (1100, 400 << 20));
        assert_eq!((requests.asked.cpu, requests.asked.memory), (1000, 0));
        let whole = json!({"resources": {"requests": {"cpu": "2"}}, "containers": [{"name": "c"}]});
        let requests = Requests::of(&pod_json("p", whole));
        assert_eq!((requests.for_scores.cpu, requests.for_scores.memory), (2000, 200 << 20));
    }

    #[test]
    fn a_resize_counts_with_its_largest_side() {
        let resized = |asked: &str, allocated: &str, actual: &str, reason: Option<&str>| {
            let mut pod = pod_json("p", json!({"containers": [container(asked)]}));
            let conditions: Vec<Value> = reason
                .map(|reason| json!({"type": "PodResizePending", "status": "True", "reason": reason}))
                .into_iter()
                .collect();
            let status = json!({"conditions": conditions, "containerStatuses": [{
                "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "allocatedResources": {"cpu": allocated}, "resources": {"requests": {"cpu": actual}},
            }]});
            pod.status = Some(serde_json::from_value(status).expect("a status"));
            Requests::of(&pod).asked.cpu
        };
        assert_eq!(resized("300m", "200m", "100m", None), 300);
        assert_eq!(resized("100m", "200m", "300m", None), 300);
        assert_eq!(resized("900m", "200m", "100m", Some("Deferred")), 900);
        assert_eq!(resized("900m", "200m", "100m", Some("Infeasible")), 200);
    }

    #[test]
    fn only_resources_that_pods_can_ask_for_count() {
        let map = json!({"x.io/gpu": "2", "hugepages-2Mi": "4Mi", "odd": "1", "pods": "110", "requests.x.io/y": "1"});
        let map: Map = serde_json::from_value(map).expect("a map");
        let amounts = Amounts::from_map(Some(&map));
        let present: Vec<_> = amounts.present().collect();
        assert_eq!(present, [("hugepages-2Mi", 4 << 20), ("x.io/gpu", 2)]);
    }
}
