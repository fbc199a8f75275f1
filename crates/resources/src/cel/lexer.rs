//! Source text to tokens.

use super::Fault;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Int(u64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Name(String),
    Sign(&'static str),
    End,
}

/// Longer ones first.
const SIGNS: [&str; 25] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")",
    "[", "]", "{", "}", "=",
];

/// The tokens of a source, each with the byte at which it starts; the last is
/// [`Token::End`].
pub(super) fn tokens(source: &str) -> Result<Vec<(usize, Token)>, Fault> {
    let mut lexer = Lexer { source, at: 0 };
    let mut found = Vec::new();
    loop {
        lexer.skip_blanks();
        let start = lexer.at;
        let token = lexer.next()?;
        let is_end = token == Token::End;
        found.push((start, token));
        if is_end {
            return Ok(found);
        }
    }
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
            let mut skipped = rest.len() - trimmed.len();
            if trimmed.starts_with("//") {
                skipped += trimmed.find('\n').unwrap_or(trimmed.len());
            }
            if skipped == 0 {
                return;
            }
            self.at += skipped;
        }
    }

    fn next(&mut self) -> Result<Token, Fault> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        if let Some(text) = self.text()? {
            return Ok(text);
        }
        let second = rest[first.len_utf8()..].chars().next();
        if first.is_ascii_digit() || first == '.' && second.is_some_and(|c| c.is_ascii_digit()) {
            return self.number();
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let name = rest[..end].to_owned();
            self.at += end;
            return Ok(Token::Name(name));
        }
        if first == '`' {
            let end = rest[1..].find('`').ok_or_else(|| self.fault("a quoted name does not end"))?;
            let name = rest[1..=end].to_owned();
            self.at += end + 2;
            return Ok(Token::Name(name));
        }
        match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => {
                self.at += sign.len();
                Ok(Token::Sign(sign))
            }
            None => Err(self.fault(&format!("token recognition error at: '{first}'"))),
        }
    }

    fn fault(&self, what: &str) -> Fault {
        Fault::new(self.at, format!("Syntax error: {what}"))
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let rest = self.rest();
        if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
            let end = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
            let number =
                u64::from_str_radix(&hex[..end], 16).map_err(|_| self.fault("invalid int literal"))?;
            let is_unsigned = hex[end..].starts_with(['u', 'U']);
            self.at += 2 + end + usize::from(is_unsigned);
            return Ok(if is_unsigned { Token::Uint(number) } else { Token::Int(number) });
        }
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let mut end = digits(rest);
        let mut is_double = false;
        // `1.size()` would be a method of a number: a fraction needs a digit.
        if rest[end..].starts_with('.') && rest[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            is_double = true;
            end += 1 + digits(&rest[end + 1..]);
        }
        if rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
            let exponent = digits(&rest[end + 1 + sign..]);
            if exponent > 0 {
                is_double = true;
                end += 1 + sign + exponent;
            }
        }
        let text = &rest[..end];
        if is_double {
            let number = text.parse().map_err(|_| self.fault("invalid double literal"))?;
            self.at += end;
            return Ok(Token::Double(number));
        }
        let number = text.parse().map_err(|_| self.fault("invalid int literal"))?;
        let is_unsigned = rest[end..].starts_with(['u', 'U']);
        self.at += end + usize::from(is_unsigned);
        Ok(if is_unsigned { Token::Uint(number) } else { Token::Int(number) })
    }

    /// A string or bytes, where one starts here.
    fn text(&mut self) -> Result<Option<Token>, Fault> {
        let rest = self.rest();
        // At most two letters come before: looking further would be quadratic.
        let prefix = rest.bytes().take(3).position(|byte| matches!(byte, b'"' | b'\''));
        let Some(prefix) = prefix else { return Ok(None) };
        let letters = rest[..prefix].to_ascii_lowercase();
        let (is_raw, is_bytes) = match letters.as_str() {
            "" => (false, false),
            "r" => (true, false),
            "b" => (false, true),
            "rb" | "br" => (true, true),
            _ => return Ok(None),
        };
        let body = &rest[prefix..];
        let quote = &body[..1];
        let triple = quote.repeat(3);
        let quote = if body.starts_with(&triple) { triple.as_str() } else { quote };
        let inner = &body[quote.len()..];
        let mut end = 0;
        loop {
            let left = &inner[end..];
            if left.starts_with(quote) {
                break;
            }
            let Some(next) = left.chars().next() else {
                return Err(self.fault("a string does not end"));
            };
            if quote.len() == 1 && matches!(next, '\n' | '\r') {
                return Err(self.fault("a string does not end on its line"));
            }
            end += next.len_utf8();
            if next == '\\' && !is_raw {
                end += inner[end..].chars().next().map_or(0, char::len_utf8);
            }
        }
        let content = &inner[..end];
        let token = if is_raw {
            if is_bytes { Token::Bytes(content.into()) } else { Token::Text(content.to_owned()) }
        } else {
            let bytes = unescape(content, is_bytes).map_err(|what| self.fault(&what))?;
            if is_bytes {
                Token::Bytes(bytes)
            } else {
                Token::Text(String::from_utf8(bytes).map_err(|_| self.fault("invalid UTF-8"))?)
            }
        };
        self.at += prefix + 2 * quote.len() + end;
        Ok(Some(token))
    }
}

fn unescape(text: &str, is_bytes: bool) -> Result<Vec<u8>, String> {
    let mut made = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    let push = |c: char, made: &mut Vec<u8>| {
        let mut buffer = [0; 4];
        made.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
    };
    while let Some(c) = chars.next() {
        if c != '\\' {
            push(c, &mut made);
            continue;
        }
        let code = chars.next().ok_or("an escape does not end")?;
        let plain = match code {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' | '\'' | '"' | '`' | '?' => code,
            'x' | 'X' | 'u' | 'U' | '0'..='3' => {
                let (digits, radix, mut number) = match code {
                    'x' | 'X' => (2, 16, 0),
                    'u' => (4, 16, 0),
                    'U' => (8, 16, 0),
                    digit => (2, 8, digit.to_digit(8).unwrap_or_default()),
                };
                for _ in 0..digits {
                    let digit = chars.next().and_then(|c| c.to_digit(radix));
                    let digit = digit.ok_or("an escape is not a number")?;
                    number = number.wrapping_mul(radix).wrapping_add(digit);
                }
                if is_bytes && !matches!(code, 'u' | 'U') {
                    made.push(u8::try_from(number).map_err(|_| "an escape is no byte")?);
                    continue;
                }
                char::from_u32(number).ok_or("an escape is no character")?
            }
            other => return Err(format!("unable to unescape \\{other}")),
        };
        push(plain, &mut made);
    }
    Ok(made)
}
