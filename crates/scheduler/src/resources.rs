//! Amounts of resources: what a pod asks for, what a node has.
//!
//! The formula for a pod is upstream's: the sum of its containers and sidecars,
//! or the largest moment of its start if that is more, plus overhead; amounts
//! for the whole pod replace the sum where the pod has them.

use std::collections::BTreeMap;

use api::openapi::apimachinery::pkg::api::resource::Quantity as Text;
use api::types::core::v1::{Container, Pod};

/// What is assumed, for scores only, of a container that asks for no processor time.
const USUAL_MILLICORES: i64 = 100;
/// What is assumed, for scores only, of a container that asks for no memory.
const USUAL_MEMORY: i64 = 200 << 20;

/// Amounts. Processor time is in thousandths of a core, the rest in whole units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Processor time, millicores.
    pub cpu: i64,
    /// Memory, bytes.
    pub memory: i64,
    /// Local disk, bytes.
    pub ephemeral_storage: i64,
    /// Huge pages and extended resources.
    pub others: BTreeMap<String, i64>,
}

impl Amounts {
    /// Amounts from the API's map; texts that are no quantity count as nothing
    /// (the API server lets none pass).
    #[must_use]
    pub fn from_map(map: Option<&BTreeMap<String, Text>>) -> Self {
        let mut amounts = Self::default();
        for (name, text) in map.into_iter().flatten() {
            let quantity = api::Quantity::try_from(text).unwrap_or_default();
            match name.as_str() {
                "cpu" => amounts.cpu = quantity.millis(),
                "memory" => amounts.memory = quantity.units(),
                "ephemeral-storage" => amounts.ephemeral_storage = quantity.units(),
                "pods" => {}
                other => {
                    amounts.others.insert(other.to_owned(), quantity.units());
                }
            }
        }
        amounts
    }

    /// Adds other amounts.
    pub fn add(&mut self, other: &Self) {
        self.merge(other, i64::saturating_add);
    }

    /// Takes other amounts away.
    pub fn subtract(&mut self, other: &Self) {
        self.merge(other, i64::saturating_sub);
        self.others.retain(|_, amount| *amount != 0);
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

/// What a pod takes of its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// What it asks for.
    pub asked: Amounts,
    /// The same, with usual amounts for containers that ask for nothing.
    pub for_scores: Amounts,
}

impl Requests {
    /// The requests of a pod.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        Self { asked: total(pod, asked), for_scores: total(pod, asked_or_usual) }
    }
}

fn asked(container: &Container) -> Amounts {
    Amounts::from_map(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

fn asked_or_usual(container: &Container) -> Amounts {
    let mut amounts = asked(container);
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let names = |name| requests.is_some_and(|requests| requests.contains_key(name));
    if !names("cpu") {
        amounts.cpu = USUAL_MILLICORES;
    }
    if !names("memory") {
        amounts.memory = USUAL_MEMORY;
    }
    amounts
}

fn total(pod: &Pod, of: fn(&Container) -> Amounts) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::default() };
    let mut running = Amounts::default();
    for container in &spec.containers {
        running.add(&of(container));
    }
    let (mut sidecars, mut starting) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let mut moment = of(container);
        if is_sidecar(container) {
            running.add(&moment);
            sidecars.add(&moment);
            moment = sidecars.clone();
        } else {
            moment.add(&sidecars);
        }
        starting.raise_to(&moment);
    }
    running.raise_to(&starting);
    if let Some(requests) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        replace(&mut running, requests);
    }
    running.add(&Amounts::from_map(spec.overhead.as_ref()));
    running
}

/// Amounts for the whole pod exist for processor time, memory and huge pages.
fn replace(amounts: &mut Amounts, requests: &BTreeMap<String, Text>) {
    let whole = Amounts::from_map(Some(requests));
    if requests.contains_key("cpu") {
        amounts.cpu = whole.cpu;
    }
    if requests.contains_key("memory") {
        amounts.memory = whole.memory;
    }
    for (name, amount) in whole.others {
        if name.starts_with("hugepages-") {
            amounts.others.insert(name, amount);
        }
    }
}

/// Whether an init container keeps running beside the others.
#[must_use]
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::pod_json;

    fn cpu(value: serde_json::Value) -> i64 {
        Requests::of(&pod_json("p", value)).asked.cpu
    }

    fn container(cpu: &str) -> serde_json::Value {
        serde_json::json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    fn sidecar(cpu: &str) -> serde_json::Value {
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
            let spec = serde_json::json!({"containers": [one, one], "initContainers": init});
            assert_eq!(cpu(spec.clone()), expected, "{init:?}");
            let mut more = spec.clone();
            more["overhead"] = serde_json::json!({"cpu": "10m"});
            assert_eq!(cpu(more), expected + 10);
            let mut whole = spec;
            whole["resources"] = serde_json::json!({"requests": {"cpu": "1"}});
            assert_eq!(cpu(whole), 1000);
        }
    }

    #[test]
    fn scores_assume_usual_amounts() {
        let requests =
            Requests::of(&pod_json("p", serde_json::json!({"containers": [{"name": "c"}, container("1")]})));
        assert_eq!((requests.for_scores.cpu, requests.for_scores.memory), (1100, 400 << 20));
        assert_eq!((requests.asked.cpu, requests.asked.memory), (1000, 0));
    }
}
