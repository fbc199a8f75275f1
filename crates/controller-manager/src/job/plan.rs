//! What a job needs: pods started, stopped and counted, its end declared.

use std::time::Duration;

use api::LabelSelector;
use api::types::batch::v1::{Job, JobCondition, JobStatus};
use api::types::core::v1::Pod;
use client::events::reference;
use jiff::Timestamp;
use reconcile::{Action, Announcement, Moment, Plan};
use serde_json::json;

use super::counting::{self, Count};
use super::manage::{self, Changes};
use super::{Observed, TRACKING, template};
use crate::{owners, pods, status};

const FAILED: &str = "Failed";
const FAILURE_TARGET: &str = "FailureTarget";
const COMPLETE: &str = "Complete";
const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
const SUSPENDED: &str = "Suspended";

/// The selector; one that cannot be read selects nothing.
pub(super) fn selector(job: &Job) -> LabelSelector {
    let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    LabelSelector::from_api(selector).unwrap_or_else(|_| LabelSelector::nothing())
}

fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    let conditions = status.conditions.iter().flatten();
    conditions.into_iter().find(|one| one.type_ == kind && one.status == "True")
}

fn say(status: &mut JobStatus, now: Timestamp, kind: &str, value: &str, why: (&str, &str)) {
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|one| one.type_ != kind);
    conditions.push(JobCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(why.0.to_owned()),
        message: Some(why.1.to_owned()),
        last_probe_time: Some(status::time(now)),
        last_transition_time: Some(status::time(now)),
    });
}

/// Lets a pod go uncounted.
fn release(pod: &Pod) -> Action {
    let rest: Vec<&String> =
        pod.metadata.finalizers.iter().flatten().filter(|one| *one != TRACKING).collect();
    Action::patch_unchanged(pod, json!({"metadata": {"finalizers": rest}}))
}

pub(super) fn plan(observed: &Observed, moment: &Moment) -> Plan {
    let mut plan = Plan::of(observed.abandoned.iter().map(|pod| release(pod)).collect());
    let Some(job) = &observed.job else { return plan };
    let managed_by = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
    if managed_by.is_some_and(|one| one != "kubernetes.io/job-controller") {
        return plan;
    }
    let claimed = owners::claim(&**job, &selector(job), &observed.pods);
    let status = job.status.clone().unwrap_or_default();
    if condition(&status, COMPLETE).or_else(|| condition(&status, FAILED)).is_some() {
        let tracked = claimed.objects.iter().filter(|pod| counting::is_tracked(pod));
        plan.actions.extend(tracked.map(|pod| release(pod)));
        return plan;
    }
    plan.actions.extend(claimed.actions);
    let completions = job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or_default();
    let count = counting::count(job, &claimed.objects, completions);
    let mut sync =
        Sync { job, status, pods: claimed.objects, count, now: moment.now, news: Vec::new(), plan };
    sync.run();
    sync.plan
}

struct Sync<'a> {
    job: &'a Job,
    status: JobStatus,
    pods: Vec<std::sync::Arc<Pod>>,
    count: Count,
    now: Timestamp,
    /// Events, sent after the status is written.
    news: Vec<Action>,
    plan: Plan,
}

impl Sync<'_> {
    fn run(&mut self) {
        let suspended = self.job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
        let deleting = self.job.metadata.deletion_timestamp.is_some();
        if !deleting {
            self.note_suspension(suspended);
        }
        if let Some((reason, message)) = self.failure(suspended) {
            if condition(&self.status, FAILURE_TARGET).is_none() {
                say(&mut self.status, self.now, FAILURE_TARGET, "True", (&reason, &message));
            }
        } else if !deleting && self.is_fulfilled() && condition(&self.status, SUCCESS_CRITERIA_MET).is_none()
        {
            let why = ("CompletionsReached", "Reached expected number of succeeded pods");
            say(&mut self.status, self.now, SUCCESS_CRITERIA_MET, "True", why);
        }
        let ends =
            condition(&self.status, FAILURE_TARGET).or_else(|| condition(&self.status, SUCCESS_CRITERIA_MET));
        let changes = if ends.is_some() || deleting {
            Changes::default()
        } else {
            manage::changes(self.job, &self.pods, &self.count, self.now)
        };
        let stops = condition(&self.status, FAILURE_TARGET).is_some();
        self.tell(&changes);
        self.finish();
        self.write(changes, stops);
    }

    fn note_suspension(&mut self, suspended: bool) {
        let known = condition(&self.status, SUSPENDED).is_some();
        let said = self.status.conditions.iter().flatten().any(|one| one.type_ == SUSPENDED);
        let about = reference(self.job);
        if suspended && !known {
            say(&mut self.status, self.now, SUSPENDED, "True", ("JobSuspended", "Job suspended"));
            self.news.push(Action::normal(about, "Suspended", "Job suspended"));
        } else if !suspended && known && said {
            say(&mut self.status, self.now, SUSPENDED, "False", ("JobResumed", "Job resumed"));
            self.status.start_time = Some(status::time(self.now));
            self.news.push(Action::normal(about, "Resumed", "Job resumed"));
        }
        if self.status.start_time.is_none() && !suspended {
            self.status.start_time = Some(status::time(self.now));
        }
    }

    /// Why the job has failed, if it has.
    fn failure(&mut self, suspended: bool) -> Option<(String, String)> {
        if let Some(target) = condition(&self.status, FAILURE_TARGET) {
            return Some((
                target.reason.clone().unwrap_or_default(),
                target.message.clone().unwrap_or_default(),
            ));
        }
        let spec = self.job.spec.as_ref()?;
        let limit = usize::try_from(spec.backoff_limit.unwrap_or(6)).unwrap_or_default();
        let restarts = self.restarts();
        let restarted_out = restarts.is_some_and(|restarts| restarts > 0 && restarts >= limit);
        if self.count.failed > limit || restarted_out {
            let text = "Job has reached the specified backoff limit".to_owned();
            return Some(("BackoffLimitExceeded".to_owned(), text));
        }
        let deadline = spec.active_deadline_seconds.filter(|_| !suspended)?;
        let started = self.status.start_time.as_ref()?.0;
        let left = deadline as f64 - self.now.duration_since(started).as_secs_f64();
        if left > 0.0 {
            self.plan.wake(Duration::from_secs_f64(left));
            return None;
        }
        Some(("DeadlineExceeded".to_owned(), "Job was active longer than specified deadline".to_owned()))
    }

    /// Restarts of containers in running pods, where these count as failures.
    fn restarts(&self) -> Option<usize> {
        let template = self.job.spec.as_ref()?.template.spec.as_ref()?;
        if template.restart_policy.as_deref() != Some("OnFailure") {
            return None;
        }
        let running = self.pods.iter().filter(|pod| matches!(pods::phase(pod), "Running" | "Pending"));
        let statuses = running.filter_map(|pod| pod.status.as_ref()).flat_map(|status| {
            status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
        });
        Some(statuses.map(|one| usize::try_from(one.restart_count).unwrap_or_default()).sum())
    }

    fn is_fulfilled(&self) -> bool {
        let active = self.pods.iter().any(|pod| pods::is_active(pod));
        match self.job.spec.as_ref().and_then(|spec| spec.completions) {
            None => self.count.succeeded > 0 && !active,
            Some(completions) => self.count.succeeded >= usize::try_from(completions).unwrap_or_default(),
        }
    }

    fn tell(&mut self, changes: &Changes) {
        let is_doomed = |pod: &Pod| changes.delete.iter().any(|one| one.metadata.uid == pod.metadata.uid);
        let active: Vec<&Pod> = self
            .pods
            .iter()
            .map(|pod| &**pod)
            .filter(|pod| pods::is_active(pod) && !is_doomed(pod))
            .collect();
        let ready = active.iter().filter(|pod| pods::is_ready(pod)).count();
        let terminating = self.pods.iter().filter(|pod| pods::is_terminating(pod)).count();
        self.status.active = status::count(active.len());
        self.status.ready = Some(status::whole(ready));
        self.status.terminating = Some(status::whole(terminating));
        self.count.write(&mut self.status);
    }

    /// Declares the end when no pod runs and every one is counted.
    fn finish(&mut self) {
        let runs = self.pods.iter().any(|pod| !pods::has_ended(pod));
        if runs || !self.count.is_settled {
            return;
        }
        let about = reference(self.job);
        if let Some(target) = condition(&self.status, FAILURE_TARGET).cloned() {
            let (reason, message) = (target.reason.unwrap_or_default(), target.message.unwrap_or_default());
            say(&mut self.status, self.now, FAILED, "True", (&reason, &message));
            self.news.push(Action::warning(about, &reason, message));
        } else if let Some(met) = condition(&self.status, SUCCESS_CRITERIA_MET).cloned() {
            let (reason, message) = (met.reason.unwrap_or_default(), met.message.unwrap_or_default());
            say(&mut self.status, self.now, COMPLETE, "True", (&reason, &message));
            self.status.completion_time = Some(status::time(self.now));
            self.news.push(Action::normal(about, "Completed", "Job completed"));
        }
    }

    fn write(&mut self, changes: Changes, stops: bool) {
        // The count must be stored before a finalizer goes, and from the status that was seen.
        if let Some(Action::Patch { target, patch: client::Patch::Merge(mut patch) }) =
            status::write(self.job, self.job.status.as_ref(), &self.status)
        {
            patch["metadata"]["resourceVersion"] = json!(self.job.metadata.resource_version);
            self.plan.actions.push(Action::Patch { target, patch: client::Patch::Merge(patch) });
        }
        self.plan.actions.append(&mut self.news);
        self.plan.actions.extend(self.count.counted.iter().map(|pod| release(pod)));
        let job = self.job;
        let met = condition(&self.status, SUCCESS_CRITERIA_MET).is_some();
        let active = self.pods.iter().filter(|pod| (stops || met) && pods::is_active(pod));
        self.plan.actions.extend(active.map(|pod| delete_pod(job, pod)).collect::<Vec<_>>());
        // Pods that we take away ourselves did not fail.
        let surplus: Vec<_> = changes.delete.iter().filter(|pod| counting::is_tracked(pod)).collect();
        self.plan.actions.extend(surplus.iter().map(|pod| release(pod)));
        self.plan.actions.extend(changes.delete.iter().map(|pod| delete_pod(job, pod)));
        self.plan.actions.extend(changes.create.iter().map(|index| create_pod(job, *index)));
        if let Some(wait) = changes.wait {
            self.plan.wake(wait);
        }
    }
}

fn create_pod(job: &Job, index: Option<i32>) -> Action {
    Action::create(&template::pod(job, index)).announced(Announcement {
        about: reference(job),
        success: Some(("SuccessfulCreate", "Created pod: {name}".to_owned())),
        failure: Some(("FailedCreate", "Error creating: {error}".to_owned())),
    })
}

fn delete_pod(job: &Job, pod: &Pod) -> Action {
    Action::delete(pod).announced(Announcement {
        about: reference(job),
        success: Some(("SuccessfulDelete", "Deleted pod: {name}".to_owned())),
        failure: Some(("FailedDelete", "Error deleting: {error}".to_owned())),
    })
}
