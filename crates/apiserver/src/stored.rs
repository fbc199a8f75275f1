//! An object at rest and on its way out: its JSON bytes and a small header,
//! computed once when it was written, so that no read ever decodes.
//!
//! The JSON at rest has no resource version, because that is the revision of
//! the write that stores it. The header says where it belongs, and it is put in
//! once, when the object enters the watch cache.

use std::sync::Arc;

use api::Object;
use api::selector::Labels;
use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::Value;

/// The format of values in the store; another first byte is not ours.
const FORMAT: u8 = 1;
/// The same, of a value that has to be written anew, whatever the next write changes.
const STALE: u8 = 2;

/// A stored value that is not what this module wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stored object {key}: {what}")]
pub struct Corrupt {
    /// The key in the store.
    pub key: String,
    /// What is wrong with its value.
    pub what: &'static str,
}

/// An object as readers get it. Clones share the bytes.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The revision of its last write: its resource version.
    pub revision: u64,
    /// The JSON, with the resource version in it.
    pub json: Bytes,
    /// Where in `json` the resource version's text begins, and its length.
    splice: (u32, u32),
    /// The header's strings.
    header: Bytes,
    names: Names,
    /// Whether the store holds it otherwise than it would be written now.
    is_stale: bool,
}

/// Lengths of namespace and name, which stand first in the header.
#[derive(Clone, Copy, Debug)]
struct Names {
    namespace: (u32, u32),
    name: (u32, u32),
    uid: (u32, u32),
    labels_at: u32,
    fields_at: u32,
}

/// Encodes an object for the store. `fields` are the values of the kind's
/// selectable fields, in the kind's own order.
#[must_use]
pub fn encode(object: &Object, fields: &[(&str, String)]) -> Bytes {
    let mut json = Vec::with_capacity(1024);
    let splice = write_json(object, &mut json);
    let mut header = BytesMut::with_capacity(256);
    put_text(&mut header, object.namespace());
    put_text(&mut header, object.name());
    put_text(&mut header, object.uid());
    let labels = object.labels();
    put_length(&mut header, labels.map_or(0, serde_json::Map::len));
    for (key, value) in labels.into_iter().flatten() {
        put_text(&mut header, key);
        put_text(&mut header, value.as_str().unwrap_or_default());
    }
    put_length(&mut header, fields.len());
    for (name, value) in fields {
        put_text(&mut header, name);
        put_text(&mut header, value);
    }
    let mut value = BytesMut::with_capacity(header.len() + json.len() + 9);
    value.put_u8(FORMAT);
    value.put_u32(splice);
    value.put_u32(u32::try_from(header.len()).unwrap_or(u32::MAX));
    value.extend_from_slice(&header);
    value.extend_from_slice(&json);
    value.freeze()
}

/// Marks a stored value as one to be written anew.
pub(crate) fn mark_stale(value: &mut [u8]) {
    if let Some(first) = value.first_mut().filter(|first| **first == FORMAT) {
        *first = STALE;
    }
}

/// Writes the JSON without the resource version, and says where it belongs.
fn write_json(object: &Object, out: &mut Vec<u8>) -> u32 {
    let mut splice = 0;
    let mut first = true;
    out.push(b'{');
    for (key, value) in object.as_map() {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write_value(out, key);
        out.push(b':');
        match value {
            Value::Object(metadata) if key == "metadata" => {
                out.push(b'{');
                splice = u32::try_from(out.len()).unwrap_or(u32::MAX);
                let mut first = true;
                for (key, value) in metadata.iter().filter(|(key, _)| *key != "resourceVersion") {
                    if !std::mem::take(&mut first) {
                        out.push(b',');
                    }
                    write_value(out, key);
                    out.push(b':');
                    write_value(out, value);
                }
                out.push(b'}');
            }
            other => write_value(out, other),
        }
    }
    out.push(b'}');
    splice
}

fn write_value<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("JSON values always encode into memory");
}

fn put_length(out: &mut BytesMut, length: usize) {
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

fn put_text(out: &mut BytesMut, text: &str) {
    put_length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// The resource version as it stands in JSON, comma included.
fn version_text(revision: u64) -> String {
    format!("\"resourceVersion\":\"{revision}\",")
}

/// Joins JSON and a resource version at the splice point.
fn spliced(before: &[u8], after: &[u8], revision: u64) -> (Bytes, u32) {
    let version = version_text(revision);
    let mut json = BytesMut::with_capacity(before.len() + version.len() + after.len());
    json.extend_from_slice(before);
    json.extend_from_slice(version.as_bytes());
    json.extend_from_slice(after);
    (json.freeze(), u32::try_from(version.len()).unwrap_or(u32::MAX))
}

impl Stored {
    /// Reads a value of the store.
    ///
    /// # Errors
    /// A value that this module did not write.
    pub fn read(key: &[u8], value: &Bytes, revision: u64) -> Result<Arc<Self>, Corrupt> {
        let corrupt = |what| Corrupt { key: String::from_utf8_lossy(key).into_owned(), what };
        if value.len() < 9 || !matches!(value[0], FORMAT | STALE) {
            return Err(corrupt("unknown format"));
        }
        let number = |at: usize| u32::from_be_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]]);
        let (splice, header_length) = (number(1), number(5) as usize);
        if value.len() < 9 + header_length {
            return Err(corrupt("header cut off"));
        }
        let header = value.slice(9..9 + header_length);
        let rest = &value[9 + header_length..];
        let at = splice as usize;
        if at == 0 || at > rest.len() {
            return Err(corrupt("no metadata"));
        }
        let names = Names::read(&header).ok_or_else(|| corrupt("header damaged"))?;
        let (json, length) = spliced(&rest[..at], &rest[at..], revision);
        // The header is copied out so that it does not keep the whole value alive.
        let header = Bytes::copy_from_slice(&header);
        let is_stale = value[0] == STALE;
        Ok(Arc::new(Self { revision, json, splice: (splice, length), header, names, is_stale }))
    }

    /// The same object at another revision: as it was when it was deleted.
    #[must_use]
    pub fn at_revision(&self, revision: u64) -> Arc<Self> {
        let (at, length) = (self.splice.0 as usize, self.splice.1 as usize);
        let (json, new_length) = spliced(&self.json[..at], &self.json[at + length..], revision);
        Arc::new(Self {
            revision,
            json,
            splice: (self.splice.0, new_length),
            header: self.header.clone(),
            names: self.names,
            is_stale: self.is_stale,
        })
    }

    /// The JSON without the resource version, in two parts.
    fn parts(&self) -> (&[u8], &[u8]) {
        let (at, length) = (self.splice.0 as usize, self.splice.1 as usize);
        (&self.json[..at], &self.json[at + length..])
    }

    /// Whether a value about to be written says the same.
    #[must_use]
    pub fn is_same(&self, value: &Bytes) -> bool {
        if self.is_stale {
            return false;
        }
        let Ok(header_length) = value.get(5..9).unwrap_or_default().try_into().map(u32::from_be_bytes) else {
            return false;
        };
        let (before, after) = self.parts();
        let json = value.get(9 + header_length as usize..).unwrap_or_default();
        json.len() == before.len() + after.len() && json.starts_with(before) && json.ends_with(after)
    }

    /// Decodes the object, resource version included.
    ///
    /// # Errors
    /// JSON that the store damaged.
    pub fn object(&self) -> Result<Object, Corrupt> {
        Object::from_slice(&self.json)
            .map_err(|_| Corrupt { key: self.key_text(), what: "JSON cannot be read" })
    }

    fn key_text(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }

    fn text(&self, (at, length): (u32, u32)) -> &str {
        let bytes = self.header.get(at as usize..(at + length) as usize).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// The namespace; empty for cluster-scoped objects.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.text(self.names.namespace)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text(self.names.name)
    }

    /// The uid.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.text(self.names.uid)
    }

    /// The value of a selectable field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        match name {
            "metadata.name" => Some(self.name()),
            "metadata.namespace" => Some(self.namespace()),
            _ => pairs(&self.header, self.names.fields_at)
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value),
        }
    }
}

impl Labels for Stored {
    fn label(&self, key: &str) -> Option<&str> {
        pairs(&self.header, self.names.labels_at).find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

impl Names {
    fn read(header: &[u8]) -> Option<Self> {
        let mut at = 0;
        let namespace = text_at(header, &mut at)?;
        let name = text_at(header, &mut at)?;
        let uid = text_at(header, &mut at)?;
        let labels_at = at;
        skip_pairs(header, &mut at)?;
        let fields_at = at;
        skip_pairs(header, &mut at)?;
        Some(Self { namespace, name, uid, labels_at, fields_at })
    }
}

fn length_at(header: &[u8], at: &mut u32) -> Option<u32> {
    let bytes = header.get(*at as usize..*at as usize + 4)?;
    *at += 4;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn text_at(header: &[u8], at: &mut u32) -> Option<(u32, u32)> {
    let length = length_at(header, at)?;
    let start = *at;
    let end = start.checked_add(length)?;
    std::str::from_utf8(header.get(start as usize..end as usize)?).ok()?;
    *at = end;
    Some((start, length))
}

fn skip_pairs(header: &[u8], at: &mut u32) -> Option<()> {
    for _ in 0..length_at(header, at)? {
        text_at(header, at)?;
        text_at(header, at)?;
    }
    Some(())
}

fn pairs(header: &[u8], mut at: u32) -> impl Iterator<Item = (&str, &str)> {
    let count = length_at(header, &mut at).unwrap_or(0);
    (0..count).map_while(move |_| {
        let mut text = || {
            let length = length_at(header, &mut at)?;
            let bytes = header.get(at as usize..(at + length) as usize)?;
            at += length;
            std::str::from_utf8(bytes).ok()
        };
        Some((text()?, text()?))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Object {
        Object::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1", "labels": {"a": "b"}},
            "spec": {"metadata": {"resourceVersion": "keep"}},
        }))
        .expect("object")
    }

    #[test]
    fn the_resource_version_is_the_revision() {
        let value = encode(&object(), &[("spec.nodeName", "w1".into())]);
        let stored = Stored::read(b"k", &value, 42).expect("reads");
        let mut expected = object();
        expected.set_at(&["metadata", "resourceVersion"], "42");
        assert_eq!(stored.object().expect("decodes"), expected);
        assert_eq!((stored.namespace(), stored.name(), stored.uid()), ("n", "p", "u"));
        assert_eq!((stored.label("a"), stored.label("b")), (Some("b"), None));
        assert_eq!((stored.field("spec.nodeName"), stored.field("x")), (Some("w1"), None));
        assert!(stored.is_same(&value));
        let mut old = value.to_vec();
        mark_stale(&mut old);
        let old = Stored::read(b"k", &old.into(), 42).expect("reads");
        assert!(!old.is_same(&value) && old.json == stored.json, "it is to be written anew");
        expected.set_at(&["metadata", "resourceVersion"], "7000");
        let deleted = stored.at_revision(7000);
        assert_eq!(deleted.object().expect("decodes"), expected);
        assert_eq!(deleted.at_revision(42).json, stored.json);
    }

    #[test]
    fn damaged_values_are_refused() {
        let value = encode(&object(), &[]);
        for length in [0, 5, 9, 12, 40] {
            assert!(Stored::read(b"k", &value.slice(..length), 1).is_err(), "{length}");
        }
    }
}
