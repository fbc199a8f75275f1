//! Arithmetic, also with times and quantities.

use std::cmp::Ordering;

use api::Quantity;

use crate::cel::eval::{Outcome, failed};
use crate::cel::value::Value;

pub(super) fn call(name: &str, args: &[Value]) -> Option<Outcome> {
    match args {
        [of] => negate_or_ask(name, of),
        [one, other] => {
            let quantities = || quantities(name, one, other);
            whole(name, one, other).or_else(|| inexact(name, one, other)).or_else(quantities)
        }
        _ => None,
    }
}

fn negate_or_ask(name: &str, of: &Value) -> Option<Outcome> {
    Some(match (name, of) {
        ("-_", Value::Int(number)) => checked(number.checked_neg().map(Value::Int)),
        ("-_", Value::Double(number)) => Ok(Value::Double(-number)),
        ("quantity", Value::Text(text)) => match text.parse() {
            Ok(quantity) => Ok(Value::Quantity(quantity)),
            Err(error) => failed(format!("{error}")),
        },
        ("isQuantity", Value::Text(text)) => Ok(Value::Bool(text.parse::<Quantity>().is_ok())),
        ("isInteger", Value::Quantity(of)) => Ok(Value::Bool(of.is_whole())),
        ("asInteger", Value::Quantity(of)) if of.is_whole() => Ok(Value::Int(of.units())),
        ("asInteger", Value::Quantity(_)) => failed("cannot convert value to integer"),
        ("asApproximateFloat", Value::Quantity(of)) => Ok(Value::Double(of.to_f64())),
        ("sign", Value::Quantity(of)) => Ok(Value::Int(of.cmp(&Quantity::ZERO) as i64)),
        _ => return None,
    })
}

fn checked(found: Option<Value>) -> Outcome {
    found.map_or_else(|| failed("integer overflow"), Ok)
}

fn whole(name: &str, one: &Value, other: &Value) -> Option<Outcome> {
    let is_zero = matches!(other, Value::Int(0) | Value::Uint(0));
    match name {
        "_/_" if is_zero => return Some(failed("division by zero")),
        "_%_" if is_zero => return Some(failed("modulus by zero")),
        _ => {}
    }
    let found = match (one, other) {
        (Value::Int(one), Value::Int(other)) => match name {
            "_+_" => one.checked_add(*other),
            "_-_" => one.checked_sub(*other),
            "_*_" => one.checked_mul(*other),
            "_/_" => one.checked_div(*other),
            "_%_" => one.checked_rem(*other),
            _ => return None,
        }
        .map(Value::Int),
        (Value::Uint(one), Value::Uint(other)) => match name {
            "_+_" => one.checked_add(*other),
            "_-_" => one.checked_sub(*other),
            "_*_" => one.checked_mul(*other),
            "_/_" => one.checked_div(*other),
            "_%_" => one.checked_rem(*other),
            _ => return None,
        }
        .map(Value::Uint),
        _ => return None,
    };
    Some(checked(found))
}

fn inexact(name: &str, one: &Value, other: &Value) -> Option<Outcome> {
    let found = match (name, one, other) {
        ("_+_", Value::Double(one), Value::Double(other)) => Some(Value::Double(one + other)),
        ("_-_", Value::Double(one), Value::Double(other)) => Some(Value::Double(one - other)),
        ("_*_", Value::Double(one), Value::Double(other)) => Some(Value::Double(one * other)),
        ("_/_", Value::Double(one), Value::Double(other)) => Some(Value::Double(one / other)),
        ("_+_", Value::Timestamp(time), Value::Duration(by))
        | ("_+_", Value::Duration(by), Value::Timestamp(time)) => {
            time.checked_add(*by).ok().map(Value::Timestamp)
        }
        ("_-_", Value::Timestamp(time), Value::Duration(by)) => {
            time.checked_sub(*by).ok().map(Value::Timestamp)
        }
        ("_-_", Value::Timestamp(one), Value::Timestamp(other)) => {
            Some(Value::Duration(one.duration_since(*other)))
        }
        ("_+_", Value::Duration(one), Value::Duration(other)) => one.checked_add(*other).map(Value::Duration),
        ("_-_", Value::Duration(one), Value::Duration(other)) => one.checked_sub(*other).map(Value::Duration),
        _ => return None,
    };
    Some(checked(found))
}

fn quantities(name: &str, one: &Value, other: &Value) -> Option<Outcome> {
    let Value::Quantity(one) = one else { return None };
    let other = match (name, other) {
        (_, Value::Quantity(other)) => *other,
        ("add" | "sub", Value::Int(number)) => Quantity::from_units(*number),
        _ => return None,
    };
    let order = one.cmp(&other);
    Some(Ok(match name {
        "add" => Value::Quantity(*one + other),
        "sub" => Value::Quantity(*one - other),
        "isGreaterThan" => Value::Bool(order == Ordering::Greater),
        "isLessThan" => Value::Bool(order == Ordering::Less),
        "compareTo" => Value::Int(order as i64),
        _ => return None,
    }))
}
