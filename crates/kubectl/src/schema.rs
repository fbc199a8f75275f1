//! Shapes of objects as the server's OpenAPI v3 documents give them: for
//! the merge keys of client-side apply, and for `explain`.

use serde_json::Value;

/// One group version's document.
pub(crate) struct Schema {
    document: Value,
}

/// How patches treat a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strategy {
    pub(crate) merge: bool,
    pub(crate) replace: bool,
    pub(crate) retain_keys: bool,
    pub(crate) merge_key: Option<String>,
}

impl Schema {
    pub(crate) const fn new(document: Value) -> Self {
        Self { document }
    }

    /// The schema of a kind.
    pub(crate) fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&Value> {
        let schemas = self.document.pointer("/components/schemas")?.as_object()?;
        schemas.values().find(|schema| {
            schema["x-kubernetes-group-version-kind"].as_array().is_some_and(|list| {
                list.iter()
                    .any(|one| one["group"] == group && one["version"] == version && one["kind"] == kind)
            })
        })
    }

    /// What a reference is to.
    pub(crate) fn referred(&self, reference: &str) -> Option<&Value> {
        let name = reference.strip_prefix("#/components/schemas/")?;
        self.document.pointer("/components/schemas")?.get(name)
    }

    /// Follows references, plain and inside `allOf`.
    pub(crate) fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let named = schema.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref")).and_then(Value::as_str);
        match named {
            Some(reference) => self.referred(reference).unwrap_or(&Value::Null),
            None => schema,
        }
    }

    /// A field's own schema, with its extensions, not resolved.
    pub(crate) fn field<'a>(&'a self, schema: &'a Value, name: &str) -> Option<&'a Value> {
        let schema = self.resolve(schema);
        schema
            .get("properties")
            .and_then(|fields| fields.get(name))
            .or_else(|| schema.get("additionalProperties").filter(|below| below.is_object()))
    }

    /// The schema of a list's elements.
    pub(crate) fn element<'a>(&'a self, schema: &'a Value) -> Option<&'a Value> {
        self.resolve(schema).get("items")
    }
}

/// The patch strategy that a field's schema declares.
pub(crate) fn strategy(field: &Value) -> Strategy {
    let words: Vec<&str> =
        field["x-kubernetes-patch-strategy"].as_str().unwrap_or_default().split(',').map(str::trim).collect();
    Strategy {
        merge: words.contains(&"merge"),
        replace: words.contains(&"replace"),
        retain_keys: words.contains(&"retainKeys"),
        merge_key: field["x-kubernetes-patch-merge-key"].as_str().map(str::to_owned),
    }
}
