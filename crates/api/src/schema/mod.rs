//! What is known about the shape of objects: fields, their types, how lists
//! and maps merge, what a Go program would write for an empty value.
//!
//! A schema is data. Built-in kinds get theirs from the API tables, custom
//! resources from their definition, kubectl from the server's OpenAPI; decoding,
//! patching, encoding and documentation all read the same value.

mod conform;

use std::collections::{BTreeMap, HashMap};

pub use conform::{Conformed, TypeMismatch, conform};

/// A struct of a [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StructId(u32);

/// All structs that some kinds are made of.
#[derive(Debug, Default)]
pub struct Schema {
    structs: Vec<Struct>,
    by_name: HashMap<String, StructId>,
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Text; enumerations too.
    String,
    /// Base64 text in JSON.
    Bytes,
    /// `true` or `false`.
    Bool,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// A floating-point number.
    Float,
    /// `resource.Quantity`: text, or a number on input.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// `metav1.Time`.
    Time,
    /// `metav1.MicroTime`.
    MicroTime,
    /// `metav1.Duration`: text such as `1m30s`.
    Duration,
    /// Any JSON, kept as it is (`runtime.RawExtension`, `apiextensions.JSON`, unions).
    Any,
    /// `metav1.FieldsV1`: a set of field paths, kept as it is.
    Fields,
    /// A struct of the same schema.
    Struct(StructId),
    /// A list.
    List(Box<Shape>),
    /// A map with text keys.
    Map(Box<Shape>),
}

/// How a list merges in server-side apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Not said: as [`ListType::Atomic`].
    #[default]
    Unset,
    /// Replaced as a whole.
    Atomic,
    /// A set of scalars.
    Set,
    /// A map keyed by these fields of the elements.
    Map(Vec<String>),
}

/// How a map or struct merges in server-side apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapType {
    /// Not said: as [`MapType::Granular`].
    #[default]
    Unset,
    /// Field by field.
    Granular,
    /// Replaced as a whole.
    Atomic,
}

/// How a field merges in a strategic merge patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Lists merge by key, or as sets where there is no key.
    pub merge: bool,
    /// Only keys in the patch are retained where it says so (unions).
    pub retain_keys: bool,
    /// A map is replaced, not merged.
    pub replace: bool,
    /// The key by which list elements are told apart.
    pub merge_key: Option<String>,
}

/// Where a field is in the Kubernetes protobuf encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtoField {
    /// The field's number.
    pub number: u32,
    /// Whether integers are encoded as varint (`false`: length-delimited, or by shape).
    pub varint: bool,
    /// Whether it repeats.
    pub repeated: bool,
}

/// One field of a struct.
#[derive(Clone, Debug)]
pub struct Field {
    /// The type of its value.
    pub shape: Shape,
    /// The type's name in Go, for decode errors that clients read.
    pub go_type: String,
    /// A pointer in Go: absent and zero differ.
    pub pointer: bool,
    /// Left out when empty.
    pub omit_empty: bool,
    /// Left out when zero, structs too.
    pub omit_zero: bool,
    /// Must be given.
    pub required: bool,
    /// Strategic merge.
    pub patch: PatchStrategy,
    /// Server-side apply, for lists.
    pub list_type: ListType,
    /// Server-side apply, for maps and structs.
    pub map_type: MapType,
    /// The documented default, as JSON text.
    pub default: Option<String>,
    /// Protobuf; `None` where the field is not in that encoding.
    pub proto: Option<ProtoField>,
}

impl Field {
    /// A field that may be left out, of which nothing further is said.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            go_type: String::new(),
            pointer: false,
            omit_empty: true,
            omit_zero: false,
            required: false,
            patch: PatchStrategy::default(),
            list_type: ListType::Unset,
            map_type: MapType::Unset,
            default: None,
            proto: None,
        }
    }
}

/// A struct: a set of named fields.
#[derive(Clone, Debug)]
pub struct Struct {
    /// Package and name: `core/v1.PodSpec`.
    pub name: String,
    /// The fields by JSON name.
    pub fields: BTreeMap<String, Field>,
    /// Server-side apply treats the struct as one value.
    pub atomic: bool,
    /// Inlined structs that protobuf nests: the number of the nesting field and
    /// the names of the JSON fields inside.
    pub nested_proto: Vec<NestedProto>,
}

/// A struct that JSON inlines and protobuf nests.
#[derive(Clone, Debug)]
pub struct NestedProto {
    /// The nesting field's number.
    pub number: u32,
    /// The inlined struct.
    pub of: StructId,
}

impl Struct {
    /// The name without its package: `PodSpec`.
    #[must_use]
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

impl Schema {
    /// An empty schema.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reserves a struct's id, so that structs can refer to each other.
    pub fn declare(&mut self, name: &str) -> StructId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let id = StructId(u32::try_from(self.structs.len()).expect("far fewer than 2³² structs"));
        self.structs.push(Struct {
            name: name.to_owned(),
            fields: BTreeMap::new(),
            atomic: false,
            nested_proto: Vec::new(),
        });
        self.by_name.insert(name.to_owned(), id);
        id
    }

    /// A struct by id.
    #[must_use]
    pub fn get(&self, id: StructId) -> &Struct {
        &self.structs[id.0 as usize]
    }

    /// A struct by id, to fill.
    pub fn get_mut(&mut self, id: StructId) -> &mut Struct {
        &mut self.structs[id.0 as usize]
    }

    /// A struct by name: `core/v1.Pod`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<StructId> {
        self.by_name.get(name).copied()
    }

    /// All structs with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (StructId, &Struct)> {
        self.structs.iter().zip(0..).map(|(one, index)| (StructId(index), one))
    }
}
