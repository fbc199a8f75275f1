//! From a request's body to an object of the kind that its path names.

use api::protobuf;
use api::schema::conform;
use api::{Object, Reason, Status};
use resources::Descriptor;
use serde_json::Value;

/// The largest YAML body; JSON is bounded by the front.
const MAX_YAML_BYTES: usize = 3 << 20;

/// The encoding of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaType {
    /// `application/json`.
    #[default]
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`; for bodies only.
    Protobuf,
}

/// What happens to fields that the kind does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped, and the client is told.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

/// An object and what the client should know about it.
#[derive(Debug)]
pub struct Decoded {
    /// The object, conformed to its kind.
    pub object: Object,
    /// Advice.
    pub warnings: Vec<String>,
}

/// Decodes a body into an object of a struct of the kind's schema.
///
/// # Errors
/// A body that is not of its encoding, of another kind, or of wrong types.
pub fn decode(
    kind: &Descriptor,
    body_kind: &BodyKind<'_>,
    media: MediaType,
    body: &[u8],
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let (value, repeated) = match media {
        MediaType::Protobuf => (from_protobuf(kind, body_kind, body)?, Vec::new()),
        _ => parse_strictly(media, body)?,
    };
    let mut object = Object::from_value(value).map_err(|error| {
        Status::bad_request(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
            error.found
        ))
    })?;
    check_kind(body_kind, &mut object)?;
    let schema = &kind.shape.0;
    let Some(shape) = body_kind.shape.or_else(|| schema.find(&struct_name(body_kind))) else {
        let warnings = judge(body_kind, repeated, validation)?;
        return Ok(Decoded { object, warnings });
    };
    let conformed = match body_kind.shape {
        Some(_) => kind.conform(&mut object),
        None => conform(schema, shape, object.as_map_mut()),
    };
    let found = conformed.map_err(|error| {
        Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {error}",
            body_kind.kind, body_kind.version, body_kind.kind
        ))
    })?;
    let unknown = found.unknown.iter().map(|path| format!("unknown field {path:?}"));
    let warnings = judge(body_kind, unknown.chain(repeated).collect(), validation)?;
    Ok(Decoded { object, warnings })
}

/// The group, version and kind that a body must have.
#[derive(Clone, Copy, Debug)]
pub struct BodyKind<'a> {
    /// The group.
    pub group: &'a str,
    /// The version.
    pub version: &'a str,
    /// The kind.
    pub kind: &'a str,
    /// Its struct, where it is known.
    pub shape: Option<api::schema::StructId>,
}

impl<'a> BodyKind<'a> {
    /// The kind of the main resource's objects.
    #[must_use]
    pub fn of(kind: &'a Descriptor) -> Self {
        Self { group: &kind.group, version: &kind.version, kind: &kind.kind, shape: Some(kind.shape.1) }
    }

    /// Another kind, as some subresources take.
    #[must_use]
    pub const fn other(group: &'a str, version: &'a str, kind: &'a str) -> Self {
        Self { group, version, kind, shape: None }
    }

    fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// The struct of a kind as the API tables name it: the group's first word.
fn struct_name(of: &BodyKind<'_>) -> String {
    let package = match of.group {
        "" => "core",
        group => group.split('.').next().unwrap_or(group),
    };
    format!("{package}/{}.{}", of.version, of.kind)
}

/// A protobuf body as JSON, by the schema of its kind.
fn from_protobuf(kind: &Descriptor, of: &BodyKind<'_>, body: &[u8]) -> Result<Value, Status> {
    let unreadable =
        |error: protobuf::ProtobufError| Status::bad_request(format!("cannot decode the body: {error}"));
    let envelope = protobuf::open(body).map_err(unreadable)?;
    let schema = &kind.shape.0;
    let shape = of
        .shape
        .or_else(|| schema.find(&struct_name(of)))
        .ok_or_else(|| Status::bad_request(format!("a {} cannot be read from protobuf", of.kind)))?;
    let mut object = protobuf::decode(schema, shape, envelope.raw).map_err(unreadable)?;
    object.insert("apiVersion".to_owned(), envelope.api_version.into());
    object.insert("kind".to_owned(), envelope.kind.into());
    Ok(Value::Object(object))
}

/// A body, and what it says twice.
fn parse_strictly(media: MediaType, body: &[u8]) -> Result<(Value, Vec<String>), Status> {
    if media == MediaType::Json {
        let (value, repeated) = api::json::parse(body).map_err(|error| not_json(&error))?;
        let texts = repeated.iter().map(|path| format!("duplicate field {path:?}"));
        return Ok((value, texts.collect()));
    }
    let value = parse(media, body)?;
    let repeated = std::str::from_utf8(body).ok().and_then(api::yaml::repeated);
    Ok((value, repeated.map(|why| format!("yaml: unmarshal errors:\n  {why}")).into_iter().collect()))
}

fn not_json(error: &serde_json::Error) -> Status {
    Status::bad_request(format!("couldn't get version/kind; json parse error: {error}"))
}

fn parse(media: MediaType, body: &[u8]) -> Result<Value, Status> {
    match media {
        MediaType::Json => serde_json::from_slice(body).map_err(|error| not_json(&error)),
        MediaType::Yaml => {
            if body.len() > MAX_YAML_BYTES {
                return Err(Status::too_large(MAX_YAML_BYTES));
            }
            let text = std::str::from_utf8(body)
                .map_err(|error| Status::bad_request(format!("error converting YAML to JSON: {error}")))?;
            api::yaml::parse(text).map_err(|error| {
                use std::error::Error as _;
                let cause = error.source().map(ToString::to_string).unwrap_or_default();
                Status::bad_request(format!("error converting YAML to JSON: {cause}"))
            })
        }
        MediaType::Protobuf => Err(Status::bad_request("this body cannot be read from protobuf")),
    }
}

/// A body may leave its kind out; if it says one, it must be the path's.
fn check_kind(of: &BodyKind<'_>, object: &mut Object) -> Result<(), Status> {
    let api_version = of.api_version();
    for (field, found, wanted) in
        [("apiVersion", object.api_version(), api_version.as_str()), ("kind", object.kind(), of.kind)]
    {
        if !found.is_empty() && found != wanted {
            return Err(Status::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: the {field} of the body is {found:?}, the request is for {wanted:?}",
                object.kind(),
                object.api_version(),
                of.kind
            )));
        }
    }
    object.set("apiVersion", api_version);
    object.set("kind", of.kind);
    Ok(())
}

/// What becomes of a body's mistakes.
fn judge(of: &BodyKind<'_>, texts: Vec<String>, validation: FieldValidation) -> Result<Vec<String>, Status> {
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(texts),
        FieldValidation::Strict if texts.is_empty() => Ok(texts),
        FieldValidation::Strict => Err(Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
            of.kind,
            of.version,
            of.kind,
            texts.join(", ")
        ))),
    }
}

/// Decodes the small option bodies (`DeleteOptions`); an empty body is none.
///
/// # Errors
/// A body that is not of its encoding or type.
pub fn decode_options<T: serde::de::DeserializeOwned + Default>(
    schema: Option<&api::schema::Schema>,
    media: MediaType,
    body: &[u8],
) -> Result<T, Status> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    let value = match media {
        MediaType::Protobuf => {
            let unreadable = |error: protobuf::ProtobufError| {
                Status::bad_request(format!("cannot decode the body: {error}"))
            };
            let raw = protobuf::open(body).map_err(unreadable)?.raw;
            let options = schema
                .and_then(|schema| Some((schema, schema.find("meta/v1.DeleteOptions")?)))
                .ok_or_else(|| Status::bad_request("these options cannot be read from protobuf"))?;
            Value::Object(protobuf::decode(options.0, options.1, raw).map_err(unreadable)?)
        }
        _ => parse(media, body)?,
    };
    serde_json::from_value(value).map_err(|error| {
        Status::new(Reason::BadRequest, format!("cannot decode the request's options: {error}"))
    })
}
