//! Functions of texts. Places are counted in characters.

use crate::cel::Error;
use crate::cel::eval::{Outcome, Run, failed};
use crate::cel::value::Value;

pub(super) fn call(run: &Run<'_>, name: &str, args: &[Value]) -> Option<Outcome> {
    if !matches!(args.first(), Some(Value::Text(_) | Value::Bytes(_))) {
        return None;
    }
    ask(run, name, args).or_else(|| change(run, name, args)).or_else(|| find(run, name, args))
}

fn count(number: usize) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn ask(run: &Run<'_>, name: &str, args: &[Value]) -> Option<Outcome> {
    Some(Ok(match (name, args) {
        ("size", [Value::Text(text)]) => count(text.chars().count()),
        ("size", [Value::Bytes(bytes)]) => count(bytes.len()),
        ("contains", [Value::Text(text), Value::Text(part)]) => Value::Bool(text.contains(&**part)),
        ("startsWith", [Value::Text(text), Value::Text(part)]) => Value::Bool(text.starts_with(&**part)),
        ("endsWith", [Value::Text(text), Value::Text(part)]) => Value::Bool(text.ends_with(&**part)),
        ("matches", [Value::Text(text), Value::Text(pattern)]) => {
            let weight = (text.len() as u64 / 10 + 1).saturating_mul(pattern.len() as u64 / 4 + 1);
            let found = run.charge(weight).and_then(|()| run.regex(pattern));
            return Some(found.map(|regex| Value::Bool(regex.is_match(text))));
        }
        ("_+_", [Value::Text(one), Value::Text(other)]) => Value::text(&format!("{one}{other}")),
        ("_+_", [Value::Bytes(one), Value::Bytes(other)]) => {
            Value::Bytes(one.iter().chain(other.iter()).copied().collect())
        }
        ("lowerAscii", [Value::Text(text)]) => Value::text(&text.to_ascii_lowercase()),
        ("upperAscii", [Value::Text(text)]) => Value::text(&text.to_ascii_uppercase()),
        ("trim", [Value::Text(text)]) => Value::text(text.trim()),
        ("reverse", [Value::Text(text)]) => Value::text(&text.chars().rev().collect::<String>()),
        ("jsonpatch.escapeKey", [Value::Text(text)]) => {
            Value::text(&text.replace('~', "~0").replace('/', "~1"))
        }
        ("strings.quote", [Value::Text(text)]) => Value::text(&format!("{text:?}")),
        _ => return None,
    }))
}

/// The byte at which a character starts; the end of the text is a place too.
fn byte_at(text: &str, place: i64) -> Result<usize, Error> {
    let wanted = usize::try_from(place).ok();
    let mut starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    let found = wanted.and_then(|wanted| starts.nth(wanted));
    found.ok_or_else(|| Error::Failed(format!("index out of range: {place}")))
}

fn change(run: &Run<'_>, name: &str, args: &[Value]) -> Option<Outcome> {
    Some(match (name, args) {
        ("charAt", [Value::Text(text), Value::Int(place)]) => byte_at(text, *place).map(|at| {
            let end = text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
            Value::text(&text[at..end])
        }),
        ("substring", [Value::Text(text), Value::Int(start)]) => {
            byte_at(text, *start).map(|at| Value::text(&text[at..]))
        }
        ("substring", [Value::Text(_), Value::Int(start), Value::Int(end)]) if start > end => {
            failed(format!("invalid substring range. start: {start}, end: {end}"))
        }
        ("substring", [Value::Text(text), Value::Int(start), Value::Int(end)]) => {
            byte_at(text, *start).and_then(|start| Ok(Value::text(&text[start..byte_at(text, *end)?])))
        }
        ("replace", [Value::Text(text), Value::Text(from), Value::Text(to)]) => {
            replace(run, text, (from, to), -1)
        }
        ("replace", [Value::Text(text), Value::Text(from), Value::Text(to), Value::Int(most)]) => {
            replace(run, text, (from, to), *most)
        }
        ("split", [Value::Text(text), Value::Text(by)]) => split(run, text, by, -1),
        ("split", [Value::Text(text), Value::Text(by), Value::Int(most)]) => split(run, text, by, *most),
        ("format", [Value::Text(text), Value::List(values)]) => super::format::format(run, text, values),
        _ => return None,
    })
}

fn replace(run: &Run<'_>, text: &str, change: (&str, &str), most: i64) -> Outcome {
    let (from, to) = change;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let places = if from.is_empty() { text.chars().count() + 1 } else { text.matches(from).count() };
    run.charge_text(places.min(most).saturating_mul(to.len()))?;
    Ok(Value::text(&text.replacen(from, to, most)))
}

fn split(run: &Run<'_>, text: &str, by: &str, most: i64) -> Outcome {
    run.charge(text.len() as u64)?;
    let parts: Vec<Value> = match (usize::try_from(most), by) {
        (Ok(0), _) => Vec::new(),
        (Ok(1), _) => vec![Value::text(text)],
        (most, "") => {
            // Between all characters, the rest in the last.
            let most = most.unwrap_or(usize::MAX);
            let mut starts: Vec<usize> = text.char_indices().map(|(at, _)| at).take(most).collect();
            starts.push(text.len());
            starts.windows(2).map(|pair| Value::text(&text[pair[0]..pair[1]])).collect()
        }
        (Ok(most), by) => text.splitn(most, by).map(Value::text).collect(),
        (Err(_), by) => text.split(by).map(Value::text).collect(),
    };
    Ok(Value::list(parts))
}

fn find(run: &Run<'_>, name: &str, args: &[Value]) -> Option<Outcome> {
    Some(match (name, args) {
        ("indexOf" | "lastIndexOf", [Value::Text(text), Value::Text(part)]) => {
            let found = if name == "indexOf" { text.find(&**part) } else { text.rfind(&**part) };
            Ok(found.map_or(Value::Int(-1), |at| count(text[..at].chars().count())))
        }
        ("indexOf", [Value::Text(text), Value::Text(part), Value::Int(from)]) => {
            byte_at(text, *from).map(|from| {
                let found = text[from..].find(&**part).map(|at| from + at);
                found.map_or(Value::Int(-1), |at| count(text[..at].chars().count()))
            })
        }
        ("lastIndexOf", [Value::Text(text), Value::Text(part), Value::Int(from)]) => byte_at(text, *from)
            .map(|from| {
                let last = text.match_indices(&**part).map(|(at, _)| at).take_while(|at| *at <= from).last();
                last.map_or(Value::Int(-1), |at| count(text[..at].chars().count()))
            }),
        ("find", [Value::Text(text), Value::Text(pattern)]) => {
            matches(run, text, pattern, 1).map(|mut found| found.pop().unwrap_or_else(|| Value::text("")))
        }
        ("findAll", [Value::Text(text), Value::Text(pattern)]) => {
            matches(run, text, pattern, usize::MAX).map(Value::list)
        }
        ("findAll", [Value::Text(text), Value::Text(pattern), Value::Int(most)]) => {
            matches(run, text, pattern, usize::try_from(*most).unwrap_or(usize::MAX)).map(Value::list)
        }
        _ => return None,
    })
}

fn matches(run: &Run<'_>, text: &str, pattern: &str, most: usize) -> Result<Vec<Value>, Error> {
    run.charge((text.len() as u64 + 1).saturating_mul(pattern.len() as u64 / 4 + 1))?;
    let regex = run.regex(pattern)?;
    Ok(regex.find_iter(text).take(most).map(|found| Value::text(found.as_str())).collect())
}
