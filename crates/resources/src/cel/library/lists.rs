//! Functions of lists, and of lists as sets.

use std::cmp::Ordering;

use crate::cel::Error;
use crate::cel::eval::{Outcome, Run, failed, ordered};
use crate::cel::value::Value;

pub(super) fn call(run: &Run<'_>, name: &str, args: &[Value]) -> Option<Outcome> {
    let count = |number: usize| Ok(Value::Int(i64::try_from(number).unwrap_or(i64::MAX)));
    let items = match args {
        [Value::Map(map)] if name == "size" => return Some(count(map.len())),
        [Value::List(items), ..] => items,
        _ => return None,
    };
    Some(match (name, &args[1..]) {
        ("size", []) => count(items.len()),
        ("_+_", [Value::List(other)]) => run
            .charge((items.len() + other.len()) as u64)
            .map(|()| Value::list(items.iter().chain(other.iter()).cloned().collect())),
        ("isSorted", []) => is_sorted(run, items),
        ("sum", []) => sum(run, items),
        ("min", []) => extreme(run, items, "min", Ordering::Less),
        ("max", []) => extreme(run, items, "max", Ordering::Greater),
        ("reverse", []) => {
            run.charge(items.len() as u64).map(|()| Value::list(items.iter().rev().cloned().collect()))
        }
        ("indexOf", [wanted]) => position(run, items, wanted).map(place),
        ("lastIndexOf", [wanted]) => last_position(run, items, wanted).map(place),
        ("join", []) => join(run, items, ""),
        ("join", [Value::Text(by)]) => join(run, items, by),
        ("sets.contains", [Value::List(others)]) => contains(run, items, others).map(Value::Bool),
        ("sets.equivalent", [Value::List(others)]) => contains(run, items, others)
            .and_then(|is| Ok(is && contains(run, others, items)?))
            .map(Value::Bool),
        ("sets.intersects", [Value::List(others)]) => intersects(run, items, others),
        _ => return None,
    })
}

fn place(found: Option<usize>) -> Value {
    Value::Int(found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))
}

/// Where a list first has a value.
pub(super) fn position(run: &Run<'_>, items: &[Value], wanted: &Value) -> Result<Option<usize>, Error> {
    for (at, item) in items.iter().enumerate() {
        run.charge_for(item)?;
        if item == wanted {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn last_position(run: &Run<'_>, items: &[Value], wanted: &Value) -> Result<Option<usize>, Error> {
    for (at, item) in items.iter().enumerate().rev() {
        run.charge_for(item)?;
        if item == wanted {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn is_sorted(run: &Run<'_>, items: &[Value]) -> Outcome {
    for pair in items.windows(2) {
        run.charge_for(&pair[0])?;
        if ordered(&pair[0], &pair[1])? == Ordering::Greater {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn sum(run: &Run<'_>, items: &[Value]) -> Outcome {
    let Some((first, rest)) = items.split_first() else { return Ok(Value::Int(0)) };
    let mut total = first.clone();
    for item in rest {
        run.charge(1)?;
        let added = super::numbers::call("_+_", &[total, item.clone()]);
        total = added.unwrap_or_else(|| failed("no such overload"))?;
    }
    Ok(total)
}

fn extreme(run: &Run<'_>, items: &[Value], name: &str, wanted: Ordering) -> Outcome {
    let Some((first, rest)) = items.split_first() else {
        return failed(format!("{name} called on empty list"));
    };
    let mut found = first;
    for item in rest {
        run.charge_for(item)?;
        if ordered(item, found)? == wanted {
            found = item;
        }
    }
    Ok(found.clone())
}

fn join(run: &Run<'_>, items: &[Value], by: &str) -> Outcome {
    let mut made = String::new();
    for (at, item) in items.iter().enumerate() {
        let Value::Text(text) = item else { return failed("no such overload") };
        run.charge_text(text.len() + by.len())?;
        if at > 0 {
            made.push_str(by);
        }
        made.push_str(text);
    }
    Ok(Value::text(&made))
}

fn contains(run: &Run<'_>, items: &[Value], others: &[Value]) -> Result<bool, Error> {
    for other in others {
        if position(run, items, other)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn intersects(run: &Run<'_>, items: &[Value], others: &[Value]) -> Outcome {
    for other in others {
        if position(run, items, other)?.is_some() {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}
