//! Named formats of texts: `format.dns1123Label().validate(text)`.

use crate::cel::eval::{Outcome, Run};
use crate::cel::value::Value;
use crate::custom::has_format;
use crate::names;

const KNOWN: [&str; 13] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "qualifiedName",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

pub(super) fn call(run: &Run<'_>, name: &str, args: &[Value]) -> Option<Outcome> {
    let known = |wanted: &str| KNOWN.into_iter().find(|known| *known == wanted);
    match (name, args) {
        ("format.named", [Value::Text(name)]) => Some(Ok(Value::optional(known(name).map(Value::Format)))),
        ("validate", [Value::Format(format), Value::Text(text)]) => {
            let charged = run.charge_text(text.len());
            Some(charged.map(|()| errors(format, text)))
        }
        (_, []) => known(name.strip_prefix("format.")?).map(|format| Ok(Value::Format(format))),
        _ => None,
    }
}

/// What is wrong with a text; none if nothing is.
fn errors(format: &str, text: &str) -> Value {
    let of_schema = |known: &str, what: &str| {
        if has_format(known, text) { Vec::new() } else { vec![what.to_owned()] }
    };
    let found = match format {
        "dns1123Label" => names::dns_label(text, false),
        "dns1123Subdomain" => names::dns_subdomain(text, false),
        "dns1035Label" => names::dns1035_label(text, false),
        "dns1123LabelPrefix" => names::dns_label(text, true),
        "dns1123SubdomainPrefix" => names::dns_subdomain(text, true),
        "dns1035LabelPrefix" => names::dns1035_label(text, true),
        "qualifiedName" => names::qualified(text),
        "labelValue" => names::label_value(text),
        "uri" => of_schema("uri", "invalid URI"),
        "uuid" => of_schema("uuid", "does not match the UUID format"),
        "byte" => of_schema("byte", "invalid base64"),
        "date" => of_schema("date", "invalid date"),
        _ => of_schema("datetime", "invalid datetime"),
    };
    let list = Value::list(found.iter().map(|one| Value::text(one)).collect());
    Value::optional(Some(list).filter(|_| !found.is_empty()))
}
