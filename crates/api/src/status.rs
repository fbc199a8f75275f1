//! `metav1.Status`: how the API says that something failed, or that it is done.
//!
//! A status is built from typed parts and never parsed back out of text. The
//! messages follow upstream's `k8s.io/apimachinery/pkg/api/errors`.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::field::{self, FieldError};

/// Why a request failed, as a machine reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Nothing more is known.
    Unknown,
    /// No valid credentials.
    Unauthorized,
    /// Valid credentials, but the action is not allowed.
    Forbidden,
    /// The object or resource does not exist.
    NotFound,
    /// An object of that name exists.
    AlreadyExists,
    /// The object changed since it was read.
    Conflict,
    /// It was there and is gone for good.
    Gone,
    /// The object breaks a rule of its kind.
    Invalid,
    /// The server cannot answer now; the client may try again later.
    ServerTimeout,
    /// The request took too long; its outcome may be unknown.
    Timeout,
    /// The client must slow down.
    TooManyRequests,
    /// The request cannot be read.
    BadRequest,
    /// The resource does not know the verb.
    MethodNotAllowed,
    /// No encoding that the client accepts.
    NotAcceptable,
    /// The body is too large.
    RequestEntityTooLarge,
    /// The body's encoding is not known here.
    UnsupportedMediaType,
    /// A bug or a failure of the server.
    InternalError,
    /// The resource version or continue token is too old.
    Expired,
    /// A part of the server is not available.
    ServiceUnavailable,
    /// The stored object could not be read.
    StoreReadError,
}

impl Reason {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Invalid => "Invalid",
            Self::ServerTimeout => "ServerTimeout",
            Self::Timeout => "Timeout",
            Self::TooManyRequests => "TooManyRequests",
            Self::BadRequest => "BadRequest",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::InternalError => "InternalError",
            Self::Expired => "Expired",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::StoreReadError => "StorageReadError",
        }
    }

    fn parse(text: &str) -> Self {
        const ALL: [Reason; 19] = [
            Reason::Unauthorized,
            Reason::Forbidden,
            Reason::NotFound,
            Reason::AlreadyExists,
            Reason::Conflict,
            Reason::Gone,
            Reason::Invalid,
            Reason::ServerTimeout,
            Reason::Timeout,
            Reason::TooManyRequests,
            Reason::BadRequest,
            Reason::MethodNotAllowed,
            Reason::NotAcceptable,
            Reason::RequestEntityTooLarge,
            Reason::UnsupportedMediaType,
            Reason::InternalError,
            Reason::Expired,
            Reason::ServiceUnavailable,
            Reason::StoreReadError,
        ];
        ALL.into_iter().find(|reason| reason.as_str() == text).unwrap_or(Self::Unknown)
    }

    /// The HTTP code that goes with the reason.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::Unknown | Self::InternalError | Self::ServerTimeout | Self::StoreReadError => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }
}

/// One of several causes of a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable, such as `FieldValueInvalid`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The field it is about; may be empty.
    pub field: String,
}

/// What a failure is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The API group.
    pub group: String,
    /// The resource or kind.
    pub kind: String,
    /// The object's uid.
    pub uid: String,
    /// The causes, in the order found.
    pub causes: Vec<Cause>,
    /// Seconds after which a retry makes sense; 0 where none is advised.
    pub retry_after_seconds: u32,
}

/// The outcome of a request that returns no object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The HTTP code; below 400 is a success.
    pub code: u16,
    /// Machine-readable reason.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// What it is about.
    pub details: Option<Box<Details>>,
    /// Where a list that broke off can go on (`metadata.continue`); empty: nowhere.
    pub continue_token: String,
}

impl Status {
    /// A failure with the reason's own code.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code: reason.code(),
            reason,
            message: message.into(),
            details: None,
            continue_token: String::new(),
        }
    }

    /// A success, as a delete answers.
    #[must_use]
    pub fn success(details: Details) -> Self {
        Self { code: 200, ..Self::new(Reason::Unknown, "") }.with_details(details)
    }

    /// Adds what the failure is about.
    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// No object of that name.
    #[must_use]
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(group, resource));
        Self::new(Reason::NotFound, message).about(group, resource, name)
    }

    /// An object of that name exists.
    #[must_use]
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(group, resource));
        Self::new(Reason::AlreadyExists, message).about(group, resource, name)
    }

    /// The object changed, or is in another state than the request assumes.
    #[must_use]
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(group, resource));
        Self::new(Reason::Conflict, message).about(group, resource, name)
    }

    /// The text for a stale resource version.
    pub const MODIFIED: &str =
        "the object has been modified; please apply your changes to the latest version and try again";

    /// The object breaks rules of its kind.
    #[must_use]
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let message = format!("{} {name:?} is invalid: {}", qualified(group, kind), field::aggregate(errors));
        let causes = errors
            .iter()
            .map(|error| Cause {
                reason: error.kind.reason().to_owned(),
                message: error.body(),
                field: error.field.clone(),
            })
            .collect();
        let details = Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            causes,
            ..Details::default()
        };
        Self::new(Reason::Invalid, message).with_details(details)
    }

    /// The user may not do that.
    #[must_use]
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = match (name, resource) {
            ("", "") => format!("forbidden: {why}"),
            ("", _) => format!("{} is forbidden: {why}", qualified(group, resource)),
            _ => format!("{} {name:?} is forbidden: {why}", qualified(group, resource)),
        };
        Self::new(Reason::Forbidden, message).about(group, resource, name)
    }

    /// No valid credentials.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(Reason::Unauthorized, "Unauthorized")
    }

    /// The request cannot be read.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, why)
    }

    /// The resource does not know the verb.
    #[must_use]
    pub fn method_not_supported(group: &str, resource: &str, verb: &str) -> Self {
        let message =
            format!("{verb} is not supported on resources of kind {:?}", qualified(group, resource));
        Self::new(Reason::MethodNotAllowed, message).about(group, resource, "")
    }

    /// Nothing is served at that path.
    #[must_use]
    pub fn no_such_resource() -> Self {
        Self::new(Reason::NotFound, "the server could not find the requested resource")
            .with_details(Details::default())
    }

    /// The body is larger than the server takes.
    #[must_use]
    pub fn too_large(limit: usize) -> Self {
        Self::new(Reason::RequestEntityTooLarge, format!("Request entity too large: limit is {limit}"))
    }

    /// A resource version or continue token that the server no longer has.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(Reason::Expired, message)
    }

    /// A failure of the server; the cause goes into the causes as upstream does.
    pub fn internal(why: impl fmt::Display) -> Self {
        let why = why.to_string();
        let details = Details {
            causes: vec![Cause { message: why.clone(), ..Cause::default() }],
            ..Details::default()
        };
        Self::new(Reason::InternalError, format!("Internal error occurred: {why}")).with_details(details)
    }

    /// The server cannot do it now.
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self::new(Reason::ServiceUnavailable, why)
    }

    /// The client must slow down.
    pub fn too_many_requests(why: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(Reason::TooManyRequests, why)
            .with_details(Details { retry_after_seconds, ..Details::default() })
    }

    fn about(self, group: &str, kind: &str, name: &str) -> Self {
        self.with_details(Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            ..Details::default()
        })
    }

    /// Whether this is a success.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.code < 400
    }

    /// The JSON of the status, with `apiVersion` and `kind`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("kind".into(), "Status".into());
        object.insert("apiVersion".into(), "v1".into());
        let mut metadata = json!({});
        if !self.continue_token.is_empty() {
            metadata["continue"] = self.continue_token.as_str().into();
        }
        object.insert("metadata".into(), metadata);
        object.insert("status".into(), if self.is_success() { "Success" } else { "Failure" }.into());
        put(&mut object, "message", &self.message);
        put(&mut object, "reason", self.reason.as_str());
        if let Some(details) = &self.details {
            object.insert("details".into(), details.to_json());
        }
        object.insert("code".into(), self.code.into());
        Value::Object(object)
    }

    /// The bytes of [`Self::to_json`].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_json().to_string().into_bytes()
    }

    /// Reads a status from its JSON; `None` where it is something else.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        if value.get("kind")?.as_str()? != "Status" {
            return None;
        }
        let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let success = text(value, "status") == "Success";
        let code = value.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let details = value.get("details").map(|details| {
            let causes =
                details.get("causes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let retry = details.get("retryAfterSeconds").and_then(Value::as_u64).unwrap_or_default();
            Box::new(Details {
                name: text(details, "name"),
                group: text(details, "group"),
                kind: text(details, "kind"),
                uid: text(details, "uid"),
                causes: causes
                    .iter()
                    .map(|cause| Cause {
                        reason: text(cause, "reason"),
                        message: text(cause, "message"),
                        field: text(cause, "field"),
                    })
                    .collect(),
                retry_after_seconds: u32::try_from(retry).unwrap_or(u32::MAX),
            })
        });
        Some(Self {
            code: code.unwrap_or(if success { 200 } else { 500 }),
            reason: Reason::parse(&text(value, "reason")),
            message: text(value, "message"),
            details,
            continue_token: value
                .get("metadata")
                .map(|metadata| text(metadata, "continue"))
                .unwrap_or_default(),
        })
    }
}

impl Details {
    fn to_json(&self) -> Value {
        let mut object = Map::new();
        put(&mut object, "name", &self.name);
        put(&mut object, "group", &self.group);
        put(&mut object, "kind", &self.kind);
        put(&mut object, "uid", &self.uid);
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(|cause| {
                let mut one = Map::new();
                put(&mut one, "reason", &cause.reason);
                put(&mut one, "message", &cause.message);
                put(&mut one, "field", &cause.field);
                Value::Object(one)
            });
            object.insert("causes".into(), causes.collect());
        }
        if self.retry_after_seconds > 0 {
            object.insert("retryAfterSeconds".into(), self.retry_after_seconds.into());
        }
        Value::Object(object)
    }
}

fn put(object: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        object.insert(key.into(), text.into());
    }
}

/// `deployments.apps`, or `pods` in the core group.
#[must_use]
pub fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            write!(f, "{} ({})", self.reason.as_str(), self.code)
        } else {
            f.write_str(&self.message)
        }
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Path;

    #[test]
    fn json_round_trip_keeps_every_part() {
        let path = Path::new("spec");
        let errors = [FieldError::required(&path.child("x"), "say what")];
        for status in [
            Status::not_found("apps", "deployments", "web"),
            Status::invalid("", "Pod", "p", &errors),
            Status::too_many_requests("slow", 3),
            Status::success(Details { uid: "u".into(), ..Details::default() }),
        ] {
            assert_eq!(Status::from_json(&status.to_json()), Some(status));
        }
    }

    #[test]
    fn messages_read_as_upstreams() {
        assert_eq!(
            Status::not_found("apps", "deployments", "web").to_string(),
            r#"deployments.apps "web" not found"#
        );
        assert_eq!(
            Status::conflict("", "pods", "p", Status::MODIFIED).to_string(),
            format!(r#"Operation cannot be fulfilled on pods "p": {}"#, Status::MODIFIED)
        );
    }
}
