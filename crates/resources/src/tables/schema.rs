//! The schema of all types, from `fields.tsv`.

use std::collections::HashMap;

use api::schema::{
    Field, ListType, MapType, NestedProto, PatchStrategy, ProtoField, Schema, Shape, StructId,
};

use super::rows;

const FIELDS: &str = include_str!("../../tables/fields.tsv");

/// Structs without fields have no row.
const WITHOUT_FIELDS: [(&str, &str); 1] = [("apiextensions/v1", "CustomResourceSubresourceStatus")];

/// What reading gave.
pub(super) struct Read {
    /// All types.
    pub(super) schema: Schema,
    /// Go types that no row explains, as `package: type`. Empty, which a test
    /// keeps so.
    #[cfg_attr(not(test), expect(dead_code, reason = "the test of the tables reads it"))]
    pub(super) unresolved: Vec<String>,
}

struct Row {
    package: &'static str,
    of: &'static str,
    json: &'static str,
    go_type: &'static str,
    flags: Flags,
    proto: &'static str,
    patch_strategy: &'static str,
    merge_key: &'static str,
    list_type: &'static str,
    list_map_keys: &'static str,
    map_type: &'static str,
    struct_type: &'static str,
    default: &'static str,
}

#[derive(Clone, Copy)]
struct Flags(&'static str);

impl Flags {
    fn has(self, flag: &str) -> bool {
        self.0.split(',').any(|one| one == flag)
    }
}

impl Row {
    fn read(columns: &[&'static str]) -> Self {
        let at = |index: usize| columns.get(index).copied().unwrap_or_default();
        Self {
            package: at(0),
            of: at(1),
            json: at(2),
            go_type: at(3),
            flags: Flags(at(4)),
            proto: at(5),
            patch_strategy: at(6),
            merge_key: at(7),
            list_type: at(8),
            list_map_keys: at(9),
            map_type: at(10),
            struct_type: at(11),
            default: at(12),
        }
    }
}

type Names = HashMap<(&'static str, &'static str), &'static str>;

struct Reader {
    schema: Schema,
    aliases: Names,
    structs: HashMap<(&'static str, &'static str), StructId>,
    unresolved: Vec<String>,
}

/// Reads the table.
pub(super) fn read() -> Read {
    let rows: Vec<Row> = rows(FIELDS).map(|columns| Row::read(&columns)).collect();
    let mut reader = Reader {
        schema: Schema::new(),
        aliases: HashMap::new(),
        structs: HashMap::new(),
        unresolved: Vec::new(),
    };
    for row in &rows {
        if row.json == "=" {
            reader.aliases.insert((row.package, row.of), row.go_type);
        } else if !reader.structs.contains_key(&(row.package, row.of)) {
            let id = reader.schema.declare(&format!("{}.{}", row.package, row.of));
            reader.structs.insert((row.package, row.of), id);
        }
    }
    for (package, name) in WITHOUT_FIELDS {
        let id = reader.schema.declare(&format!("{package}.{name}"));
        reader.structs.insert((package, name), id);
    }
    let mut inlined = Vec::new();
    for row in &rows {
        if row.json == "=" {
            continue;
        }
        let owner = reader.structs[&(row.package, row.of)];
        if row.flags.has("inline") && row.json.is_empty() {
            if let Shape::Struct(of) = reader.shape(row.package, row.go_type) {
                inlined.push((owner, of, number(row.proto)));
            }
            continue;
        }
        let field = reader.field(row);
        let of = reader.schema.get_mut(owner);
        of.atomic |= row.struct_type == "atomic";
        of.fields.insert(row.json.to_owned(), field);
    }
    flatten(&mut reader.schema, inlined);
    Read { schema: reader.schema, unresolved: reader.unresolved }
}

/// Puts the fields of inlined structs beside those of their owner, innermost
/// first, and notes where protobuf nests them.
fn flatten(schema: &mut Schema, mut inlined: Vec<(StructId, StructId, Option<u32>)>) {
    while !inlined.is_empty() {
        let owners: Vec<StructId> = inlined.iter().map(|one| one.0).collect();
        let (ready, waiting): (Vec<_>, Vec<_>) =
            inlined.into_iter().partition(|one| !owners.contains(&one.1));
        if ready.is_empty() {
            return;
        }
        for (owner, of, number) in ready {
            let fields: Vec<(String, Field)> =
                schema.get(of).fields.iter().map(|(name, field)| (name.clone(), field.clone())).collect();
            let owner = schema.get_mut(owner);
            if let Some(number) = number {
                owner.nested_proto.push(NestedProto { number, of });
            }
            for (name, mut field) in fields {
                // Protobuf nests it; kind and apiVersion travel in the envelope.
                field.proto = None;
                owner.fields.entry(name).or_insert(field);
            }
        }
        inlined = waiting;
    }
}

fn number(proto: &str) -> Option<u32> {
    proto.split(',').nth(1)?.parse().ok()
}

impl Reader {
    fn field(&mut self, row: &Row) -> Field {
        let pointer = row.flags.has("pointer");
        Field {
            shape: self.shape(row.package, row.go_type),
            go_type: row.go_type.to_owned(),
            pointer,
            omit_empty: row.flags.has("omitempty"),
            omit_zero: row.flags.has("omitzero"),
            required: row.flags.has("required")
                || !(pointer || row.flags.has("omitempty") || row.flags.has("optional")),
            patch: PatchStrategy {
                merge: row.patch_strategy.split(',').any(|one| one == "merge"),
                retain_keys: row.patch_strategy.split(',').any(|one| one == "retainKeys"),
                replace: row.patch_strategy == "replace",
                merge_key: (!row.merge_key.is_empty()).then(|| row.merge_key.to_owned()),
            },
            list_type: match row.list_type {
                "atomic" => ListType::Atomic,
                "set" => ListType::Set,
                "map" => ListType::Map(row.list_map_keys.split(',').map(str::to_owned).collect()),
                _ => ListType::Unset,
            },
            map_type: match row.map_type {
                "atomic" => MapType::Atomic,
                "granular" => MapType::Granular,
                _ => MapType::Unset,
            },
            default: (!row.default.is_empty() && !row.default.starts_with("ref("))
                .then(|| row.default.to_owned()),
            proto: proto(row.proto),
        }
    }

    /// The shape of a Go type as it is written in a package.
    fn shape(&mut self, package: &'static str, go_type: &'static str) -> Shape {
        match go_type {
            "string" | "types.UID" => return Shape::String,
            "[]byte" => return Shape::Bytes,
            "bool" => return Shape::Bool,
            "int32" => return Shape::Int32,
            "int64" => return Shape::Int64,
            "float64" => return Shape::Float,
            "resource.Quantity" => return Shape::Quantity,
            "intstr.IntOrString" => return Shape::IntOrString,
            "runtime.RawExtension" | "*ast.InterfaceType" | "watch.Event" => return Shape::Any,
            _ => {}
        }
        if let Some(of) = go_type.strip_prefix("[]") {
            return Shape::List(Box::new(self.shape(package, of)));
        }
        if let Some((_, of)) = go_type.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
            return Shape::Map(Box::new(self.shape(package, of)));
        }
        let (packages, name) = match go_type.split_once('.') {
            Some((import, name)) => (imported(import), name),
            None => (vec![package], go_type),
        };
        for package in packages {
            match (package, name) {
                ("meta/v1", "Time") => return Shape::Time,
                ("meta/v1", "MicroTime") => return Shape::MicroTime,
                ("meta/v1", "Duration") => return Shape::Duration,
                ("meta/v1", "FieldsV1") => return Shape::Fields,
                ("apiextensions/v1", _) if name == "JSON" || name.starts_with("JSONSchemaPropsOr") => {
                    return Shape::Any;
                }
                _ => {}
            }
            if let Some(id) = self.structs.get(&(package, name)) {
                return Shape::Struct(*id);
            }
            if let Some(target) = self.aliases.get(&(package, name)).copied() {
                return self.shape(package, target);
            }
        }
        self.unresolved.push(format!("{package}: {go_type}"));
        Shape::Any
    }
}

/// The packages that an import name stands for, in the order to look.
fn imported(import: &str) -> Vec<&'static str> {
    match import {
        "metav1" => vec!["meta/v1"],
        "corev1" | "apiv1" => vec!["core/v1"],
        "authenticationv1" => vec!["authentication/v1"],
        // Some packages import core/v1 as v1, others meta/v1.
        "v1" => vec!["core/v1", "meta/v1"],
        _ => Vec::new(),
    }
}

fn proto(text: &str) -> Option<ProtoField> {
    let number = number(text)?;
    let mut parts = text.split(',');
    let varint = parts.next() == Some("varint");
    Some(ProtoField { number, varint, repeated: parts.nth(1) == Some("rep") })
}
