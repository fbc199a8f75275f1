//! An applied configuration laid over a live object.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::atom::{Atom, Nameless, Place, list_element, place_of};
use crate::schema::Schema;

/// Lays `config` over `live`: leaves are taken from the configuration where it
/// has them, lists keep the order in which it has their elements.
pub(super) fn merge(
    schema: &Schema,
    place: Place<'_>,
    live: &Value,
    config: &Value,
) -> Result<Value, Nameless> {
    let atom = place.atom(schema);
    if !atom.splits(live) || !atom.splits(config) {
        return Ok(config.clone());
    }
    match (&atom, live, config) {
        (Atom::Struct(of), Value::Object(live), Value::Object(config)) => {
            maps(schema, live, config, |name| place_of(of, name))
        }
        (Atom::Map(of), Value::Object(live), Value::Object(config)) => maps(schema, live, config, |_| *of),
        (Atom::Keyed(of, keys), Value::Array(live), Value::Array(config)) => {
            lists(schema, Some((*of, keys)), live, config)
        }
        (_, Value::Array(live), Value::Array(config)) => lists(schema, None, live, config),
        _ => Ok(config.clone()),
    }
}

fn maps<'s>(
    schema: &'s Schema,
    live: &Map<String, Value>,
    config: &Map<String, Value>,
    place: impl Fn(&str) -> Place<'s>,
) -> Result<Value, Nameless> {
    let mut merged = live.clone();
    for (key, wanted) in config {
        let value = match live.get(key) {
            Some(live) => merge(schema, place(key), live, wanted)?,
            None => wanted.clone(),
        };
        merged.insert(key.clone(), value);
    }
    Ok(Value::Object(merged))
}

type Keys<'s> = Option<(Place<'s>, &'s [String])>;

fn elements(schema: &Schema, keys: Keys<'_>, items: &[Value]) -> Result<Vec<String>, Nameless> {
    items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            list_element(schema, keys, item).map_err(|why| Nameless(format!("element {index}: {why}")))
        })
        .collect()
}

fn lists(schema: &Schema, keys: Keys<'_>, live: &[Value], config: &[Value]) -> Result<Value, Nameless> {
    let live_elements = elements(schema, keys, live)?;
    let config_elements = elements(schema, keys, config)?;
    let in_config: HashSet<&String> = config_elements.iter().collect();
    if let Some(twice) = repeated(&config_elements) {
        let shown = twice.split_once(':').map_or(twice.as_str(), |(_, rest)| rest);
        return Err(Nameless(format!("duplicate entries for key [{shown}]")));
    }
    let joined = |index: usize| {
        let same = |one: &&String| **one == config_elements[index];
        // Elements of the live list that share a key are replaced, not merged.
        let is_alone = live_elements.iter().filter(same).count() == 1;
        match (live_elements.iter().position(|one| same(&one)).filter(|_| is_alone), keys) {
            (Some(at), Some((place, _))) => merge(schema, place, &live[at], &config[index]),
            _ => Ok(config[index].clone()),
        }
    };
    let in_live: HashSet<&String> = live_elements.iter().collect();
    let mut shared = config_elements.iter().filter(|one| in_live.contains(one)).peekable();
    let mut done = HashSet::new();
    let mut merged = Vec::with_capacity(live.len().max(config.len()));
    let (mut l, mut c) = (0, 0);
    while l < live.len() || c < config.len() {
        let (ours, theirs) = (live_elements.get(l), config_elements.get(c));
        let is_shared = ours.is_some_and(|one| in_config.contains(one));
        if ours.is_some() && theirs.is_some() && ours != theirs {
            let is_next = shared.peek().copied() == ours;
            if is_shared && shared.peek().is_some() && !is_next {
                // It comes later, where the configuration has it.
                l += 1;
                continue;
            }
        }
        match ours {
            Some(_) if !is_shared => {
                merged.push(live[l].clone());
                l += 1;
                continue;
            }
            Some(one) if ours == theirs || done.contains(one) => l += 1,
            _ => {}
        }
        if let Some(one) = theirs {
            merged.push(joined(c)?);
            done.insert(one);
            c += 1;
            shared.next_if(|next| *next == one);
        }
    }
    Ok(Value::Array(merged))
}

fn repeated(elements: &[String]) -> Option<&String> {
    let mut seen = HashSet::new();
    elements.iter().find(|one| !seen.insert(*one))
}
