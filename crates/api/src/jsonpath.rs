//! JSONPath in kubectl's dialect: text with `{...}` parts, `range`, filters,
//! slices, unions, recursive descent, and dots escaped by `\`.

use std::cell::Cell;

use serde_json::Value;

/// A template that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing jsonpath: {0}")]
pub struct BadPath(String);

/// How deep filters and ranges may nest.
const DEEPEST: u32 = 32;

/// A template that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    nodes: Vec<Node>,
    /// How many values one use may visit.
    limit: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Root,
    Field(String),
    Fields(Vec<String>),
    All,
    Recursive,
    Indices(Vec<i64>),
    Slice(Option<i64>, Option<i64>, i64),
    Filter(Operand, &'static str, Operand),
    Exists(Operand),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Literal(Value),
}

impl Template {
    /// Reads a template; a bare path without braces is taken too.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn parse(text: &str) -> Result<Self, BadPath> {
        let braced = if text.contains('{') { text.to_owned() } else { format!("{{{}}}", rooted(text)) };
        let mut pieces = pieces(&braced)?.into_iter();
        Ok(Self { nodes: nodes(&mut pieces, 0)?, limit: usize::MAX })
    }

    /// The same template, for one whose author is not trusted: a use ends after
    /// it visited this many values, with what was found by then.
    #[must_use]
    pub fn limited_to(self, values: usize) -> Self {
        Self { limit: values, ..self }
    }

    /// The text that the template makes of a value; what is missing is empty.
    #[must_use]
    pub fn print(&self, root: &Value) -> String {
        let mut out = String::new();
        self.walk(root).print(&self.nodes, root, &mut out);
        out
    }

    /// What the template's paths find.
    #[must_use]
    pub fn values<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let walk = self.walk(root);
        let paths = self.nodes.iter().filter_map(|node| match node {
            Node::Path(steps) => Some(walk.along(steps, root)),
            _ => None,
        });
        paths.flatten().collect()
    }

    const fn walk<'a>(&self, root: &'a Value) -> Walk<'a> {
        Walk { root, left: Cell::new(self.limit) }
    }
}

fn rooted(text: &str) -> String {
    if text.starts_with(['.', '$', '[']) { text.to_owned() } else { format!(".{text}") }
}

fn bad(why: impl std::fmt::Display) -> BadPath {
    BadPath(why.to_string())
}

enum Piece {
    Text(String),
    Code(String),
}

fn pieces(text: &str) -> Result<Vec<Piece>, BadPath> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        if start > 0 {
            found.push(Piece::Text(rest[..start].to_owned()));
        }
        let end = code_end(&rest[start + 1..]).ok_or_else(|| bad("unclosed action"))? + start + 1;
        found.push(Piece::Code(rest[start + 1..end].trim().to_owned()));
        rest = &rest[end + 1..];
    }
    if !rest.is_empty() {
        found.push(Piece::Text(rest.to_owned()));
    }
    Ok(found)
}

/// Where the brace closes, quotes left out.
fn code_end(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '}') => return Some(index),
            (None, _) => {}
        }
    }
    None
}

/// Passes one level down.
fn deeper(depth: u32) -> Result<u32, BadPath> {
    if depth < DEEPEST { Ok(depth + 1) } else { Err(bad(format!("nested deeper than {DEEPEST} levels"))) }
}

fn nodes(pieces: &mut std::vec::IntoIter<Piece>, depth: u32) -> Result<Vec<Node>, BadPath> {
    let inside = depth > 0;
    let mut found = Vec::new();
    while let Some(piece) = pieces.next() {
        match piece {
            Piece::Text(text) => found.push(Node::Text(text)),
            Piece::Code(code) if code == "end" => {
                return if inside { Ok(found) } else { Err(bad("not in range, nothing to end")) };
            }
            Piece::Code(code) => match code.strip_prefix("range ") {
                Some(path) => {
                    let steps = steps(path.trim(), 0)?;
                    found.push(Node::Range(steps, nodes(pieces, deeper(depth)?)?));
                }
                None if code.starts_with(['"', '\'']) => found.push(Node::Text(unquote(&code)?)),
                None => found.push(Node::Path(steps(&code, 0)?)),
            },
        }
    }
    if inside { Err(bad("unclosed range")) } else { Ok(found) }
}

fn unquote(text: &str) -> Result<String, BadPath> {
    let quote = text.chars().next().unwrap_or_default();
    let inner = text
        .strip_prefix(quote)
        .and_then(|rest| rest.strip_suffix(quote))
        .ok_or_else(|| bad("unterminated quoted string"))?;
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(other) => other,
                None => return Err(bad("unterminated quoted string")),
            },
            c => c,
        });
    }
    Ok(out)
}

fn steps(path: &str, depth: u32) -> Result<Vec<Step>, BadPath> {
    let mut found = Vec::new();
    let mut rest = path;
    while let Some(c) = rest.chars().next() {
        match c {
            '$' => {
                found.push(Step::Root);
                rest = &rest[1..];
            }
            '@' => rest = &rest[1..],
            '*' => {
                found.push(Step::All);
                rest = &rest[1..];
            }
            '[' => {
                let end = bracket_end(rest).ok_or_else(|| bad("unterminated array"))?;
                found.push(bracket(rest[1..end].trim(), depth)?);
                rest = &rest[end + 1..];
            }
            '.' if rest.starts_with("..") => {
                found.push(Step::Recursive);
                rest = &rest[1..];
                if rest.starts_with(".[") {
                    rest = &rest[1..];
                }
            }
            '.' => {
                rest = &rest[1..];
                if rest.starts_with('*') || rest.starts_with('[') || rest.is_empty() {
                    continue;
                }
                let (name, length) = name(rest);
                if name.is_empty() {
                    return Err(bad(format!("invalid path {path:?}")));
                }
                found.push(Step::Field(name));
                rest = &rest[length..];
            }
            _ => return Err(bad(format!("unrecognized character in action: {c:?}"))),
        }
    }
    Ok(found)
}

/// A field name and its length in the text.
fn name(text: &str) -> (String, usize) {
    let mut out = String::new();
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match c {
            c if escaped => {
                out.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '.' | '[' | ']' | ' ' | '=' | '!' | '<' | '>' | '(' | ')' => return (out, index),
            c => out.push(c),
        }
    }
    (out, text.len())
}

fn bracket_end(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut quote = None;
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(index);
                }
            }
            (None, _) => {}
        }
    }
    None
}

fn bracket(inner: &str, depth: u32) -> Result<Step, BadPath> {
    if inner == "*" {
        return Ok(Step::All);
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        return condition(filter.trim(), deeper(depth)?);
    }
    if inner.starts_with(['\'', '"']) {
        return Ok(Step::Fields(inner.split(',').map(|one| unquote(one.trim())).collect::<Result<_, _>>()?));
    }
    let number =
        |text: &str| text.trim().parse::<i64>().map_err(|_| bad(format!("invalid array index {text}")));
    if inner.contains(':') {
        let parts: Vec<&str> = inner.split(':').collect();
        let part = |index: usize| match parts.get(index).map(|part| part.trim()) {
            None | Some("") => Ok(None),
            Some(text) => number(text).map(Some),
        };
        return Ok(Step::Slice(part(0)?, part(1)?, part(2)?.unwrap_or(1).max(1)));
    }
    Ok(Step::Indices(inner.split(',').map(number).collect::<Result<_, _>>()?))
}

fn condition(text: &str, depth: u32) -> Result<Step, BadPath> {
    for operator in ["==", "!=", "<=", ">=", "<", ">"] {
        if let Some((left, right)) = text.split_once(operator) {
            return Ok(Step::Filter(operand(left.trim(), depth)?, operator, operand(right.trim(), depth)?));
        }
    }
    Ok(Step::Exists(operand(text, depth)?))
}

fn operand(text: &str, depth: u32) -> Result<Operand, BadPath> {
    if text.starts_with(['@', '$', '.']) {
        return Ok(Operand::Path(steps(text, depth)?));
    }
    if text.starts_with(['\'', '"']) {
        return Ok(Operand::Literal(unquote(text)?.into()));
    }
    serde_json::from_str(text).map(Operand::Literal).map_err(|_| bad(format!("unrecognized literal {text}")))
}

/// One use of a template on a value.
struct Walk<'a> {
    root: &'a Value,
    /// How many more values may be visited.
    left: Cell<usize>,
}

impl<'a> Walk<'a> {
    /// What the steps lead to.
    fn along(&self, steps: &[Step], from: &'a Value) -> Vec<&'a Value> {
        let mut current = vec![from];
        for step in steps {
            let mut next = Vec::new();
            for value in current {
                self.take(step, value, &mut next);
            }
            current = next;
        }
        current
    }

    /// Counts a visit; false when there were too many.
    fn may_visit(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }

    fn push(&self, found: impl IntoIterator<Item = &'a Value>, next: &mut Vec<&'a Value>) {
        next.extend(found.into_iter().take_while(|_| self.may_visit()));
    }

    fn take(&self, step: &Step, value: &'a Value, next: &mut Vec<&'a Value>) {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let at = |index: i64| {
            let index = if index < 0 { index + i64::try_from(items.len()).ok()? } else { index };
            items.get(usize::try_from(index).ok()?)
        };
        match step {
            Step::Root => self.push([self.root], next),
            Step::Field(name) => self.push(value.get(name), next),
            Step::Fields(names) => self.push(names.iter().filter_map(|name| value.get(name)), next),
            Step::All => match value {
                Value::Object(map) => self.push(map.values(), next),
                _ => self.push(items, next),
            },
            Step::Recursive => self.descend(value, next),
            Step::Indices(indices) => self.push(indices.iter().filter_map(|index| at(*index)), next),
            Step::Slice(start, end, step) => {
                let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
                let place = |index: i64| {
                    (if index < 0 { index.saturating_add(length) } else { index }).clamp(0, length)
                };
                let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(length)));
                let places = std::iter::successors(Some(start), |index| index.checked_add(*step));
                self.push(places.take_while(|index| *index < end).filter_map(at), next);
            }
            Step::Filter(left, operator, right) => {
                let holds = |item: &&'a Value| {
                    let sides = self.operand(left, item).zip(self.operand(right, item));
                    sides.is_some_and(|(left, right)| holds(left, operator, right))
                };
                self.push(items.iter().take_while(|_| self.left.get() > 0).filter(holds), next);
            }
            Step::Exists(operand) => {
                let exists = |item: &&'a Value| match operand {
                    Operand::Literal(value) => !value.is_null(),
                    Operand::Path(steps) => !self.along(steps, item).is_empty(),
                };
                self.push(items.iter().take_while(|_| self.left.get() > 0).filter(exists), next);
            }
        }
    }

    /// One side of a filter.
    fn operand<'b>(&self, operand: &'b Operand, item: &'a Value) -> Option<&'b Value>
    where
        'a: 'b,
    {
        match operand {
            Operand::Literal(value) => Some(value),
            Operand::Path(steps) => self.along(steps, item).first().copied(),
        }
    }

    fn descend(&self, value: &'a Value, next: &mut Vec<&'a Value>) {
        if !self.may_visit() {
            return;
        }
        next.push(value);
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.descend(item, next)),
            Value::Object(map) => map.values().for_each(|item| self.descend(item, next)),
            _ => {}
        }
    }

    fn print(&self, nodes: &[Node], current: &'a Value, out: &mut String) {
        for node in nodes {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Path(steps) => {
                    let texts: Vec<String> = self.along(steps, current).into_iter().map(plain).collect();
                    out.push_str(&texts.join(" "));
                }
                Node::Range(steps, below) => {
                    for value in self.along(steps, current) {
                        self.print(below, value, out);
                    }
                }
            }
        }
    }
}

fn holds(left: &Value, operator: &str, right: &Value) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => (left == right).then_some(Equal),
    };
    match operator {
        "==" => order == Some(Equal),
        "!=" => order != Some(Equal),
        "<" => order == Some(Less),
        "<=" => matches!(order, Some(Less | Equal)),
        ">" => order == Some(Greater),
        _ => matches!(order, Some(Greater | Equal)),
    }
}

/// A value as text: strings bare, all else as JSON.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_print_as_kubectls() {
        let root = json!({"kind": "List", "items": [
            {"metadata": {"name": "a", "labels": {"x.y/z": "1"}}, "n": 1, "c": [{"t": "Ready", "s": "True"}]},
            {"metadata": {"name": "b"}, "n": 2, "c": [{"t": "Ready", "s": "False"}]},
            {"metadata": {"name": "c"}, "n": 3}]});
        let table = [
            ("{.kind}", "List"),
            (".kind", "List"),
            ("kind is {.kind}!", "kind is List!"),
            ("{.items[*].metadata.name}", "a b c"),
            ("{.items[0].metadata.name}", "a"),
            ("{.items[-1].metadata.name}", "c"),
            ("{.items[0:2].metadata.name}", "a b"),
            ("{.items[0,2].metadata.name}", "a c"),
            ("{.items[::2].n}", "1 3"),
            (r#"{range .items[*]}{.metadata.name}{"\t"}{.n}{"\n"}{end}"#, "a\t1\nb\t2\nc\t3\n"),
            (r#"{.items[?(@.n>1)].metadata.name}"#, "b c"),
            (r#"{.items[*].c[?(@.t=="Ready")].s}"#, "True False"),
            (r"{.items[0].metadata.labels.x\.y/z}", "1"),
            ("{.items[0].metadata['name','labels']}", r#"a {"x.y/z":"1"}"#),
            ("{..name}", "a b c"),
            ("{.items[?(@.c)].metadata.name}", "a b"),
            ("{.missing}", ""),
            ("{$.kind}", "List"),
        ];
        for (template, expected) in table {
            assert_eq!(Template::parse(template).expect(template).print(&root), expected, "{template}");
        }
    }

    #[test]
    fn an_untrusted_template_ends() {
        let mut deep = json!(0);
        for _ in 0..50 {
            deep = json!([deep]);
        }
        // Each `..` multiplies what the one before found.
        let template =
            Template::parse(&format!("{{{}}}", "..*".repeat(12))).expect("read").limited_to(10_000);
        assert!(template.values(&deep).len() <= 10_000);
        let slice = Template::parse(&format!("{{[0:5:{}]}}", i64::MAX)).expect("read");
        assert_eq!(slice.print(&json!([1, 2, 3])), "1");
        let filters = format!("{{{}{}}}", "[?(@".repeat(100_000), ")]".repeat(100_000));
        assert!(Template::parse(&filters).is_err());
        let ranges = "{range .a}".repeat(100_000) + &"{end}".repeat(100_000);
        assert!(Template::parse(&ranges).is_err());
    }

    #[test]
    fn bad_templates_are_refused() {
        for template in ["{.a", "{range .a}", "{end}", "{.a[x]}", "{.a[0}", "{\"open}"] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }
}
