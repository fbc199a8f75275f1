//! Which of a cron job's times are due.

use std::time::Duration;

use api::types::batch::v1::CronJob;
use jiff::Timestamp;

use super::schedule::Schedule;

/// How much later than planned a cron job is looked at, for clocks that differ.
const SLACK: Duration = Duration::from_millis(100);
/// More missed times than this are worth a warning.
const MANY: i64 = 100;

/// What a look at the clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// Times before this do not count.
    pub(super) since: Timestamp,
    /// The latest time that has come.
    pub(super) latest: Option<Timestamp>,
    /// About how many came since the last that was served.
    missed: i64,
}

impl Due {
    /// Whether so many times were missed that something must be wrong.
    pub(super) const fn are_many_missed(self) -> bool {
        self.missed > MANY
    }
}

/// The latest time that has come; with `limited`, times that the starting
/// deadline rules out are no longer looked for. `None` for a schedule that never
/// comes.
pub(super) fn due(cron_job: &CronJob, schedule: &Schedule, now: Timestamp, limited: bool) -> Option<Due> {
    let spec = &cron_job.spec;
    let created = cron_job.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let served = cron_job.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
    let mut since = served.map_or(created, |time| time.0);
    if let Some(deadline) = spec.starting_deadline_seconds.filter(|_| limited) {
        let opens = Timestamp::from_second(now.as_second().saturating_sub(deadline)).unwrap_or(since);
        since = since.max(opens);
    }
    let first = schedule.next(since)?;
    let second = schedule.next(first)?;
    if now < first {
        return Some(Due { since, latest: None, missed: 0 });
    }
    if now < second {
        return Some(Due { since, latest: Some(first), missed: 0 });
    }
    // The times between are not listed: by a wrong clock they may be millions.
    let interval = second.as_second() - first.as_second();
    let missed = (now.as_second() - first.as_second()) / interval.max(1) + 1;
    let near = first.as_second() + (missed - 2) * interval;
    let mut latest = None;
    let mut next = Timestamp::from_second(near).ok().and_then(|near| schedule.next(near));
    while let Some(time) = next.filter(|time| *time <= now) {
        latest = Some(time);
        next = schedule.next(time);
    }
    Some(Due { since, latest, missed })
}

/// How long until a cron job is to be looked at again.
pub(super) fn wait(cron_job: &CronJob, schedule: &Schedule, now: Timestamp) -> Option<Duration> {
    let from = match due(cron_job, schedule, now, false) {
        Some(Due { latest: Some(latest), .. }) => latest,
        Some(Due { since, missed: 0, .. }) => since,
        _ => now,
    };
    let next = schedule.next(from)?;
    Some(Duration::try_from(next.duration_since(now)).unwrap_or_default() + SLACK)
}
