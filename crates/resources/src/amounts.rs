//! What a pod asks for as a whole, from what its containers ask for
//! (`k8s.io/component-helpers/resource`).

use std::collections::{BTreeMap, HashMap};

use api::{Object, Quantity};
use serde_json::Value;

use crate::fields::Fields;
use crate::kinds::pod::resources::{is_huge_page, quantity};

/// Quantities by the name of a resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// Which list of a container's resources is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What is set aside.
    Requests,
    /// What may not be exceeded.
    Limits,
}

impl Side {
    const fn field(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

/// What counts besides the containers' own lists.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counting {
    /// The overhead of the pod's runtime class.
    pub overhead: bool,
    /// What a resize under way has not given back yet.
    pub status: bool,
    /// Whether huge pages can be set for the whole pod.
    pub huge_pages: bool,
}

/// The quantities of a resource list.
#[must_use]
pub fn read(list: &Value) -> Amounts {
    list.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), quantity(value))).collect()
}

/// Adds amounts to others.
pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *to.entry(name.clone()).or_insert(Quantity::ZERO) += *amount;
    }
}

/// Raises amounts to at least others.
pub fn raise(to: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        match to.get_mut(name) {
            Some(held) if *held >= *amount => {}
            Some(held) => *held = *amount,
            None => {
                to.insert(name.clone(), *amount);
            }
        }
    }
}

/// The amounts of a pod: the larger of what runs at once, and of what each init
/// container needs while it runs beside the sidecars before it.
#[must_use]
pub fn of_pod(pod: &Object, side: Side, counting: Counting) -> Amounts {
    let spec = pod.field("spec");
    let statuses = if counting.status { statuses(pod) } else { HashMap::new() };
    let infeasible = counting.status && is_infeasible(pod);
    let of = |container: &Value| {
        let status = statuses.get(container.text("name")).copied();
        of_container(container, status, side, infeasible)
    };
    let mut sum = Amounts::new();
    for container in spec.list("containers") {
        add(&mut sum, &of(container));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in spec.list("initContainers") {
        if container.text("restartPolicy") == "Always" {
            let own = of(container);
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut starting, &sidecars);
        } else {
            let mut own = of_container(container, None, side, false);
            add(&mut own, &sidecars);
            raise(&mut starting, &own);
        }
    }
    raise(&mut sum, &starting);
    for (name, value) in spec.field("resources").entries(side.field()) {
        if matches!(name.as_str(), "cpu" | "memory") || (counting.huge_pages && is_huge_page(name)) {
            sum.insert(name.clone(), quantity(value));
        }
    }
    if counting.overhead {
        for (name, value) in spec.entries("overhead") {
            // An overhead limits nothing that was not limited before.
            if side == Side::Requests || sum.contains_key(name) {
                *sum.entry(name.clone()).or_insert(Quantity::ZERO) += quantity(value);
            }
        }
    }
    sum
}

fn of_container(container: &Value, status: Option<&Value>, side: Side, infeasible: bool) -> Amounts {
    let wanted = read(container.field("resources").field(side.field()));
    let Some(status) = status.filter(|status| status.has("resources")) else { return wanted };
    let mut held = read(status.field("resources").field(side.field()));
    if side == Side::Requests {
        raise(&mut held, &read(status.field("allocatedResources")));
    }
    if !infeasible {
        raise(&mut held, &wanted);
    }
    held
}

fn statuses(pod: &Object) -> HashMap<&str, &Value> {
    let status = pod.field("status");
    let lists = ["containerStatuses", "initContainerStatuses"];
    lists.iter().flat_map(|list| status.list(list)).map(|one| (one.text("name"), one)).collect()
}

fn is_infeasible(pod: &Object) -> bool {
    let conditions = pod.field("status").list("conditions");
    conditions.iter().any(|one| one.text("type") == "PodResizePending" && one.text("reason") == "Infeasible")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(amounts: &Amounts) -> Vec<String> {
        amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    }

    #[test]
    fn init_containers_sidecars_overhead_and_resizes_count() {
        let cpu = |amount: &str| json!({"requests": {"cpu": amount}, "limits": {"cpu": amount}});
        let pod = Object::from_value(json!({"spec": {
            "containers": [{"name": "a", "resources": cpu("100m")}, {"name": "b", "resources": cpu("200m")}],
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": cpu("50m")},
                {"name": "i", "resources": cpu("1")},
            ],
            "overhead": {"cpu": "10m", "memory": "1Mi"},
        }, "status": {"containerStatuses": [
            {"name": "a", "resources": cpu("900m"), "allocatedResources": {"cpu": "950m"}},
        ]}}))
        .expect("an object");
        let of = |side, counting| texts(&of_pod(&pod, side, counting));
        assert_eq!(of(Side::Requests, Counting::default()), ["cpu=1050m"]);
        let overhead = Counting { overhead: true, ..Counting::default() };
        assert_eq!(of(Side::Requests, overhead), ["cpu=1060m", "memory=1Mi"]);
        assert_eq!(of(Side::Limits, overhead), ["cpu=1060m"]);
        let status = Counting { status: true, ..Counting::default() };
        assert_eq!(of(Side::Requests, status), ["cpu=1200m"]);
    }

    #[test]
    fn what_the_whole_pod_asks_for_wins() {
        let pod = Object::from_value(json!({"spec": {
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "1", "hugepages-2Mi": "2Mi"}}}],
            "resources": {"requests": {"cpu": "3", "hugepages-2Mi": "4Mi"}},
        }}))
        .expect("an object");
        assert_eq!(texts(&of_pod(&pod, Side::Requests, Counting::default())), ["cpu=3", "hugepages-2Mi=2Mi"]);
        let huge = Counting { huge_pages: true, ..Counting::default() };
        assert_eq!(texts(&of_pod(&pod, Side::Requests, huge)), ["cpu=3", "hugepages-2Mi=4Mi"]);
    }
}
