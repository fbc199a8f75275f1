//! From nodes and a value to text.

use std::cmp::Ordering;

use base64::Engine as _;
use serde_json::Value;

use super::{Node, Pipeline, Term, shown};

/// The functions that there are.
pub(super) const FUNCTIONS: [&str; 18] = [
    "and",
    "or",
    "not",
    "len",
    "index",
    "slice",
    "print",
    "printf",
    "println",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "exists",
    "base64decode",
    "html",
];

/// How a block ended.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Run {
    out: String,
    /// Variables, the newest last; the first is `$`.
    variables: Vec<(String, Value)>,
}

pub(super) fn run(nodes: &[Node], root: &Value) -> Result<String, String> {
    let mut run = Run { out: String::new(), variables: vec![(String::new(), root.clone())] };
    run.block(nodes, root)?;
    Ok(run.out)
}

/// What Go takes for true.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// The value below a path of fields; what is not there is nothing.
fn below(value: &Value, fields: &[String]) -> Result<Value, String> {
    let mut at = value;
    for field in fields {
        at = match at {
            Value::Object(map) => map.get(field).unwrap_or(&Value::Null),
            Value::Null => &Value::Null,
            _ => return Err(format!("can't evaluate field {field} in a value that is no map")),
        };
    }
    Ok(at.clone())
}

impl Run {
    fn block(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        let depth = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(depth);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, String> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipe) => {
                let value = self.assigned(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.out.push_str(&if value.is_null() { "<no value>".to_owned() } else { shown(&value) });
                }
            }
            Node::If(pipe, body, otherwise) | Node::With(pipe, body, otherwise) => {
                let depth = self.variables.len();
                let value = self.assigned(pipe, dot)?;
                let inner = if matches!(node, Node::With(..)) { &value } else { dot };
                let flow =
                    if is_true(&value) { self.block(body, inner)? } else { self.block(otherwise, dot)? };
                self.variables.truncate(depth);
                return Ok(flow);
            }
            Node::Range(pipe, body, otherwise) => return self.range(pipe, body, otherwise, dot),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        pipe: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, String> {
        let items: Vec<(Value, Value)> = match self.pipeline(pipe, dot)? {
            Value::Null => Vec::new(),
            Value::Array(list) => {
                list.into_iter().enumerate().map(|(index, value)| (index.into(), value)).collect()
            }
            Value::Object(map) => map.into_iter().map(|(key, value)| (key.into(), value)).collect(),
            other => return Err(format!("range can't iterate over {}", shown(&other))),
        };
        if items.is_empty() {
            return self.block(otherwise, dot);
        }
        for (key, value) in items {
            let depth = self.variables.len();
            match pipe.variables.as_slice() {
                [] => {}
                [one] => self.variables.push((one.clone(), value.clone())),
                [first, second, ..] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), value.clone()));
                }
            }
            let flow = self.block(body, &value)?;
            self.variables.truncate(depth);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    /// The value of a pipeline, which its variable gets too.
    fn assigned(&mut self, pipe: &Pipeline, dot: &Value) -> Result<Value, String> {
        let value = self.pipeline(pipe, dot)?;
        for name in &pipe.variables {
            if pipe.declares {
                self.variables.push((name.clone(), value.clone()));
            } else {
                let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
                known.ok_or_else(|| format!("undefined variable \"${name}\""))?.1 = value.clone();
            }
        }
        Ok(value)
    }

    fn pipeline(&mut self, pipe: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut last: Option<Value> = None;
        for command in &pipe.commands {
            last = Some(self.command(command, last, dot)?);
        }
        Ok(last.unwrap_or(Value::Null))
    }

    fn command(&mut self, command: &[Term], last: Option<Value>, dot: &Value) -> Result<Value, String> {
        let (first, rest) = command.split_first().ok_or("missing value for command")?;
        if let Term::Function(name) = first {
            let mut arguments = Vec::new();
            for term in rest {
                arguments.push(self.term(term, dot)?);
            }
            arguments.extend(last);
            return call(name, &arguments).map_err(|why| format!("error calling {name}: {why}"));
        }
        if !rest.is_empty() || last.is_some() {
            return Err("can't give argument to non-function".into());
        }
        self.term(first, dot)
    }

    fn term(&mut self, term: &Term, dot: &Value) -> Result<Value, String> {
        match term {
            Term::Field(fields) => below(dot, fields),
            Term::Variable(name, fields) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                below(&known.ok_or_else(|| format!("undefined variable \"${name}\""))?.1, fields)
            }
            Term::Literal(value) => Ok(value.clone()),
            Term::Group(pipe, fields) => below(&self.pipeline(pipe, dot)?, fields),
            Term::Function(name) => call(name, &[]).map_err(|why| format!("error calling {name}: {why}")),
        }
    }
}

fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let first = || arguments.first().ok_or_else(|| "wrong number of args".to_owned());
    Ok(match name {
        "and" => arguments
            .iter()
            .find(|one| !is_true(one))
            .or(arguments.last())
            .ok_or("wrong number of args")?
            .clone(),
        "or" => arguments
            .iter()
            .find(|one| is_true(one))
            .or(arguments.last())
            .ok_or("wrong number of args")?
            .clone(),
        "not" => (!is_true(first()?)).into(),
        "len" => match first()? {
            Value::String(text) => text.len().into(),
            Value::Array(list) => list.len().into(),
            Value::Object(map) => map.len().into(),
            other => return Err(format!("len of {}", shown(other))),
        },
        "index" => {
            let mut at = first()?.clone();
            for key in &arguments[1..] {
                at = element(&at, key)?;
            }
            at
        }
        "slice" => slice(first()?, &arguments[1..])?,
        "print" | "println" => printed(arguments, name == "println").into(),
        "printf" => {
            let format = first()?.as_str().ok_or("the format is no text")?.to_owned();
            formatted(&format, &arguments[1..]).into()
        }
        "eq" => {
            let left = first()?;
            let mut same = false;
            for right in &arguments[1..] {
                same |= compare(left, right)? == Some(Ordering::Equal);
            }
            same.into()
        }
        "ne" | "lt" | "le" | "gt" | "ge" => {
            let [left, right] = arguments else { return Err("wrong number of args".into()) };
            let order = compare(left, right)?;
            match name {
                "ne" => order != Some(Ordering::Equal),
                "lt" => order.is_some_and(Ordering::is_lt),
                "le" => order.is_some_and(Ordering::is_le),
                "gt" => order.is_some_and(Ordering::is_gt),
                _ => order.is_some_and(Ordering::is_ge),
            }
            .into()
        }
        "exists" => {
            let mut at = first()?.clone();
            for key in &arguments[1..] {
                at = element(&at, key).unwrap_or(Value::Null);
            }
            (!at.is_null()).into()
        }
        "base64decode" => {
            let text = first()?.as_str().unwrap_or_default();
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|error| format!("base64 decode failed: {error}"))?;
            String::from_utf8_lossy(&bytes).into_owned().into()
        }
        _ => {
            let escapes = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&#34;"), ('\'', "&#39;")];
            let escape = |c: char| {
                escapes.iter().find(|(raw, _)| *raw == c).map_or(c.to_string(), |(_, to)| (*to).to_owned())
            };
            printed(arguments, false).chars().map(escape).collect::<String>().into()
        }
    })
}

fn element(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        (Value::Null, _) => Err("index of untyped nil".into()),
        (Value::Object(map), Value::String(key)) => Ok(map.get(key).cloned().unwrap_or(Value::Null)),
        (Value::Array(list), Value::Number(_)) => {
            let index = key.as_u64().and_then(|index| usize::try_from(index).ok());
            index
                .and_then(|index| list.get(index))
                .cloned()
                .ok_or_else(|| format!("index out of range: {key}"))
        }
        _ => Err(format!("can't index item of {} with {}", shown(value), shown(key))),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let bound = |at: usize, default: usize| match bounds.get(at) {
        None => Ok(default),
        Some(value) => value
            .as_u64()
            .and_then(|bound| usize::try_from(bound).ok())
            .ok_or_else(|| format!("cannot index slice with {}", shown(value))),
    };
    let out_of_range = || "index out of range".to_owned();
    match value {
        Value::String(text) => {
            let range = bound(0, 0)?..bound(1, text.len())?;
            text.get(range).map(Into::into).ok_or_else(out_of_range)
        }
        Value::Array(list) => {
            let range = bound(0, 0)?..bound(1, list.len())?;
            list.get(range).map(|part| part.to_vec().into()).ok_or_else(out_of_range)
        }
        other => Err(format!("can't slice item of {}", shown(other))),
    }
}

fn compare(left: &Value, right: &Value) -> Result<Option<Ordering>, String> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) if left.is_f64() == right.is_f64() => {
            Ok(left.as_f64().zip(right.as_f64()).and_then(|(left, right)| left.partial_cmp(&right)))
        }
        (Value::String(left), Value::String(right)) => Ok(Some(left.cmp(right))),
        (Value::Bool(left), Value::Bool(right)) => Ok((left == right).then_some(Ordering::Equal)),
        (Value::Null, Value::Null) => Ok(Some(Ordering::Equal)),
        (Value::Null, _) | (_, Value::Null) => Ok(None),
        _ => Err("incompatible types for comparison".into()),
    }
}

/// Values as Go's print has them: a blank between two that are no texts.
fn printed(values: &[Value], line: bool) -> String {
    let mut text = String::new();
    for (index, value) in values.iter().enumerate() {
        let both_plain = index > 0 && !value.is_string() && !values[index - 1].is_string();
        if index > 0 && (line || both_plain) {
            text.push(' ');
        }
        text.push_str(&shown(value));
    }
    if line {
        text.push('\n');
    }
    text
}

/// `printf`: flags `-` and `0`, a width, and the verbs for values of JSON.
fn formatted(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = String::new();
        while let Some(part) = chars.next_if(|c| c.is_ascii_digit() || ['-', '.', '+'].contains(c)) {
            spec.push(part);
        }
        let Some(verb) = chars.next() else { return out + "%!(NOVERB)" };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = values.next() else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        out.push_str(&padded(&one(verb, &spec, value), &spec));
    }
    let extra: Vec<String> = values.map(shown).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn one(verb: char, spec: &str, value: &Value) -> String {
    let places = spec.split_once('.').and_then(|(_, places)| places.parse::<usize>().ok());
    match (verb, value) {
        ('v', _) | ('s', Value::String(_)) | ('t', Value::Bool(_)) => shown(value),
        ('d', Value::Number(number)) if !number.is_f64() => number.to_string(),
        ('x', Value::Number(number)) if number.is_i64() => {
            format!("{:x}", number.as_i64().unwrap_or_default())
        }
        ('f', Value::Number(number)) if number.is_f64() => {
            format!("{:.*}", places.unwrap_or(6), number.as_f64().unwrap_or_default())
        }
        ('q', Value::String(text)) => format!("{text:?}"),
        ('s', Value::Array(_) | Value::Object(_)) => shown(value),
        _ => format!("%!{verb}({})", shown(value)),
    }
}

fn padded(text: &str, spec: &str) -> String {
    let left = spec.starts_with('-');
    let spec = spec.trim_start_matches(['-', '+']).split('.').next().unwrap_or_default();
    let zero = spec.starts_with('0') && !left;
    let width: usize = spec.parse().unwrap_or_default();
    match (left, zero) {
        (true, _) => format!("{text:<width$}"),
        (false, true) => format!("{text:0>width$}"),
        (false, false) => format!("{text:>width$}"),
    }
}
