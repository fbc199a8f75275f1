//! What an autoscaler does: the target's size set, its own status told. The steps
//! are upstream's `reconcileAutoscaler`.

use api::LabelSelector;
use api::types::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition,
    HorizontalPodAutoscalerStatus, MetricSpec, MetricStatus,
};
use client::events::reference;
use jiff::Timestamp;
use reconcile::{Action, Moment, Plan};

use super::behavior::Question;
use super::metric::{Unable, propose};
use super::usage::{Fleet, Tolerance};
use super::{Observed, Scale};
use crate::status;

const ABLE: &str = "AbleToScale";
const ACTIVE: &str = "ScalingActive";
const LIMITED: &str = "ScalingLimited";

/// The object that a metric describes.
pub(super) fn described(spec: &MetricSpec) -> Option<&CrossVersionObjectReference> {
    spec.object.as_ref().map(|object| &object.described_object)
}

/// What the metrics together call for.
struct Called {
    /// `None`: they cannot say.
    replicas: Option<i32>,
    /// The metric that calls for most.
    name: String,
    statuses: Vec<MetricStatus>,
    /// Those that cannot say anything.
    unable: Vec<Unable>,
}

fn tolerance(observed: &Observed) -> Tolerance {
    let behavior = observed.autoscaler.spec.behavior.as_ref();
    let own = |up: bool| {
        let rules = behavior.and_then(|one| if up { one.scale_up.as_ref() } else { one.scale_down.as_ref() });
        let quantity = api::Quantity::try_from(rules?.tolerance.as_ref()?).ok()?;
        Some(quantity.to_f64())
    };
    let default = observed.settings.tolerance;
    Tolerance { down: own(false).unwrap_or(default), up: own(true).unwrap_or(default) }
}

/// The largest of what the metrics call for. Where some cannot say, a shrinkage is not trusted.
fn called(observed: &Observed, scale: &Scale, now: Timestamp) -> Called {
    let fleet = Fleet {
        pods: &observed.pods,
        replicas: scale.number("spec"),
        tolerance: tolerance(observed),
        youth: observed.settings.youth,
        now,
    };
    let mut called = Called { replicas: None, name: String::new(), statuses: Vec::new(), unable: Vec::new() };
    let specs = observed.autoscaler.spec.metrics.as_deref().unwrap_or_default();
    for (spec, answer) in specs.iter().zip(&observed.metrics) {
        match propose(spec, answer.as_ref(), &fleet, scale.number("status")) {
            Ok(proposal) => {
                if called.replicas.is_none_or(|most| proposal.replicas > most) {
                    called.replicas = Some(proposal.replicas);
                    called.name = proposal.name;
                }
                called.statuses.push(proposal.status);
            }
            Err(unable) => called.unable.push(unable),
        }
    }
    let shrinks = called.replicas.is_none_or(|replicas| replicas < fleet.replicas);
    if !called.unable.is_empty() && shrinks {
        called.replicas = None;
    }
    called
}

/// Whether the metrics decide, and not the bounds or a user who set the size to zero.
fn needs_metrics(autoscaler: &HorizontalPodAutoscaler, current: i32) -> bool {
    let least = autoscaler.spec.min_replicas.unwrap_or(1);
    current != 0 && current <= autoscaler.spec.max_replicas && current >= least
}

/// What the metrics call for, to be remembered.
pub(super) fn recommendation(observed: &Observed, now: Timestamp) -> Option<i32> {
    let scale = observed.scale.as_ref().ok()?;
    let decides =
        needs_metrics(&observed.autoscaler, scale.number("spec")) && objection(observed, scale).is_none();
    decides.then(|| called(observed, scale, now).replicas)?
}

/// Why the target's pods cannot be told; an event's reason, a condition's reason, and both texts.
fn objection(observed: &Observed, scale: &Scale) -> Option<(&'static str, &'static str, String, String)> {
    if scale.selector().is_empty() {
        let text = "the HPA target's scale is missing a selector".to_owned();
        return Some(("SelectorRequired", "InvalidSelector", "selector is required".to_owned(), text));
    }
    if let Err(error) = LabelSelector::parse(scale.selector()) {
        let text =
            format!("couldn't convert selector into a corresponding internal selector object: {error}");
        return Some(("InvalidSelector", "InvalidSelector", text.clone(), text));
    }
    if observed.rivals.is_empty() {
        return None;
    }
    let names: Vec<String> = observed.rivals.iter().map(ToString::to_string).collect();
    let text = format!(
        "pods by selector {} are controlled by multiple HPAs: {}",
        scale.selector(),
        names.join(", ")
    );
    Some(("AmbiguousSelector", "AmbiguousSelector", text.clone(), text))
}

pub(super) fn plan(observed: &Observed, moment: &Moment) -> Plan {
    let status = observed.autoscaler.status.clone().unwrap_or_default();
    let mut sync = Sync { observed, moment, status, plan: Plan::default() };
    match &observed.scale {
        Ok(scale) => sync.run(scale),
        Err(why) => {
            sync.warn("FailedGetScale", why.clone());
            let text = format!("the HPA controller was unable to get the target's current scale: {why}");
            sync.say(ABLE, "False", "FailedGetScale", text);
            sync.tell();
        }
    }
    sync.plan
}

struct Sync<'a> {
    observed: &'a Observed,
    moment: &'a Moment,
    status: HorizontalPodAutoscalerStatus,
    plan: Plan,
}

impl Sync<'_> {
    fn warn(&mut self, reason: &str, text: impl Into<String>) {
        self.plan.actions.push(Action::warning(reference(&*self.observed.autoscaler), reason, text));
    }

    fn say(&mut self, kind: &str, value: &str, reason: &str, message: impl Into<String>) {
        let conditions = self.status.conditions.get_or_insert_default();
        let place = conditions.iter().position(|one| one.type_ == kind);
        let before = place.map(|place| conditions.remove(place)).filter(|before| before.status == value);
        let since = before.and_then(|before| before.last_transition_time);
        let condition = HorizontalPodAutoscalerCondition {
            type_: kind.to_owned(),
            status: value.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.into()),
            last_transition_time: since.or_else(|| Some(status::time(self.moment.now))),
        };
        conditions.insert(place.unwrap_or(conditions.len()), condition);
    }

    fn tell(&mut self) {
        let autoscaler = &*self.observed.autoscaler;
        self.plan.actions.extend(status::write(autoscaler, autoscaler.status.as_ref(), &self.status));
    }

    fn run(&mut self, scale: &Scale) {
        let spec = &self.observed.autoscaler.spec;
        let current = scale.number("spec");
        let least = spec.min_replicas.unwrap_or(1);
        self.status.current_replicas = Some(current);
        let text = "the HPA controller was able to get the target's current scale";
        self.say(ABLE, "True", "SucceededGetScale", text);
        if current == 0 {
            let text = "scaling is disabled since the replica count of the target is zero";
            self.say(ACTIVE, "False", "ScalingDisabled", text);
            self.status.current_metrics = None;
            self.status.desired_replicas = 0;
            return self.tell();
        }
        if current > spec.max_replicas {
            self.status.current_metrics = None;
            let why = "Current number of replicas above Spec.MaxReplicas";
            return self.resize(scale, spec.max_replicas, why.to_owned());
        }
        if current < least {
            self.status.current_metrics = None;
            let why = "Current number of replicas below Spec.MinReplicas";
            return self.resize(scale, least, why.to_owned());
        }
        self.follow_metrics(scale, least);
    }

    fn follow_metrics(&mut self, scale: &Scale, least: i32) {
        if let Some((event, reason, short, text)) = objection(self.observed, scale) {
            self.warn(event, short.clone());
            self.say(ACTIVE, "False", reason, text);
            self.tell();
            return self.warn("FailedComputeMetricsReplicas", short);
        }
        let called = called(self.observed, scale, self.moment.now);
        for unable in &called.unable {
            self.warn(unable.reason, unable.message.clone());
        }
        self.status.current_metrics = Some(called.statuses).filter(|statuses| !statuses.is_empty());
        let Some(wanted) = called.replicas else { return self.give_up(&called.unable) };
        let text = format!("the HPA was able to successfully calculate a replica count from {}", called.name);
        self.say(ACTIVE, "True", "ValidMetricFound", text);
        let current = scale.number("spec");
        let answer = Question {
            behavior: self.observed.autoscaler.spec.behavior.as_ref(),
            history: &self.observed.history,
            least,
            most: self.observed.autoscaler.spec.max_replicas,
            current,
            wanted,
            downscale_stabilization: self.observed.settings.downscale_stabilization,
            now: self.moment.now,
        }
        .answer();
        self.say(ABLE, "True", answer.able.0, answer.able.1);
        let (is_limited, reason, text) = answer.limited;
        self.say(LIMITED, if is_limited { "True" } else { "False" }, reason, text);
        let why = match wanted.cmp(&current) {
            std::cmp::Ordering::Greater => format!("{} above target", called.name),
            _ => "All metrics below target".to_owned(),
        };
        self.resize(scale, answer.replicas, why);
    }

    /// The metrics do not say enough.
    fn give_up(&mut self, unable: &[Unable]) {
        let Some(first) = unable.first() else { return self.tell() };
        let text = format!("the HPA was unable to compute the replica count: {}", first.message);
        self.say(ACTIVE, "False", first.reason, text);
        self.tell();
        let all = self.observed.autoscaler.spec.metrics.as_ref().map_or(0, Vec::len);
        let text = format!(
            "invalid metrics ({} invalid out of {all}), first error is: {}",
            unable.len(),
            first.message
        );
        self.warn("FailedComputeMetricsReplicas", text);
    }

    fn resize(&mut self, scale: &Scale, replicas: i32, why: String) {
        let current = scale.number("spec");
        if replicas == current {
            self.status.desired_replicas = current;
            return self.tell();
        }
        if let Some(failure) = self.moment.failure.as_ref().filter(|failure| failure.verb == "update") {
            let message = failure.message.clone();
            self.warn("FailedRescale", format!("New size: {replicas}; reason: {why}; error: {message}"));
            let before = self.status.clone();
            let text = format!("the HPA controller was unable to update the target scale: {message}");
            self.say(ABLE, "False", "FailedUpdateScale", text);
            self.tell();
            self.status = before;
        }
        let mut object = scale.object.clone();
        object["spec"]["replicas"] = replicas.into();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            // A target's status changes all the time; its size is ours to say.
            metadata.remove("resourceVersion");
        }
        self.plan.actions.push(Action::Update { target: scale.place.clone(), object });
        let text = format!("the HPA controller was able to update the target scale to {replicas}");
        self.say(ABLE, "True", "SucceededRescale", text);
        self.status.desired_replicas = replicas;
        self.status.last_scale_time = Some(status::time(self.moment.now));
        self.tell();
        let text = format!("New size: {replicas}; reason: {why}");
        let about = reference(&*self.observed.autoscaler);
        self.plan.actions.push(Action::normal(about, "SuccessfulRescale", text));
    }
}
