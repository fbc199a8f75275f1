//! The types that expressions are checked against.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Anything: checked when it is evaluated.
    Dyn,
    /// `null`.
    Null,
    /// A truth value.
    Bool,
    /// A signed number.
    Int,
    /// An unsigned number.
    Uint,
    /// A floating-point number.
    Double,
    /// A text.
    Text,
    /// Bytes.
    Bytes,
    /// A time.
    Timestamp,
    /// A length of time.
    Duration,
    /// The type of types.
    Type,
    /// A list.
    List(Arc<Type>),
    /// A map: keys and values.
    Map(Arc<(Type, Type)>),
    /// A value that may be absent.
    Optional(Arc<Type>),
    /// An object with known fields.
    Object(Arc<BTreeMap<String, Type>>),
    /// A type that only has functions, by its name.
    Opaque(&'static str),
    /// In signatures: any type, the same wherever the number is the same.
    Param(usize),
}

impl Type {
    /// A list.
    #[must_use]
    pub fn list(of: Self) -> Self {
        Self::List(Arc::new(of))
    }

    /// A map.
    #[must_use]
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    /// An optional.
    #[must_use]
    pub fn optional(of: Self) -> Self {
        Self::Optional(Arc::new(of))
    }

    /// An object.
    #[must_use]
    pub fn object(fields: impl IntoIterator<Item = (String, Self)>) -> Self {
        Self::Object(Arc::new(fields.into_iter().collect()))
    }

    /// Whether `null` may stand for it.
    const fn takes_null(&self) -> bool {
        !matches!(
            self,
            Self::Bool
                | Self::Int
                | Self::Uint
                | Self::Double
                | Self::Text
                | Self::Bytes
                | Self::List(_)
                | Self::Map(_)
        )
    }

    /// Whether a value of type `given` can be used where this type is wanted;
    /// parameters take what they first meet.
    pub(super) fn takes(&self, given: &Self, params: &mut [Option<Self>; 2]) -> bool {
        match (self, given) {
            (Self::Param(at), _) => match params[*at].clone() {
                None => {
                    params[*at] = Some(given.clone());
                    true
                }
                Some(Self::Dyn) => {
                    params[*at] = Some(given.clone());
                    true
                }
                Some(met) => {
                    let fits = met.takes(given, params) || given.takes(&met, params);
                    if fits && met == Self::Null {
                        params[*at] = Some(given.clone());
                    }
                    fits
                }
            },
            (Self::Dyn, _) | (_, Self::Dyn) => true,
            (Self::List(wanted), Self::List(given)) | (Self::Optional(wanted), Self::Optional(given)) => {
                wanted.takes(given, params)
            }
            (Self::Map(wanted), Self::Map(given)) => {
                wanted.0.takes(&given.0, params) && wanted.1.takes(&given.1, params)
            }
            // Objects are maps to functions that look at no field, such as size.
            (Self::Map(_), Self::Object(_)) => false,
            (wanted, Self::Null) => wanted.takes_null(),
            (wanted, given) => wanted == given,
        }
    }

    /// The type with its parameters replaced.
    pub(super) fn filled(&self, params: &[Option<Self>; 2]) -> Self {
        match self {
            Self::Param(at) => params[*at].clone().unwrap_or(Self::Dyn),
            Self::List(of) => Self::list(of.filled(params)),
            Self::Optional(of) => Self::optional(of.filled(params)),
            Self::Map(of) => Self::map(of.0.filled(params), of.1.filled(params)),
            other => other.clone(),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Dyn => "dyn",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::Text => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            Self::Type => "type",
            Self::Object(_) => "object",
            Self::Opaque(name) => name,
            Self::List(of) => return write!(to, "list({of})"),
            Self::Map(of) => return write!(to, "map({}, {})", of.0, of.1),
            Self::Optional(of) => return write!(to, "optional_type({of})"),
            Self::Param(at) => return write!(to, "{}", if *at == 0 { "A" } else { "B" }),
        })
    }
}
