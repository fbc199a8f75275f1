//! Walks a tree to its value, and counts what that costs.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::ast::{Comprehension, Expr, Gives, Node};
use super::value::{Key, Value};
use super::{Budget, Error, MAX_NESTING, Variables, check, library};

/// How much memory a compiled regular expression may take.
const REGEX_SIZE: usize = 256 << 10;
/// How many of them an evaluation keeps.
const REGEXES: usize = 32;

/// What an evaluation gives.
pub(super) type Outcome = Result<Value, Error>;

/// Names bound by macros, innermost first.
#[derive(Clone, Copy)]
pub(super) enum Scope<'s> {
    Root,
    Bound { name: &'s str, value: &'s Value, outer: &'s Scope<'s> },
}

impl Scope<'_> {
    fn find(&self, wanted: &str) -> Option<&Value> {
        let mut scope = self;
        while let Scope::Bound { name, value, outer } = scope {
            if *name == wanted {
                return Some(value);
            }
            scope = outer;
        }
        None
    }
}

/// One evaluation.
pub(super) struct Run<'r> {
    variables: &'r dyn Variables,
    budget: &'r Budget,
    regexes: RefCell<HashMap<String, Regex>>,
}

/// An error in the expression's own terms.
pub(super) fn failed<T>(why: impl Into<String>) -> Result<T, Error> {
    Err(Error::Failed(why.into()))
}

fn no_overload<T>() -> Result<T, Error> {
    failed("no such overload")
}

impl<'r> Run<'r> {
    pub(super) fn new(variables: &'r dyn Variables, budget: &'r Budget) -> Self {
        Self { variables, budget, regexes: RefCell::default() }
    }

    /// Spends some of the budget.
    pub(super) fn charge(&self, units: u64) -> Result<(), Error> {
        self.budget.charge(units)
    }

    /// Spends what it takes to look at all of a value.
    pub(super) fn charge_for(&self, value: &Value) -> Result<(), Error> {
        let limit = self.budget.call.get().min(self.budget.left.get()).saturating_add(1);
        self.charge(value.size(limit))
    }

    /// Spends what it takes to go through, or to make, a text.
    pub(super) fn charge_text(&self, bytes: usize) -> Result<(), Error> {
        self.charge(1 + bytes as u64 / 10)
    }

    /// A regular expression, compiled once.
    pub(super) fn regex(&self, pattern: &str) -> Result<Regex, Error> {
        if let Some(known) = self.regexes.borrow().get(pattern) {
            return Ok(known.clone());
        }
        self.charge(10 + pattern.len() as u64)?;
        let made = RegexBuilder::new(pattern).size_limit(REGEX_SIZE).dfa_size_limit(REGEX_SIZE).build();
        let made = made.map_err(|error| {
            let why = error.to_string();
            let last = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Error::Failed(format!("error parsing regexp: {last}"))
        })?;
        self.charge(100)?;
        let mut known = self.regexes.borrow_mut();
        if known.len() < REGEXES {
            known.insert(pattern.to_owned(), made.clone());
        }
        Ok(made)
    }

    /// The value of a node.
    pub(super) fn value(&self, node: &Node, scope: Scope<'_>) -> Outcome {
        self.charge(1)?;
        let nesting = self.budget.nesting.get();
        if nesting >= MAX_NESTING {
            return Err(Error::CostExceeded);
        }
        self.budget.nesting.set(nesting + 1);
        let found = self.of(node, scope);
        self.budget.nesting.set(nesting);
        found
    }

    fn of(&self, node: &Node, scope: Scope<'_>) -> Outcome {
        match &node.expr {
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Ident(name) => self.ident(name, scope),
            Expr::Select { of, field, is_optional } => self.select(of, field, *is_optional, scope),
            Expr::Has { of, field } => self.has(of, field, scope),
            Expr::Index { of, index, is_optional } => {
                let (of, index) = (self.value(of, scope)?, self.value(index, scope)?);
                at_index(&of, &index, *is_optional)
            }
            Expr::Junction { is_and, all } => self.junction(*is_and, all, scope),
            Expr::Conditional(parts) => match self.value(&parts[0], scope)? {
                Value::Bool(true) => self.value(&parts[1], scope),
                Value::Bool(false) => self.value(&parts[2], scope),
                _ => no_overload(),
            },
            Expr::Call { name, args, is_method } => self.call(name, *is_method, args, scope),
            Expr::List(items) => self.list(items, scope),
            Expr::Map(entries) => self.map(entries, scope),
            Expr::Made { of, .. } => self.value(of, scope),
            Expr::Comprehension(of) => self.comprehension(of, scope),
            Expr::Bind { name, value, body } => {
                let value = self.value(value, scope)?;
                self.value(body, Scope::Bound { name, value: &value, outer: &scope })
            }
            Expr::OptMap { of, name, body, is_flat } => self.opt_map(of, (name, body), *is_flat, scope),
        }
    }

    fn ident(&self, name: &str, scope: Scope<'_>) -> Outcome {
        if let Some(value) = scope.find(name) {
            return Ok(value.clone());
        }
        if let Some(found) = self.variables.get(name) {
            return found;
        }
        match check::TYPES.iter().find(|known| **known == name) {
            Some(known) => Ok(Value::Type(known)),
            None => failed(format!("no such attribute(s): {name}")),
        }
    }

    /// A field of a variable that is known by its whole name.
    fn qualified(&self, of: &Node, field: &str, scope: Scope<'_>) -> Option<Outcome> {
        let Expr::Ident(root) = &of.expr else { return None };
        if scope.find(root).is_some() {
            return None;
        }
        self.variables.get(&format!("{root}.{field}"))
    }

    fn select(&self, of: &Node, field: &str, is_optional: bool, scope: Scope<'_>) -> Outcome {
        if let Some(found) = self.qualified(of, field, scope) {
            return found;
        }
        let of = self.value(of, scope)?;
        at_index(&of, &Value::text(field), is_optional)
    }

    fn has(&self, of: &Node, field: &str, scope: Scope<'_>) -> Outcome {
        if let Some(found) = self.qualified(of, field, scope) {
            return found.map(|_| Value::Bool(true));
        }
        let found = self.value(of, scope)?;
        let of = match &found {
            Value::Optional(None) => return Ok(Value::Bool(false)),
            Value::Optional(Some(of)) => of,
            other => other,
        };
        match of {
            Value::Map(map) => Ok(Value::Bool(map.contains_key(&Key::Text(field.into())))),
            _ => no_overload(),
        }
    }

    /// An error does not matter where another operand decides.
    fn junction(&self, is_and: bool, all: &[Node], scope: Scope<'_>) -> Outcome {
        let mut trouble = None;
        for node in all {
            match self.value(node, scope) {
                Ok(Value::Bool(is)) if is == is_and => {}
                Ok(Value::Bool(decides)) => return Ok(Value::Bool(decides)),
                Ok(_) => trouble = trouble.or(Some(Error::Failed("no such overload".to_owned()))),
                Err(Error::CostExceeded) => return Err(Error::CostExceeded),
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        trouble.map_or(Ok(Value::Bool(is_and)), Err)
    }

    fn call(&self, name: &str, is_method: bool, args: &[Node], scope: Scope<'_>) -> Outcome {
        let args = args.iter().map(|node| self.value(node, scope)).collect::<Result<Vec<_>, _>>()?;
        if let (true, Some((Value::Foreign(of), rest))) = (is_method, args.split_first()) {
            self.charge(100)?;
            return of.call(name, rest).map_or_else(no_overload, |found| found.map_err(Error::Failed));
        }
        library::call(self, name, &args).unwrap_or_else(no_overload)
    }

    fn list(&self, items: &[(bool, Node)], scope: Scope<'_>) -> Outcome {
        let mut made = Vec::with_capacity(items.len());
        for (is_optional, node) in items {
            match (self.value(node, scope)?, is_optional) {
                (Value::Optional(None), true) => {}
                (Value::Optional(Some(of)), true) => made.push((*of).clone()),
                (_, true) => return no_overload(),
                (value, false) => made.push(value),
            }
        }
        Ok(Value::list(made))
    }

    fn map(&self, entries: &[(bool, Node, Node)], scope: Scope<'_>) -> Outcome {
        let mut made = BTreeMap::new();
        for (is_optional, key, value) in entries {
            let key = self.value(key, scope)?;
            let Some(key) = Key::of(&key) else {
                return failed(format!("unsupported key type: {}", key.type_name()));
            };
            let value = match (self.value(value, scope)?, is_optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(of)), true) => (*of).clone(),
                (_, true) => return no_overload(),
                (value, false) => value,
            };
            if made.contains_key(&key) {
                return failed(format!("Failed with repeated key: {key}"));
            }
            made.insert(key, value);
        }
        Ok(Value::Map(Arc::new(made)))
    }

    fn opt_map(&self, of: &Node, to: (&str, &Node), is_flat: bool, scope: Scope<'_>) -> Outcome {
        match self.value(of, scope)? {
            Value::Optional(None) => Ok(Value::Optional(None)),
            Value::Optional(Some(value)) => {
                let made = self.value(to.1, Scope::Bound { name: to.0, value: &value, outer: &scope })?;
                match (made, is_flat) {
                    (made, false) => Ok(Value::optional(Some(made))),
                    (made @ Value::Optional(_), true) => Ok(made),
                    _ => no_overload(),
                }
            }
            _ => no_overload(),
        }
    }

    fn comprehension(&self, of: &Comprehension, scope: Scope<'_>) -> Outcome {
        let range = self.value(&of.range, scope)?;
        let mut fold = Fold::default();
        let mut each = |first: &Value, second: &Value| self.step(of, (first, second), &mut fold, scope);
        let is_pair = of.names.len() == 2;
        match &range {
            Value::List(items) if is_pair => {
                for (index, item) in items.iter().enumerate() {
                    if each(&Value::Int(i64::try_from(index).unwrap_or(i64::MAX)), item)? {
                        break;
                    }
                }
            }
            Value::List(items) => {
                for item in items.iter() {
                    if each(item, &Value::Null)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (key, value) in map.iter() {
                    if each(&key.value(), value)? {
                        break;
                    }
                }
            }
            _ => return no_overload(),
        }
        fold.result(of.gives)
    }

    /// One turn; says whether it was the last.
    fn step(
        &self,
        of: &Comprehension,
        values: (&Value, &Value),
        fold: &mut Fold,
        scope: Scope<'_>,
    ) -> Result<bool, Error> {
        self.charge(1)?;
        let first = Scope::Bound { name: &of.names[0], value: values.0, outer: &scope };
        let second = match of.names.get(1) {
            Some(name) => Scope::Bound { name, value: values.1, outer: &first },
            None => first,
        };
        if let Some(condition) = &of.condition {
            match self.value(condition, second)? {
                Value::Bool(true) => {}
                Value::Bool(false) => return Ok(false),
                _ => return no_overload(),
            }
        }
        let made = self.value(&of.body, second);
        match of.gives {
            Gives::All | Gives::Exists => {
                let decides = of.gives == Gives::Exists;
                match made {
                    Ok(Value::Bool(is)) if is == decides => {
                        fold.is_decided = true;
                        return Ok(true);
                    }
                    Ok(Value::Bool(_)) => {}
                    Ok(_) => fold.note(Error::Failed("no such overload".to_owned())),
                    Err(Error::CostExceeded) => return Err(Error::CostExceeded),
                    Err(error) => fold.note(error),
                }
            }
            Gives::ExistsOne | Gives::Filtered => match made? {
                Value::Bool(true) => fold.items.push(values.0.clone()),
                Value::Bool(false) => {}
                _ => return no_overload(),
            },
            Gives::List => fold.items.push(made?),
            Gives::Map => {
                let Some(key) = Key::of(values.0) else { return no_overload() };
                fold.entries.insert(key, made?);
            }
            Gives::MapEntry => {
                let Value::Map(made) = made? else { return no_overload() };
                for (key, value) in made.iter() {
                    if fold.entries.insert(key.clone(), value.clone()).is_some() {
                        return failed(format!("insert failed: key {key} already exists"));
                    }
                }
            }
        }
        Ok(false)
    }
}

/// What the turns of a macro have gathered.
#[derive(Default)]
struct Fold {
    is_decided: bool,
    trouble: Option<Error>,
    items: Vec<Value>,
    entries: BTreeMap<Key, Value>,
}

impl Fold {
    fn note(&mut self, error: Error) {
        self.trouble.get_or_insert(error);
    }

    fn result(self, gives: Gives) -> Outcome {
        match (gives, self.trouble) {
            (Gives::All, _) if self.is_decided => Ok(Value::Bool(false)),
            (Gives::Exists, _) if self.is_decided => Ok(Value::Bool(true)),
            (_, Some(error)) => Err(error),
            (Gives::All, None) => Ok(Value::Bool(true)),
            (Gives::Exists, None) => Ok(Value::Bool(false)),
            (Gives::ExistsOne, None) => Ok(Value::Bool(self.items.len() == 1)),
            (Gives::List | Gives::Filtered, None) => Ok(Value::list(self.items)),
            (Gives::Map | Gives::MapEntry, None) => Ok(Value::Map(Arc::new(self.entries))),
        }
    }
}

/// An element of a list, or an entry of a map.
fn at_index(of: &Value, index: &Value, is_optional: bool) -> Outcome {
    let (target, is_optional, was_optional) = match of {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(of)) => (&**of, true, true),
        other => (other, is_optional, false),
    };
    debug_assert!(is_optional || !was_optional, "what is in an optional stays optional");
    let found = match target {
        Value::List(items) => {
            let number = match Key::of(index) {
                Some(Key::Int(number)) => number,
                Some(Key::Uint(_)) => i64::MAX,
                _ => return no_overload(),
            };
            let found = usize::try_from(number).ok().and_then(|at| items.get(at));
            found.ok_or_else(|| format!("index out of bounds: {number}"))
        }
        Value::Map(map) => {
            let Some(key) = Key::of(index) else { return no_overload() };
            map.get(&key).ok_or_else(|| format!("no such key: {key}"))
        }
        _ => return no_overload(),
    };
    match (found, is_optional) {
        (found, true) => Ok(Value::optional(found.ok().cloned())),
        (Ok(found), false) => Ok(found.clone()),
        (Err(why), false) => failed(why),
    }
}

/// Whether `one` comes before or after `other`; types without an order have none.
pub(super) fn ordered(one: &Value, other: &Value) -> Result<Ordering, Error> {
    one.order(other).map_or_else(no_overload, Ok)
}
