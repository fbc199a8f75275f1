//! What a job needs: pods started, stopped and counted, its end declared. The
//! steps are upstream's `syncJob`.

use std::sync::Arc;
use std::time::Duration;

use api::LabelSelector;
use api::types::batch::v1::{Job, JobCondition, JobStatus};
use api::types::core::v1::Pod;
use client::events::reference;
use jiff::Timestamp;
use reconcile::{Action, Announcement, Moment, Plan};
use serde_json::json;

use super::counting::{self, Books, Count, End};
use super::manage::{self, Changes};
use super::verdict::{self, Sentence};
use super::{Observed, TRACKING, finished, template};
use crate::{owners, pods, status};

pub(super) const FAILED: &str = "Failed";
pub(super) const FAILURE_TARGET: &str = "FailureTarget";
pub(super) const COMPLETE: &str = "Complete";
pub(super) const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
const SUSPENDED: &str = "Suspended";

/// The selector; one that cannot be read selects nothing.
pub(super) fn selector(job: &Job) -> LabelSelector {
    let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    LabelSelector::from_api(selector).unwrap_or_else(|_| LabelSelector::nothing())
}

/// A condition that is true.
pub(super) fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    let conditions = status.conditions.iter().flatten();
    conditions.into_iter().find(|one| one.type_ == kind && one.status == "True")
}

/// Says it where it is news; whether it was. What was never true is not said to be false.
fn say(status: &mut JobStatus, now: Timestamp, kind: &str, value: &str, why: (&str, &str)) -> bool {
    let new = JobCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(why.0.to_owned()),
        message: Some(why.1.to_owned()),
        last_probe_time: Some(status::time(now)),
        last_transition_time: Some(status::time(now)),
    };
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|one| one.type_ == kind) {
        Some(old) => {
            let is_news =
                (&old.status, &old.reason, &old.message) != (&new.status, &new.reason, &new.message);
            if is_news {
                *old = new;
            }
            is_news
        }
        None if value == "False" => false,
        None => {
            conditions.push(new);
            true
        }
    }
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
    let spec = job.spec.clone().unwrap_or_default();
    if spec.managed_by.is_some_and(|one| one != "kubernetes.io/job-controller") {
        return plan;
    }
    let claimed = owners::claim_tracked(&**job, &selector(job), TRACKING, &observed.pods);
    if finished(job).is_some() {
        let tracked = claimed.objects.iter().filter(|pod| counting::is_tracked(pod));
        plan.actions.extend(tracked.map(|pod| release(pod)));
        return plan;
    }
    if !matches!(spec.completion_mode.as_deref(), None | Some("NonIndexed" | "Indexed")) {
        let text = "Skipped Job sync because completion mode is unknown";
        plan.actions.push(Action::warning(reference(&**job), "UnknownCompletionMode", text));
        return plan;
    }
    plan.actions.extend(claimed.actions);
    let mut sync = Sync {
        job,
        status: job.status.clone().unwrap_or_default(),
        count: Count::of(job, &claimed.objects),
        pods: claimed.objects,
        now: moment.now,
        news: Vec::new(),
        plan,
    };
    sync.run();
    sync.plan
}

struct Sync<'a> {
    job: &'a Job,
    status: JobStatus,
    pods: Vec<Arc<Pod>>,
    count: Count,
    now: Timestamp,
    /// Events, sent after the status is written.
    news: Vec<Action>,
    plan: Plan,
}

impl Sync<'_> {
    fn run(&mut self) {
        let suspended = manage::is_suspended(self.job);
        if self.status.start_time.is_none() && !suspended {
            self.status.start_time = Some(status::time(self.now));
        }
        let mut sentence = verdict::sentence(self.job, &self.status, &self.pods, &self.count, self.now);
        let mut changes = Changes::default();
        if sentence.is_none() {
            self.watch_deadline(suspended);
            let stays = self.job.metadata.deletion_timestamp.is_none();
            if stays {
                changes = manage::changes(self.job, &self.pods, &self.count, self.now);
            }
            let active = self.pods.iter().filter(|pod| pods::is_active(pod)).count();
            let left = active - changes.delete.len() + changes.create.len();
            sentence = verdict::completed(self.job, &self.count, left);
            if sentence.is_none() && stays {
                self.note_suspension(suspended);
            }
        } else {
            changes.delete = self.pods.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
        }
        let books = Books::of(self.job, &self.pods, &self.count, sentence.as_ref().map(|one| one.end));
        self.tell(&changes, &books);
        if let Some(sentence) = &sentence {
            self.declare(sentence, &books);
        }
        self.write(&changes, &books, sentence.is_some());
    }

    fn watch_deadline(&mut self, suspended: bool) {
        let deadline = self.job.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
        let started = self.status.start_time.as_ref().map(|time| time.0);
        if let (Some(deadline), Some(started), false) = (deadline, started, suspended) {
            let left = deadline as f64 - self.now.duration_since(started).as_secs_f64();
            self.plan.wake(Duration::from_secs_f64(left.max(0.0)));
        }
    }

    fn note_suspension(&mut self, suspended: bool) {
        let about = reference(self.job);
        if suspended {
            if say(&mut self.status, self.now, SUSPENDED, "True", ("JobSuspended", "Job suspended")) {
                self.status.start_time = None;
                self.news.push(Action::normal(about, "Suspended", "Job suspended"));
            }
        } else if say(&mut self.status, self.now, SUSPENDED, "False", ("JobResumed", "Job resumed")) {
            // The deadline counts the time in which the job may run.
            self.status.start_time = Some(status::time(self.now));
            self.news.push(Action::normal(about, "Resumed", "Job resumed"));
        }
    }

    fn tell(&mut self, changes: &Changes, books: &Books) {
        let is_doomed = |pod: &Pod| changes.delete.iter().any(|one| one.metadata.uid == pod.metadata.uid);
        let active = self.pods.iter().filter(|pod| pods::is_active(pod) && !is_doomed(pod));
        let ready = active.clone().filter(|pod| pods::is_ready(pod)).count();
        let terminating = self.pods.iter().filter(|pod| pods::is_terminating(pod)).count();
        self.status.active = status::count(active.count());
        self.status.ready = Some(status::whole(ready));
        self.status.terminating = Some(status::whole(terminating + changes.delete.len()));
        books.write(self.job, &self.count, &mut self.status);
    }

    /// Says how the job ends, and that it has ended when no pod runs and every one is counted.
    fn declare(&mut self, sentence: &Sentence, books: &Books) {
        let why = (sentence.reason.as_str(), sentence.message.as_str());
        let (target, end) = match sentence.end {
            End::Failure => (FAILURE_TARGET, FAILED),
            End::Success => (SUCCESS_CRITERIA_MET, COMPLETE),
        };
        if condition(&self.status, target).is_none() {
            say(&mut self.status, self.now, target, "True", why);
        }
        let runs = self.pods.iter().any(|pod| !pods::has_ended(pod));
        if runs || !books.is_settled {
            return;
        }
        say(&mut self.status, self.now, end, "True", why);
        let about = reference(self.job);
        if sentence.end == End::Failure {
            self.news.push(Action::warning(about, why.0, why.1));
            return;
        }
        self.status.completion_time = Some(status::time(self.now));
        let wanted = self.job.spec.as_ref().and_then(|spec| spec.completions);
        if wanted.is_some_and(|wanted| self.status.succeeded.unwrap_or_default() > wanted) {
            let text = "Too many succeeded pods running after completion count reached";
            self.news.push(Action::warning(about.clone(), "TooManySucceededPods", text));
        }
        self.news.push(Action::normal(about, "Completed", "Job completed"));
    }

    fn write(&mut self, changes: &Changes, books: &Books, ends: bool) {
        // The count must be stored before a finalizer goes, and from the status that was seen.
        let telling = status::write_unchanged(self.job, self.job.status.as_ref(), &self.status);
        self.plan.actions.extend(telling);
        self.plan.actions.append(&mut self.news);
        self.plan.actions.extend(books.counted.iter().map(|pod| release(pod)));
        if !ends {
            // Pods that we take away ourselves did not fail.
            let uncounted = changes.delete.iter().filter(|pod| counting::is_tracked(pod));
            self.plan.actions.extend(uncounted.map(|pod| release(pod)));
        }
        let job = self.job;
        self.plan.actions.extend(changes.delete.iter().map(|pod| delete_pod(job, pod)));
        let awaiting = &self.count.awaiting;
        let replaced = |index: Option<i32>| index.and_then(|index| awaiting.get(&index));
        let pod = |index: &Option<i32>| template::pod(job, *index, replaced(*index).map(|pod| &**pod));
        self.plan.actions.extend(changes.create.iter().map(|index| create_pod(job, &pod(index))));
        if let Some(wait) = changes.wait {
            self.plan.wake(wait);
        }
    }
}

fn create_pod(job: &Job, pod: &Pod) -> Action {
    Action::create(pod).announced(Announcement {
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
