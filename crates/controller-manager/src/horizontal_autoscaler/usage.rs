//! How many pods a use of something calls for (upstream: the replica
//! calculator). Amounts are thousandths. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::Quantity;
use api::types::core::v1::{Container, Pod};
use jiff::Timestamp;

use crate::pods;

/// A measurement of one pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) value: i64,
    pub(super) at: Timestamp,
    /// The time that it is an average of.
    pub(super) window: Duration,
}

/// Measurements by pod.
pub(super) type Samples = BTreeMap<String, Sample>;

/// How far a ratio may be from one before anything is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerance {
    pub(super) down: f64,
    pub(super) up: f64,
}

impl Tolerance {
    fn covers(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// When a young pod's measurements count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Youth {
    /// How long a pod may take to start, during which it uses more than later.
    pub(super) initialization: Duration,
    /// How long after its start a pod counts as never ready.
    pub(super) readiness: Duration,
}

/// What all calculations are about.
pub(super) struct Fleet<'a> {
    pub(super) pods: &'a [Arc<Pod>],
    /// What the target is to have now.
    pub(super) replicas: i32,
    pub(super) tolerance: Tolerance,
    pub(super) youth: Youth,
    pub(super) now: Timestamp,
}

/// What a calculation finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) replicas: i32,
    /// The average use of a pod; of a single value, the value.
    pub(super) usage: i64,
    /// In percent of what pods request, where that is the measure.
    pub(super) utilization: Option<i32>,
}

/// A target for the average pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    /// An amount.
    Amount(i64),
    /// Percent of what the pods request.
    Percent(i32),
}

fn ceil(replicas: f64) -> i32 {
    // Saturates, as a float cast does.
    replicas.ceil() as i32
}

struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

impl Fleet<'_> {
    /// By the use of each pod: of a resource (`requests` then has what pods request), or of
    /// something else.
    pub(super) fn by_pods(
        &self,
        mut samples: Samples,
        is_cpu: bool,
        goal: Goal,
        requests: &BTreeMap<String, i64>,
    ) -> Result<Found, String> {
        if self.pods.is_empty() {
            return Err("no pods returned by selector while calculating replica count".to_owned());
        }
        let groups = self.group(&samples, is_cpu);
        samples.retain(|pod, _| !groups.ignored.contains(pod) && !groups.unready.contains(pod));
        if samples.is_empty() {
            return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
        }
        let (ratio, found) = measure(&samples, goal, requests)?;
        let stays = Found { replicas: self.replicas, ..found };
        let grows_unready = !groups.unready.is_empty() && ratio > 1.0;
        if !grows_unready && groups.missing.is_empty() {
            if self.tolerance.covers(ratio) {
                return Ok(stays);
            }
            return Ok(Found { replicas: ceil(ratio * groups.ready as f64), ..found });
        }
        // Whoever is not measured is taken for what argues least for a change.
        let assumed = |value: i64| Sample { value, at: self.now, window: Duration::ZERO };
        for pod in groups.missing.iter().filter(|_| ratio != 1.0) {
            let full = match goal {
                Goal::Amount(amount) => amount,
                Goal::Percent(percent) => {
                    requests.get(pod).copied().unwrap_or_default() * i64::from(percent.max(100)) / 100
                }
            };
            samples.insert(pod.clone(), assumed(if ratio < 1.0 { full } else { 0 }));
        }
        for pod in groups.unready.iter().filter(|_| grows_unready) {
            samples.insert(pod.clone(), assumed(0));
        }
        let (again, _) = measure(&samples, goal, requests)?;
        let turns = (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0);
        if self.tolerance.covers(again) || turns {
            return Ok(stays);
        }
        let replicas = ceil(again * samples.len() as f64);
        let contradicts =
            (again < 1.0 && replicas > self.replicas) || (again > 1.0 && replicas < self.replicas);
        Ok(if contradicts { stays } else { Found { replicas, ..found } })
    }

    /// By one value against what it should be.
    pub(super) fn by_value(&self, value: i64, wanted: i64) -> Result<Found, String> {
        let ratio = value as f64 / wanted as f64;
        let found = |replicas| Found { replicas, usage: value, utilization: None };
        if self.replicas == 0 {
            return Ok(found(ceil(ratio)));
        }
        if self.tolerance.covers(ratio) {
            return Ok(found(self.replicas));
        }
        if self.pods.is_empty() {
            return Err("no pods returned by selector while calculating replica count".to_owned());
        }
        let is_up = |pod: &&Arc<Pod>| pods::phase(pod) == "Running" && pods::is_ready(pod);
        Ok(found(ceil(ratio * self.pods.iter().filter(is_up).count() as f64)))
    }

    /// By one value that the pods share; `present` pods do so now.
    pub(super) fn by_share(&self, value: i64, wanted: i64, present: i32) -> Found {
        let ratio = value as f64 / (wanted as f64 * f64::from(present));
        let replicas =
            if self.tolerance.covers(ratio) { present } else { ceil(value as f64 / wanted as f64) };
        let usage = (value as f64 / f64::from(present)).ceil() as i64;
        Found { replicas, usage, utilization: None }
    }

    fn group(&self, samples: &Samples, is_cpu: bool) -> Groups {
        let mut groups =
            Groups { ready: 0, unready: BTreeSet::new(), missing: BTreeSet::new(), ignored: BTreeSet::new() };
        for pod in self.pods {
            let name = pods::name(pod).to_owned();
            let sample = samples.get(&name);
            if pods::is_being_deleted(pod) || pods::phase(pod) == "Failed" {
                groups.ignored.insert(name);
            } else if pods::phase(pod) == "Pending" {
                groups.unready.insert(name);
            } else if let Some(sample) = sample {
                if is_cpu && self.is_too_young(pod, sample) {
                    groups.unready.insert(name);
                } else {
                    groups.ready += 1;
                }
            } else {
                groups.missing.insert(name);
            }
        }
        groups
    }

    /// Whether a pod's use says nothing yet, as it is still starting.
    fn is_too_young(&self, pod: &Pod, sample: &Sample) -> bool {
        let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        let (Some(ready), Some(started)) = (pods::condition(pod, "Ready"), started) else { return true };
        let changed = ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let is_unready = ready.status == "False";
        let after = |time: Timestamp, by: Duration| time.checked_add(by).unwrap_or(Timestamp::MAX);
        if after(started.0, self.youth.initialization) > self.now {
            return is_unready || sample.at < after(changed, sample.window);
        }
        is_unready && after(started.0, self.youth.readiness) > changed
    }
}

/// The ratio of use to goal, and the use.
fn measure(samples: &Samples, goal: Goal, requests: &BTreeMap<String, i64>) -> Result<(f64, Found), String> {
    let found = |usage, utilization| Found { replicas: 0, usage, utilization };
    match goal {
        Goal::Amount(amount) => {
            let total: i64 = samples.values().map(|sample| sample.value).sum();
            let usage = total / i64::try_from(samples.len()).unwrap_or(i64::MAX);
            Ok((usage as f64 / amount as f64, found(usage, None)))
        }
        Goal::Percent(percent) => {
            let known: Vec<(i64, i64)> = samples
                .iter()
                .filter_map(|(pod, sample)| Some((sample.value, *requests.get(pod)?)))
                .collect();
            let used: i64 = known.iter().map(|(used, _)| used).sum();
            let requested: i64 = known.iter().map(|(_, requested)| requested).sum();
            if requested == 0 {
                return Err("no metrics returned matched known pods".to_owned());
            }
            let utilization = i32::try_from(used * 100 / requested).unwrap_or(i32::MAX);
            let usage = used / i64::try_from(known.len()).unwrap_or(i64::MAX);
            Ok((f64::from(utilization) / f64::from(percent), found(usage, Some(utilization))))
        }
    }
}

/// What each pod requests of a resource; of one container where `container` names it.
pub(super) fn requests(
    pods: &[Arc<Pod>],
    container: &str,
    resource: &str,
) -> Result<BTreeMap<String, i64>, String> {
    pods.iter().map(|pod| Ok((pods::name(pod).to_owned(), request(pod, container, resource)?))).collect()
}

fn request(pod: &Pod, container: &str, resource: &str) -> Result<i64, String> {
    let name = pods::name(pod);
    let millis = |quantity: &api::openapi::apimachinery::pkg::api::resource::Quantity| {
        Quantity::try_from(quantity).map_or(0, Quantity::millis)
    };
    let spec = pod.spec.clone().unwrap_or_default();
    let of_pod = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let of_pod = of_pod.and_then(|requests| requests.get(resource)).filter(|_| container.is_empty());
    if let Some(quantity) = of_pod {
        return Ok(millis(quantity));
    }
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let meant = |one: &&Container| container.is_empty() || one.name == container;
    let mut total = None;
    for one in spec.containers.iter().chain(sidecars).filter(meant) {
        let quantity =
            one.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get(resource));
        let Some(quantity) = quantity else {
            return Err(format!("missing request for {resource} in container {} of Pod {name}", one.name));
        };
        total = Some(total.unwrap_or_default() + millis(quantity));
    }
    match total {
        None if !container.is_empty() => Err(format!("container {container} not found in Pod {name}")),
        total => Ok(total.unwrap_or_default()),
    }
}
