//! Tokens to a tree. Nesting is bounded, so that neither parsing nor evaluating
//! can overflow the stack.

use super::Fault;
use super::ast::{Comprehension, Expr, Gives, Node};
use super::lexer::{Token, tokens};
use super::value::Value;

/// How deeply a tree may nest.
pub(super) const MAX_DEPTH: usize = 100;
/// How long a source may be.
const MAX_SOURCE: usize = 100_000;
/// Words that are no names of variables.
pub(super) const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Parses an expression.
pub(super) fn parse(source: &str) -> Result<Node, Fault> {
    if source.len() > MAX_SOURCE {
        return Err(Fault::new(0, "expression code point size exceeds limit".to_owned()));
    }
    let mut parser = Parser { tokens: tokens(source)?, next: 0, depth: 0 };
    let node = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(node),
        _ => Err(parser.unexpected()),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

type Parsed = Result<Node, Fault>;

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn at(&self) -> usize {
        self.tokens[self.next].0
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.next += 1;
        }
        token
    }

    fn takes(&mut self, sign: &'static str) -> bool {
        let is_next = *self.peek() == Token::Sign(sign);
        self.next += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Fault> {
        if self.takes(sign) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> Fault {
        let shown = match self.peek() {
            Token::End => "<EOF>".to_owned(),
            Token::Name(name) => name.clone(),
            Token::Sign(sign) => (*sign).to_owned(),
            Token::Int(number) | Token::Uint(number) => number.to_string(),
            Token::Double(number) => number.to_string(),
            Token::Text(text) => format!("{text:?}"),
            Token::Bytes(_) => "bytes".to_owned(),
        };
        Fault::new(self.at(), format!("Syntax error: mismatched input '{shown}'"))
    }

    fn node(at: usize, expr: Expr) -> Parsed {
        let deepest = |nodes: &[&Node]| nodes.iter().map(|node| node.depth).max().unwrap_or(0);
        let depth = 1 + match &expr {
            Expr::Literal(_) | Expr::Ident(_) => 0,
            Expr::Select { of, .. } | Expr::Has { of, .. } | Expr::Made { of, .. } => of.depth,
            Expr::Index { of, index, .. } => deepest(&[of, index]),
            Expr::Junction { all, .. } | Expr::Call { args: all, .. } => {
                all.iter().map(|node| node.depth).max().unwrap_or(0)
            }
            Expr::Conditional(all) => all.iter().map(|node| node.depth).max().unwrap_or(0),
            Expr::List(all) => all.iter().map(|(_, node)| node.depth).max().unwrap_or(0),
            Expr::Map(all) => all.iter().map(|(_, key, value)| deepest(&[key, value])).max().unwrap_or(0),
            Expr::Comprehension(of) => {
                deepest(&[&of.range, &of.body]).max(of.condition.as_ref().map_or(0, |node| node.depth))
            }
            Expr::Bind { value, body, .. } => deepest(&[value, body]),
            Expr::OptMap { of, body, .. } => deepest(&[of, body]),
        };
        if depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        Ok(Node { at, expr, depth })
    }

    fn call(at: usize, name: &str, is_method: bool, args: Vec<Node>) -> Parsed {
        Self::node(at, Expr::Call { name: name.to_owned(), is_method, args })
    }

    fn expression(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep(self.at()));
        }
        let condition = self.junction(false)?;
        let at = self.at();
        let node = if self.takes("?") {
            let then = self.junction(false)?;
            self.expect(":")?;
            let otherwise = self.expression()?;
            Self::node(at, Expr::Conditional(Box::new([condition, then, otherwise])))
        } else {
            Ok(condition)
        };
        self.depth -= 1;
        node
    }

    fn junction(&mut self, is_and: bool) -> Parsed {
        let sign = if is_and { "&&" } else { "||" };
        let below = |parser: &mut Self| if is_and { parser.binary(0) } else { parser.junction(true) };
        let first = below(self)?;
        let at = self.at();
        if *self.peek() != Token::Sign(sign) {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.takes(sign) {
            all.push(below(self)?);
        }
        Self::node(at, Expr::Junction { is_and, all })
    }

    /// The operator that comes next, if it binds at least as tightly as `level`:
    /// relations 0, sums 1, products 2.
    fn operator(&self, level: u8) -> Option<(&'static str, u8)> {
        let (name, binds) = match self.peek() {
            Token::Sign("==") => ("_==_", 0),
            Token::Sign("!=") => ("_!=_", 0),
            Token::Sign("<") => ("_<_", 0),
            Token::Sign("<=") => ("_<=_", 0),
            Token::Sign(">") => ("_>_", 0),
            Token::Sign(">=") => ("_>=_", 0),
            Token::Name(word) if word == "in" => ("@in", 0),
            Token::Sign("+") => ("_+_", 1),
            Token::Sign("-") => ("_-_", 1),
            Token::Sign("*") => ("_*_", 2),
            Token::Sign("/") => ("_/_", 2),
            Token::Sign("%") => ("_%_", 2),
            _ => return None,
        };
        (binds >= level).then_some((name, binds))
    }

    fn binary(&mut self, level: u8) -> Parsed {
        let mut left = self.unary()?;
        while let Some((name, binds)) = self.operator(level) {
            let at = self.at();
            self.next += 1;
            let right = self.binary(binds + 1)?;
            left = Self::call(at, name, false, vec![left, right])?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        let at = self.at();
        let name = match self.peek() {
            Token::Sign("!") => "!_",
            Token::Sign("-") => "-_",
            _ => return self.member(),
        };
        self.next += 1;
        if name == "-_" {
            let literal = match self.peek() {
                Token::Int(number) => Some(Value::Int(negative(*number, at)?)),
                Token::Double(number) => Some(Value::Double(-number)),
                _ => None,
            };
            if let Some(literal) = literal {
                self.next += 1;
                let node = Self::node(at, Expr::Literal(literal))?;
                return self.members(node);
            }
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        let of = self.unary()?;
        self.depth -= 1;
        Self::call(at, name, false, vec![of])
    }

    fn member(&mut self) -> Parsed {
        let node = self.primary()?;
        self.members(node)
    }

    fn members(&mut self, mut node: Node) -> Parsed {
        loop {
            let at = self.at();
            if self.takes(".") {
                let is_optional = self.takes("?");
                let field = self.name()?;
                let open = self.at();
                node = if !is_optional && self.takes("(") {
                    let args = self.list_until(")")?;
                    method(open, node, &field, args)?
                } else {
                    Self::node(at, Expr::Select { of: Box::new(node), field, is_optional })?
                };
            } else if self.takes("[") {
                let is_optional = self.takes("?");
                let index = Box::new(self.expression()?);
                self.expect("]")?;
                node = Self::node(at, Expr::Index { of: Box::new(node), index, is_optional })?;
            } else if *self.peek() == Token::Sign("{")
                && let Some(name) = path_of(&node)
            {
                self.next += 1;
                let of = Box::new(self.fields(at)?);
                node = Self::node(node.at, Expr::Made { name, of })?;
            } else {
                return Ok(node);
            }
        }
    }

    fn name(&mut self) -> Result<String, Fault> {
        match self.peek() {
            Token::Name(name) => {
                let name = name.clone();
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn list_until(&mut self, end: &'static str) -> Result<Vec<Node>, Fault> {
        let mut found = Vec::new();
        while !self.takes(end) {
            found.push(self.expression()?);
            if !self.takes(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(found)
    }

    fn primary(&mut self) -> Parsed {
        let (at, first) = (self.at(), self.next);
        let literal = match self.take() {
            Token::Int(number) => Value::Int(
                i64::try_from(number).map_err(|_| Fault::new(at, "invalid int literal".to_owned()))?,
            ),
            Token::Uint(number) => Value::Uint(number),
            Token::Double(number) => Value::Double(number),
            Token::Text(text) => Value::text(&text),
            Token::Bytes(bytes) => Value::Bytes(bytes.into()),
            Token::Name(name) => return self.named(at, &name),
            Token::Sign("(") => {
                let node = self.expression()?;
                self.expect(")")?;
                return Ok(node);
            }
            Token::Sign("[") => return self.list(at),
            Token::Sign("{") => return self.map(at),
            // A name from the root; there are no other containers.
            Token::Sign(".") => {
                let name = self.name()?;
                return self.named(at, &name);
            }
            Token::Sign(_) | Token::End => {
                self.next = first;
                return Err(self.unexpected());
            }
        };
        Self::node(at, Expr::Literal(literal))
    }

    fn named(&mut self, at: usize, name: &str) -> Parsed {
        let literal = match name {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            "null" => Some(Value::Null),
            _ => None,
        };
        if let Some(literal) = literal {
            return Self::node(at, Expr::Literal(literal));
        }
        if RESERVED.contains(&name) {
            return Err(Fault::new(at, format!("reserved identifier: {name}")));
        }
        let open = self.at();
        if !self.takes("(") {
            return Self::node(at, Expr::Ident(name.to_owned()));
        }
        let mut args = self.list_until(")")?;
        if name == "has" && args.len() == 1 {
            return match args.remove(0).expr {
                Expr::Select { of, field, is_optional: false } => Self::node(open, Expr::Has { of, field }),
                _ => Err(Fault::new(open, "invalid argument to has() macro".to_owned())),
            };
        }
        Self::call(open, name, false, args)
    }

    fn list(&mut self, at: usize) -> Parsed {
        let mut items = Vec::new();
        while !self.takes("]") {
            let is_optional = self.takes("?");
            items.push((is_optional, self.expression()?));
            if !self.takes(",") {
                self.expect("]")?;
                break;
            }
        }
        Self::node(at, Expr::List(items))
    }

    /// The fields of a literal of a type, as the map that they are.
    fn fields(&mut self, at: usize) -> Parsed {
        let mut entries = Vec::new();
        while !self.takes("}") {
            let is_optional = self.takes("?");
            let at = self.at();
            let name = Self::node(at, Expr::Literal(Value::text(&self.name()?)))?;
            self.expect(":")?;
            entries.push((is_optional, name, self.expression()?));
            if !self.takes(",") {
                self.expect("}")?;
                break;
            }
        }
        Self::node(at, Expr::Map(entries))
    }

    fn map(&mut self, at: usize) -> Parsed {
        let mut entries = Vec::new();
        while !self.takes("}") {
            let is_optional = self.takes("?");
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((is_optional, key, self.expression()?));
            if !self.takes(",") {
                self.expect("}")?;
                break;
            }
        }
        Self::node(at, Expr::Map(entries))
    }
}

/// The name that an expression such as `a.b` is.
fn path_of(node: &Node) -> Option<String> {
    match &node.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select { of, field, is_optional: false } => Some(format!("{}.{field}", path_of(of)?)),
        _ => None,
    }
}

fn too_deep(at: usize) -> Fault {
    Fault::new(at, "expression recursion limit exceeded".to_owned())
}

/// The number below zero: the least one has no counterpart above.
fn negative(number: u64, at: usize) -> Result<i64, Fault> {
    0_i64.checked_sub_unsigned(number).ok_or_else(|| Fault::new(at, "invalid int literal".to_owned()))
}

/// A method call, or the macro that looks like one.
fn method(at: usize, of: Node, name: &str, mut args: Vec<Node>) -> Parsed {
    if let Expr::Ident(space) = &of.expr {
        if space == "cel" && name == "bind" && args.len() == 3 {
            let body = Box::new(args.remove(2));
            let value = Box::new(args.remove(1));
            return Parser::node(at, Expr::Bind { name: variable(&args[0])?, value, body });
        }
        // Functions in a name space are no methods.
        let full = format!("{space}.{name}");
        if super::signatures::is_global(&full) {
            return Parser::call(at, &full, false, args);
        }
    }
    if matches!(name, "optMap" | "optFlatMap") && args.len() == 2 {
        let body = Box::new(args.remove(1));
        let name_of = variable(&args[0])?;
        let is_flat = name == "optFlatMap";
        return Parser::node(at, Expr::OptMap { of: Box::new(of), name: name_of, body, is_flat });
    }
    // How many names, and whether a condition comes before the body.
    let (gives, names, has_condition) = match (name, args.len()) {
        ("all", 2) => (Gives::All, 1, false),
        ("exists", 2) => (Gives::Exists, 1, false),
        ("exists_one" | "existsOne", 2) => (Gives::ExistsOne, 1, false),
        ("map", 2) => (Gives::List, 1, false),
        ("map", 3) => (Gives::List, 1, true),
        ("filter", 2) => (Gives::Filtered, 1, false),
        ("all", 3) => (Gives::All, 2, false),
        ("exists", 3) => (Gives::Exists, 2, false),
        ("exists_one" | "existsOne", 3) => (Gives::ExistsOne, 2, false),
        ("transformList", 3) => (Gives::List, 2, false),
        ("transformList", 4) => (Gives::List, 2, true),
        ("transformMap", 3) => (Gives::Map, 2, false),
        ("transformMap", 4) => (Gives::Map, 2, true),
        ("transformMapEntry", 3) => (Gives::MapEntry, 2, false),
        ("transformMapEntry", 4) => (Gives::MapEntry, 2, true),
        _ => {
            args.insert(0, of);
            return Parser::call(at, name, true, args);
        }
    };
    let names = args.drain(..names).map(|node| variable(&node)).collect::<Result<Vec<_>, _>>()?;
    let condition = has_condition.then(|| args.remove(0));
    let body = args.remove(0);
    Parser::node(
        at,
        Expr::Comprehension(Box::new(Comprehension { gives, range: of, names, condition, body })),
    )
}

fn variable(node: &Node) -> Result<String, Fault> {
    match &node.expr {
        Expr::Ident(name) => Ok(name.clone()),
        _ => Err(Fault::new(node.at, "argument must be a simple name".to_owned())),
    }
}
