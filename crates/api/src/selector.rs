//! Label and field selectors: parsing and matching, following
//! `k8s.io/apimachinery/pkg/labels` and `.../fields`.

use std::fmt;

use serde_json::Value;

/// A selector text that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

/// Where labels are looked up: implemented by whatever holds them.
pub trait Labels {
    /// The label's value.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for serde_json::Map<String, Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

impl Labels for std::collections::BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl<L: Labels> Labels for Option<L> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref()?.label(key)
    }
}

impl<L: Labels + ?Sized> Labels for &L {
    fn label(&self, key: &str) -> Option<&str> {
        (**self).label(key)
    }
}

/// What one requirement asks of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// One of these values.
    In(Vec<String>),
    /// None of these values; a missing label passes.
    NotIn(Vec<String>),
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// An integer greater than this.
    Greater(i64),
    /// An integer less than this.
    Less(i64),
}

/// A test of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What is asked of it.
    pub test: Test,
}

impl Requirement {
    fn matches(&self, labels: &impl Labels) -> bool {
        let value = labels.label(&self.key);
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::Greater(than) => number().is_some_and(|value| value > *than),
            Test::Less(than) => number().is_some_and(|value| value < *than),
        }
    }
}

/// Requirements that must all hold; none means everything matches, unless the
/// selector is [`LabelSelector::nothing`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Matches everything.
    #[must_use]
    pub const fn everything() -> Self {
        Self { requirements: Vec::new(), nothing: false }
    }

    /// Matches nothing.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Matches what passes all tests.
    #[must_use]
    pub const fn of(requirements: Vec<Requirement>) -> Self {
        Self { requirements, nothing: false }
    }

    /// Whether it matches everything.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// A selector of equal labels, as services and replication controllers have.
    pub fn from_map<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let requirements = labels
            .into_iter()
            .map(|(key, value)| Requirement { key: key.clone(), test: Test::In(vec![value.clone()]) })
            .collect();
        Self { requirements, nothing: false }
    }

    /// A selector from its requirements.
    #[must_use]
    pub const fn from_requirements(requirements: Vec<Requirement>) -> Self {
        Self { requirements, nothing: false }
    }

    /// The selector of an API object. `None` matches nothing, as upstream has it.
    ///
    /// # Errors
    /// An unknown operator, or values where none belong.
    pub fn from_api(selector: Option<&crate::metav1::LabelSelector>) -> Result<Self, SelectorError> {
        let Some(selector) = selector else { return Ok(Self::nothing()) };
        let mut all = Self::from_map(selector.match_labels.iter().flatten());
        for expression in selector.match_expressions.iter().flatten() {
            let values = expression.values.clone().unwrap_or_default();
            let test = match (expression.operator.as_str(), values.is_empty()) {
                ("In", false) => Test::In(values),
                ("NotIn", false) => Test::NotIn(values),
                ("Exists", true) => Test::Exists,
                ("DoesNotExist", true) => Test::DoesNotExist,
                ("In" | "NotIn", true) => {
                    return Err(SelectorError(
                        "for 'in', 'notin' operators, values set can't be empty".to_owned(),
                    ));
                }
                ("Exists" | "DoesNotExist", false) => {
                    return Err(SelectorError(
                        "values set must be empty for exists and does not exist".to_owned(),
                    ));
                }
                (other, _) => {
                    return Err(SelectorError(format!("{other:?} is not a valid label selector operator")));
                }
            };
            all.requirements.push(Requirement { key: expression.key.clone(), test });
        }
        Ok(all)
    }

    /// Reads the query syntax: `app=web,tier in (a,b),!canary`.
    ///
    /// # Errors
    /// What was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { tokens: tokens(text), at: 0 };
        let mut requirements = Vec::new();
        if parser.peek() == &Token::End {
            return Ok(Self::everything());
        }
        loop {
            requirements.push(parser.requirement()?);
            match parser.next() {
                Token::End => return Ok(Self { requirements, nothing: false }),
                Token::Comma if parser.peek().is_requirement_start() => {}
                Token::Comma => {
                    return Err(SelectorError(format!(
                        "found '{}', expected: identifier after ','",
                        parser.peek()
                    )));
                }
                other => {
                    return Err(SelectorError(format!("found '{other}', expected: ',' or 'end of string'")));
                }
            }
        }
    }

    /// Whether the labels meet every requirement.
    pub fn matches(&self, labels: &impl Labels) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(labels))
    }

    /// The requirements.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Requirement { key, test }) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match test {
                Test::In(values) if values.len() == 1 => write!(f, "{key}={}", values[0])?,
                Test::In(values) => write!(f, "{key} in ({})", values.join(","))?,
                Test::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", values[0])?,
                Test::NotIn(values) => write!(f, "{key} notin ({})", values.join(","))?,
                Test::Exists => f.write_str(key)?,
                Test::DoesNotExist => write!(f, "!{key}")?,
                Test::Greater(than) => write!(f, "{key}>{than}")?,
                Test::Less(than) => write!(f, "{key}<{than}")?,
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Comma,
    Open,
    Close,
    Equals,
    NotEquals,
    Not,
    Greater,
    Less,
    End,
}

impl Token {
    const fn is_requirement_start(&self) -> bool {
        matches!(self, Self::Word(_) | Self::Not)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Word(word) => word,
            Self::Comma => ",",
            Self::Open => "(",
            Self::Close => ")",
            Self::Equals => "=",
            Self::NotEquals => "!=",
            Self::Not => "!",
            Self::Greater => ">",
            Self::Less => "<",
            Self::End => "",
        })
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            ',' => (Token::Comma, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '>' => (Token::Greater, 1),
            '<' => (Token::Less, 1),
            '!' if rest.starts_with("!=") => (Token::NotEquals, 2),
            '!' => (Token::Not, 1),
            '=' if rest.starts_with("==") => (Token::Equals, 2),
            '=' => (Token::Equals, 1),
            _ => {
                let end =
                    rest.find(|c: char| c.is_whitespace() || ",()!=<>".contains(c)).unwrap_or(rest.len());
                (Token::Word(rest[..end].to_owned()), end)
            }
        };
        found.push(token);
        rest = rest[length..].trim_start();
    }
    found.push(Token::End);
    found
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.peek() == &Token::Not;
        if absent {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => return Err(SelectorError(format!("found '{other}', expected: identifier"))),
        };
        check_key(&key)?;
        if absent {
            return Ok(Requirement { key, test: Test::DoesNotExist });
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(Requirement { key, test: Test::Exists });
        }
        let test = match self.next() {
            Token::Equals => Test::In(vec![self.value()?]),
            Token::NotEquals => Test::NotIn(vec![self.value()?]),
            Token::Greater => Test::Greater(self.number(&key)?),
            Token::Less => Test::Less(self.number(&key)?),
            Token::Word(word) if word == "in" => Test::In(self.values()?),
            Token::Word(word) if word == "notin" => Test::NotIn(self.values()?),
            other => {
                return Err(SelectorError(format!(
                    "found '{other}', expected: in, notin, =, ==, !=, gt, lt"
                )));
            }
        };
        Ok(Requirement { key, test })
    }

    fn value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            Token::End | Token::Comma => Ok(String::new()),
            Token::Word(word) => {
                let word = word.clone();
                self.next();
                check_value(&word)?;
                Ok(word)
            }
            other => Err(SelectorError(format!("found '{other}', expected: identifier"))),
        }
    }

    fn number(&mut self, key: &str) -> Result<i64, SelectorError> {
        let text = self.value()?;
        text.parse().map_err(|_| {
            SelectorError(format!("values[0][{key}]: Invalid value: {text:?}: for 'Gt', 'Lt' operators, the value must be an integer"))
        })
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        match self.next() {
            Token::Open => {}
            other => return Err(SelectorError(format!("found '{other}' expected: '('"))),
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                Token::Word(word) => {
                    check_value(&word)?;
                    values.push(word);
                    match self.next() {
                        Token::Comma => {
                            if self.peek() == &Token::Close {
                                values.push(String::new());
                            }
                        }
                        Token::Close => break,
                        other => return Err(SelectorError(format!("found '{other}', expected: ',' or ')'"))),
                    }
                }
                Token::Comma => values.push(String::new()),
                Token::Close => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    break;
                }
                other => {
                    return Err(SelectorError(format!("found '{other}', expected: ',', ')' or identifier")));
                }
            }
        }
        values.sort();
        values.dedup();
        Ok(values)
    }
}

fn check_key(key: &str) -> Result<(), SelectorError> {
    let name = match key.split_once('/') {
        Some((prefix, name)) if !prefix.is_empty() => name,
        Some(_) => "",
        None => key,
    };
    if is_label_text(name) && !name.is_empty() {
        Ok(())
    } else {
        Err(SelectorError(format!(
            "key: Invalid value: {key:?}: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        )))
    }
}

fn check_value(value: &str) -> Result<(), SelectorError> {
    if is_label_text(value) {
        Ok(())
    } else {
        Err(SelectorError(format!(
            "values[0]: Invalid value: {value:?}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
        )))
    }
}

/// Label values, and the name part of label keys: at most 63 of `[-A-Za-z0-9_.]`,
/// alphanumeric at both ends; may be empty.
#[must_use]
pub fn is_label_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric)
}

/// Terms that must all hold over an object's selectable fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

/// One term: a field that has, or has not, a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// The field's path: `metadata.name`.
    pub field: String,
    /// Whether the values must be equal, or must differ.
    pub equal: bool,
    /// The value.
    pub value: String,
}

impl FieldSelector {
    /// Matches where all terms hold.
    #[must_use]
    pub const fn of(terms: Vec<FieldTerm>) -> Self {
        Self { terms }
    }

    /// The same selector over other names.
    #[must_use]
    pub fn renamed<'s>(&'s self, name: impl Fn(&'s str) -> std::borrow::Cow<'s, str>) -> Self {
        let term = |term: &'s FieldTerm| FieldTerm { field: name(&term.field).into_owned(), ..term.clone() };
        Self { terms: self.terms.iter().map(term).collect() }
    }

    /// Reads `a=b,c!=d`; `\`, `,` and `=` in values are escaped with `\`.
    ///
    /// # Errors
    /// A term without an operator, or a wrong escape.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for part in split_terms(text) {
            if part.is_empty() {
                continue;
            }
            let (field, equal, value) = if let Some((field, value)) = part.split_once("!=") {
                (field, false, value)
            } else if let Some((field, value)) = part.split_once("==") {
                (field, true, value)
            } else if let Some((field, value)) = part.split_once('=') {
                (field, true, value)
            } else {
                return Err(SelectorError(format!("invalid selector: '{text}'; can't understand '{part}'")));
            };
            terms.push(FieldTerm { field: field.trim().to_owned(), equal, value: unescape(value)? });
        }
        Ok(Self { terms })
    }

    /// The terms.
    #[must_use]
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// Whether it matches everything.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether every term holds; a field that is not there is empty.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|term| (field(&term.field).unwrap_or_default() == term.value) == term.equal)
    }

    /// The value that a field must equal, if a term says so.
    #[must_use]
    pub fn required(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: \\{other}"
                    )));
                }
            },
            '=' => {
                return Err(SelectorError("invalid field selector: unescaped character in value: =".into()));
            }
            plain => out.push(plain),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn labels() -> BTreeMap<String, String> {
        [("app", "web"), ("tier", "front"), ("n", "5")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn label_selectors_match() {
        let table = [
            ("", true),
            ("app=web", true),
            ("app==web,tier!=back", true),
            ("app in (web, api),!canary", true),
            ("app notin (web)", false),
            ("missing notin (web)", true),
            ("missing!=x", true),
            ("tier", true),
            ("missing", false),
            ("n>4,n<6", true),
            ("n>5", false),
            ("app=", false),
        ];
        for (text, matches) in table {
            let selector = LabelSelector::parse(text).expect(text);
            assert_eq!(selector.matches(&labels()), matches, "{text}");
            assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector), "{text}");
        }
    }

    #[test]
    fn bad_label_selectors() {
        for text in ["=web", "app in web", "app in (a", "a,", "a b", "!", "n>x", "-a=b", "a=b c"] {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_selector_matches_nothing_and_an_empty_one_everything() {
        assert!(!LabelSelector::from_api(None).expect("valid").matches(&labels()));
        let empty = crate::metav1::LabelSelector::default();
        assert!(LabelSelector::from_api(Some(&empty)).expect("valid").matches(&labels()));
    }

    #[test]
    fn field_selectors_match() {
        let field = |name: &str| (name == "metadata.name").then_some("a,b");
        for (text, matches) in [
            (r"metadata.name=a\,b", true),
            (r"metadata.name!=a\,b", false),
            ("other=", true),
            ("other!=x", true),
        ] {
            assert_eq!(FieldSelector::parse(text).expect(text).matches(field), matches, "{text}");
        }
        assert!(FieldSelector::parse("metadata.name").is_err());
        assert!(FieldSelector::parse(r"a=\x").is_err());
    }
}
