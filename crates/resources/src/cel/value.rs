//! The values that expressions work on.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use api::Quantity;
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;

use super::library::net::Url;

/// A value. Copies share what they hold.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A floating-point number.
    Double(f64),
    /// A text.
    Text(Arc<str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A list.
    List(Arc<Vec<Value>>),
    /// A map, or an object.
    Map(Arc<BTreeMap<Key, Value>>),
    /// A time.
    Timestamp(Timestamp),
    /// A length of time.
    Duration(SignedDuration),
    /// A type, by its name.
    Type(&'static str),
    /// A value that may be absent.
    Optional(Option<Arc<Value>>),
    /// A URL.
    Url(Arc<Url>),
    /// An address.
    Ip(IpAddr),
    /// A network.
    Cidr(IpNet),
    /// A quantity.
    Quantity(Quantity),
    /// A named format of texts.
    Format(&'static str),
    /// Something of the caller's own.
    Foreign(Arc<dyn Foreign>),
}

/// A value of the caller's own, such as an authorizer: it only has methods.
pub trait Foreign: Send + Sync + fmt::Debug {
    /// The name of its type.
    fn type_name(&self) -> &'static str;

    /// Calls a method. `None` if there is none that takes these arguments.
    fn call(&self, method: &str, args: &[Value]) -> Option<Result<Value, String>>;
}

/// A key of a map. Numbers that are equal are the same key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is too large for [`Self::Int`].
    Uint(u64),
    /// A text.
    Text(Arc<str>),
}

impl Key {
    /// The key as a value.
    #[must_use]
    pub fn value(&self) -> Value {
        match self {
            Self::Bool(is) => Value::Bool(*is),
            Self::Int(number) => Value::Int(*number),
            Self::Uint(number) => Value::Uint(*number),
            Self::Text(text) => Value::Text(Arc::clone(text)),
        }
    }

    /// The key that a value is, if it can be one.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(is) => Some(Self::Bool(*is)),
            Value::Int(number) => Some(Self::Int(*number)),
            Value::Uint(number) => Some(i64::try_from(*number).map_or(Self::Uint(*number), Self::Int)),
            Value::Double(number) => whole(*number).map(Self::Int),
            Value::Text(text) => Some(Self::Text(Arc::clone(text))),
            _ => None,
        }
    }
}

/// A float that is a whole number, as one.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
pub(super) fn whole(number: f64) -> Option<i64> {
    let fits = number.fract() == 0.0 && number.abs() < 9_223_372_036_854_775_808.0;
    fits.then_some(number as i64)
}

impl Value {
    /// A text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// A list.
    #[must_use]
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(items))
    }

    /// An optional.
    #[must_use]
    pub fn optional(of: Option<Self>) -> Self {
        Self::Optional(of.map(Arc::new))
    }

    /// A JSON value, without a schema.
    #[must_use]
    pub fn from_json(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(is) => Self::Bool(*is),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Self::Int(number),
                (None, Some(number)) => Self::Uint(number),
                (None, None) => Self::Double(number.as_f64().unwrap_or_default()),
            },
            Json::String(text) => Self::text(text),
            Json::Array(items) => Self::list(items.iter().map(Self::from_json).collect()),
            Json::Object(map) => Self::from_map(map),
        }
    }

    /// A JSON object, without a schema.
    #[must_use]
    pub fn from_map(map: &serde_json::Map<String, Json>) -> Self {
        let entries = map.iter().map(|(key, value)| (Key::Text(key.as_str().into()), Self::from_json(value)));
        Self::Map(Arc::new(entries.collect()))
    }

    /// The value as JSON.
    ///
    /// # Errors
    /// What has none.
    pub fn to_json(&self) -> Result<Json, String> {
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(is) => (*is).into(),
            Self::Int(number) => (*number).into(),
            Self::Uint(number) => (*number).into(),
            Self::Double(number) => whole(*number).map_or_else(|| Json::from(*number), Json::from),
            Self::Text(text) => (**text).into(),
            Self::Bytes(bytes) => {
                use base64::Engine as _;
                base64::engine::general_purpose::STANDARD.encode(bytes).into()
            }
            Self::List(items) => items.iter().map(Self::to_json).collect::<Result<_, _>>()?,
            Self::Map(map) => {
                let entry = |(key, value): (&Key, &Self)| match key {
                    Key::Text(key) => Ok(((**key).to_owned(), value.to_json()?)),
                    other => Err(format!("unsupported map key type: {}", other.value().type_name())),
                };
                Json::Object(map.iter().map(entry).collect::<Result<_, String>>()?)
            }
            Self::Timestamp(time) => time.to_string().into(),
            Self::Quantity(quantity) => quantity.to_string().into(),
            Self::Optional(Some(of)) => of.to_json()?,
            other => return Err(format!("unsupported type: {}", other.type_name())),
        })
    }

    /// The name of the value's type.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Foreign(of) => of.type_name(),
        }
    }

    /// How much of the budget it costs to look at all of the value, counted no
    /// further than `limit`: parts that are shared count each time, so that a
    /// small value can look very big.
    pub(super) fn size(&self, limit: u64) -> u64 {
        let mut left = limit;
        self.measure(&mut left);
        limit - left
    }

    fn measure(&self, left: &mut u64) {
        let own = match self {
            Self::Text(text) => 1 + text.len() as u64 / 10,
            Self::Bytes(bytes) => 1 + bytes.len() as u64 / 10,
            _ => 1,
        };
        *left = left.saturating_sub(own);
        let mut each = |value: &Self| {
            if *left > 0 {
                value.measure(left);
            }
            *left > 0
        };
        match self {
            Self::List(items) => items.iter().all(&mut each),
            Self::Map(map) => map.values().all(&mut each),
            Self::Optional(Some(of)) => each(of),
            _ => true,
        };
    }

    /// Whether it nests no deeper than `depth` and has no more parts than `parts`.
    pub(super) fn is_shallow(&self, depth: usize, parts: &mut u64) -> bool {
        if depth == 0 || *parts == 0 {
            return false;
        }
        *parts -= 1;
        match self {
            Self::List(items) => items.iter().all(|item| item.is_shallow(depth - 1, parts)),
            Self::Map(map) => map.values().all(|value| value.is_shallow(depth - 1, parts)),
            Self::Optional(Some(of)) => of.is_shallow(depth - 1, parts),
            _ => true,
        }
    }

    /// Whether it is what a value of its type is when nothing was said.
    pub(super) fn is_zero(&self) -> bool {
        match self {
            Self::Null | Self::Optional(None) => true,
            Self::Bool(is) => !is,
            Self::Int(number) => *number == 0,
            Self::Uint(number) => *number == 0,
            Self::Double(number) => *number == 0.0,
            Self::Text(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Map(map) => map.is_empty(),
            Self::Timestamp(time) => *time == Timestamp::UNIX_EPOCH,
            Self::Duration(duration) => duration.is_zero(),
            _ => false,
        }
    }

    /// The order of two values, where their types have one.
    pub(super) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => Some(one.cmp(other)),
            (Self::Text(one), Self::Text(other)) => Some(one.cmp(other)),
            (Self::Bytes(one), Self::Bytes(other)) => Some(one.cmp(other)),
            (Self::Timestamp(one), Self::Timestamp(other)) => Some(one.cmp(other)),
            (Self::Duration(one), Self::Duration(other)) => Some(one.cmp(other)),
            (Self::Quantity(one), Self::Quantity(other)) => Some(one.cmp(other)),
            _ => compare_numbers(self, other),
        }
    }
}

/// Numbers of different types are compared by what they are.
fn compare_numbers(one: &Value, other: &Value) -> Option<Ordering> {
    let exact = |value: &Value| match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::Uint(number) => Some(i128::from(*number)),
        _ => None,
    };
    if let (Some(one), Some(other)) = (exact(one), exact(other)) {
        return Some(one.cmp(&other));
    }
    match (one, other) {
        (Value::Double(one), Value::Double(other)) => one.partial_cmp(other),
        (Value::Double(one), other) => float_to_exact(*one, exact(other)?),
        (one, Value::Double(other)) => float_to_exact(*other, exact(one)?).map(Ordering::reverse),
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn float_to_exact(float: f64, exact: i128) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float.abs() > 1e30 {
        return float.partial_cmp(&0.0);
    }
    let floor = float.floor();
    let order = (floor as i128).cmp(&exact);
    Some(if order == Ordering::Equal && float > floor { Ordering::Greater } else { order })
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::List(one), Self::List(other)) => one == other,
            (Self::Map(one), Self::Map(other)) => one == other,
            (Self::Type(one), Self::Type(other)) | (Self::Format(one), Self::Format(other)) => one == other,
            (Self::Optional(one), Self::Optional(other)) => one == other,
            (Self::Url(one), Self::Url(other)) => one == other,
            (Self::Ip(one), Self::Ip(other)) => one == other,
            (Self::Cidr(one), Self::Cidr(other)) => one == other,
            _ => self.order(other) == Some(Ordering::Equal),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(is) => write!(to, "{is}"),
            Self::Int(number) => write!(to, "{number}"),
            Self::Uint(number) => write!(to, "{number}"),
            Self::Text(text) => to.write_str(text),
        }
    }
}
