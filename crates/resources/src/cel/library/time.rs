//! Times and lengths of time.

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::cel::eval::{Outcome, failed};
use crate::cel::value::Value;

/// The longest text of a duration that is read.
const MAX_TEXT: usize = 200;

/// Reads a duration as Go writes it, such as `1h30m`.
pub(in crate::cel) fn duration(text: &str) -> Option<SignedDuration> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, unit) = rest.split_at(end);
        let end = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let (unit, after) = unit.split_at(end);
        let nanos: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(nanos)?)?;
        let fraction = &fraction[..fraction.len().min(15)];
        if !fraction.is_empty() {
            let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
            total = total.checked_add(fraction.parse::<i128>().ok()? * nanos / scale)?;
        }
        rest = after;
    }
    let nanos = i64::try_from(if is_negative { -total } else { total }).ok()?;
    Some(SignedDuration::from_nanos(nanos))
}

/// A duration in seconds, as CEL writes it.
pub(super) fn seconds(duration: SignedDuration) -> String {
    let nanos = duration.as_nanos();
    let sign = if nanos < 0 { "-" } else { "" };
    let (whole, rest) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    if rest == 0 {
        return format!("{sign}{whole}s");
    }
    let fraction = format!("{rest:09}");
    format!("{sign}{whole}.{}s", fraction.trim_end_matches('0'))
}

pub(super) fn call(name: &str, args: &[Value]) -> Option<Outcome> {
    let zone = match args {
        [Value::Duration(duration)] => return of_duration(name, *duration),
        [Value::Timestamp(_)] => Ok(TimeZone::UTC),
        [Value::Timestamp(_), Value::Text(name)] => zone(name),
        _ => return None,
    };
    let Some(Value::Timestamp(time)) = args.first() else { return None };
    match zone {
        Ok(zone) => of_time(name, *time, zone).map(|number| Ok(Value::Int(number))),
        Err(why) => Some(failed(why)),
    }
}

/// A zone by its name, or by its distance such as `-08:00`.
fn zone(name: &str) -> Result<TimeZone, String> {
    let unknown = || format!("unknown time zone {name}");
    let Some((hours, minutes)) = name.split_once(':') else {
        return if name == "UTC" { Ok(TimeZone::UTC) } else { TimeZone::get(name).map_err(|_| unknown()) };
    };
    let hours_of: i32 = hours.parse().map_err(|_| unknown())?;
    let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
    let minutes = if hours.starts_with('-') { -minutes } else { minutes };
    let seconds = hours_of.checked_mul(3600).and_then(|of| of.checked_add(minutes.checked_mul(60)?));
    let offset = seconds.and_then(|seconds| Offset::from_seconds(seconds).ok()).ok_or_else(unknown)?;
    Ok(TimeZone::fixed(offset))
}

fn of_time(name: &str, time: Timestamp, zone: TimeZone) -> Option<i64> {
    let at = time.to_zoned(zone);
    Some(match name {
        "getFullYear" => at.year().into(),
        "getMonth" => i64::from(at.month()) - 1,
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDate" => at.day().into(),
        "getDayOfWeek" => at.weekday().to_sunday_zero_offset().into(),
        "getHours" => at.hour().into(),
        "getMinutes" => at.minute().into(),
        "getSeconds" => at.second().into(),
        "getMilliseconds" => at.millisecond().into(),
        _ => return None,
    })
}

fn of_duration(name: &str, duration: SignedDuration) -> Option<Outcome> {
    Some(Ok(Value::Int(match name {
        "getHours" => duration.as_hours(),
        "getMinutes" => duration.as_mins(),
        "getSeconds" => duration.as_secs(),
        "getMilliseconds" => i64::from(duration.subsec_millis()),
        _ => return None,
    })))
}
