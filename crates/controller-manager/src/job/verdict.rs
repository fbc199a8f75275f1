//! Whether a job has come to its end, and how: what was decided before holds,
//! then failures are looked for, then success.

use std::sync::Arc;

use api::types::batch::v1::{Job, JobCondition, JobStatus};
use api::types::core::v1::Pod;
use jiff::Timestamp;

use super::counting::{Count, End, has_failed, is_indexed};
use super::failure_policy::{Verdict, judge};
use super::plan::{FAILURE_TARGET, SUCCESS_CRITERIA_MET, condition};
use super::{manage, success_policy};
use crate::pods;

/// How a job ends, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sentence {
    pub(super) end: End,
    pub(super) reason: String,
    pub(super) message: String,
}

fn failure(reason: &str, message: &str) -> Option<Sentence> {
    Some(Sentence { end: End::Failure, reason: reason.to_owned(), message: message.to_owned() })
}

/// How the job ends although some of its pods may still be there; `None`: it goes on.
pub(super) fn sentence(
    job: &Job,
    status: &JobStatus,
    all: &[Arc<Pod>],
    count: &Count,
    now: Timestamp,
) -> Option<Sentence> {
    let told = |end: End, condition: &JobCondition| Sentence {
        end,
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
    };
    let met = condition(status, SUCCESS_CRITERIA_MET).map(|one| told(End::Success, one));
    let target = || condition(status, FAILURE_TARGET).map(|one| told(End::Failure, one));
    let by_policy = || {
        let failed = all.iter().filter(|pod| has_failed(job, pod));
        let mut verdicts = failed.map(|pod| judge(job, pod));
        verdicts.find_map(|verdict| match verdict {
            Verdict::FailsJob(why) => failure("PodFailurePolicy", &why),
            _ => None,
        })
    };
    met.or_else(target)
        .or_else(by_policy)
        .or_else(|| by_limits(job, status, all, count, now))
        .or_else(|| by_indexes(job, count))
        .or_else(|| {
            let message = success_policy::met(job, &count.indexes).filter(|_| is_indexed(job))?;
            Some(Sentence { end: End::Success, reason: "SuccessPolicy".to_owned(), message })
        })
}

/// The limits of the job as a whole.
fn by_limits(
    job: &Job,
    status: &JobStatus,
    all: &[Arc<Pod>],
    count: &Count,
    now: Timestamp,
) -> Option<Sentence> {
    let spec = job.spec.as_ref()?;
    let limit = usize::try_from(spec.backoff_limit.unwrap_or(6)).unwrap_or_default();
    let restarts = restarts(job, all);
    let restarted_out = restarts.is_some_and(|restarts| restarts > 0 && restarts >= limit);
    if count.failed > limit || restarted_out {
        return failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    let deadline = spec.active_deadline_seconds.filter(|_| !manage::is_suspended(job))?;
    let started = status.start_time.as_ref()?.0;
    let is_over = now.duration_since(started).as_secs_f64() >= deadline as f64;
    is_over.then(|| failure("DeadlineExceeded", "Job was active longer than specified deadline"))?
}

/// Restarts of containers in running pods, where these count as failures.
fn restarts(job: &Job, all: &[Arc<Pod>]) -> Option<usize> {
    let template = job.spec.as_ref()?.template.spec.as_ref()?;
    if template.restart_policy.as_deref() != Some("OnFailure") {
        return None;
    }
    let running = all.iter().filter(|pod| matches!(pods::phase(pod), "Running" | "Pending"));
    let statuses = running.filter_map(|pod| pod.status.as_ref()).flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    });
    Some(statuses.map(|one| usize::try_from(one.restart_count).unwrap_or_default()).sum())
}

/// The limits of indexes that fail each on its own.
fn by_indexes(job: &Job, count: &Count) -> Option<Sentence> {
    let spec = job.spec.as_ref()?;
    let failed = count.failed_indexes.as_ref()?.len();
    let number = |count: i32| usize::try_from(count).unwrap_or_default();
    if spec.max_failed_indexes.is_some_and(|most| failed > number(most)) {
        let text = "Job has exceeded the specified maximal number of failed indexes";
        return failure("MaxFailedIndexesExceeded", text);
    }
    let all_are_over = failed + count.indexes.len() >= number(spec.completions.unwrap_or_default());
    if failed > 0 && all_are_over {
        return failure("FailedIndexes", "Job has failed indexes");
    }
    None
}

/// Whether enough pods have succeeded, when this many are active or about to be.
pub(super) fn completed(job: &Job, count: &Count, active: usize) -> Option<Sentence> {
    let wanted = job.spec.as_ref().and_then(|spec| spec.completions);
    let wanted = wanted.map(|wanted| usize::try_from(wanted).unwrap_or_default());
    let is_enough = match wanted {
        // With no number of completions, the first success is the signal to end.
        None => count.succeeded > 0,
        Some(wanted) => count.succeeded >= wanted,
    };
    (is_enough && active == 0).then(|| Sentence {
        end: End::Success,
        reason: "CompletionsReached".to_owned(),
        message: "Reached expected number of succeeded pods".to_owned(),
    })
}
