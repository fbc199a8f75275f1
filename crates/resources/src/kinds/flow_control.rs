//! Flow schemas and priority levels, following `pkg/apis/flowcontrol`. The objects
//! that every cluster has are in [`crate::flow_control`].

use api::{ErrorList, Object, Path};
use serde_json::{Value, json};

use crate::fields::{Fields, default_number, default_to, object_at, object_in};
use crate::flow_control::{CATCH_ALL, EXEMPT, mandatory_level, mandatory_schema};
use crate::names;
use crate::report::Report;

const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const PRESERVE_ZERO: &str = "flowcontrol.k8s.io/preserve-zero-concurrency-shares";
const MAX_QUEUES: i64 = 10_000_000;
/// The bits of the hash that deals queues.
const HASH_BITS: u32 = 60;

/// Defaults of a flow schema.
pub(super) fn default_schema(object: &mut Object) {
    if let Some(spec) = object_at(object.as_map_mut(), "spec") {
        default_number(spec, "matchingPrecedence", 1000);
    }
}

/// Defaults of a priority level.
pub(super) fn default_level(object: &mut Object) {
    let Some(spec) = object_at(object.as_map_mut(), "spec") else { return };
    if let Some(exempt) = object_in(spec, "exempt") {
        default_to(exempt, "nominalConcurrencyShares", 0);
        default_to(exempt, "lendablePercent", 0);
    }
    if let Some(limited) = object_in(spec, "limited") {
        default_to(limited, "nominalConcurrencyShares", 30);
        default_to(limited, "lendablePercent", 0);
        if let Some(queuing) =
            object_in(limited, "limitResponse").and_then(|response| object_in(response, "queuing"))
        {
            default_number(queuing, "handSize", 8);
            default_number(queuing, "queues", 64);
            default_number(queuing, "queueLengthLimit", 50);
        }
    }
}

/// Rules for a flow schema.
pub(super) fn schema(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (object.field("spec"), Path::new("spec"));
    let (precedence, at) = (spec.int("matchingPrecedence").unwrap_or(0), path.child("matchingPrecedence"));
    if precedence <= 0 {
        errors.invalid(&at, precedence, "must be a positive value");
    }
    if precedence > 10_000 {
        errors.invalid(&at, precedence, "must not be greater than 10000");
    }
    if precedence == 1 && object.name() != EXEMPT {
        errors.invalid(&at, precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    if spec.has("distinguisherMethod") {
        let kind = spec.field("distinguisherMethod").text("type");
        let at = path.child("distinguisherMethod");
        errors.one_of(&at.child("type"), kind, &["ByNamespace", "ByUser"]);
    }
    let level = spec.field("priorityLevelConfiguration").text("name");
    let at = path.child("priorityLevelConfiguration");
    let at = at.child("name");
    if level.is_empty() {
        errors.required(&at, "must reference a priority level");
    } else {
        errors.invalid_all(&at, level, names::dns_subdomain(level, false));
    }
    let at = path.child("rules");
    for (index, rule) in spec.list("rules").iter().enumerate() {
        policy_rule(rule, &at.index(index), &mut errors);
    }
    if mandatory_schema(object.name()).is_some_and(|fixed| !is_same(spec, &fixed["spec"])) {
        let detail = format!("spec of '{}' must equal the fixed value", object.name());
        errors.invalid(&path, spec.clone(), detail);
    }
    errors
}

fn policy_rule(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("subjects");
    if rule.list("subjects").is_empty() {
        errors.required(&at, "subjects must contain at least one value");
    }
    for (index, one) in rule.list("subjects").iter().enumerate() {
        subject(one, &at.index(index), errors);
    }
    let (resources, paths) = (rule.list("resourceRules"), rule.list("nonResourceRules"));
    if resources.is_empty() && paths.is_empty() {
        errors.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    let at = path.child("resourceRules");
    for (index, one) in resources.iter().enumerate() {
        resource_rule(one, &at.index(index), errors);
    }
    let at = path.child("nonResourceRules");
    for (index, one) in paths.iter().enumerate() {
        path_rule(one, &at.index(index), errors);
    }
}

fn subject(subject: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const KINDS: [(&str, &str); 3] =
        [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];
    let kind = subject.text("kind");
    let Some((_, own)) = KINDS.iter().find(|(one, _)| *one == kind) else {
        return errors.one_of(&path.child("kind"), kind, &KINDS.map(|(kind, _)| kind));
    };
    let at = path.child(own);
    let of = subject.field(own);
    if !subject.has(own) {
        errors.required(&at, &format!("{own} is required when subject kind is '{kind}'"));
    } else if of.text("name").is_empty() {
        errors.required(&at.child("name"), "");
    } else if kind == "ServiceAccount" && of.text("name") != "*" {
        let name = of.text("name");
        errors.invalid_all(&at.child("name"), name, names::dns_subdomain(name, false));
    }
    if kind == "ServiceAccount" && subject.has(own) {
        let (namespace, at) = (of.text("namespace"), at.child("namespace"));
        if namespace.is_empty() {
            errors.required(&at, "must specify namespace for service account");
        } else {
            errors.invalid_all(&at, namespace, names::dns_label(namespace, false));
        }
    }
    for (other_kind, other) in KINDS.iter().filter(|(_, other)| other != own && subject.has(other)) {
        let detail = format!("{other} is forbidden when subject kind is not '{other_kind}'");
        errors.forbidden(&path.child(other), detail);
    }
}

fn has_wildcard(list: &[Value]) -> bool {
    list.iter().any(|one| one == "*")
}

/// A list that must not be empty, and in which `*` must stand alone.
fn wildcard_list<'a>(
    rule: &'a Value,
    name: &str,
    (missing, others): (&str, &str),
    path: &Path<'_>,
    errors: &mut ErrorList,
) -> &'a [Value] {
    let (list, at) = (rule.list(name), path.child(name));
    if list.is_empty() {
        errors.required(&at, missing);
    } else if list.len() > 1 && has_wildcard(list) {
        let detail = format!("if '*' is present, must not specify other {others}");
        errors.invalid(&at, list.to_vec(), detail);
    }
    list
}

fn verbs(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let words = ("verbs must contain at least one value", "verbs");
    let list = wildcard_list(rule, "verbs", words, path, errors);
    let is_known = |verb: &Value| verb.as_str().is_some_and(|verb| VERBS.contains(&verb));
    if !has_wildcard(list) && !list.iter().all(is_known) {
        errors.add(api::FieldError::not_supported(&path.child("verbs"), list.to_vec(), &VERBS));
    }
}

fn resource_rule(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    verbs(rule, path, errors);
    let words = ("resource rules must supply at least one api group", "api groups");
    wildcard_list(rule, "apiGroups", words, path, errors);
    let words = ("resource rules must supply at least one resource", "resources");
    wildcard_list(rule, "resources", words, path, errors);
    if rule.flag("clusterScope") && rule.list("namespaces").is_empty() {
        return;
    }
    let words =
        ("resource rules that are not cluster scoped must supply at least one namespace", "namespaces");
    let list = wildcard_list(rule, "namespaces", words, path, errors);
    if has_wildcard(list) {
        return;
    }
    let at = path.child("namespaces");
    for (index, one) in list.iter().enumerate() {
        let namespace = one.as_str().unwrap_or_default();
        for message in names::dns_label(namespace, false) {
            let detail = format!("each member of this list must be '*' or a DNS-1123 label; {message}");
            errors.invalid(&at.index(index), namespace, detail);
        }
    }
}

fn path_rule(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    verbs(rule, path, errors);
    let words = ("nonResourceURLs must contain at least one value", "non-resource URLs");
    let list = wildcard_list(rule, "nonResourceURLs", words, path, errors);
    if has_wildcard(list) {
        return;
    }
    let at = path.child("nonResourceURLs");
    for (index, one) in list.iter().enumerate() {
        let url = one.as_str().unwrap_or_default();
        let stars = url.matches('*').count();
        let why = if url.is_empty() {
            "must not be empty"
        } else if !url.starts_with('/') {
            "must start with slash"
        } else if url.contains(' ') {
            "must not contain white-space"
        } else if url.contains("//") {
            "must not contain double slash"
        } else if stars > 1 || (stars == 1 && !url.ends_with("/*")) {
            "wildcard can only do suffix matching"
        } else {
            continue;
        };
        errors.invalid(&at.index(index), url, why);
    }
}

/// Rules for a priority level.
pub(super) fn level(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    if object.annotation(PRESERVE_ZERO).is_some() {
        let at = Path::new("metadata");
        errors.forbidden(&at.child("annotations"), format!("annotation '{PRESERVE_ZERO}' is forbidden"));
    }
    let (spec, path) = (object.field("spec"), Path::new("spec"));
    let kind = spec.text("type");
    if (object.name() == EXEMPT) != (kind == "Exempt") {
        errors.invalid(&path.child("type"), kind, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    match kind {
        "Exempt" => {
            if spec.has("limited") {
                errors.forbidden(&path.child("limited"), "must be nil if the type is not Limited");
            }
            shares(spec.field("exempt"), &path.child("exempt"), &mut errors);
        }
        "Limited" => {
            if spec.has("exempt") {
                errors.forbidden(&path.child("exempt"), "must be nil if the type is Limited");
            }
            if spec.has("limited") {
                limited(spec.field("limited"), &path.child("limited"), &mut errors);
            } else {
                errors.required(&path.child("limited"), "must not be empty when type is Limited");
            }
        }
        other => errors.one_of(&path.child("type"), other, &["Exempt", "Limited"]),
    }
    fixed_level(object, &path, &mut errors);
    errors
}

/// What nobody may change about the levels that every cluster has.
fn fixed_level(object: &Object, path: &Path<'_>, errors: &mut ErrorList) {
    let spec = object.field("spec");
    let Some(fixed) = mandatory_level(object.name()) else { return };
    let differs = match object.name() {
        EXEMPT => spec.text("type") != "Exempt" || spec.has("limited"),
        _ => !is_same(spec, &fixed["spec"]),
    };
    if differs {
        let except = if object.name() == CATCH_ALL { "" } else { " except the 'spec.exempt' field" };
        let detail = format!("spec of '{}'{except} must equal the fixed value", object.name());
        errors.invalid(path, spec.clone(), detail);
    }
}

fn shares(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let count = of.int("nominalConcurrencyShares").unwrap_or(0);
    if count < 0 {
        errors.invalid(&path.child("nominalConcurrencyShares"), count, "must be a non-negative integer");
    }
    let percent = of.int("lendablePercent").unwrap_or(0);
    if !(0..=100).contains(&percent) {
        errors.invalid(&path.child("lendablePercent"), percent, "must be between 0 and 100, inclusive");
    }
}

fn limited(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    shares(of, path, errors);
    if let Some(percent) = of.int("borrowingLimitPercent").filter(|percent| *percent < 0) {
        let detail = "if specified, must be a non-negative integer";
        errors.invalid(&path.child("borrowingLimitPercent"), percent, detail);
    }
    let (response, at) = (of.field("limitResponse"), path.child("limitResponse"));
    match response.text("type") {
        "Reject" if response.has("queuing") => {
            let detail = "must be nil if limited.limitResponse.type is not Limited";
            errors.forbidden(&at.child("queuing"), detail);
        }
        "Reject" => {}
        "Queue" if response.has("queuing") => {
            queuing(response.field("queuing"), &at.child("queuing"), errors)
        }
        "Queue" => errors
            .required(&at.child("queuing"), "must not be empty if limited.limitResponse.type is Limited"),
        other => errors.one_of(&at.child("type"), other, &["Queue", "Reject"]),
    }
}

fn queuing(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let number = |name: &str| of.int(name).unwrap_or(0);
    let (queues, hand) = (number("queues"), number("handSize"));
    if number("queueLengthLimit") <= 0 {
        errors.invalid(&path.child("queueLengthLimit"), number("queueLengthLimit"), "must be positive");
    }
    if queues <= 0 {
        errors.invalid(&path.child("queues"), queues, "must be positive");
    } else if queues > MAX_QUEUES {
        let detail = format!("must not be greater than {MAX_QUEUES}");
        errors.invalid(&path.child("queues"), queues, detail);
    }
    let at = path.child("handSize");
    if hand <= 0 {
        errors.invalid(&at, hand, "must be positive");
    } else if hand > queues {
        errors.invalid(&at, hand, format!("should not be greater than queues ({queues})"));
    } else if entropy(queues, hand) > HASH_BITS {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        errors.invalid(&at, hand, detail);
    }
}

/// The bits that it takes to deal a hand from a deck, rounded up.
fn entropy(deck: i64, hand: i64) -> u32 {
    let mut hands = 1_u128;
    for card in 0..hand {
        hands = hands.saturating_mul(u128::try_from(deck - card).unwrap_or(1));
        if hands >> 64 != 0 {
            return 64;
        }
    }
    hands.checked_next_power_of_two().map_or(u32::MAX, u128::ilog2)
}

/// Whether two specs say the same: what is empty or false is as good as absent.
fn is_same(one: &Value, other: &Value) -> bool {
    let is_void = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let absent = json!(null);
            one.keys().chain(other.keys()).all(|key| {
                let (left, right) = (one.get(key).unwrap_or(&absent), other.get(key).unwrap_or(&absent));
                is_same(left, right) || (is_void(left) && is_void(right))
            })
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow_control::{levels, schemas};

    fn changed(mut object: Value, change: Value) -> Object {
        api::patch::merge_patch(&mut object, change);
        Object::from_value(object).expect("an object")
    }

    fn texts(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_every_cluster_has_is_valid() {
        for one in schemas() {
            assert_eq!(texts(&schema(&changed(one.clone(), json!({})))), [""; 0], "{one}");
        }
        for one in levels() {
            let mut object = changed(one.clone(), json!({}));
            let before = object.clone();
            default_level(&mut object);
            assert_eq!(object, before, "written out: {one}");
            assert_eq!(texts(&level(&object)), [""; 0], "{one}");
        }
    }

    #[test]
    fn bad_levels() {
        let system = levels().into_iter().find(|one| one["metadata"]["name"] == "system").expect("there");
        let table = [
            (
                json!({"spec": {"type": "Exempt"}}),
                "spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'",
            ),
            (
                json!({"spec": {"limited": {"lendablePercent": 101}}}),
                "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
            ),
            (
                json!({"spec": {"limited": {"limitResponse": {"type": "Reject"}}}}),
                "spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited",
            ),
            (
                json!({"spec": {"limited": {"limitResponse": {"queuing": {"handSize": 65}}}}}),
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 65: should not be greater than queues (64)",
            ),
            (
                json!({"spec": {"limited": {"limitResponse": {"queuing": {"handSize": 11}}}}}),
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 11: required entropy bits of deckSize 64 and handSize 11 should not be greater than 60",
            ),
            (json!({"metadata": {"name": "catch-all"}}), "must equal the fixed value"),
        ];
        for (change, expected) in table {
            let errors = texts(&level(&changed(system.clone(), change)));
            assert!(errors.iter().any(|error| error.ends_with(expected)), "{errors:?}");
        }
    }

    #[test]
    fn bad_schemas() {
        let nodes =
            schemas().into_iter().find(|one| one["metadata"]["name"] == "system-nodes").expect("there");
        let table = [
            (
                json!({"spec": {"matchingPrecedence": 1}}),
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
            ),
            (
                json!({"spec": {"priorityLevelConfiguration": {"name": ""}}}),
                "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
            ),
            (
                json!({"spec": {"rules": [{"subjects": [{"kind": "User", "user": {"name": "a"}, "group": {"name": "b"}}], "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]}}),
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
            ),
            (
                json!({"spec": {"rules": [{"subjects": [{"kind": "User", "user": {"name": "a"}}]}]}}),
                "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
            ),
            (
                json!({"spec": {"rules": [{"subjects": [{"kind": "User", "user": {"name": "a"}}], "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["a"]}]}]}}),
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"a\": must start with slash",
            ),
            (json!({"metadata": {"name": "exempt"}}), "spec of 'exempt' must equal the fixed value"),
        ];
        for (change, expected) in table {
            let errors = texts(&schema(&changed(nodes.clone(), change)));
            assert!(errors.iter().any(|error| error.ends_with(expected)), "{errors:?}");
        }
    }
}
