//! Gives a workload as many pods as its metrics call for (upstream:
//! `pkg/controller/podautoscaler`).
//!
//! A run asks the server for the target's size and for each metric, and plans
//! when all answers are there. What metrics called for lately is remembered, to
//! steady the size. Start reading in `plan.rs`; `usage.rs` says what a use calls
//! for, `behavior.rs` how fast a size may follow.

mod behavior;
mod metric;
mod metrics;
mod plan;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::metav1::OwnerReference;
use api::types::autoscaling::v2::{CrossVersionObjectReference, HorizontalPodAutoscaler};
use api::types::core::v1::Pod;
use api::{LabelSelector, ObjectKey};
use client::{Cache, Target};
use daemon::Clock;
use parking_lot::Mutex;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::answers::{Answer, Answers};
use crate::caches::NAMESPACE;
use crate::controllers::Context;
use crate::inventory::{Inventory, Kind};

use behavior::History;
use usage::Youth;

/// How long things are remembered at most: the longest window and period that the API takes.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// The loop's view.
pub struct Autoscalers {
    autoscalers: Arc<Cache<HorizontalPodAutoscaler>>,
    pods: Arc<Cache<Pod>>,
    inventory: Arc<Inventory>,
    answers: Arc<Answers>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    memory: Mutex<HashMap<ObjectKey, Memory>>,
}

/// What holds for all autoscalers.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    period: Duration,
    downscale_stabilization: Duration,
    tolerance: f64,
    youth: Youth,
}

/// What is remembered of one autoscaler.
#[derive(Clone, Debug, Default)]
struct Memory {
    history: History,
    /// The size that its target had last.
    replicas: Option<i32>,
    /// The selector of its target.
    selector: Option<LabelSelector>,
}

/// What a plan is made of.
pub struct Observed {
    autoscaler: Arc<HorizontalPodAutoscaler>,
    /// The target's scale; `Err`: why there is none.
    scale: Result<Scale, String>,
    /// The answers to what the metrics ask, in their order.
    metrics: Vec<Option<Answer>>,
    /// The pods of the target.
    pods: Vec<Arc<Pod>>,
    /// Other autoscalers that have some of these pods.
    rivals: Vec<ObjectKey>,
    history: History,
    settings: Settings,
}

/// The scale of a target, and where it is written.
#[derive(Clone, Debug)]
struct Scale {
    place: Target,
    object: serde_json::Value,
}

impl Scale {
    fn number(&self, part: &str) -> i32 {
        let number = self.object[part]["replicas"].as_i64().unwrap_or_default();
        i32::try_from(number).unwrap_or(i32::MAX)
    }

    fn selector(&self) -> &str {
        self.object["status"]["selector"].as_str().unwrap_or_default()
    }
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let flags = &context.flags;
    let autoscalers = context.caches.autoscalers();
    let answers = Answers::of(context.client.clone(), Arc::clone(&context.clock));
    let reconciler = Autoscalers {
        autoscalers: Arc::clone(&autoscalers),
        pods: context.caches.pods(),
        inventory: context.inventory(),
        answers: Arc::clone(&answers),
        clock: Arc::clone(&context.clock),
        settings: Settings {
            period: flags.horizontal_pod_autoscaler_sync_period,
            downscale_stabilization: flags.horizontal_pod_autoscaler_downscale_stabilization,
            tolerance: flags.horizontal_pod_autoscaler_tolerance,
            youth: Youth {
                initialization: flags.horizontal_pod_autoscaler_cpu_initialization_period,
                readiness: flags.horizontal_pod_autoscaler_initial_readiness_delay,
            },
        },
        memory: Mutex::default(),
    };
    let control = Loop::new(reconciler, flags.concurrent_horizontal_pod_autoscaler_syncs);
    answers.wake_with(control.waker());
    control.own(&autoscalers).reads(&context.caches.pods())
}

impl Autoscalers {
    fn kind(&self, reference: &CrossVersionObjectReference) -> Option<Arc<Kind>> {
        self.inventory.kind_of(&OwnerReference {
            api_version: reference.api_version.clone().unwrap_or_default(),
            kind: reference.kind.clone(),
            ..OwnerReference::default()
        })
    }

    /// The target's scale; `None`: it is yet to be known.
    fn scale(&self, autoscaler: &HorizontalPodAutoscaler, key: &ObjectKey) -> Option<Result<Scale, String>> {
        if !self.inventory.knows_kinds() {
            return None;
        }
        let target = &autoscaler.spec.scale_target_ref;
        let Some(kind) = self.kind(target) else {
            return Some(Err(format!("no matches for kind {:?}", target.kind)));
        };
        let place = Target { subresource: "scale".to_owned(), ..kind.target(&key.namespace, &target.name) };
        let answer = self.answers.get(&place, self.fresh(), key)?;
        Some(match &*answer {
            Ok(object) => Ok(Scale { place, object: object.clone() }),
            Err(status) => Err(status.to_string()),
        })
    }

    /// Answers of one run hold for that run.
    fn fresh(&self) -> Duration {
        self.settings.period * 2 / 3
    }

    /// The pods of a target, and who else scales some of them.
    fn fleet(&self, scale: &Scale, key: &ObjectKey) -> (Vec<Arc<Pod>>, Vec<ObjectKey>) {
        let Ok(selector) = LabelSelector::parse(scale.selector()) else { return (Vec::new(), Vec::new()) };
        let mut pods = self.pods.indexed(NAMESPACE, &key.namespace);
        pods.retain(|pod| selector.matches(&pod.metadata.labels));
        let mut memory = self.memory.lock();
        memory.retain(|known, _| self.autoscalers.get_key(known).is_some());
        memory.entry(key.clone()).or_default().selector = Some(selector);
        let scales_some = |known: &ObjectKey, memory: &Memory| {
            let selector = memory.selector.as_ref().filter(|_| known.namespace == key.namespace);
            selector.is_some_and(|selector| pods.iter().any(|pod| selector.matches(&pod.metadata.labels)))
        };
        let mut rivals: Vec<ObjectKey> = memory
            .iter()
            .filter(|(known, memory)| *known != key && scales_some(known, memory))
            .map(|(known, _)| known.clone())
            .collect();
        rivals.sort();
        (pods, rivals)
    }

    /// Notes what the metrics call for now, and whether the target has changed since the last look.
    fn remember(&self, observed: &Observed, key: &ObjectKey) -> History {
        let now = self.clock.now();
        let recommendation = plan::recommendation(observed, now);
        let mut memory = self.memory.lock();
        let memory = memory.entry(key.clone()).or_default();
        if let Ok(scale) = &observed.scale {
            let replicas = scale.number("spec");
            let status = observed.autoscaler.status.as_ref();
            let ours = status.is_some_and(|status| status.desired_replicas == replicas);
            if let Some(before) =
                memory.replicas.replace(replicas).filter(|before| *before != replicas && ours)
            {
                memory.history.changes.push((now, replicas - before));
            }
            if memory.history.recommendations.is_empty() {
                memory.history.recommendations.push((now, replicas));
            }
        }
        memory.history.recommendations.extend(recommendation.map(|recommendation| (now, recommendation)));
        let is_recent = |at: jiff::Timestamp| now.duration_since(at).unsigned_abs() <= REMEMBERED;
        memory.history.recommendations.retain(|(at, _)| is_recent(*at));
        memory.history.changes.retain(|(at, _)| is_recent(*at));
        memory.history.clone()
    }
}

impl Reconciler for Autoscalers {
    const NAME: &'static str = "horizontal-pod-autoscaler";
    type Observed = Option<Observed>;

    fn observe(&self, key: &ObjectKey) -> Option<Option<Observed>> {
        let autoscaler = self.autoscalers.get_key(key)?;
        let Some(scale) = self.scale(&autoscaler, key) else { return Some(None) };
        let mut observed = Observed {
            autoscaler: Arc::clone(&autoscaler),
            scale,
            metrics: Vec::new(),
            pods: Vec::new(),
            rivals: Vec::new(),
            history: History::default(),
            settings: self.settings,
        };
        if let Ok(scale) = &observed.scale {
            (observed.pods, observed.rivals) = self.fleet(scale, key);
            let specs = autoscaler.spec.metrics.as_deref().unwrap_or_default();
            let source = |spec| {
                let described = plan::described(spec).and_then(|object| self.kind(object));
                metrics::source(spec, &key.namespace, scale.selector(), described.as_deref())
            };
            let sources: Vec<Option<metrics::Source>> = specs.iter().map(source).collect();
            let answers: Vec<Option<Option<Answer>>> = sources
                .iter()
                .map(|source| match source {
                    Some(source) => {
                        self.answers.list(&source.place, &source.labels, self.fresh(), key).map(Some)
                    }
                    None => Some(None),
                })
                .collect();
            // All are asked before the first is waited for.
            let Some(answers) = answers.into_iter().collect::<Option<Vec<_>>>() else { return Some(None) };
            observed.metrics = answers;
        }
        observed.history = self.remember(&observed, key);
        Some(Some(observed))
    }

    fn plan(&self, observed: &Option<Observed>, moment: &Moment) -> Plan {
        let mut plan = observed.as_ref().map(|observed| plan::plan(observed, moment)).unwrap_or_default();
        plan.wake(self.settings.period);
        plan
    }
}
