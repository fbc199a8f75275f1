//! JSON in which a field may be said twice, as clients do by mistake.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How many repeated fields are told.
const MOST: usize = 100;

/// Reads a value; of a field that is said twice, the last word counts. Also gives the
/// paths of such fields, as `spec.containers[0].name`.
///
/// # Errors
/// Bytes that are not JSON.
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), serde_json::Error> {
    let repeated = RefCell::new(Vec::new());
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Part { at: None, repeated: &repeated }.deserialize(&mut reader)?;
    reader.end()?;
    Ok((value, repeated.into_inner()))
}

/// A step on the way from the root.
#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a At<'a>, &'a str),
    Item(&'a At<'a>, usize),
}

type At<'a> = Option<Step<'a>>;

#[derive(Clone, Copy)]
struct Part<'a> {
    at: At<'a>,
    repeated: &'a RefCell<Vec<String>>,
}

fn path(at: &At<'_>) -> String {
    match at {
        None => String::new(),
        Some(Step::Field(None, name)) => (*name).to_owned(),
        Some(Step::Field(above, name)) => format!("{}.{name}", path(above)),
        Some(Step::Item(above, index)) => format!("{}[{index}]", path(above)),
    }
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E: Error>(self, is: bool) -> Result<Value, E> {
        Ok(is.into())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let at = Some(Step::Item(&self.at, list.len()));
            match items.next_element_seed(Part { at, ..self })? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let at = Some(Step::Field(&self.at, &name));
            if map.contains_key(&name) {
                let mut repeated = self.repeated.borrow_mut();
                if repeated.len() < MOST {
                    repeated.push(path(&at));
                }
            }
            let value = entries.next_value_seed(Part { at, ..self })?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn repeated_fields_are_found_and_the_last_one_counts() {
        let text =
            br#"{"a": 1, "b": {"c": [{"d": 1}, {"d": 1, "d": {"e": 1.5}}]}, "a": null, "n": -1, "t": "x"}"#;
        let (value, repeated) = parse(text).expect("JSON");
        assert_eq!(value, json!({"a": null, "b": {"c": [{"d": 1}, {"d": {"e": 1.5}}]}, "n": -1, "t": "x"}));
        assert_eq!(repeated, ["b.c[1].d", "a"]);
        let many = format!("{{{}\"a\": 1}}", "\"a\": 1, ".repeat(1_000));
        assert_eq!(parse(many.as_bytes()).expect("JSON").1.len(), MOST);
        for bad in ["{", "{} {}", "[1,]", &"[".repeat(1_000)] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
