//! From text to nodes.

use std::iter::Peekable;

use serde_json::Value;

use super::eval::FUNCTIONS;
use super::{Node, Pipeline, Term};

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Fields(Vec<String>),
    Variable(String, Vec<String>),
    Word(String),
    Literal(Value),
    Open,
    /// `)`, and the fields behind it.
    Close(Vec<String>),
    Pipe,
    Declare,
    Assign,
    Comma,
}

/// A text, or what is between braces.
enum Piece {
    Text(String),
    Action(Vec<Token>),
}

pub(super) fn nodes(text: &str) -> Result<Vec<Node>, String> {
    let mut pieces = pieces(text)?.into_iter().peekable();
    let (nodes, end) = block(&mut pieces, 0)?;
    match end {
        None => Ok(nodes),
        Some(tokens) => Err(format!("unexpected {}", keyword(&tokens).unwrap_or("action"))),
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some(start) = rest.find("{{") {
        let mut before = &rest[..start];
        if trim {
            before = before.trim_start();
        }
        let mut action = &rest[start + 2..];
        if let Some(trimmed) = action.strip_prefix('-').filter(|rest| rest.starts_with(char::is_whitespace)) {
            before = before.trim_end();
            action = trimmed;
        }
        pieces.push(Piece::Text(before.to_owned()));
        let end = end_of(action)?;
        let mut body = &action[..end];
        rest = &action[end + 2..];
        trim = false;
        if let Some(trimmed) =
            body.strip_suffix('-').filter(|body| body.ends_with(char::is_whitespace) || body.ends_with("*/"))
        {
            body = trimmed;
            trim = true;
        }
        let body = body.trim();
        if !(body.starts_with("/*") && body.ends_with("*/")) {
            pieces.push(Piece::Action(tokens(body)?));
        }
    }
    let last = if trim { rest.trim_start() } else { rest };
    pieces.push(Piece::Text(last.to_owned()));
    Ok(pieces)
}

/// Where an action ends: at braces that are not in a text.
fn end_of(action: &str) -> Result<usize, String> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in action.char_indices() {
        match quote {
            Some('`') if c == '`' => quote = None,
            Some('`') => {}
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if ['"', '`', '\''].contains(&c) => quote = Some(c),
            None if action[at..].starts_with("}}") => return Ok(at),
            None => {}
        }
    }
    Err("unclosed action".into())
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => {
                let (fields, length) = fields(&rest[1..]);
                (Token::Close(fields), length + 1)
            }
            '|' => (Token::Pipe, 1),
            ',' => (Token::Comma, 1),
            ':' if rest.starts_with(":=") => (Token::Declare, 2),
            '=' => (Token::Assign, 1),
            '"' | '`' | '\'' => quoted(rest, first)?,
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => number(rest)?,
            '.' => match fields(rest) {
                (none, 0) => (Token::Fields(none), 1),
                (fields, length) => (Token::Fields(fields), length),
            },
            '$' => {
                let name = word(&rest[1..]);
                let (fields, length) = fields(&rest[1 + name.len()..]);
                (Token::Variable(name.to_owned(), fields), 1 + name.len() + length)
            }
            c if c.is_ascii_digit() || ['-', '+'].contains(&c) => number(rest)?,
            c if c.is_alphabetic() || c == '_' => {
                let word = word(rest);
                let token = match word {
                    "true" => Token::Literal(true.into()),
                    "false" => Token::Literal(false.into()),
                    "nil" => Token::Literal(Value::Null),
                    word => Token::Word(word.to_owned()),
                };
                (token, word.len())
            }
            other => return Err(format!("unexpected {other:?} in command")),
        };
        found.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(found)
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// `.a.b` at the start of a text, and its length.
fn fields(text: &str) -> (Vec<String>, usize) {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(name) = text[at..].strip_prefix('.').map(word).filter(|name| !name.is_empty()) {
        found.push(name.to_owned());
        at += name.len() + 1;
    }
    (found, at)
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || ['.', '-', '+', '_'].contains(&c);
    let end = text.find(|c: char| !is_part(c)).unwrap_or(text.len());
    let value = match text[..end].parse::<i64>() {
        Ok(number) => Some(number.into()),
        Err(_) => text[..end].parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Value::Number),
    };
    value
        .map(|value| (Token::Literal(value), end))
        .ok_or_else(|| format!("bad number syntax: {:?}", &text[..end]))
}

fn quoted(text: &str, quote: char) -> Result<(Token, usize), String> {
    let unclosed = || "unterminated quoted string".to_owned();
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            let value = match quote {
                // A character is its number.
                '\'' => value.chars().next().map(|c| u32::from(c).into()).ok_or_else(unclosed)?,
                _ => Value::String(value),
            };
            return Ok((Token::Literal(value), at + 1));
        }
        if c == '\\' && quote != '`' {
            let (_, escaped) = chars.next().ok_or_else(unclosed)?;
            value.push(match escaped {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '\\' | '"' | '\'' => escaped,
                other => return Err(format!("unknown escape \\{other}")),
            });
        } else {
            value.push(c);
        }
    }
    Err(unclosed())
}

fn keyword(tokens: &[Token]) -> Option<&str> {
    match tokens.first() {
        Some(Token::Word(word)) => Some(word),
        _ => None,
    }
}

type Pieces<I> = Peekable<I>;

/// Nodes up to an `end` or `else`, which is given too.
fn block<I: Iterator<Item = Piece>>(
    pieces: &mut Pieces<I>,
    loops: usize,
) -> Result<(Vec<Node>, Option<Vec<Token>>), String> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let tokens = match piece {
            Piece::Text(text) => {
                if !text.is_empty() {
                    nodes.push(Node::Text(text));
                }
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        match keyword(&tokens) {
            Some("end" | "else") => return Ok((nodes, Some(tokens))),
            Some("if" | "with" | "range") => nodes.push(branch(pieces, &tokens, loops)?),
            Some("break") if tokens.len() == 1 && loops > 0 => nodes.push(Node::Break),
            Some("continue") if tokens.len() == 1 && loops > 0 => nodes.push(Node::Continue),
            Some(word @ ("break" | "continue")) => {
                return Err(format!("{{{{{word}}}}} outside {{{{range}}}}"));
            }
            Some(word @ ("define" | "template" | "block")) => {
                return Err(format!("named templates are not supported: {word}"));
            }
            _ => nodes.push(Node::Print(pipeline(&tokens)?)),
        }
    }
    Ok((nodes, None))
}

fn branch<I: Iterator<Item = Piece>>(
    pieces: &mut Pieces<I>,
    tokens: &[Token],
    loops: usize,
) -> Result<Node, String> {
    let word = keyword(tokens).unwrap_or_default().to_owned();
    let pipe = pipeline(&tokens[1..])?;
    let (body, end) = block(pieces, loops + usize::from(word == "range"))?;
    let end = end.ok_or("unexpected EOF")?;
    let otherwise = match (keyword(&end), end.len()) {
        (Some("end"), 1) => Vec::new(),
        (Some("else"), 1) => match block(pieces, loops)? {
            (nodes, Some(end)) if keyword(&end) == Some("end") => nodes,
            _ => return Err("expected {{end}} after {{else}}".into()),
        },
        // `else if` shares its end with the branch.
        (Some("else"), _) if matches!(keyword(&end[1..]), Some("if" | "with")) => {
            vec![branch(pieces, &end[1..], loops)?]
        }
        _ => return Err("unexpected token in end or else".into()),
    };
    Ok(match word.as_str() {
        "if" => Node::If(pipe, body, otherwise),
        "with" => Node::With(pipe, body, otherwise),
        _ => Node::Range(pipe, body, otherwise),
    })
}

fn pipeline(tokens: &[Token]) -> Result<Pipeline, String> {
    let mut pipe = Pipeline::default();
    let assigned = tokens.iter().position(|token| matches!(token, Token::Declare | Token::Assign));
    let mut rest = tokens;
    if let Some(at) = assigned {
        pipe.declares = tokens[at] == Token::Declare;
        for token in &tokens[..at] {
            match token {
                Token::Variable(name, fields) if fields.is_empty() => pipe.variables.push(name.clone()),
                Token::Comma => {}
                _ => return Err("only variables can be assigned to".into()),
            }
        }
        rest = &tokens[at + 1..];
    }
    let mut tokens = rest.iter();
    commands(&mut tokens, &mut pipe, false)?;
    Ok(pipe)
}

/// Reads commands up to the end, or to the parenthesis that closes a group,
/// whose fields are given.
fn commands<'a>(
    tokens: &mut impl Iterator<Item = &'a Token>,
    pipe: &mut Pipeline,
    in_group: bool,
) -> Result<Vec<String>, String> {
    let mut command = Vec::new();
    let end = loop {
        match tokens.next() {
            None if in_group => return Err("unclosed left paren".into()),
            None => break Vec::new(),
            Some(Token::Close(fields)) if in_group => break fields.clone(),
            Some(Token::Close(_)) => return Err("unexpected right paren".into()),
            Some(Token::Pipe) if command.is_empty() => return Err("missing value for command".into()),
            Some(Token::Pipe) => pipe.commands.push(std::mem::take(&mut command)),
            Some(Token::Open) => {
                let mut inner = Pipeline::default();
                let fields = commands(tokens, &mut inner, true)?;
                command.push(Term::Group(inner, fields));
            }
            Some(Token::Fields(fields)) => command.push(Term::Field(fields.clone())),
            Some(Token::Variable(name, fields)) => command.push(Term::Variable(name.clone(), fields.clone())),
            Some(Token::Literal(value)) => command.push(Term::Literal(value.clone())),
            Some(Token::Word(word)) if FUNCTIONS.contains(&word.as_str()) => {
                command.push(Term::Function(word.clone()));
            }
            Some(Token::Word(word)) => return Err(format!("function {word:?} not defined")),
            Some(Token::Declare | Token::Assign | Token::Comma) => return Err("unexpected operand".into()),
        }
    };
    if command.is_empty() {
        return Err("missing value for command".into());
    }
    pipe.commands.push(command);
    Ok(end)
}
