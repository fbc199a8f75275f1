//! What a cron job needs: jobs started when their time has come, old ones
//! deleted, its status told. The steps are upstream's `syncCronJob`.

use std::sync::Arc;

use api::metav1::ObjectMeta;
use api::types::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use client::events::reference;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use reconcile::{Action, Announcement, Plan};

use super::schedule::{Schedule, zone};
use super::{Observed, due};
use crate::job::finished;
use crate::{owners, status};

/// The annotation of a job that holds the time it was started for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let cron_job = &*observed.cron_job;
    let status = cron_job.status.clone().unwrap_or_default();
    let plan = Plan::default();
    let mut sync = Sync { cron_job, spec: &cron_job.spec, jobs: &observed.jobs, status, now, plan };
    sync.look();
    sync.clean_up();
    let mut start = None;
    if cron_job.metadata.deletion_timestamp.is_none() {
        start = sync.schedule(&observed.zone);
    }
    let telling = status::write(cron_job, cron_job.status.as_ref(), &sync.status);
    // What was seen is stored before it goes; what is started comes after.
    sync.plan.actions.splice(0..0, telling);
    sync.plan.actions.extend(start);
    sync.plan
}

struct Sync<'a> {
    cron_job: &'a CronJob,
    spec: &'a CronJobSpec,
    jobs: &'a [Arc<Job>],
    status: CronJobStatus,
    now: Timestamp,
    plan: Plan,
}

/// The name of the job for a time.
fn job_name(cron_job: &CronJob, time: Timestamp) -> String {
    format!("{}-{}", owners::name(cron_job), time.as_second().div_euclid(60))
}

/// The time that one of our jobs was started for, by its annotation and its name.
fn started_for(cron_job: &CronJob, job: &Job) -> Option<Timestamp> {
    let text = job.metadata.annotations.as_ref()?.get(SCHEDULED)?;
    let time: Timestamp = text.parse().ok()?;
    (job_name(cron_job, time) == owners::name(job)).then_some(time)
}

impl Sync<'_> {
    fn warn(&mut self, reason: &str, text: String) {
        self.plan.actions.push(Action::warning(reference(self.cron_job), reason, text));
    }

    fn inform(&mut self, reason: &str, text: String) {
        self.plan.actions.push(Action::normal(reference(self.cron_job), reason, text));
    }

    fn is_active(&self, job: &Job) -> bool {
        self.status.active.iter().flatten().any(|one| one.uid == job.metadata.uid)
    }

    fn forget(&mut self, uid: Option<&str>) {
        let Some(active) = &mut self.status.active else { return };
        active.retain(|one| one.uid.as_deref() != uid);
        if active.is_empty() {
            self.status.active = None;
        }
    }

    /// Takes into the status what has become of the jobs.
    fn look(&mut self) {
        let cron_job = self.cron_job;
        let controlled = self.jobs.iter().filter(|job| owners::is_controlled_by(&***job, cron_job));
        for job in controlled {
            let end = finished(job);
            let served = self.status.last_schedule_time.as_ref().map(|time| time.0);
            let news = started_for(cron_job, job).filter(|time| served.is_none_or(|served| *time > served));
            if let Some(time) = news {
                self.status.last_schedule_time = Some(status::time(time));
                if end.is_none() {
                    self.status.active.get_or_insert_default().push(reference(&**job));
                }
            } else if end.is_none() && !self.is_active(job) {
                let name = owners::name(&**job);
                self.warn(
                    "UnexpectedJob",
                    format!("Saw a job that the controller did not create or forgot: {name}"),
                );
            }
            let Some(end) = end else { continue };
            if self.is_active(job) || news.is_some() {
                self.forget(job.metadata.uid.as_deref());
                let name = owners::name(&**job);
                self.inform("SawCompletedJob", format!("Saw completed job: {name}, condition: {end}"));
            }
            let completed = job.status.as_ref().and_then(|status| status.completion_time.clone());
            let before = self.status.last_successful_time.as_ref().map(|time| time.0);
            let completed =
                completed.filter(|time| end == "Complete" && before.is_none_or(|before| time.0 > before));
            if completed.is_some() {
                self.status.last_successful_time = completed;
            }
        }
        for active in self.status.active.clone().unwrap_or_default() {
            if !self.jobs.iter().any(|job| job.metadata.uid == active.uid) {
                self.forget(active.uid.as_deref());
                let name = active.name.unwrap_or_default();
                self.inform("MissingJob", format!("Active job went missing: {name}"));
            }
        }
    }

    /// Deletes the oldest finished jobs beyond what the history may hold.
    fn clean_up(&mut self) {
        let limits = [
            ("Complete", self.spec.successful_jobs_history_limit),
            ("Failed", self.spec.failed_jobs_history_limit),
        ];
        for (end, limit) in limits {
            let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
            let cron_job = self.cron_job;
            let ended = self
                .jobs
                .iter()
                .filter(|job| owners::is_controlled_by(&***job, cron_job) && finished(job) == Some(end));
            let mut ended: Vec<Arc<Job>> = ended.cloned().collect();
            let started = |job: &Job| job.status.as_ref()?.start_time.as_ref().map(|time| time.0);
            ended.sort_by_key(|job| (started(job).is_none(), started(job), job.metadata.name.clone()));
            let surplus = ended.len().saturating_sub(limit);
            for job in &ended[..surplus] {
                self.delete(job);
            }
        }
    }

    fn delete(&mut self, job: &Job) {
        if job.metadata.deletion_timestamp.is_some() {
            return;
        }
        let mut delete = Action::delete(job).announced(Announcement {
            about: reference(self.cron_job),
            success: Some(("SuccessfulDelete", "Deleted job {name}".to_owned())),
            failure: Some(("FailedDelete", "Deleted job: {error}".to_owned())),
        });
        if let Action::Delete { options, .. } = &mut delete {
            options.propagation_policy = Some("Background".to_owned());
        }
        self.plan.actions.push(delete);
        self.forget(job.metadata.uid.as_deref());
    }

    /// The job to start now, if its time has come; asks to be woken for the next.
    fn schedule(&mut self, local: &TimeZone) -> Option<Action> {
        let place = self.spec.time_zone.as_deref().map(zone).transpose();
        let place = match place {
            Ok(place) => place,
            Err(error) => {
                let name = self.spec.time_zone.as_deref().unwrap_or_default();
                self.warn("UnknownTimeZone", format!("invalid timeZone: {name:?}: {error}"));
                return None;
            }
        };
        if self.spec.suspend == Some(true) {
            return None;
        }
        let text = &self.spec.schedule;
        if text.contains("TZ") {
            let text = format!("CRON_TZ or TZ used in schedule {text:?} is not officially supported");
            self.warn("UnsupportedSchedule", text);
        }
        let schedule = match Schedule::parse(text, place.unwrap_or_else(|| local.clone())) {
            Ok(schedule) => schedule,
            Err(error) => {
                self.warn("UnparseableSchedule", format!("unparseable schedule: {text:?} : {error}"));
                return None;
            }
        };
        let Some(found) = due::due(self.cron_job, &schedule, self.now, true) else {
            let text = format!("invalid schedule: {text} : it never comes");
            self.warn("InvalidSchedule", text);
            return None;
        };
        if let Some(wait) = due::wait(self.cron_job, &schedule, self.now) {
            self.plan.wake(wait);
        }
        if found.are_many_missed() && found.latest.is_some() {
            let text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.warn("TooManyMissedTimes", text.to_owned());
        }
        found.latest.and_then(|time| self.start(time))
    }

    /// Starts the job for a time, unless something forbids it.
    fn start(&mut self, time: Timestamp) -> Option<Action> {
        let deadline = self.spec.starting_deadline_seconds;
        if deadline.is_some_and(|deadline| time.as_second().saturating_add(deadline) < self.now.as_second()) {
            let missed = time.strftime("%a, %d %b %Y %H:%M:%S UTC");
            self.warn("MissSchedule", format!("Missed scheduled time to start a job: {missed}"));
            return None;
        }
        let name = job_name(self.cron_job, time);
        let served = self.status.last_schedule_time.as_ref().is_some_and(|last| last.0 == time);
        let mut active = self.status.active.iter().flatten();
        if served || active.any(|one| one.name.as_deref() == Some(&name)) {
            return None;
        }
        let policy = self.spec.concurrency_policy.as_deref();
        let has_active = self.status.active.as_ref().is_some_and(|active| !active.is_empty());
        if policy == Some("Forbid") && has_active {
            let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
            self.inform("JobAlreadyActive", text.to_owned());
            return None;
        }
        if policy == Some("Replace") {
            let running: Vec<Arc<Job>> =
                self.jobs.iter().filter(|job| self.is_active(job)).map(Arc::clone).collect();
            for job in running {
                self.delete(&job);
                self.forget(job.metadata.uid.as_deref());
            }
        }
        Some(Action::create(&self.job(name, time)).announced(Announcement {
            about: reference(self.cron_job),
            success: Some(("SuccessfulCreate", "Created job {name}".to_owned())),
            failure: Some(("FailedCreate", "Error creating job: {error}".to_owned())),
        }))
    }

    fn job(&self, name: String, time: Timestamp) -> Job {
        let template = self.spec.job_template.clone();
        let described = template.metadata.unwrap_or_default();
        let mut annotations = described.annotations.unwrap_or_default();
        annotations.insert(SCHEDULED.to_owned(), self.stamp(time));
        Job {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: self.cron_job.metadata.namespace.clone(),
                labels: described.labels,
                annotations: Some(annotations),
                owner_references: Some(vec![owners::controller_reference(self.cron_job)]),
                ..ObjectMeta::default()
            },
            spec: template.spec,
            status: None,
        }
    }

    /// A time as the clock of the cron job's time zone shows it; in UTC where it names none.
    fn stamp(&self, time: Timestamp) -> String {
        let place = zone(self.spec.time_zone.as_deref().unwrap_or_default()).unwrap_or(TimeZone::UTC);
        let local = time.to_zoned(place);
        let zone = if local.offset().is_zero() { "Z" } else { "%:z" };
        local.strftime(&format!("%Y-%m-%dT%H:%M:%S{zone}")).to_string()
    }
}
