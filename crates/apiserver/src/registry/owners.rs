//! Who owns which field of an object: the kind's side of [`api::managed`].

use std::sync::Arc;

use api::managed::{ApplyError, FieldSet, Identity, Operation, Ownership, Typed};
use api::schema::{Schema, StructId};
use api::{Object, Reason, Status};
use resources::{Descriptor, Part};
use serde_json::{Map, Value, json};

use crate::conversion::Converter;

use super::{Address, Caller, FieldValidation, Kinds, Registry};

/// The longest name of a manager, as upstream.
const MAX_MANAGER: usize = 128;

/// What a write does to the owners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owners {
    /// The writer owns what it changes.
    #[default]
    Track,
    /// The same, through another subresource than the part that is written.
    TrackAs(&'static str),
    /// The new object has its owners already.
    Settled,
    /// They stay as they are.
    Keep,
}

/// Which way a write comes.
pub(super) struct Through<'a> {
    /// What it writes.
    pub(super) part: Part<'a>,
    /// Under which subresource that counts.
    pub(super) subresource: &'a str,
}

impl<'a> Through<'a> {
    pub(super) fn of(part: Part<'a>, owners: Owners) -> Self {
        let subresource = match (owners, part) {
            (Owners::TrackAs(name), _) => name,
            (_, Part::Main) => "",
            (_, Part::Status) => "status",
            (_, Part::Other(name)) => name,
        };
        Self { part, subresource }
    }
}

/// A kind as ownership sees it.
struct Form<'a> {
    kind: Arc<Descriptor>,
    kinds: &'a Kinds,
    converter: &'a Converter,
}

impl Typed for Form<'_> {
    fn shape(&self) -> (&Schema, StructId) {
        (&self.kind.shape.0, self.kind.shape.1)
    }

    fn convert(&self, object: &Object, api_version: &str) -> Option<(Object, Box<dyn Typed + '_>)> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let other = self.kinds.find(group, version, &self.kind.resource)?;
        if other.storage != self.kind.storage {
            return None;
        }
        let mut object = self.converter.object_now(&self.kind, object.clone(), api_version)?;
        self.kind.strategy.to_stored(&mut object);
        other.strategy.from_stored(&mut object);
        object.set("apiVersion", api_version);
        Some((object, Box::new(Form { kind: other, kinds: self.kinds, converter: self.converter })))
    }
}

/// An object of a kind in which nothing is said.
pub(super) fn empty(kind: &Descriptor) -> Object {
    let mut map = Map::new();
    map.insert("apiVersion".to_owned(), kind.api_version().into());
    map.insert("kind".to_owned(), kind.kind.as_str().into());
    let mut object = Object::from_value(Value::Object(map)).unwrap_or_default();
    // What is empty fits every struct.
    let filled = kind.conform(&mut object);
    debug_assert!(filled.is_ok(), "{filled:?}");
    object
}

/// A configuration that nobody can own through a part of an object.
fn reset(kind: &Descriptor, part: Part<'_>) -> FieldSet {
    let others = |kept: &[&str]| -> Value {
        let fields = kind.shape.0.get(kind.shape.1).fields.keys();
        let dropped = fields.filter(|name| !kept.contains(&name.as_str()));
        Value::Object(dropped.map(|name| (format!("f:{name}"), json!({}))).collect())
    };
    match part {
        Part::Main if kind.subresource("status").is_some() => FieldSet::from_value(&json!({"f:status": {}})),
        Part::Status => FieldSet::from_value(&others(&["apiVersion", "kind", "metadata", "status"])),
        Part::Main | Part::Other(_) => FieldSet::default(),
    }
}

fn identity(kind: &Descriptor, caller: &Caller, subresource: &str, operation: Operation) -> Identity {
    let name = match caller.field_manager.as_str() {
        "" => "unknown",
        name => name,
    };
    Identity {
        manager: name.chars().take(MAX_MANAGER).collect(),
        operation,
        api_version: kind.api_version(),
        subresource: subresource.to_owned(),
    }
}

impl Registry {
    fn form(&self, kind: &Arc<Descriptor>) -> Form<'_> {
        Form { kind: Arc::clone(kind), kinds: &self.kinds, converter: &self.converter }
    }

    fn ownership<'a>(&self, form: &'a Form<'_>, reset: FieldSet) -> Ownership<'a> {
        Ownership { kind: form, reset, now: self.clock.now() }
    }

    /// Makes the writer the owner of what it changes. Without an old object it is
    /// a create.
    pub(super) fn track(
        &self,
        kind: &Arc<Descriptor>,
        caller: &Caller,
        subresource: &str,
        old: Option<&Object>,
        new: &mut Object,
    ) {
        let form = self.form(kind);
        let identity = identity(kind, caller, subresource, Operation::Update);
        match old {
            Some(old) => self.ownership(&form, FieldSet::default()).update(old, new, &identity, false),
            // A first status is the server's.
            None => self.ownership(&form, reset(kind, Part::Main)).update(&empty(kind), new, &identity, true),
        }
    }

    /// The object that applying a configuration leads to, with its owners.
    ///
    /// # Errors
    /// Conflicts, unless they are forced; what cannot be merged.
    pub(super) fn applied(
        &self,
        address: &Address,
        caller: &Caller,
        written: &Through<'_>,
        live: &Object,
        (config, force): (&Object, bool),
    ) -> Result<Object, Status> {
        let kind = &address.kind;
        let &Through { part, subresource } = written;
        let form = self.form(kind);
        let identity = identity(kind, caller, subresource, Operation::Apply);
        let ownership = self.ownership(&form, reset(kind, part));
        let applied = ownership.apply(live, config, &identity, force);
        applied.map(|applied| applied.object).map_err(|error| refused(address, &error))
    }
}

fn refused(address: &Address, error: &ApplyError) -> Status {
    let kind = &address.kind;
    match error {
        ApplyError::Conflicts(conflicts) => {
            let mut status = Status::new(Reason::Conflict, error.to_string());
            let cause = |one: &api::managed::Conflict| api::status::Cause {
                reason: "FieldManagerConflict".to_owned(),
                message: format!("conflict with {}", one.owner),
                field: one.field.clone(),
            };
            status.details = Some(Box::new(api::status::Details {
                causes: conflicts.iter().map(cause).collect(),
                ..Default::default()
            }));
            status
        }
        ApplyError::Ambiguous(why) => Status::new(
            Reason::Unknown,
            format!(
                "failed to create typed patch object ({}/{}; {}, Kind={}): {why}",
                address.namespace,
                address.name,
                kind.api_version(),
                kind.kind
            ),
        ),
        ApplyError::Unreadable(_) => Status::internal(error),
    }
}

/// What an applied configuration says twice, as a warning or a refusal.
///
/// # Errors
/// It is not to say anything twice.
pub(super) fn repeated(bytes: &[u8], validation: FieldValidation) -> Result<Option<String>, Status> {
    if validation == FieldValidation::Ignore {
        return Ok(None);
    }
    let found = std::str::from_utf8(bytes).ok().and_then(api::yaml::repeated);
    let text = found.map(|why| format!("error converting YAML to JSON: yaml: unmarshal errors:\n  {why}"));
    match text {
        Some(text) if validation == FieldValidation::Strict => {
            Err(Status::bad_request(format!("error strict decoding YAML: {text}")))
        }
        text => Ok(text),
    }
}

/// Reads an applied configuration: it is not filled in, since what it does not
/// say is nobody's.
///
/// # Errors
/// What is no object of the kind, or has fields that the kind does not have.
pub(super) fn read_config(address: &Address, bytes: &[u8]) -> Result<Object, Status> {
    let kind = &address.kind;
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
    let value = api::yaml::parse(text)
        .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
    let mut config = Object::from_value(value)
        .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
    if (config.api_version(), config.kind()) != (kind.api_version().as_str(), kind.kind.as_str()) {
        return Err(Status::bad_request(format!(
            "invalid object type: {}, Kind={}: the request is for {}, Kind={}",
            config.api_version(),
            config.kind(),
            kind.api_version(),
            kind.kind
        )));
    }
    if config.at(&["metadata", "managedFields"]).is_some_and(|value| !value.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    if config.name().is_empty() {
        config.set_at(&["metadata", "name"], address.name.as_str());
    } else if config.name() != address.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            config.name(),
            address.name
        )));
    }
    if kind.namespaced && config.namespace().is_empty() {
        config.set_at(&["metadata", "namespace"], address.namespace.as_str());
    } else if config.namespace() != address.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let mut checked = config.clone();
    let unfit = match kind.conform(&mut checked) {
        Err(error) => Some(error.to_string()),
        Ok(found) => found.unknown.first().map(|path| format!(".{path}: field not declared in schema")),
    };
    match unfit {
        None => Ok(config),
        Some(why) => Err(refused(address, &ApplyError::Ambiguous(why))),
    }
}
