//! The functions: CEL's own, its string extensions, and Kubernetes'.
//!
//! Each library looks at a name and its arguments and answers `None` when it has no
//! function that takes them.

mod convert;
mod format;
mod lists;
mod named_formats;
pub(super) mod net;
mod numbers;
mod strings;
pub(super) mod time;

use super::eval::{Outcome, Run, failed, ordered};
use super::value::{Key, Value};

/// Calls an operator or a function.
pub(super) fn call(run: &Run<'_>, name: &str, args: &[Value]) -> Option<Outcome> {
    operators(run, name, args)
        .or_else(|| numbers::call(name, args))
        .or_else(|| strings::call(run, name, args))
        .or_else(|| lists::call(run, name, args))
        .or_else(|| convert::call(run, name, args))
        .or_else(|| time::call(name, args))
        .or_else(|| net::call(name, args))
        .or_else(|| named_formats::call(run, name, args))
        .or_else(|| optionals(name, args))
}

fn operators(run: &Run<'_>, name: &str, args: &[Value]) -> Option<Outcome> {
    let (one, other) = match args {
        [Value::Bool(is)] if name == "!_" => return Some(Ok(Value::Bool(!is))),
        [one, other] => (one, other),
        _ => return None,
    };
    let order = |wanted: fn(std::cmp::Ordering) -> bool| {
        Some(ordered(one, other).map(|order| Value::Bool(wanted(order))))
    };
    match name {
        "_==_" | "_!=_" => {
            let equal = run.charge_for(one).map(|()| one == other);
            Some(equal.map(|equal| Value::Bool(equal == (name == "_==_"))))
        }
        "_<_" => order(std::cmp::Ordering::is_lt),
        "_<=_" => order(std::cmp::Ordering::is_le),
        "_>_" => order(std::cmp::Ordering::is_gt),
        "_>=_" => order(std::cmp::Ordering::is_ge),
        "@in" => match other {
            Value::List(items) => Some(lists::position(run, items, one).map(|at| Value::Bool(at.is_some()))),
            Value::Map(map) => Some(Ok(Value::Bool(Key::of(one).is_some_and(|key| map.contains_key(&key))))),
            _ => None,
        },
        _ => None,
    }
}

fn optionals(name: &str, args: &[Value]) -> Option<Outcome> {
    let found = match (name, args) {
        ("optional.none", []) => Value::Optional(None),
        ("optional.of", [of]) => Value::optional(Some(of.clone())),
        ("optional.ofNonZeroValue", [of]) => Value::optional(Some(of.clone()).filter(|of| !of.is_zero())),
        ("hasValue", [Value::Optional(of)]) => Value::Bool(of.is_some()),
        ("value", [Value::Optional(Some(of))]) => (**of).clone(),
        ("value", [Value::Optional(None)]) => return Some(failed("optional.none() dereference")),
        ("orValue", [Value::Optional(of), other]) => {
            of.as_ref().map_or_else(|| other.clone(), |of| (**of).clone())
        }
        ("or", [of @ Value::Optional(one), other @ Value::Optional(_)]) => {
            if one.is_some() {
                of.clone()
            } else {
                other.clone()
            }
        }
        _ => return None,
    };
    Some(Ok(found))
}
