//! Which names a definition gets, and what its status says of that; pure.

use api::Object;
use serde_json::{Map, Value, json};

/// Whether a condition of a definition's status is true.
pub(super) fn is_true(definition: &Object, kind: &str) -> bool {
    condition(definition, kind).is_some_and(|one| one["status"] == "True")
}

fn condition<'o>(definition: &'o Object, kind: &str) -> Option<&'o Value> {
    let conditions = definition.at(&["status", "conditions"])?.as_array()?;
    conditions.iter().find(|one| one["type"] == kind)
}

/// The definition with the status that it should have beside the others.
pub(super) fn reported<'o>(
    definition: &Object,
    others: impl Iterator<Item = &'o Object>,
    now: &str,
) -> Object {
    let mut new = definition.clone();
    let group = definition.text(&["spec", "group"]);
    let taken: Vec<&Object> = others.filter(|other| other.text(&["spec", "group"]) == group).collect();
    let (accepted, conflict) = settle(definition, &taken);
    new.set_at(&["status", "acceptedNames"], Value::Object(accepted));
    let is_established = is_true(definition, "Established");
    match &conflict {
        None => set(&mut new, "NamesAccepted", true, "NoConflicts", "no conflicts found", now),
        Some((reason, message)) => set(&mut new, "NamesAccepted", false, reason, message, now),
    }
    if is_established {
        // Once established, it stays so.
    } else if conflict.is_none() {
        set(
            &mut new,
            "Established",
            true,
            "InitialNamesAccepted",
            "the initial names have been accepted",
            now,
        );
    } else {
        let message = "not all names are accepted";
        set(&mut new, "Established", false, "NotAccepted", message, now);
    }
    if definition.is_terminating() {
        let message = "CustomResource deletion is in progress";
        set(&mut new, "Terminating", true, "InstanceDeletionInProgress", message, now);
    }
    new
}

/// The names that a definition may have, and the first that somebody else has.
fn settle(definition: &Object, others: &[&Object]) -> (Map<String, Value>, Option<(String, String)>) {
    let requested = definition.at(&["spec", "names"]).and_then(Value::as_object).cloned().unwrap_or_default();
    let mut accepted =
        definition.at(&["status", "acceptedNames"]).and_then(Value::as_object).cloned().unwrap_or_default();
    let has = |other: &Object, field: &str, name: &str| match other.at(&["status", "acceptedNames", field]) {
        Some(Value::String(text)) => text == name,
        Some(Value::Array(list)) => list.iter().any(|one| one == name),
        _ => false,
    };
    // Names of resources share one space, names of kinds another.
    let resources = ["plural", "singular", "shortNames"].as_slice();
    let kinds = ["kind", "listKind"].as_slice();
    let mut conflict = None;
    for (field, reason, space) in [
        ("plural", "PluralConflict", resources),
        ("singular", "SingularConflict", resources),
        ("shortNames", "ShortNamesConflict", resources),
        ("kind", "KindConflict", kinds),
        ("listKind", "ListKindConflict", kinds),
    ] {
        let is_taken =
            |name: &str| others.iter().any(|other| space.iter().any(|field| has(other, field, name)));
        let Some(wanted) = requested.get(field) else {
            accepted.remove(field);
            continue;
        };
        let all = match wanted {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            other => vec![other.as_str().unwrap_or_default()],
        };
        match all.iter().find(|name| is_taken(name)) {
            Some(name) => {
                let message = format!("{name:?} is already in use");
                conflict = conflict.or(Some((reason.to_owned(), message)));
            }
            None => {
                accepted.insert(field.to_owned(), wanted.clone());
            }
        }
    }
    match requested.get("categories") {
        Some(categories) => accepted.insert("categories".to_owned(), categories.clone()),
        None => accepted.remove("categories"),
    };
    for field in ["plural", "kind"] {
        accepted.entry(field.to_owned()).or_insert_with(|| "".into());
    }
    (accepted, conflict)
}

fn set(definition: &mut Object, kind: &str, is_true: bool, reason: &str, message: &str, now: &str) {
    let status = if is_true { "True" } else { "False" };
    let old = condition(definition, kind).cloned();
    let since = match &old {
        Some(old) if old["status"] == status => old["lastTransitionTime"].clone(),
        _ => now.into(),
    };
    let mut new = json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since,
    });
    if let Some(observed) = old.as_ref().and_then(|old| old.get("observedGeneration")) {
        new["observedGeneration"] = observed.clone();
    }
    let mut conditions =
        definition.at(&["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default();
    match conditions.iter_mut().find(|one| one["type"] == kind) {
        Some(one) => *one = new,
        None => conditions.push(new),
    }
    definition.set_at(&["status", "conditions"], conditions);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, kind: &str) -> Object {
        Object::from_value(json!({
            "metadata": {"name": format!("{plural}.x.io")},
            "spec": {"group": "x.io", "names": {
                "plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List"),
                "shortNames": ["w"],
            }},
        }))
        .expect("an object")
    }

    #[test]
    fn names_are_given_once() {
        let first = reported(&definition("widgets", "Widget"), [].into_iter(), "t1");
        assert!(is_true(&first, "NamesAccepted") && is_true(&first, "Established"));
        assert_eq!(first.text(&["status", "acceptedNames", "plural"]), "widgets");
        let again = reported(&first, [].into_iter(), "t2");
        assert_eq!(again, first, "nothing moves");
        let second = reported(&definition("wheels", "Wheel"), [&first].into_iter(), "t3");
        assert!(!is_true(&second, "NamesAccepted") && !is_true(&second, "Established"));
        let condition = condition(&second, "NamesAccepted").expect("a condition");
        assert_eq!(
            (&condition["reason"], &condition["message"]),
            (&json!("ShortNamesConflict"), &json!("\"w\" is already in use"))
        );
        let third = reported(&second, [].into_iter(), "t4");
        assert!(is_true(&third, "Established"), "when the other is gone");
    }
}
