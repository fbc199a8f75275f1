//! Cron schedules: five fields, names like `@hourly`, and `@every 1h30m`, with
//! the meaning that upstream's parser (`robfig/cron`) gives them. Pure.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned};

/// Years ahead that are searched for a time that fits.
const HORIZON: i16 = 5;

/// Why a schedule cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("empty spec string")]
    Empty,
    #[error("expected exactly 5 fields, found {found}: {text:?}")]
    Fields { found: usize, text: String },
    #[error("failed to parse int from {0:?}")]
    Number(String),
    #[error("too many hyphens or slashes: {0}")]
    Separators(String),
    #[error("range from {first} to {last} is empty or not within {lowest} to {highest}: {text}")]
    Range { first: u32, last: u32, lowest: u32, highest: u32, text: String },
    #[error("step of range should be a positive number: {0}")]
    Step(String),
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("unknown time zone {0}")]
    Zone(String),
}

/// When something is to happen again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    /// At times of the clock in a place.
    Calendar(Box<Calendar>),
    /// Always after the same time.
    Every(Duration),
}

/// The times of the clock that fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
    zone: TimeZone,
}

/// The numbers that fit a field, and whether it leaves all open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    bits: u64,
    is_open: bool,
}

struct Bounds {
    lowest: u32,
    highest: u32,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { lowest: 0, highest: 59, names: &[] };
const HOURS: Bounds = Bounds { lowest: 0, highest: 23, names: &[] };
const DAYS: Bounds = Bounds { lowest: 1, highest: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    lowest: 1,
    highest: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Bounds =
    Bounds { lowest: 0, highest: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// A time zone by name; UTC for an empty one.
pub(super) fn zone(name: &str) -> Result<TimeZone, Malformed> {
    match name {
        "" | "UTC" => Ok(TimeZone::UTC),
        "Local" => Ok(TimeZone::system()),
        name => TimeZone::get(name).map_err(|_| Malformed::Zone(name.to_owned())),
    }
}

impl Schedule {
    /// Reads a schedule; `zone` is where its clock hangs unless it names a place itself.
    pub(super) fn parse(text: &str, zone: TimeZone) -> Result<Self, Malformed> {
        let prefixed = ["TZ=", "CRON_TZ="].iter().find_map(|prefix| text.strip_prefix(prefix));
        let (text, zone) = match prefixed {
            Some(rest) => {
                let (name, text) = rest.split_once(' ').ok_or(Malformed::Empty)?;
                (text.trim(), self::zone(name)?)
            }
            None => (text, zone),
        };
        if text.is_empty() {
            return Err(Malformed::Empty);
        }
        if let Some(period) = text.strip_prefix("@every ") {
            return every(period).ok_or_else(|| Malformed::Descriptor(text.to_owned()));
        }
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other if other.starts_with('@') => return Err(Malformed::Descriptor(other.to_owned())),
            other => other,
        };
        Calendar::parse(fields, zone).map(|calendar| Self::Calendar(Box::new(calendar)))
    }

    /// The first time after another; `None` where none is near, as for the 31st of a short month.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(period) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(SignedDuration::try_from(*period).ok()?).ok()
            }
            Self::Calendar(calendar) => calendar.next(after),
        }
    }
}

/// Whole seconds, at least one.
fn every(period: &str) -> Option<Schedule> {
    let period: SignedDuration = period.parse().ok()?;
    let seconds = u64::try_from(period.as_secs()).unwrap_or_default();
    Some(Schedule::Every(Duration::from_secs(seconds.max(1))))
}

impl Calendar {
    fn parse(text: &str, zone: TimeZone) -> Result<Self, Malformed> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(Malformed::Fields { found: fields.len(), text: text.to_owned() });
        };
        Ok(Self {
            minutes: Field::parse(minutes, &MINUTES)?,
            hours: Field::parse(hours, &HOURS)?,
            days: Field::parse(days, &DAYS)?,
            months: Field::parse(months, &MONTHS)?,
            weekdays: Field::parse(weekdays, &WEEKDAYS)?,
            zone,
        })
    }

    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let mut at = after.to_zoned(self.zone.clone());
        let horizon = at.year().saturating_add(HORIZON);
        let into_minute =
            Duration::new(at.second().unsigned_abs().into(), at.subsec_nanosecond().unsigned_abs());
        at = at.checked_add(SignedDuration::from_secs(60)).ok()?;
        at = at.checked_sub(SignedDuration::try_from(into_minute).ok()?).ok()?;
        while at.year() <= horizon {
            at = if !self.months.has(at.month()) {
                midnight(at.date().first_of_month().checked_add(1.month()).ok()?, &self.zone)?
            } else if !self.fits_day(&at) {
                midnight(at.date().tomorrow().ok()?, &self.zone)?
            } else if !self.hours.has(at.hour()) {
                // By the hours that pass: those that a change of clocks skips are not
                // met, those that it repeats are met twice.
                let left = 60 - i64::from(at.minute());
                at.checked_add(SignedDuration::from_mins(left)).ok()?
            } else if !self.minutes.has(at.minute()) {
                at.checked_add(SignedDuration::from_mins(1)).ok()?
            } else {
                return Some(at.timestamp());
            };
        }
        None
    }

    /// Days of month and of week both bind if one of them is left open; otherwise either will do.
    fn fits_day(&self, at: &Zoned) -> bool {
        let day = self.days.has(at.day());
        let weekday = self.weekdays.has(at.weekday().to_sunday_zero_offset());
        if self.days.is_open || self.weekdays.is_open { day && weekday } else { day || weekday }
    }
}

fn midnight(date: Date, zone: &TimeZone) -> Option<Zoned> {
    date.to_zoned(zone.clone()).ok()?.start_of_day().ok()
}

impl Field {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.bits & (1 << number) != 0)
    }

    fn parse(text: &str, bounds: &Bounds) -> Result<Self, Malformed> {
        let mut field = Self { bits: 0, is_open: false };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let part = Self::parse_range(part, bounds)?;
            field.bits |= part.bits;
            field.is_open |= part.is_open;
        }
        Ok(field)
    }

    /// `*`, `n`, `n-m`, each with `/step`.
    fn parse_range(text: &str, bounds: &Bounds) -> Result<Self, Malformed> {
        let separators = || Malformed::Separators(text.to_owned());
        let mut halves = text.split('/');
        let (range, step) = (halves.next().unwrap_or_default(), halves.next());
        let mut ends = range.split('-');
        let (first, last) = (ends.next().unwrap_or_default(), ends.next());
        if halves.next().is_some() || ends.next().is_some() {
            return Err(separators());
        }
        let step = step.map(number).transpose()?;
        let is_star = matches!(first, "*" | "?");
        let (first, last) = if is_star {
            (bounds.lowest, bounds.highest)
        } else {
            let first = bounds.number(first)?;
            match last {
                Some(last) => (first, bounds.number(last)?),
                // A step without an end goes on to the highest.
                None if step.is_some() => (first, bounds.highest),
                None => (first, first),
            }
        };
        if step == Some(0) {
            return Err(Malformed::Step(text.to_owned()));
        }
        if first < bounds.lowest || last > bounds.highest || first > last {
            let Bounds { lowest, highest, .. } = *bounds;
            return Err(Malformed::Range { first, last, lowest, highest, text: text.to_owned() });
        }
        let stride = usize::try_from(step.unwrap_or(1)).unwrap_or(usize::MAX);
        let bits = (first..=last).step_by(stride).fold(0, |bits, number| bits | 1 << number);
        Ok(Self { bits, is_open: is_star && stride == 1 })
    }
}

impl Bounds {
    /// A number, or a name for one.
    fn number(&self, text: &str) -> Result<u32, Malformed> {
        let named = self.names.iter().position(|name| text.eq_ignore_ascii_case(name));
        match named.and_then(|position| u32::try_from(position).ok()) {
            Some(position) => Ok(self.lowest + position),
            None => number(text),
        }
    }
}

fn number(text: &str) -> Result<u32, Malformed> {
    text.parse().map_err(|_| Malformed::Number(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, place: &str, after: &str) -> String {
        let schedule = Schedule::parse(schedule, zone(place).expect("a zone")).expect("a schedule");
        let after: Timestamp = after.parse().expect("a time");
        schedule.next(after).map_or_else(|| "never".to_owned(), |at| at.to_string())
    }

    #[test]
    fn the_next_time_is_the_first_that_fits() {
        let table = [
            ("* * * * *", "2026-11-23T12:00:00Z", "2026-11-23T12:01:00Z"),
            ("* * * * *", "2026-11-23T12:00:59.5Z", "2026-11-23T12:01:00Z"),
            ("*/15 * * * *", "2026-11-23T12:50:00Z", "2026-11-23T13:00:00Z"),
            ("5/20 3-4 * * ?", "2026-11-23T04:25:00Z", "2026-11-23T04:45:00Z"),
            ("0 0 31 * *", "2026-11-23T00:00:00Z", "2026-12-31T00:00:00Z"),
            ("30 6 * jan,MAR mon-fri", "2026-11-23T00:00:00Z", "2027-01-01T06:30:00Z"),
            ("0 0 13 * 5", "2026-11-07T00:00:00Z", "2026-11-13T00:00:00Z"),
            ("0 0 1 * 5", "2026-11-02T00:00:00Z", "2026-11-06T00:00:00Z"),
            ("0 0 29 2 *", "2026-11-02T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 31 2 *", "2026-11-02T00:00:00Z", "never"),
            ("@hourly", "2026-11-23T12:00:00Z", "2026-11-23T13:00:00Z"),
            ("@daily", "2026-11-23T12:00:00Z", "2026-11-24T00:00:00Z"),
            ("@weekly", "2026-11-23T12:00:00Z", "2026-11-29T00:00:00Z"),
            ("@monthly", "2026-11-23T12:00:00Z", "2026-12-01T00:00:00Z"),
            ("@yearly", "2026-11-23T12:00:00Z", "2027-01-01T00:00:00Z"),
            ("@every 1h30m", "2026-11-23T12:00:00.7Z", "2026-11-23T13:30:00Z"),
            ("TZ=Asia/Tokyo 0 9 * * *", "2026-11-23T12:00:00Z", "2026-11-24T00:00:00Z"),
        ];
        for (schedule, after, expected) in table {
            assert_eq!(next(schedule, "", after), expected, "{schedule} after {after}");
        }
    }

    #[test]
    fn clocks_that_change_skip_and_repeat_hours() {
        let berlin = "Europe/Berlin";
        // On 29 March 2026 there is no 02:30, on 25 October 2026 there are two.
        assert_eq!(next("30 2 * * *", berlin, "2026-03-28T12:00:00Z"), "2026-03-30T00:30:00Z");
        assert_eq!(next("30 2 * * *", berlin, "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
        assert_eq!(next("30 2 * * *", berlin, "2026-10-25T00:30:00Z"), "2026-10-25T01:30:00Z");
        assert_eq!(next("0 0 * * *", "Asia/Kolkata", "2026-10-25T00:00:00Z"), "2026-10-25T18:30:00Z");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "*/0 * * * *",
            "5-1 * * * *",
            "1-2-3 * * * *",
            "1/2/3 * * * *",
            "a * * * *",
            "-1 * * * *",
            "@reboot",
            "@every soon",
            "TZ=0",
            "TZ=Nowhere/Else * * * * *",
        ] {
            assert!(Schedule::parse(text, TimeZone::UTC).is_err(), "{text}");
        }
    }
}
