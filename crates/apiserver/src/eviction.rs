//! Evictions: a pod goes if its disruption budget allows it (upstream's `eviction`
//! subresource of pods, `policy/v1`).

use api::status::{Cause, Details};
use api::{LabelSelector, Object, Reason, Status, metav1};
use resources::Part;
use serde_json::{Value, json};

use crate::cache::Selected;
use crate::conditions;
use crate::gate::Gate;
use crate::registry::{Address, Caller, DeleteOptions, Owners, UpdateOptions, Written};

const GROUP: &str = "policy";
const RESOURCE: &str = "poddisruptionbudgets";
const VIOLATED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// Evictions that the budget's controller may still have to see.
const MAX_UNSEEN: usize = 2000;

/// What budgets say of a pod.
enum Judged {
    /// It may go, whatever becomes of it meanwhile.
    Free,
    /// It may go as it is now; if it got ready meanwhile, the named budget counts it.
    AsItIs(String),
}

impl Gate {
    /// Evicts a pod.
    ///
    /// # Errors
    /// Its budget does not allow it, or it cannot be deleted.
    pub(crate) async fn evict(
        &self,
        caller: &Caller,
        address: &Address,
        eviction: &Object,
        dry_run: bool,
    ) -> Result<Written, Status> {
        let mut options: DeleteOptions = match eviction.get("deleteOptions") {
            Some(options) => serde_json::from_value(options.clone())
                .map_err(|error| Status::bad_request(format!("deleteOptions: {error}")))?,
            None => DeleteOptions::default(),
        };
        if dry_run && options.dry_run.is_empty() {
            options.dry_run.push("All".to_owned());
        }
        let dry_run = !options.dry_run.is_empty();
        let pod = self.registry().get(address, "").await?.object().map_err(Status::internal)?;
        let judged = match is_past_budgets(&pod) {
            true => Judged::Free,
            false => self.judge(&pod, dry_run).await?,
        };
        if !dry_run {
            let is_bound = matches!(judged, Judged::AsItIs(_)) || named_version(&options).is_some();
            let marked = self.mark(address, &pod, &options, &judged).await?;
            if is_bound {
                let wanted = options.preconditions.get_or_insert_with(metav1::Preconditions::default);
                wanted.resource_version = Some(marked.revision.to_string());
            }
        }
        match self.registry().delete(caller, address, &options).await {
            Err(status) if status.reason == Reason::Conflict => match judged {
                Judged::AsItIs(budget) => return Err(still_processed(&budget)),
                Judged::Free => return Err(status),
            },
            other => drop(other?),
        }
        Ok(Written::done(Vec::new()))
    }

    /// Asks the budgets that select a pod, and takes the eviction off the one that counts it.
    async fn judge(&self, pod: &Object, dry_run: bool) -> Result<Judged, Status> {
        let mut budgets = self.budgets(pod);
        let Some(budget) = budgets.pop() else { return Ok(Judged::Free) };
        if !budgets.is_empty() {
            let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status { code: 500, ..Status::new(Reason::Unknown, why) });
        }
        let number = |field: &str| budget.integer(&["status", field]).unwrap_or_default();
        if !is_ready(pod) {
            let is_open = budget.text(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
            let (healthy, wanted) = (number("currentHealthy"), number("desiredHealthy"));
            if is_open || (healthy >= wanted && wanted > 0) {
                return Ok(Judged::AsItIs(budget.name().to_owned()));
            }
        }
        let now = api::time::format(self.registry().clock().now());
        if dry_run {
            charged(&budget, pod.name(), &now)?;
            return Ok(Judged::Free);
        }
        let kind =
            self.registry().kinds().find(GROUP, "v1", RESOURCE).ok_or_else(Status::no_such_resource)?;
        let address = Address { kind, namespace: pod.namespace().to_owned(), name: budget.name().to_owned() };
        let charge = |budget: &Object| Ok((charged(budget, pod.name(), &now)?, Vec::new()));
        let options = UpdateOptions { owners: Owners::Keep, is_admitted: true, ..UpdateOptions::default() };
        self.registry().change(&Caller::server(), &address, Part::Status, &options, &charge).await?;
        Ok(Judged::Free)
    }

    /// The budgets that select a pod; one whose selector cannot be read selects none.
    fn budgets(&self, pod: &Object) -> Vec<Object> {
        let all = self.registry().cache().resource(GROUP, RESOURCE);
        let here = Selected { namespace: pod.namespace().to_owned(), ..Selected::default() };
        let (found, _) = all.list(&here, 0, None);
        let objects = found.iter().filter_map(|stored| stored.object().ok());
        objects.filter(|budget| selects(budget, pod)).collect()
    }

    /// Says in a pod's status why it goes.
    async fn mark(
        &self,
        address: &Address,
        seen: &Object,
        options: &DeleteOptions,
        judged: &Judged,
    ) -> Result<Written, Status> {
        let now = api::time::format(self.registry().clock().now());
        let mark = |pod: &Object| {
            let version = pod.resource_version();
            if let Some(wanted) = named_version(options).filter(|wanted| *wanted != version) {
                return Err(address.conflict(&format!(
                    "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
                )));
            }
            match judged {
                Judged::AsItIs(budget) if version != seen.resource_version() => Err(still_processed(budget)),
                _ => Ok((disrupted(pod, &now), Vec::new())),
            }
        };
        let options = UpdateOptions { owners: Owners::Keep, is_admitted: true, ..UpdateOptions::default() };
        self.registry().change(&Caller::server(), address, Part::Status, &options, &mark).await
    }
}

fn named_version(options: &DeleteOptions) -> Option<&str> {
    options.preconditions.as_ref()?.resource_version.as_deref()
}

/// Whether no budget counts a pod: it has ended, not begun, or goes already.
fn is_past_budgets(pod: &Object) -> bool {
    pod.is_terminating() || matches!(pod.text(&["status", "phase"]), "Succeeded" | "Failed" | "Pending")
}

fn is_ready(pod: &Object) -> bool {
    let conditions = pod.at(&["status", "conditions"]).and_then(Value::as_array);
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

fn selects(budget: &Object, pod: &Object) -> bool {
    let Some(selector) = budget.at(&["spec", "selector"]) else { return false };
    let typed = serde_json::from_value::<metav1::LabelSelector>(selector.clone());
    let selector = typed.ok().and_then(|typed| LabelSelector::from_api(Some(&typed)).ok());
    selector.is_some_and(|selector| selector.matches(pod.labels().unwrap_or(&serde_json::Map::new())))
}

/// The pod, told that it is disrupted.
fn disrupted(pod: &Object, now: &str) -> Object {
    let mut pod = pod.clone();
    conditions::put(
        &mut pod,
        json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastTransitionTime": now, "lastProbeTime": null,
        }),
    );
    pod
}

fn refused(retry_after: u32, why: String) -> Status {
    let mut status = Status::too_many_requests(VIOLATED, retry_after);
    let details = status.details.get_or_insert_with(|| Box::new(Details::default()));
    details.causes.push(Cause { reason: "DisruptionBudget".to_owned(), message: why, ..Cause::default() });
    status
}

fn still_processed(budget: &str) -> Status {
    refused(10, format!("The disruption budget {budget} is still being processed by the server."))
}

/// A budget with one disruption fewer.
fn charged(budget: &Object, pod: &str, now: &str) -> Result<Object, Status> {
    let name = budget.name();
    let number = |field: &str| budget.integer(&["status", field]).unwrap_or_default();
    let allowed = number("disruptionsAllowed");
    let forbidden = |why: &str| Err(Status::forbidden(GROUP, "poddisruptionbudget", name, why));
    if number("observedGeneration") < budget.generation() {
        return Err(still_processed(name));
    }
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    let unseen = budget.at(&["status", "disruptedPods"]).and_then(Value::as_object);
    if unseen.is_some_and(|pods| pods.len() > MAX_UNSEEN) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        return Err(refused(0, why_none(budget)));
    }
    let mut budget = budget.clone();
    budget.set_at(&["status", "disruptionsAllowed"], allowed - 1);
    budget.set_at(&["status", "disruptedPods", pod], now);
    if allowed == 1 {
        let condition = json!({
            "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
            "observedGeneration": budget.generation(), "lastTransitionTime": now,
        });
        conditions::put(&mut budget, condition);
    }
    Ok(budget)
}

/// Why a budget allows nothing.
fn why_none(budget: &Object) -> String {
    let name = budget.name();
    let number = |field: &str| budget.integer(&["status", field]).unwrap_or_default();
    let conditions = budget.at(&["status", "conditions"]).and_then(Value::as_array);
    let told = conditions.into_iter().flatten().find(|one| one["type"] == "DisruptionAllowed");
    let text = |field: &str| told.and_then(|one| one[field].as_str()).unwrap_or_default();
    let is_told = text("status") == "False" && !text("message").is_empty();
    let (reason, message) = (text("reason"), text("message"));
    let (healthy, wanted) = (number("currentHealthy"), number("desiredHealthy"));
    let start = format!("The disruption budget {name}");
    match reason {
        "SyncFailed" if is_told => {
            format!("{start} does not allow evicting pods currently because it failed sync: {message}")
        }
        _ if healthy <= wanted => format!("{start} needs {wanted} healthy pods and has {healthy} currently"),
        _ if is_told => format!("{start} does not allow evicting pods currently ({reason}): {message}"),
        _ => format!("{start} does not allow evicting pods currently"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(status: Value) -> Object {
        Object::from_value(json!({
            "metadata": {"name": "b", "generation": 1},
            "spec": {"selector": {"matchLabels": {"app": "web"}}},
            "status": status,
        }))
        .expect("an object")
    }

    #[test]
    fn a_budget_is_charged() {
        let left = charged(&budget(json!({"observedGeneration": 1, "disruptionsAllowed": 1})), "p", "now");
        let left = left.expect("allowed");
        assert_eq!(left.integer(&["status", "disruptionsAllowed"]), Some(0));
        assert_eq!(left.at(&["status", "disruptedPods"]), Some(&json!({"p": "now"})));
        assert_eq!(left.get("status").expect("there")["conditions"][0]["reason"], "InsufficientPods");
        let why = |status: Value| {
            let told = charged(&budget(status), "p", "now").expect_err("refused");
            let cause = told.details.as_ref().and_then(|details| details.causes.first());
            (told.code, cause.map_or(told.message.clone(), |cause| cause.message.clone()))
        };
        assert_eq!(
            why(json!({"observedGeneration": 0, "disruptionsAllowed": 1})),
            (429, "The disruption budget b is still being processed by the server.".to_owned())
        );
        assert_eq!(
            why(json!({"observedGeneration": 1, "currentHealthy": 1, "desiredHealthy": 2})),
            (429, "The disruption budget b needs 2 healthy pods and has 1 currently".to_owned())
        );
        assert_eq!(why(json!({"observedGeneration": 1, "disruptionsAllowed": -1})).0, 403);
    }

    #[test]
    fn pods_that_budgets_count() {
        let pod = |phase: &str, app: &str| {
            Object::from_value(json!({"metadata": {"labels": {"app": app}}, "status": {"phase": phase}}))
                .expect("an object")
        };
        assert!(!is_past_budgets(&pod("Running", "web")) && is_past_budgets(&pod("Pending", "web")));
        let budget = budget(json!({}));
        assert!(selects(&budget, &pod("Running", "web")) && !selects(&budget, &pod("Running", "db")));
    }
}
