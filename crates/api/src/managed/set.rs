//! A set of fields, in the very form in which `fieldsV1` writes it: a tree of
//! JSON objects whose keys are path elements (`f:name`, `k:{"name":"x"}`,
//! `v:"value"`), where an empty object, or one with `.`, is a member.

use serde_json::{Map, Value};

/// Says that the element with children is a member too.
const SELF: &str = ".";

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(pub(super) Map<String, Value>);

/// One element's part of a set, while it is made.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) is_member: bool,
    pub(super) below: FieldSet,
}

impl Node {
    pub(super) fn member() -> Self {
        Self { is_member: true, below: FieldSet::default() }
    }

    fn is_empty(&self) -> bool {
        !self.is_member && self.below.is_empty()
    }

    fn into_value(mut self) -> Value {
        if self.is_member && !self.below.is_empty() {
            self.below.0.insert(SELF.to_owned(), Value::Object(Map::new()));
        }
        Value::Object(self.below.0)
    }

    /// Reads an element's value. What is no object is read as a member.
    fn of(value: &Value) -> Self {
        let Value::Object(map) = value else { return Self::member() };
        let mut below = map.clone();
        let is_member = below.remove(SELF).is_some() || below.is_empty();
        Self { is_member, below: FieldSet(below) }
    }
}

fn is_member(value: &Value) -> bool {
    value.as_object().is_none_or(|map| map.is_empty() || map.contains_key(SELF))
}

fn below(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten().filter(|(key, _)| *key != SELF)
}

impl FieldSet {
    /// The set in its JSON form.
    #[must_use]
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// A set from its JSON form; elements of unknown types are dropped.
    #[must_use]
    pub fn from_value(value: &Value) -> Self {
        let elements = below(value).filter(|(key, _)| {
            let mut bytes = key.bytes();
            matches!(bytes.next(), Some(b'f' | b'k' | b'v' | b'i')) && bytes.next() == Some(b':')
        });
        let clean = |value: &Value| {
            let node = Node { is_member: is_member(value), below: Self::from_value(value) };
            node.into_value()
        };
        Self(elements.map(|(key, value)| (key.clone(), clean(value))).collect())
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn put(&mut self, element: String, node: Node) {
        if !node.is_empty() {
            self.0.insert(element, node.into_value());
        }
    }

    /// Whether the element itself is a member.
    pub(super) fn has(&self, element: &str) -> bool {
        self.0.get(element).is_some_and(is_member)
    }

    /// What is in the set below an element.
    pub(super) fn below(&self, element: &str) -> Self {
        self.0.get(element).map(|value| Node::of(value).below).unwrap_or_default()
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (key, theirs) in &other.0 {
            let joined = match all.0.get(key) {
                None => theirs.clone(),
                Some(ours) => {
                    let (ours, theirs) = (Node::of(ours), Node::of(theirs));
                    Node {
                        is_member: ours.is_member || theirs.is_member,
                        below: ours.below.union(&theirs.below),
                    }
                    .into_value()
                }
            };
            all.0.insert(key.clone(), joined);
        }
        all
    }

    fn combined(&self, other: &Self, keep: fn(bool, bool) -> bool, keep_alone: bool) -> Self {
        let mut all = Self::default();
        for (key, ours) in &self.0 {
            match other.0.get(key) {
                None if keep_alone => {
                    all.0.insert(key.clone(), ours.clone());
                }
                None => {}
                Some(theirs) => {
                    let (ours, theirs) = (Node::of(ours), Node::of(theirs));
                    let node = Node {
                        is_member: keep(ours.is_member, theirs.is_member),
                        below: ours.below.combined(&theirs.below, keep, keep_alone),
                    };
                    all.put(key.clone(), node);
                }
            }
        }
        all
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combined(other, |ours, theirs| ours && theirs, false)
    }

    /// What is in this one only.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combined(other, |ours, theirs| ours && !theirs, true)
    }

    /// Without the members of the other set and everything below them.
    #[must_use]
    pub fn without_trees(&self, other: &Self) -> Self {
        let mut all = Self::default();
        for (key, ours) in &self.0 {
            match other.0.get(key) {
                None => {
                    all.0.insert(key.clone(), ours.clone());
                }
                Some(theirs) if is_member(theirs) => {}
                Some(theirs) => {
                    let (ours, theirs) = (Node::of(ours), Node::of(theirs));
                    let below = ours.below.without_trees(&theirs.below);
                    all.put(key.clone(), Node { is_member: ours.is_member, below });
                }
            }
        }
        all
    }

    /// Every member's path, as messages write it: `.spec.containers[name="a"].image`.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut all = Vec::new();
        collect(&self.0, "", &mut all);
        all
    }
}

fn collect(map: &Map<String, Value>, prefix: &str, all: &mut Vec<String>) {
    for (key, value) in map.iter().filter(|(key, _)| *key != SELF) {
        let path = format!("{prefix}{}", shown(key));
        if is_member(value) {
            all.push(path.clone());
        }
        if let Value::Object(below) = value {
            collect(below, &path, all);
        }
    }
}

/// An element as paths write it.
fn shown(element: &str) -> String {
    let Some((kind, rest)) = element.split_once(':') else { return element.to_owned() };
    match kind {
        "f" => format!(".{rest}"),
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let texts: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", texts.join(","))
        }
        "v" => format!("[={rest}]"),
        _ => format!("[{rest}]"),
    }
}
