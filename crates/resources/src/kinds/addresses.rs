//! Rules for the addresses of services: those taken, and the ranges that they are from.

use api::{ErrorList, Object, Path};
use serde_json::Value;

use crate::fields::Fields;
use crate::report::Report;
use crate::{Part, metadata, names};

/// Rules for an address (`ValidateIPAddress`).
pub(super) fn ip_address(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (parent, root) = (object.below(&["spec", "parentRef"]), Path::new("spec"));
    let path = root.child("parentRef");
    if !parent.is_object() {
        errors.required(&path, "");
        return errors;
    }
    let group = parent.text("group");
    if !group.is_empty() {
        errors.invalid_all(&path.child("group"), group, names::subdomain(group));
    }
    for (field, is_required) in [("resource", true), ("name", true), ("namespace", false)] {
        let (text, path) = (parent.text(field), path.child(field));
        match text {
            "" if is_required => errors.required(&path, ""),
            "" => {}
            text => errors.invalid_all(&path, text, names::path_segment(text, false)),
        }
    }
    errors
}

/// Rules for a change of an address.
pub(super) fn ip_address_update(_part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (path, of) = (Path::new("spec"), ["spec", "parentRef"]);
    metadata::immutable(new.below(&of), old.below(&of), &path.child("parentRef"), &mut errors);
    errors
}

/// Rules for a range (`ValidateServiceCIDR`).
pub(super) fn service_cidr(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (ranges, root) = (object.field("spec").list("cidrs"), Path::new("spec"));
    let path = root.child("cidrs");
    if ranges.is_empty() {
        errors.required(&path, "at least one CIDR required");
    } else if ranges.len() > 2 {
        errors.invalid(&path, object.field("spec").clone(), "may only hold up to 2 values");
    } else {
        for (index, range) in ranges.iter().enumerate() {
            let text = range.as_str().unwrap_or_default();
            errors.invalid_all(&path.index(index), text, names::cidr(text));
        }
        let is_six = |range: &Value| range.as_str().is_some_and(|text| text.contains(':'));
        if let [first, second] = ranges
            && is_six(first) == is_six(second)
        {
            let why =
                "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
            errors.invalid(&path, ranges.to_vec(), why);
        }
    }
    errors
}

/// Rules for a change of a range: another family may be added, nothing else.
pub(super) fn service_cidr_update(_part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let ranges = |of: &Object| of.field("spec").list("cidrs").to_vec();
    let (new, old, root) = (ranges(new), ranges(old), Path::new("spec"));
    let path = root.child("cidrs");
    if new.len() != old.len() && (old.len(), new.len()) != (1, 2) {
        errors.invalid(&path, new, metadata::IMMUTABLE);
        return errors;
    }
    for (index, (new, old)) in new.iter().zip(&old).enumerate() {
        metadata::immutable(new, old, &path.index(index), &mut errors);
    }
    errors
}
