//! YAML laid out as kubectl writes it: keys sorted, lists not indented under
//! their key, texts quoted only where a YAML 1.1 reader needs it.

use serde_json::Value;

/// One document, with a line break at its end.
pub(crate) fn format(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write(value, 0, &mut out),
        Value::Array(list) if !list.is_empty() => write(value, 0, &mut out),
        other => {
            out.push_str(&scalar(other, 0));
            out.push('\n');
        }
    }
    out
}

fn write(value: &Value, indent: usize, out: &mut String) {
    let margin = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.push_str(&margin);
                out.push_str(&scalar(&Value::String(key.clone()), 0));
                out.push(':');
                below(value, indent, out);
            }
        }
        Value::Array(list) => {
            for item in list {
                match item {
                    Value::Object(map) if !map.is_empty() => first_on_dash(item, indent, out),
                    Value::Array(items) if !items.is_empty() => first_on_dash(item, indent, out),
                    other => {
                        out.push_str(&margin);
                        out.push_str("- ");
                        out.push_str(&scalar(other, indent + 2));
                        out.push('\n');
                    }
                }
            }
        }
        _ => {}
    }
}

/// A map or list in a list: its first line shares the dash's line.
fn first_on_dash(item: &Value, indent: usize, out: &mut String) {
    let start = out.len();
    write(item, indent + 2, out);
    out.replace_range(start + indent..start + indent + 1, "-");
}

fn below(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            write(value, indent + 2, out);
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            write(value, indent, out);
        }
        other => {
            out.push(' ');
            out.push_str(&scalar(other, indent + 2));
            out.push('\n');
        }
    }
}

fn scalar(value: &Value, indent: usize) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Array(_) => "[]".into(),
        Value::Object(_) => "{}".into(),
        Value::String(text) => string(text, indent),
    }
}

fn string(text: &str, indent: usize) -> String {
    let printable = |c: char| c == '\n' || c == '\t' || !c.is_control();
    if text.contains('\n')
        && text.chars().all(printable)
        && !text.starts_with([' ', '\n', '\t'])
        && indent > 0
    {
        return block(text, indent);
    }
    if text.chars().any(char::is_control) {
        return serde_json::to_string(text).unwrap_or_default();
    }
    if is_other_type(text) {
        return format!("\"{text}\"");
    }
    if needs_quotes(text) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    text.to_owned()
}

fn block(text: &str, indent: usize) -> String {
    let margin = " ".repeat(indent);
    let breaks = text.len() - text.trim_end_matches('\n').len();
    let mut out = String::from(match breaks {
        0 => "|-",
        1 => "|",
        _ => "|+",
    });
    let body = if breaks > 0 { &text[..text.len() - 1] } else { text };
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.push_str(&margin);
            out.push_str(line);
        }
    }
    out
}

/// A text that, bare, would be read as something else than a text.
fn is_other_type(text: &str) -> bool {
    const WORDS: [&str; 12] = ["", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "~", "<<"];
    if WORDS.contains(&text.to_ascii_lowercase().as_str()) {
        return true;
    }
    let digits = text.trim_start_matches(['+', '-']).replace('_', "");
    let number_like = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let radix = |prefix: &str, base: u32| {
        digits
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(base)))
    };
    let is_number = number_like
        && (digits.parse::<f64>().is_ok()
            || radix("0x", 16)
            || radix("0o", 8)
            || radix("0b", 2)
            || [".inf", ".nan"].contains(&digits.to_ascii_lowercase().as_str()));
    let sexagesimal = digits.contains(':')
        && digits
            .split(':')
            .all(|part| !part.is_empty() && part.len() <= 2 && part.chars().all(|c| c.is_ascii_digit()));
    is_number || sexagesimal || is_time(text)
}

fn is_time(text: &str) -> bool {
    let shape: String = text.chars().take(10).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00" && (text.len() == 10 || api::time::parse(text).is_some())
}

fn needs_quotes(text: &str) -> bool {
    const FIRST: [char; 18] =
        ['!', '&', '*', '[', ']', '{', '}', ',', '#', '|', '>', '@', '`', '"', '\'', '%', ' ', '='];
    text.starts_with(FIRST)
        || text.starts_with("- ")
        || text.starts_with("? ")
        || text.starts_with(": ")
        || ["-", "?", ":", "---", "..."].contains(&text)
        || text.starts_with("--- ")
        || text.ends_with([' ', ':'])
        || text.contains(": ")
        || text.contains(" #")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_laid_out_as_kubectls() {
        let value = json!({
            "a": {"empty": {}, "list": [], "none": null},
            "items": [{"x": 1, "z": [1, "two"]}, "s", ["n"]],
            "text": "one\ntwo\n",
            "words": ["yes", "12", "v1", "a: b", "", "2026-01-31T10:00:00Z", "*", "1.5", "it's", "#c", "10:30"],
        });
        let expected = "\
a:
  empty: {}
  list: []
  none: null
items:
- x: 1
  z:
  - 1
  - two
- s
- - \"n\"
text: |
  one
  two
words:
- \"yes\"
- \"12\"
- v1
- 'a: b'
- \"\"
- \"2026-01-31T10:00:00Z\"
- '*'
- \"1.5\"
- it's
- '#c'
- \"10:30\"
";
        assert_eq!(format(&value), expected);
    }

    #[test]
    fn what_is_written_reads_back() {
        let value = json!({"a": ["0x1f", "08", "1e3", "null", "a\nb", "\n", "tab\there", "- x", "k:", "x #y", "-", "=", "\u{7}"],
                           "b": {"c d": "|", "e": " lead", "f": "x\n\n", "true": "%d"}});
        assert_eq!(api::yaml::parse(&format(&value)).expect("reads"), value);
    }
}
