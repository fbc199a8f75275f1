//! Conversions between types.

use std::sync::Arc;

use jiff::Timestamp;

use super::time;
use crate::cel::eval::{Outcome, Run, failed};
use crate::cel::value::Value;

pub(super) fn call(run: &Run<'_>, name: &str, args: &[Value]) -> Option<Outcome> {
    let [of] = args else { return None };
    match name {
        "dyn" => Some(Ok(of.clone())),
        "type" => Some(Ok(Value::Type(of.type_name()))),
        "bool" => to_bool(of),
        "int" => to_int(of),
        "uint" => to_uint(of),
        "double" => to_double(of),
        "string" => to_text(run, of),
        "bytes" => match of {
            Value::Text(text) => Some(Ok(Value::Bytes(text.as_bytes().into()))),
            Value::Bytes(_) => Some(Ok(of.clone())),
            _ => None,
        },
        "timestamp" => match of {
            Value::Timestamp(_) => Some(Ok(of.clone())),
            Value::Int(seconds) => Some(
                Timestamp::from_second(*seconds)
                    .map_or_else(|_| failed("timestamp overflow"), |time| Ok(Value::Timestamp(time))),
            ),
            Value::Text(text) => Some(
                text.parse().map_or_else(|_| failed("invalid timestamp"), |time| Ok(Value::Timestamp(time))),
            ),
            _ => None,
        },
        "duration" => match of {
            Value::Duration(_) => Some(Ok(of.clone())),
            Value::Int(nanos) => Some(Ok(Value::Duration(jiff::SignedDuration::from_nanos(*nanos)))),
            Value::Text(text) => Some(match time::duration(text) {
                Some(duration) => Ok(Value::Duration(duration)),
                None => failed(format!("time: invalid duration {text:?}")),
            }),
            _ => None,
        },
        _ => None,
    }
}

fn to_bool(of: &Value) -> Option<Outcome> {
    Some(match of {
        Value::Bool(_) => Ok(of.clone()),
        Value::Text(text) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => failed("type conversion error from 'string' to 'bool'"),
        },
        _ => return None,
    })
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn to_int(of: &Value) -> Option<Outcome> {
    let overflow = || failed("integer overflow");
    Some(match of {
        Value::Int(_) => Ok(of.clone()),
        Value::Uint(number) => {
            i64::try_from(*number).map_or_else(|_| overflow(), |number| Ok(Value::Int(number)))
        }
        Value::Double(number) if number.abs() < 9_223_372_036_854_775_808.0 => Ok(Value::Int(*number as i64)),
        Value::Double(_) => overflow(),
        Value::Text(text) => text.parse().map_or_else(
            |_| failed("type conversion error from 'string' to 'int'"),
            |number| Ok(Value::Int(number)),
        ),
        Value::Timestamp(time) => Ok(Value::Int(time.as_second())),
        Value::Duration(duration) => {
            i64::try_from(duration.as_nanos()).map_or_else(|_| overflow(), |number| Ok(Value::Int(number)))
        }
        _ => return None,
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
fn to_uint(of: &Value) -> Option<Outcome> {
    let overflow = || failed("unsigned integer overflow");
    Some(match of {
        Value::Uint(_) => Ok(of.clone()),
        Value::Int(number) => {
            u64::try_from(*number).map_or_else(|_| overflow(), |number| Ok(Value::Uint(number)))
        }
        Value::Double(number) if (0.0..18_446_744_073_709_551_616.0).contains(number) => {
            Ok(Value::Uint(*number as u64))
        }
        Value::Double(_) => overflow(),
        Value::Text(text) => text.parse().map_or_else(
            |_| failed("type conversion error from 'string' to 'uint'"),
            |number| Ok(Value::Uint(number)),
        ),
        _ => return None,
    })
}

#[expect(clippy::cast_precision_loss, reason = "that is the conversion")]
fn to_double(of: &Value) -> Option<Outcome> {
    Some(match of {
        Value::Double(_) => Ok(of.clone()),
        Value::Int(number) => Ok(Value::Double(*number as f64)),
        Value::Uint(number) => Ok(Value::Double(*number as f64)),
        Value::Text(text) => text.parse().map_or_else(
            |_| failed("type conversion error from 'string' to 'double'"),
            |number| Ok(Value::Double(number)),
        ),
        _ => return None,
    })
}

fn to_text(run: &Run<'_>, of: &Value) -> Option<Outcome> {
    let text = match of {
        Value::Text(_) => return Some(Ok(of.clone())),
        Value::Bool(is) => is.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => double_text(*number),
        Value::Bytes(bytes) => {
            if let Err(error) = run.charge_text(bytes.len()) {
                return Some(Err(error));
            }
            match std::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(_) => return Some(failed("invalid UTF-8 in bytes, cannot convert to string")),
            }
        }
        Value::Timestamp(time) => time.to_string(),
        Value::Duration(duration) => time::seconds(*duration),
        Value::Url(url) => return Some(Ok(Value::Text(Arc::clone(&url.text)))),
        Value::Ip(ip) => ip.to_string(),
        Value::Cidr(cidr) => cidr.to_string(),
        _ => return None,
    };
    Some(Ok(Value::text(&text)))
}

/// A float as Go writes it with the fewest digits.
pub(super) fn double_text(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let magnitude = number.abs();
    if number == 0.0 || number.is_nan() || (1e-4..1e21).contains(&magnitude) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |rest| ("-", rest));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}
