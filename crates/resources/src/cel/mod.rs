//! The Common Expression Language, as Kubernetes uses it.
//!
//! An expression is parsed and type-checked once ([`Program::compile`]) and
//! evaluated often ([`Program::evaluate`]). What it costs is counted in
//! upstream's units and bounded per evaluation and per [`Budget`]; nesting is
//! bounded when it is parsed, regular expressions when they are built. So an
//! expression from anybody can be run. Nothing here reads clocks or the network.
//!
//! Start reading in [`Program`], then [`eval`]; the functions are in [`library`]
//! and their types in [`signatures`].

pub mod admission;
mod ast;
mod check;
mod eval;
mod lexer;
mod library;
mod parser;
mod schema;
mod signatures;
mod types;
mod value;

use std::cell::Cell;
use std::collections::BTreeSet;

#[cfg(test)]
use schema::escape;
pub(crate) use schema::{type_of, value_of};
pub use types::Type;
pub use value::{Foreign, Key, Value};

use ast::{Expr, Node};

/// What one evaluation may cost.
pub const CALL_LIMIT: u64 = 1_000_000;
/// What all evaluations for one object, or one policy, may cost together.
pub const BUDGET: u64 = 10_000_000;
/// How deeply evaluations may nest: expressions, and variables in them.
const MAX_NESTING: u32 = 250;

/// How deeply a value may nest.
const MAX_VALUE_DEPTH: usize = 250;

/// How many parts of a value are walked through for one unit.
const LOOKING: u64 = 16;

/// What is wrong with a source, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    at: usize,
    message: String,
}

impl Fault {
    const fn new(at: usize, message: String) -> Self {
        Self { at, message }
    }

    /// As cel-go shows it: the place, the line, and a mark below it.
    fn show(&self, source: &str) -> String {
        let at = self.at.min(source.len());
        let before = source.get(..at).unwrap_or(source);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before[start..].chars().count();
        let line = source[start..].lines().next().unwrap_or_default();
        let number = before.matches('\n').count() + 1;
        let mark = ".".repeat(column);
        format!("ERROR: <input>:{number}:{}: {}\n | {line}\n | {mark}^", column + 1, self.message)
    }
}

/// Why an evaluation gave no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It would cost too much.
    CostExceeded,
    /// An error in the expression's own terms, such as a key that is not there.
    Failed(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CostExceeded => to.write_str("operation cancelled: actual cost limit exceeded"),
            Self::Failed(why) => to.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

/// What is left to spend on evaluations.
#[derive(Debug)]
pub struct Budget {
    left: Cell<u64>,
    call: Cell<u64>,
    nesting: Cell<u32>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(BUDGET)
    }
}

impl Budget {
    /// A budget of so many units.
    #[must_use]
    pub const fn new(units: u64) -> Self {
        Self { left: Cell::new(units), call: Cell::new(0), nesting: Cell::new(0) }
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.left.get() == 0
    }

    /// Spends what it took to make a value outside of expressions; says whether that
    /// was left.
    pub(crate) fn pays_for(&self, value: &Value) -> bool {
        let (units, left) = (value.size(u64::MAX) / LOOKING, self.left.get());
        self.left.set(left.saturating_sub(units));
        units <= left
    }

    fn charge(&self, units: u64) -> Result<(), Error> {
        let (left, call) = (self.left.get(), self.call.get());
        self.left.set(left.saturating_sub(units));
        self.call.set(call.saturating_sub(units));
        if units > left || units > call { Err(Error::CostExceeded) } else { Ok(()) }
    }
}

/// The variables of an evaluation.
pub trait Variables {
    /// The value of a variable; a field of a variable may be asked for by its whole
    /// name, such as `variables.x`.
    fn get(&self, name: &str) -> Option<Result<Value, Error>>;
}

impl Variables for &[(&str, Value)] {
    fn get(&self, name: &str) -> Option<Result<Value, Error>> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| Ok(value.clone()))
    }
}

impl<const N: usize> Variables for [(&str, Value); N] {
    fn get(&self, name: &str) -> Option<Result<Value, Error>> {
        Variables::get(&self.as_slice(), name)
    }
}

/// An expression, ready to be evaluated.
#[derive(Debug)]
pub struct Program {
    node: Node,
    result: Type,
    names: BTreeSet<String>,
}

impl Program {
    /// Parses and checks an expression; `known` tells the types of its variables.
    ///
    /// # Errors
    /// What is wrong with it, as upstream says it, without its `compilation failed`.
    pub fn compile(source: &str, known: &dyn Fn(&str) -> Option<Type>) -> Result<Self, String> {
        let node = parser::parse(source).map_err(|fault| fault.show(source))?;
        let mut checker = check::Checker { known, bound: Vec::new(), faults: Vec::new() };
        let result = checker.infer(&node);
        if !checker.faults.is_empty() {
            let shown: Vec<String> = checker.faults.iter().map(|fault| fault.show(source)).collect();
            return Err(shown.join("\n"));
        }
        let mut names = BTreeSet::new();
        collect_names(&node, &mut names);
        Ok(Self { node, result, names })
    }

    /// Whether a source, if it is an expression, mentions a name.
    pub(crate) fn source_mentions(source: &str, name: &str) -> bool {
        let Ok(node) = parser::parse(source) else { return false };
        let mut names = BTreeSet::new();
        collect_names(&node, &mut names);
        names.contains(name)
    }

    /// The type of its value.
    #[must_use]
    pub const fn result(&self) -> &Type {
        &self.result
    }

    /// Whether it mentions a name.
    #[must_use]
    pub fn mentions(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Evaluates it.
    ///
    /// # Errors
    /// An error of the expression, or the end of the budget.
    pub fn evaluate(&self, variables: &dyn Variables, budget: &Budget) -> Result<Value, Error> {
        if budget.nesting.get() == 0 {
            budget.call.set(CALL_LIMIT);
        }
        let found = eval::Run::new(variables, budget).value(&self.node, eval::Scope::Root)?;
        // A variable's value may become a part of another's: what nests without end
        // could not even be dropped. To look is cheap, but not free.
        let mut parts = CALL_LIMIT;
        let is_shallow = found.is_shallow(MAX_VALUE_DEPTH, &mut parts);
        budget.charge((CALL_LIMIT - parts) / LOOKING)?;
        if is_shallow { Ok(found) } else { Err(Error::CostExceeded) }
    }
}

/// Whether a name cannot be a variable's.
pub(crate) fn is_reserved(name: &str) -> bool {
    parser::RESERVED.contains(&name)
}

fn collect_names(node: &Node, names: &mut BTreeSet<String>) {
    let mut each = |node: &Node| collect_names(node, names);
    match &node.expr {
        Expr::Literal(_) => {}
        Expr::Ident(name) => drop(names.insert(name.clone())),
        Expr::Select { of, .. } | Expr::Has { of, .. } | Expr::Made { of, .. } => each(of),
        Expr::Index { of, index, .. } => {
            each(of);
            each(index);
        }
        Expr::Junction { all, .. } | Expr::Call { args: all, .. } => all.iter().for_each(each),
        Expr::Conditional(all) => all.iter().for_each(each),
        Expr::List(all) => all.iter().for_each(|(_, node)| each(node)),
        Expr::Map(all) => {
            for (_, key, value) in all {
                each(key);
                each(value);
            }
        }
        Expr::Comprehension(of) => {
            each(&of.range);
            of.condition.iter().for_each(&mut each);
            each(&of.body);
        }
        Expr::Bind { value, body, .. } => {
            each(value);
            each(body);
        }
        Expr::OptMap { of, body, .. } => {
            each(of);
            each(body);
        }
    }
}

#[cfg(test)]
mod tests;
