//! Expressions as trees, with macros already told apart from calls.

use super::value::Value;

/// An expression and where it stands in its source.
#[derive(Debug)]
pub(super) struct Node {
    /// The byte in the source that errors point at.
    pub(super) at: usize,
    pub(super) expr: Expr,
    /// How many nodes the longest way down has.
    pub(super) depth: usize,
}

#[derive(Debug)]
pub(super) enum Expr {
    Literal(Value),
    Ident(String),
    /// `of.field`, or `of.?field`.
    Select {
        of: Box<Node>,
        field: String,
        is_optional: bool,
    },
    /// `has(of.field)`.
    Has {
        of: Box<Node>,
        field: String,
    },
    /// `of[index]`, or `of[?index]`.
    Index {
        of: Box<Node>,
        index: Box<Node>,
        is_optional: bool,
    },
    /// A chain of `&&`, or of `||`.
    Junction {
        is_and: bool,
        all: Vec<Node>,
    },
    /// `if ? then : otherwise`, in this order.
    Conditional(Box<[Node; 3]>),
    /// An operator or a function; a method's receiver comes first.
    Call {
        name: String,
        is_method: bool,
        args: Vec<Node>,
    },
    /// Elements, and whether each is an optional.
    List(Vec<(bool, Node)>),
    /// Entries, and whether each value is an optional.
    Map(Vec<(bool, Node, Node)>),
    /// `Name{field: value}`: the map of its fields, as an object of a type.
    Made {
        name: String,
        of: Box<Node>,
    },
    Comprehension(Box<Comprehension>),
    /// `cel.bind(name, value, body)`.
    Bind {
        name: String,
        value: Box<Node>,
        body: Box<Node>,
    },
    /// `of.optMap(name, body)`, or `optFlatMap`.
    OptMap {
        of: Box<Node>,
        name: String,
        body: Box<Node>,
        is_flat: bool,
    },
}

/// What a macro over a list or a map gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gives {
    All,
    Exists,
    ExistsOne,
    /// `map`, `transformList`.
    List,
    /// `filter`.
    Filtered,
    /// `transformMap`.
    Map,
    /// `transformMapEntry`.
    MapEntry,
}

/// A macro over a list or a map.
#[derive(Debug)]
pub(super) struct Comprehension {
    pub(super) gives: Gives,
    pub(super) range: Node,
    /// One name for the element (or key), or two for index and element (or key
    /// and value).
    pub(super) names: Vec<String>,
    pub(super) condition: Option<Node>,
    /// What is asked of, or made of, each element.
    pub(super) body: Node,
}
