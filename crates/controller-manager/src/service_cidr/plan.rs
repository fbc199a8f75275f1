//! Whether a range is ready, or may go.

use std::net::IpAddr;
use std::time::Duration;

use api::metav1::Condition;
use api::types::networking::v1::{IPAddress, ServiceCIDR};
use ipnet::IpNet;
use jiff::Timestamp;
use reconcile::{Action, Plan};
use serde_json::json;

use super::Observed;
use crate::{owners, status};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
/// How long a range that is to go stays, so that every allocator has learnt of it.
const GRACE: Duration = Duration::from_secs(10);

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let range = &*observed.range;
    let finalizers = range.metadata.finalizers.clone().unwrap_or_default();
    let is_kept = finalizers.iter().any(|one| one == FINALIZER);
    let mut plan = Plan::default();
    let Some(deleted) = &range.metadata.deletion_timestamp else {
        if !is_kept {
            let all: Vec<String> = finalizers.into_iter().chain([FINALIZER.to_owned()]).collect();
            plan.actions.push(Action::patch_unchanged(range, json!({"metadata": {"finalizers": all}})));
        }
        plan.actions.extend(tell(range, ("True", "", "Kubernetes Service CIDR is ready"), now));
        return plan;
    };
    if is_needed(observed) {
        let text = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        plan.actions.extend(tell(range, ("False", "Terminating", text), now));
        return plan;
    }
    let left = GRACE.as_secs_f64() - now.duration_since(deleted.0).as_secs_f64();
    if left > 0.0 {
        plan.wake(Duration::from_secs_f64(left));
    } else if is_kept {
        let rest: Vec<&String> = finalizers.iter().filter(|one| *one != FINALIZER).collect();
        plan.actions.push(Action::patch_unchanged(range, json!({"metadata": {"finalizers": rest}})));
    }
    plan
}

fn nets(range: &ServiceCIDR) -> impl Iterator<Item = IpNet> {
    range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten()).filter_map(|text| text.parse().ok())
}

/// Whether an address would be in no range without this one.
fn is_needed(observed: &Observed) -> bool {
    let range = &*observed.range;
    let others = || observed.all.iter().filter(|other| owners::name(&***other) != owners::name(range));
    if nets(range).all(|net| others().any(|other| nets(other).any(|wider| wider.contains(&net)))) {
        return false;
    }
    let allocated = |address: &IPAddress| {
        let by = address.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
        let parsed =
            by.is_some_and(|by| by == ALLOCATOR).then(|| owners::name(address).parse::<IpAddr>().ok());
        parsed.flatten()
    };
    observed.addresses.iter().filter_map(|address| allocated(address)).any(|address| {
        let holds = |range: &ServiceCIDR| nets(range).any(|net| net.contains(&address));
        holds(range) && !others().any(|other| holds(other))
    })
}

/// The write that says whether a range is ready; `None` where it is said.
fn tell(range: &ServiceCIDR, (value, reason, text): (&str, &str, &str), now: Timestamp) -> Option<Action> {
    let mut conditions =
        range.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let said = |one: &Condition| {
        one.type_ == "Ready"
            && (one.status.as_str(), one.reason.as_str(), one.message.as_str()) == (value, reason, text)
    };
    if conditions.iter().any(said) {
        return None;
    }
    conditions.retain(|one| one.type_ != "Ready");
    conditions.push(Condition {
        type_: "Ready".to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: text.to_owned(),
        observed_generation: None,
        last_transition_time: status::time(now),
    });
    Some(Action::patch_status(range, json!({"status": {"conditions": conditions}})))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::testing::{now, object};

    fn range(name: &str, nets: &[&str], changes: Value) -> Arc<ServiceCIDR> {
        let mut range = json!({"metadata": {"name": name, "uid": name, "finalizers": [FINALIZER]}, "spec": {"cidrs": nets}});
        api::patch::merge_patch(&mut range, changes);
        Arc::new(object(range))
    }

    fn going(at: &str) -> Value {
        json!({"metadata": {"deletionTimestamp": at}})
    }

    fn plan_of(range: Arc<ServiceCIDR>, others: Vec<Arc<ServiceCIDR>>, addresses: &[&str]) -> Plan {
        let address = |name: &&str| {
            Arc::new(object(json!({"metadata": {"name": name, "labels": {MANAGED_BY: ALLOCATOR}}})))
        };
        let all = others.into_iter().chain([Arc::clone(&range)]).collect();
        plan(&Observed { range, all, addresses: addresses.iter().map(address).collect() }, now())
    }

    fn shape(plan: &Plan) -> Vec<String> {
        let part = |action: &Action| action.target().map(|target| target.subresource.clone());
        plan.actions.iter().filter_map(part).collect()
    }

    #[test]
    fn a_range_is_held_and_ready() {
        let fresh = range("a", &["10.0.0.0/24"], json!({"metadata": {"finalizers": null}}));
        assert_eq!(shape(&plan_of(fresh, vec![], &[])), ["", "status"]);
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "",
            "message": "Kubernetes Service CIDR is ready", "lastTransitionTime": "2026-11-23T11:00:00Z"}]}});
        assert_eq!(plan_of(range("a", &["10.0.0.0/24"], ready), vec![], &[]), Plan::default());
    }

    #[test]
    fn a_range_goes_when_no_address_needs_it() {
        let long_ago = "2026-11-23T11:00:00Z";
        let net = |at: &str| range("a", &["10.0.0.0/24"], going(at));
        let wider = || vec![range("b", &["10.0.0.0/16"], json!({}))];
        let beside = || vec![range("b", &["10.1.0.0/16"], json!({}))];
        assert_eq!(shape(&plan_of(net(long_ago), vec![], &["10.0.0.7"])), ["status"]);
        assert_eq!(shape(&plan_of(net(long_ago), beside(), &["10.0.0.7"])), ["status"]);
        assert_eq!(shape(&plan_of(net(long_ago), wider(), &["10.0.0.7"])), [""]);
        assert_eq!(shape(&plan_of(net(long_ago), vec![], &["10.1.0.7"])), [""]);
        let just_now = plan_of(net("2026-11-23T11:59:55Z"), vec![], &[]);
        assert_eq!((just_now.actions.len(), just_now.wake_after), (0, Some(Duration::from_secs(5))));
    }
}
