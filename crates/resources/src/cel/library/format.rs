//! `string.format`: texts with places for values.

use std::fmt::Write as _;

use super::{convert, time};
use crate::cel::Error;
use crate::cel::eval::{Outcome, Run, failed};
use crate::cel::value::Value;

/// The most digits after the point.
const MAX_PRECISION: usize = 1000;

/// Fills the places of a text.
pub(super) fn format(run: &Run<'_>, text: &str, values: &[Value]) -> Outcome {
    let mut made = String::new();
    let mut values = values.iter().enumerate();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        made.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            made.push('%');
            rest = after;
            continue;
        }
        let mut precision = None;
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            let digits: usize = after[..end].parse().unwrap_or(usize::MAX);
            if digits > MAX_PRECISION {
                return failed("could not parse formatting clause: the precision is too large");
            }
            precision = Some(digits);
            rest = &after[end..];
        }
        let Some(code) = rest.chars().next() else {
            return failed("could not parse formatting clause: unexpected end of string");
        };
        rest = &rest[code.len_utf8()..];
        let Some((index, value)) = values.next() else {
            return failed(format!("index {} out of range", values.count()));
        };
        run.charge_for(value)?;
        run.charge_text(precision.unwrap_or(0))?;
        let shown = place(code, precision, value);
        match shown {
            Some(shown) => made.push_str(&shown),
            None => {
                return failed(format!("error during formatting: no clause %{code} for argument {index}"));
            }
        }
        run.charge_text(made.len())?;
    }
    made.push_str(rest);
    run.charge_text(made.len())?;
    Ok(Value::text(&made))
}

fn place(code: char, precision: Option<usize>, value: &Value) -> Option<String> {
    let float = |value: &Value| match value {
        Value::Double(number) => Some(*number),
        _ => None,
    };
    let bits = |value: &Value, radix: fn(u64) -> String| match value {
        Value::Int(number) if *number < 0 => Some(format!("-{}", radix(number.unsigned_abs()))),
        Value::Int(number) => Some(radix(number.unsigned_abs())),
        Value::Uint(number) => Some(radix(*number)),
        _ => None,
    };
    let precision = precision.unwrap_or(6);
    match (code, value) {
        ('s', value) => {
            let mut made = String::new();
            show(value, &mut made).ok()?;
            Some(made)
        }
        ('d', Value::Int(number)) => Some(number.to_string()),
        ('d', Value::Uint(number)) => Some(number.to_string()),
        ('d', Value::Double(number)) => super::super::value::whole(*number).map(|number| number.to_string()),
        ('f', value) => float(value).map(|number| format!("{number:.precision$}")),
        ('e', value) => float(value).map(|number| {
            let text = format!("{number:.precision$e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |rest| ("-", rest));
            format!("{digits}e{sign}{exponent:0>2}")
        }),
        ('b', Value::Bool(is)) => Some(u8::from(*is).to_string()),
        ('b', value) => bits(value, |number| format!("{number:b}")),
        ('o', value) => bits(value, |number| format!("{number:o}")),
        ('x', Value::Text(text)) => Some(hex(text.as_bytes())),
        ('x', Value::Bytes(bytes)) => Some(hex(bytes)),
        ('X', Value::Text(text)) => Some(hex(text.as_bytes()).to_uppercase()),
        ('X', Value::Bytes(bytes)) => Some(hex(bytes).to_uppercase()),
        ('x', value) => bits(value, |number| format!("{number:x}")),
        ('X', value) => bits(value, |number| format!("{number:X}")),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut made, byte| {
        // Writing to a string cannot fail.
        let _ = write!(made, "{byte:02x}");
        made
    })
}

/// A value as text.
fn show(value: &Value, to: &mut String) -> Result<(), Error> {
    let text = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(is) => is.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => convert::double_text(*number),
        Value::Text(text) => text.to_string(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Timestamp(time) => time.to_string(),
        Value::Duration(duration) => time::seconds(*duration),
        Value::Type(name) => (*name).to_owned(),
        Value::List(items) => {
            to.push('[');
            for (at, item) in items.iter().enumerate() {
                to.push_str(if at > 0 { ", " } else { "" });
                show(item, to)?;
            }
            to.push(']');
            return Ok(());
        }
        Value::Map(map) => {
            to.push('{');
            for (at, (key, value)) in map.iter().enumerate() {
                to.push_str(if at > 0 { ", " } else { "" });
                to.push_str(&key.to_string());
                to.push_str(": ");
                show(value, to)?;
            }
            to.push('}');
            return Ok(());
        }
        other => return failed(format!("no text of {}", other.type_name())),
    };
    to.push_str(&text);
    Ok(())
}
