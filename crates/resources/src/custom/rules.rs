//! `x-kubernetes-validations`: expressions of a schema, following
//! `k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel`.
//!
//! Rules are compiled with the schema and asked after the schema's other rules.
//! What an update leaves as it was is not judged again ("ratcheting"), unless a
//! rule looks at the old value itself.

use std::collections::BTreeMap;

use api::field::ErrorKind;
use api::schema::{ListType, MapType};
use api::{ErrorList, FieldError, Object, Path};
use serde_json::{Value, json};

use super::structural::Structural;
use crate::cel::{self, Budget, Error, Program, Type};
use crate::fields::{Fields, same};
use crate::report::Report;

/// The longest message that an expression may make.
const MAX_MESSAGE: usize = 5 * 1024;
/// What is said when all that may be spent is.
const SPENT: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// One rule.
#[derive(Debug)]
struct Rule {
    program: Program,
    message_program: Option<Program>,
    source: String,
    message: String,
    reason: String,
    /// Below the rule's own place: `.a.b`.
    below: String,
    is_old_optional: bool,
    uses_old: bool,
}

/// The rules of a schema and of what is below it.
#[derive(Debug, Default)]
pub(super) struct Checks {
    rules: Vec<Rule>,
    properties: BTreeMap<String, Checks>,
    additional: Option<Box<Checks>>,
    items: Option<Box<Checks>>,
    /// Rules of `allOf`, about values of the same schema.
    all_of: Vec<Checks>,
}

/// Whether an error is of the sort that keeps expressions from being asked.
pub(super) fn hides_the_rest(error: &FieldError) -> bool {
    matches!(
        error.kind,
        ErrorKind::NotSupported
            | ErrorKind::Required
            | ErrorKind::TooLong
            | ErrorKind::TooMany
            | ErrorKind::TypeInvalid
    )
}

/// Whether a rule looks at the old value.
pub(crate) fn uses_old(rule: &Value) -> bool {
    let names = |field: &str| Program::source_mentions(rule.text(field), "oldSelf");
    names("rule") || names("messageExpression")
}

/// Checks a rule of a definition.
pub(crate) fn errors_of(rule: &Value, schema: &Value, is_root: bool, to: (&Path<'_>, &mut ErrorList)) {
    let (at, errors) = to;
    let (source, message) = (rule.text("rule").trim(), rule.text("message"));
    let wrong = "must not contain line breaks";
    if source.is_empty() {
        errors.required(&at.child("rule"), "rule is not specified");
    } else if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(&at.child("message"), message, "must be non-empty if specified");
    } else if message.trim().contains('\n') {
        errors.invalid(&at.child("message"), message, wrong);
    } else if source.contains('\n') && message.trim().is_empty() {
        errors.required(&at.child("message"), "message must be specified if rule contains line breaks");
    }
    let expression = rule.text("messageExpression");
    if !expression.is_empty() && expression.trim().is_empty() {
        errors.required(&at.child("messageExpression"), "messageExpression must be non-empty if specified");
    }
    if rule.has("reason") {
        errors.one_of(&at.child("reason"), rule.text("reason"), &REASONS);
    }
    let structural = Structural::read(schema);
    let below = rule.text("fieldPath");
    if !below.is_empty() && below.trim().is_empty() {
        errors.invalid(&at.child("fieldPath"), below, "must be non-empty if specified");
    }
    if below.contains('\n') {
        errors.invalid(&at.child("fieldPath"), below, wrong);
    }
    if !below.is_empty() && place_below(below, &structural).is_none() {
        errors.invalid(&at.child("fieldPath"), below, "must be a valid path");
    }
    if source.is_empty() {
        return;
    }
    if let Err((field, why)) = compile(rule, &structural, is_root || structural.is_embedded) {
        errors.add_shown(FieldError::invalid(&at.child(field), Value::Null, why), &shown(rule));
    }
}

/// A rule as upstream shows it.
fn shown(rule: &Value) -> String {
    let text = |field: &str| Value::from(rule.text(field));
    let fields = [
        ("Rule", text("rule")),
        ("Message", text("message")),
        ("MessageExpression", text("messageExpression")),
        ("Reason", rule.field("reason").clone()),
        ("FieldPath", text("fieldPath")),
        ("OptionalOldSelf", rule.field("optionalOldSelf").clone()),
    ];
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

/// Compiles a rule; an error names the field that it is about.
fn compile(rule: &Value, of: &Structural, is_resource: bool) -> Result<Rule, (&'static str, String)> {
    let own = cel::type_of(of, is_resource).unwrap_or(Type::Dyn);
    let is_old_optional = rule.flag("optionalOldSelf");
    let known = |name: &str| match name {
        "self" => Some(own.clone()),
        "oldSelf" if is_old_optional => Some(Type::optional(own.clone())),
        "oldSelf" => Some(own.clone()),
        _ => None,
    };
    let failed = |why: String| format!("compilation failed: {why}");
    let program = Program::compile(rule.text("rule"), &known).map_err(|why| ("rule", failed(why)))?;
    if !matches!(program.result(), Type::Bool | Type::Dyn) {
        return Err(("rule", "cel expression must evaluate to a bool".to_owned()));
    }
    let message_program = match rule.text("messageExpression").trim() {
        "" => None,
        source => {
            let found = Program::compile(source, &known);
            let found = found.map_err(|why| {
                ("messageExpression", format!("messageExpression compilation failed: {why}"))
            })?;
            if !matches!(found.result(), Type::Text | Type::Dyn) {
                let why = "messageExpression must evaluate to a string".to_owned();
                return Err(("messageExpression", why));
            }
            Some(found)
        }
    };
    let uses = |program: &Program| program.mentions("oldSelf");
    Ok(Rule {
        uses_old: uses(&program) || message_program.as_ref().is_some_and(uses),
        program,
        message_program,
        source: rule.text("rule").trim().to_owned(),
        message: rule.text("message").trim().to_owned(),
        reason: rule.text("reason").to_owned(),
        below: place_below(rule.text("fieldPath"), of).unwrap_or_default(),
        is_old_optional,
    })
}

/// A path such as `.a['b']` as errors show it, if the schema has what it names.
fn place_below(path: &str, of: &Structural) -> Option<String> {
    let (mut made, mut rest, mut schema) = (String::new(), path, of);
    while !rest.is_empty() {
        let name;
        (name, rest) = if let Some(quoted) = rest.strip_prefix("['") {
            let (name, after) = quoted.split_once("']")?;
            (name.replace("\\'", "'"), after)
        } else {
            let plain = rest.strip_prefix('.')?;
            let end = plain.find(['.', '[']).unwrap_or(plain.len());
            (plain[..end].to_owned(), &plain[end..])
        };
        if schema.properties.is_empty() {
            schema = schema.additional.as_ref()?.as_ref()?;
            made = format!("{made}[{name}]");
        } else {
            schema = schema.properties.get(&name)?;
            made = format!("{made}.{name}");
        }
    }
    Some(made)
}

impl Checks {
    /// The rules of a resource's schema; none if it has none anywhere.
    pub(super) fn of(schema: &Structural) -> Option<Self> {
        Self::read(schema, schema, true)
    }

    /// `rules` may be a part of `allOf`, which says nothing about types; `types` is
    /// the schema that does.
    fn read(rules: &Structural, types: &Structural, is_resource: bool) -> Option<Self> {
        // A definition whose rules do not compile is refused.
        let compiled = rules.expressions.iter().filter_map(|rule| compile(rule, types, is_resource).ok());
        let below = |rules: &Structural, types: &Structural| Self::read(rules, types, types.is_embedded);
        let properties = rules.properties.iter();
        let pair = |one: &Option<Option<Box<Structural>>>, other: &Option<Option<Box<Structural>>>| {
            below(one.as_ref()?.as_ref()?, other.as_ref()?.as_ref()?).map(Box::new)
        };
        let found = Self {
            rules: compiled.collect(),
            properties: properties
                .filter_map(|(name, of)| Some((name.clone(), below(of, types.properties.get(name)?)?)))
                .collect(),
            additional: pair(&rules.additional, &types.additional),
            items: match (&rules.items, &types.items) {
                (Some(rules), Some(types)) => below(rules, types).map(Box::new),
                _ => None,
            },
            all_of: rules.rules.all_of.iter().filter_map(|of| Self::read(of, types, is_resource)).collect(),
        };
        let is_empty = found.rules.is_empty()
            && found.properties.is_empty()
            && found.additional.is_none()
            && found.items.is_none()
            && found.all_of.is_empty();
        (!is_empty).then_some(found)
    }

    /// Asks all rules about an object.
    pub(super) fn check(&self, new: &Object, old: Option<&Object>, schema: &Structural) -> ErrorList {
        let whole = |object: &Object| Value::Object(object.as_map().clone());
        let (new, old) = (whole(new), old.map(whole));
        let mut walk = Walk { budget: Budget::default(), errors: ErrorList::new(), is_over: false };
        let here =
            Here { schema, at: String::new(), old: old.as_ref(), is_unchanged: false, is_resource: true };
        walk.node(self, &new, &here);
        walk.errors
    }
}

/// A value's surroundings.
struct Here<'h> {
    schema: &'h Structural,
    at: String,
    /// What it was, if that can be told.
    old: Option<&'h Value>,
    /// Whether something that it is a part of is as it was.
    is_unchanged: bool,
    is_resource: bool,
}

struct Walk {
    budget: Budget,
    errors: ErrorList,
    /// Whether no further rules are asked.
    is_over: bool,
}

impl Walk {
    fn node(&mut self, checks: &Checks, value: &Value, here: &Here<'_>) {
        if value.is_null() || self.is_over {
            return;
        }
        let is_unchanged = here.old.map_or(here.is_unchanged, |old| same(value, old));
        if !checks.rules.is_empty() {
            self.rules(&checks.rules, value, here, is_unchanged);
        }
        for part in &checks.all_of {
            self.node(part, value, &Here { at: here.at.clone(), ..*here });
        }
        match value {
            Value::Object(map) => {
                let is_atomic = here.schema.map_type == MapType::Atomic;
                for (name, value) in map {
                    let old = here.old.filter(|_| !is_atomic).and_then(|old| old.get(name));
                    let of =
                        |schema, at| Here { schema, at, old, is_unchanged, is_resource: schema.is_embedded };
                    if let (Some(checks), Some(schema)) =
                        (checks.properties.get(name), here.schema.properties.get(name))
                    {
                        let at =
                            if here.at.is_empty() { name.clone() } else { format!("{}.{name}", here.at) };
                        self.node(checks, value, &of(schema, at));
                    } else if let (Some(checks), Some(Some(schema))) =
                        (&checks.additional, &here.schema.additional)
                    {
                        self.node(checks, value, &of(schema, format!("{}[{name}]", here.at)));
                    }
                }
            }
            Value::Array(items) => {
                let (Some(checks), Some(schema)) = (&checks.items, &here.schema.items) else { return };
                let olds = olds_by_key(here.schema, here.old);
                for (index, item) in items.iter().enumerate() {
                    let old = key_of(here.schema, item).and_then(|key| olds.get(&key).copied());
                    let at = format!("{}[{index}]", here.at);
                    let is_resource = schema.is_embedded;
                    self.node(checks, item, &Here { schema, at, old, is_unchanged, is_resource });
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, rules: &[Rule], value: &Value, here: &Here<'_>, is_unchanged: bool) {
        let own = cel::value_of(value, here.schema, here.is_resource);
        if !self.budget.pays_for(&own) {
            self.is_over = true;
            return self.trouble(here, SPENT.to_owned());
        }
        let old = here.old.filter(|old| !old.is_null());
        let old = old.map(|old| cel::value_of(old, here.schema, here.is_resource));
        for rule in rules {
            let is_skipped =
                if rule.uses_old { old.is_none() && !rule.is_old_optional } else { is_unchanged };
            if is_skipped || self.is_over {
                continue;
            }
            let mut variables = vec![("self", own.clone())];
            match (&old, rule.is_old_optional) {
                (old, true) => variables.push(("oldSelf", cel::Value::optional(old.clone()))),
                (Some(old), false) => variables.push(("oldSelf", old.clone())),
                (None, false) => {}
            }
            self.rule(rule, &variables, value, here);
        }
    }

    /// An error of an evaluation, not of the value.
    fn trouble(&mut self, here: &Here<'_>, why: String) {
        let kind = here.schema.kind.map_or("", super::structural::JsonType::name);
        self.report(&here.at, |path| FieldError::invalid(path, kind, why.clone()));
    }

    fn report(&mut self, at: &str, build: impl Fn(&Path<'_>) -> FieldError) {
        let path = if at.is_empty() { Path::ROOT } else { Path::new(at) };
        self.errors.add(build(&path));
    }

    fn rule(&mut self, rule: &Rule, variables: &[(&str, cel::Value)], value: &Value, here: &Here<'_>) {
        let named = if rule.message.is_empty() { &rule.source } else { &rule.message };
        match rule.program.evaluate(&variables, &self.budget) {
            Ok(cel::Value::Bool(true)) => {}
            Ok(_) => self.broken(rule, variables, value, here),
            Err(Error::CostExceeded) => {
                self.is_over = true;
                let why = if self.budget.is_spent() {
                    SPENT.to_owned()
                } else {
                    format!(
                        "'{}': no further validation rules will be run due to call cost exceeds limit for rule: {named}",
                        Error::CostExceeded
                    )
                };
                self.trouble(here, why);
            }
            Err(Error::Failed(why)) if why.starts_with("no such overload") => {
                self.trouble(
                    here,
                    format!("'{why}': call arguments did not match a supported operator, function or macro signature for rule: {named}"),
                );
            }
            Err(Error::Failed(why)) => self.trouble(here, format!("{why} evaluating rule: {named}")),
        }
    }

    fn broken(&mut self, rule: &Rule, variables: &[(&str, cel::Value)], value: &Value, here: &Here<'_>) {
        let made = rule.message_program.as_ref().map(|program| program.evaluate(&variables, &self.budget));
        let made = match made {
            Some(Ok(cel::Value::Text(text))) => Some(text.trim().to_owned()),
            Some(Err(Error::CostExceeded)) => {
                self.is_over = true;
                let why = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";
                return self.trouble(here, why.to_owned());
            }
            // It is not worth refusing the whole answer for.
            _ => None,
        };
        let made = made.filter(|text| !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n'));
        let detail = made.unwrap_or_else(|| match rule.message.as_str() {
            "" => format!("failed rule: {}", rule.source),
            message => message.to_owned(),
        });
        let below = &rule.below;
        let at = if here.at.is_empty() {
            below.trim_start_matches('.').to_owned()
        } else {
            format!("{}{below}", here.at)
        };
        // Structured values are not shown.
        let shown = Some(value).filter(|value| !(value.is_object() || value.is_array())).cloned();
        self.report(&at, |path| match rule.reason.as_str() {
            "FieldValueForbidden" => FieldError::forbidden(path, detail.clone()),
            "FieldValueRequired" => FieldError::required(path, detail.clone()),
            "FieldValueDuplicate" => {
                FieldError { value: shown.clone(), ..FieldError::duplicate(path, Value::Null) }
            }
            _ => {
                FieldError { value: shown.clone(), ..FieldError::invalid(path, Value::Null, detail.clone()) }
            }
        });
    }
}

/// What tells an element of a list of maps from the others.
fn key_of(list: &Structural, item: &Value) -> Option<String> {
    let ListType::Map(keys) = &list.list_type else { return None };
    let items = list.items.as_ref()?;
    let of = |key: &String| {
        let default = || items.properties.get(key).and_then(|of| of.default.clone());
        item.get(key).cloned().or_else(default).unwrap_or_default()
    };
    Some(json!(keys.iter().map(of).collect::<Vec<Value>>()).to_string())
}

fn olds_by_key<'o>(list: &Structural, old: Option<&'o Value>) -> BTreeMap<String, &'o Value> {
    let items = old.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| Some((key_of(list, item)?, item))).collect()
}

#[cfg(test)]
mod tests;
