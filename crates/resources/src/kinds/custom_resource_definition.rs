//! Definitions of custom resources, following
//! `k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation`.

use api::schema::StructId;
use api::{ErrorList, Object, Path};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::webhook_client::{client_config, review_versions};
use super::{cells, defaults};
use crate::custom::structural::{JsonType, Structural};
use crate::fields::{Fields, same};
use crate::report::Report;
use crate::{Part, Strategy, custom, metadata, names, tables};

/// Holds a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// The deepest schema.
const MAX_DEPTH: usize = 100;

/// The behaviour of definitions.
pub(super) struct CustomResourceDefinition(pub(super) StructId);

impl Strategy for CustomResourceDefinition {
    fn default(&self, object: &mut Object) {
        defaults::custom_resource_definition(object);
    }

    fn prepare_create(&self, object: &mut Object) {
        metadata::reset_status(&tables::schema(), self.0, object);
        self.default(object);
        metadata::first_generation(object);
        let stored = stored_version(object).to_owned();
        object.set_at(&["status", "storedVersions"], json!([stored]));
    }

    fn prepare_update(&self, part: Part<'_>, new: &mut Object, old: &Object) {
        metadata::keep_other_parts(part, new, old);
        if part == Part::Main {
            metadata::raise_generation(new, old);
            let mut versions = new.field("status").list("storedVersions").to_vec();
            let stored = Value::from(stored_version(new));
            if !versions.contains(&stored) {
                versions.push(stored);
                new.set_at(&["status", "storedVersions"], versions);
            }
        }
    }

    fn prepare_delete(&self, object: &mut Object) {
        let mut finalizers: Vec<Value> = object.finalizers().map(Value::from).collect();
        if !finalizers.iter().any(|one| one == CLEANUP) {
            finalizers.push(CLEANUP.into());
            object.set_at(&["metadata", "finalizers"], finalizers);
        }
    }

    fn validate(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = object.field("spec");
        let path = Path::new("spec");
        let wanted = format!("{}.{}", spec.below(&["names", "plural"]).text_of(), spec.text("group"));
        if object.name() != wanted {
            let name = Path::new("metadata").child("name").to_string();
            let mut error =
                api::FieldError::invalid(&path, object.name(), "must be spec.names.plural+\".\"+spec.group");
            error.field = name;
            errors.add(error);
        }
        group(spec, &path, &mut errors);
        errors.required_one_of(&path.child("scope"), spec.text("scope"), &["Cluster", "Namespaced"]);
        if spec.flag("preserveUnknownFields") {
            let detail =
                "must be set to false in order to use schemas; use x-kubernetes-preserve-unknown-fields";
            errors.invalid(&path.child("preserveUnknownFields"), true, detail);
        }
        versions(spec, &path, &mut errors);
        accepted_names(spec.field("names"), &path.child("names"), &mut errors);
        if spec.has("conversion") {
            conversion(spec.field("conversion"), &path.child("conversion"), &mut errors);
        }
        if errors.is_empty()
            && let Err(why) = custom::descriptors(&with_accepted(object))
        {
            errors.invalid(&path.child("versions"), Value::Null, why);
        }
        errors
    }

    fn validate_update(&self, part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        if part == Part::Status {
            let stored = new.field("status").list("storedVersions");
            let path = Path::new("status");
            let path = path.child("storedVersions");
            if stored.is_empty() {
                errors.invalid(&path, json!([]), "must have at least one stored version");
            }
            let is_served =
                |name: &Value| new.field("spec").list("versions").iter().any(|one| one.field("name") == name);
            for (index, name) in stored.iter().enumerate().filter(|(_, name)| !is_served(name)) {
                errors.invalid(&path.index(index), name.clone(), "must appear in spec.versions");
            }
            return errors;
        }
        if !has_condition(old, "Established") {
            return errors;
        }
        let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
        let path = Path::new("spec");
        metadata::immutable(
            new_spec.field("scope"),
            old_spec.field("scope"),
            &path.child("scope"),
            &mut errors,
        );
        metadata::immutable(
            new_spec.field("group"),
            old_spec.field("group"),
            &path.child("group"),
            &mut errors,
        );
        let names = path.child("names");
        for name in ["plural", "kind"] {
            let (new, old) = (new_spec.field("names").field(name), old_spec.field("names").field(name));
            metadata::immutable(new, old, &names.child(name), &mut errors);
        }
        let stored = old.field("status").list("storedVersions");
        for (index, name) in stored.iter().enumerate() {
            if !new_spec.list("versions").iter().any(|one| same(one.field("name"), name)) {
                let path = Path::new("status");
                let path = path.child("storedVersions");
                errors.invalid(&path.index(index), name.clone(), "must appear in spec.versions");
            }
        }
        errors
    }

    fn updates_unconditionally(&self) -> bool {
        false
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        cells::name_and_creation(object, now)
    }
}

/// Whether a condition of the status is true.
fn has_condition(object: &Object, kind: &str) -> bool {
    let conditions = object.field("status").list("conditions");
    conditions.iter().any(|one| one.text("type") == kind && one.text("status") == "True")
}

fn stored_version(object: &Object) -> &str {
    let versions = object.field("spec").list("versions");
    versions.iter().find(|one| one.flag("storage")).map_or("", |one| one.text("name"))
}

/// The definition as if all its names were accepted.
fn with_accepted(object: &Object) -> Object {
    let mut object = object.clone();
    let names = object.field("spec").field("names").clone();
    object.set_at(&["status", "acceptedNames"], names);
    object
}

/// A text value, or nothing.
trait TextOf {
    fn text_of(&self) -> &str;
}

impl TextOf for Value {
    fn text_of(&self) -> &str {
        self.as_str().unwrap_or_default()
    }
}

fn group(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("group");
    let group = spec.text("group");
    if group.is_empty() {
        errors.required(&at, "");
        return;
    }
    errors.invalid_all(&at, group, names::dns_subdomain(group, false));
    if !group.contains('.') {
        errors.invalid(&at, group, "should be a domain with at least one dot");
    }
}

fn accepted_names(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for name in ["plural", "singular", "kind", "listKind"] {
        let text = of.text(name);
        let at = path.child(name);
        if text.is_empty() {
            errors.required(&at, "");
            continue;
        }
        errors.invalid_all(&at, text, names::dns_label(&text.to_lowercase(), false));
    }
    for list in ["shortNames", "categories"] {
        let at = path.child(list);
        for (index, name) in of.list(list).iter().enumerate() {
            let name = name.text_of();
            errors.invalid_all(&at.index(index), name, names::dns_label(name, false));
        }
    }
    if of.text("kind") == of.text("listKind") && !of.text("kind").is_empty() {
        errors.invalid(&path.child("listKind"), of.text("listKind"), "kind and listKind may not be the same");
    }
}

fn versions(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("versions");
    let versions = spec.list("versions");
    if versions.is_empty() {
        errors.required(&at, "");
        return;
    }
    let stored = versions.iter().filter(|one| one.flag("storage")).count();
    if stored != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.invalid(&at, spec.field("versions").clone(), detail);
    }
    let mut seen: Vec<&str> = Vec::new();
    for (index, version) in versions.iter().enumerate() {
        let at = at.index(index);
        let name = version.text("name");
        errors.invalid_all(&at.child("name"), name, names::dns_label(name, false));
        if seen.contains(&name) {
            errors.invalid(
                &path.child("versions"),
                spec.field("versions").clone(),
                "must contain unique version names",
            );
        }
        seen.push(name);
        let schema_at = at.child("schema");
        let schema_at = schema_at.child("openAPIV3Schema");
        let schema = version.below(&["schema", "openAPIV3Schema"]);
        if !schema.is_object() {
            errors.required(&schema_at, "schemas are required");
            continue;
        }
        if schema.text("type") != "object" {
            errors.invalid(&schema_at.child("type"), schema.text("type"), "must be object at the root");
        }
        let mut walk = Walk { errors, depth: 0, uncorrelatable: None };
        walk.structural(schema, &schema_at, true);
        let subresources = at.child("subresources");
        scale(version.below(&["subresources", "scale"]), &subresources.child("scale"), errors);
    }
}

/// Upstream names the webhook's fields as its internal type does.
fn conversion(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let strategy = of.text("strategy");
    errors.required_one_of(&path.child("strategy"), strategy, &["None", "Webhook"]);
    let webhook = of.field("webhook");
    let (client, versions) = (webhook.field("clientConfig"), webhook.list("conversionReviewVersions"));
    let (client_at, versions_at) =
        (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    if strategy == "Webhook" {
        if client.is_object() {
            client_config(client, &client_at, errors);
        } else {
            errors.required(&client_at, "required when strategy is set to Webhook");
        }
        return review_versions(versions, "", &versions_at, errors);
    }
    let detail = "should not be set when strategy is not set to Webhook";
    if client.is_object() {
        errors.forbidden(&client_at, detail);
    }
    if !versions.is_empty() {
        errors.forbidden(&versions_at, detail);
    }
}

fn scale(scale: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if !scale.is_object() {
        return;
    }
    for (field, root) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let text = scale.text(field);
        let at = path.child(field);
        if text.is_empty() {
            errors.required(&at, "");
        } else if !text.starts_with(root) {
            let root = root.trim_end_matches('.');
            errors.invalid(&at, text, format!("should be a json path under {root}"));
        }
    }
}

/// Checks that a schema is structural.
struct Walk<'e> {
    errors: &'e mut ErrorList,
    depth: usize,
    /// The outermost part whose values cannot be told apart from one update to the next.
    uncorrelatable: Option<String>,
}

impl Walk<'_> {
    fn structural(&mut self, schema: &Value, path: &Path<'_>, is_root: bool) {
        if self.depth > MAX_DEPTH {
            self.errors.forbidden(path, "the schema nests too deeply");
            return;
        }
        self.depth += 1;
        self.shape(schema, path, is_root);
        self.lists(schema, path);
        self.default(schema, path);
        self.expressions(schema, path, is_root);
        self.below(schema, path);
        for junctor in ["allOf", "anyOf", "oneOf"] {
            let at = path.child(junctor);
            for (index, one) in schema.list(junctor).iter().enumerate() {
                self.only_rules(one, &at.index(index), schema);
            }
        }
        if schema.field("not").is_object() {
            self.only_rules(schema.field("not"), &path.child("not"), schema);
        }
        self.depth -= 1;
    }

    /// The parts of an object or a list.
    fn below(&mut self, schema: &Value, path: &Path<'_>) {
        let outer = self.uncorrelatable.clone();
        let is_atomic = schema.text("x-kubernetes-map-type") == "atomic";
        let is_list = schema.field("items").is_object();
        if outer.is_none() && (is_atomic || is_list && schema.text("x-kubernetes-list-type") != "map") {
            self.uncorrelatable = Some(path.to_string());
        }
        for (name, one) in schema.entries("properties") {
            let at = path.child("properties");
            self.structural(one, &at.key(name), false);
        }
        if is_list {
            self.structural(schema.field("items"), &path.child("items"), false);
        }
        if schema.field("additionalProperties").is_object() {
            self.structural(schema.field("additionalProperties"), &path.child("additionalProperties"), false);
        }
        self.uncorrelatable = outer;
    }

    /// `x-kubernetes-validations`.
    fn expressions(&mut self, schema: &Value, path: &Path<'_>, is_root: bool) {
        let rules = schema.list("x-kubernetes-validations");
        if rules.is_empty() {
            return;
        }
        let list = path.child("x-kubernetes-validations");
        for (index, rule) in rules.iter().enumerate() {
            let at = list.index(index);
            custom::rule_errors(rule, schema, is_root, (&at, self.errors));
            match (&self.uncorrelatable, custom::rule_uses_old(rule)) {
                (Some(within), true) => {
                    let why = format!(
                        "oldSelf cannot be used on the uncorrelatable portion of the schema within {within}"
                    );
                    self.errors.invalid(&at.child("rule"), rule.text("rule"), why);
                }
                (_, false) if rule.has("optionalOldSelf") => {
                    let why = "may not be set if oldSelf is not used in rule";
                    self.errors.invalid(&at.child("optionalOldSelf"), rule.flag("optionalOldSelf"), why);
                }
                _ => {}
            }
        }
    }

    fn shape(&mut self, schema: &Value, path: &Path<'_>, is_root: bool) {
        let kind = schema.text("type");
        let is_free =
            schema.flag("x-kubernetes-int-or-string") || schema.flag("x-kubernetes-preserve-unknown-fields");
        if kind.is_empty() && !is_free && !is_root {
            self.errors.required(&path.child("type"), "must not be empty for specified object fields");
        }
        if !kind.is_empty() && JsonType::parse(kind).is_none() {
            let allowed = ["array", "boolean", "integer", "number", "object", "string"];
            self.errors.one_of(&path.child("type"), kind, &allowed);
        }
        if kind == "array" && !schema.field("items").is_object() {
            self.errors.required(&path.child("items"), "must be specified");
        }
        let has_additional =
            schema.has("additionalProperties") && schema.field("additionalProperties") != false;
        if has_additional && schema.entries("properties").next().is_some() {
            self.errors.forbidden(
                &path.child("additionalProperties"),
                "additionalProperties and properties are mutual exclusive",
            );
        }
        for forbidden in ["$ref", "definitions", "dependencies", "id", "patternProperties", "additionalItems"]
        {
            if schema.has(forbidden) {
                self.errors.forbidden(&path.child(forbidden), format!("{forbidden} is not supported"));
            }
        }
        if schema.flag("uniqueItems") {
            let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.errors.forbidden(&path.child("uniqueItems"), detail);
        }
        let pattern = schema.text("pattern");
        if let Err(error) = regex::Regex::new(pattern) {
            self.errors.invalid(
                &path.child("pattern"),
                pattern,
                format!("must be a valid regular expression, but isn't: {error}"),
            );
        }
        if schema.flag("x-kubernetes-embedded-resource") && kind != "object" {
            self.errors.invalid(
                &path.child("type"),
                kind,
                "must be object if x-kubernetes-embedded-resource is true",
            );
        }
    }

    fn lists(&mut self, schema: &Value, path: &Path<'_>) {
        let list_type = schema.text("x-kubernetes-list-type");
        let keys = schema.list("x-kubernetes-list-map-keys");
        let keys_at = path.child("x-kubernetes-list-map-keys");
        match list_type {
            "" => {
                if !keys.is_empty() {
                    self.errors.required(
                        &path.child("x-kubernetes-list-type"),
                        "must be map if x-kubernetes-list-map-keys is non-empty",
                    );
                }
                return;
            }
            "atomic" | "set" | "map" => {}
            other => {
                self.errors.one_of(&path.child("x-kubernetes-list-type"), other, &["atomic", "map", "set"]);
                return;
            }
        }
        if schema.text("type") != "array" {
            self.errors.invalid(
                &path.child("type"),
                schema.text("type"),
                "must be array if x-kubernetes-list-type is specified",
            );
        }
        if list_type != "map" {
            return;
        }
        if keys.is_empty() {
            self.errors.required(&keys_at, "must not be empty if x-kubernetes-list-type is map");
        }
        let items = schema.field("items");
        let required = items.list("required");
        for (index, key) in keys.iter().enumerate() {
            let of = items.field("properties").field(key.text_of());
            if !of.is_object() {
                self.errors.invalid(
                    &keys_at.index(index),
                    key.clone(),
                    "entries must all be names of item properties",
                );
            } else if !required.contains(key) && !of.has("default") {
                let at = path.child("items");
                let at = at.child("properties");
                let at = at.key(key.text_of());
                self.errors.required(
                    &at.child("default"),
                    "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                );
            }
        }
    }

    fn default(&mut self, schema: &Value, path: &Path<'_>) {
        let Some(default) = schema.get("default") else { return };
        let structural = Structural::read(schema);
        let mut wrapped = Map::new();
        wrapped.insert("default".to_owned(), default.clone());
        let root = Structural::of_property("default", structural);
        for mut error in custom::check(&wrapped, &root) {
            error.field = format!("{path}.{}", error.field);
            self.errors.add(error);
        }
    }

    /// A junctor may restrict values, not say of what shape they are.
    fn only_rules(&mut self, schema: &Value, path: &Path<'_>, of: &Value) {
        for forbidden in ["default", "additionalProperties", "nullable", "title", "description"] {
            if schema.has(forbidden) {
                self.errors.forbidden(&path.child(forbidden), "must be undefined to be structural");
            }
        }
        let is_free = of.flag("x-kubernetes-int-or-string");
        if !schema.text("type").is_empty() && !is_free {
            self.errors.forbidden(&path.child("type"), "must be empty to be structural");
        }
    }
}
