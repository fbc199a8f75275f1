//! What was allocated to a claim, and who uses it.

use std::collections::HashSet;

use api::{ErrorList, FieldError, Object, Path};
use serde_json::Value;

use super::claim::Requests;
use super::{
    MAX_CONFIGURATIONS, MAX_REQUESTS, binding_conditions, configuration, driver_name, is_short, label,
    pool_name, raw, set, text_of,
};
use crate::fields::{Fields, same};
use crate::kinds::pod::scheduling::node_selector;
use crate::report::Report;
use crate::{Part, metadata};

const MAX_USERS: usize = 256;
const MAX_CONDITIONS: usize = 8;

/// Rules for a change of a claim.
pub(in crate::kinds) fn claim_update(part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    if part != Part::Status {
        metadata::immutable(new.field("spec"), old.field("spec"), &Path::new("spec"), &mut errors);
        return errors;
    }
    let (before, after, path) = (old.field("status"), new.field("status"), Path::new("status"));
    users(new, old, &path.child("reservedFor"), &mut errors);
    let allocated: HashSet<_> =
        after.below(&["allocation", "devices"]).list("results").iter().map(id).collect();
    let rules = |device: &Value, path: &Path<'_>, errors: &mut ErrorList| {
        device_status(device, &allocated, path, errors);
    };
    let key = |device: &Value| id(device).join("/");
    set((after.list("devices"), usize::MAX), &key, &rules, &path.child("devices"), &mut errors);
    let (allocation, at) = (after.field("allocation"), path.child("allocation"));
    if before.has("allocation") && after.has("allocation") {
        metadata::immutable(allocation, before.field("allocation"), &at, &mut errors);
    } else if after.has("allocation") {
        let requests = Requests::of(new.below(&["spec", "devices"]));
        result(allocation, &requests, &at, &mut errors);
    }
    errors
}

/// What tells devices apart: driver, pool, name, and share.
fn id(device: &Value) -> [&str; 4] {
    ["driver", "pool", "device", "shareID"].map(|field| device.text(field))
}

fn users(new: &Object, old: &Object, path: &Path<'_>, errors: &mut ErrorList) {
    let (before, after) = (old.field("status").list("reservedFor"), new.field("status").list("reservedFor"));
    let rules = |user: &Value, path: &Path<'_>, errors: &mut ErrorList| {
        for field in ["resource", "name", "uid"] {
            errors.required_text(user, field, path);
        }
    };
    let key = |user: &Value| user.text("uid").to_owned();
    set((after, MAX_USERS), &key, &rules, path, errors);
    if after.is_empty() {
        return;
    }
    if !new.field("status").has("allocation") {
        errors.forbidden(path, "may not be specified when `allocated` is not set");
    } else if new.deletion_timestamp().is_some()
        && after.iter().any(|user| !before.iter().any(|one| same(one, user)))
    {
        let detail =
            "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.forbidden(path, detail);
    }
}

fn device_status(device: &Value, allocated: &HashSet<[&str; 4]>, path: &Path<'_>, errors: &mut ErrorList) {
    driver_name(device.text("driver"), &path.child("driver"), errors);
    pool_name(device, "pool", path, errors);
    label(device, "device", path, errors);
    if !allocated.contains(&id(device)) {
        errors.invalid(path, id(device).join("/"), "must be an allocated device in the claim");
    }
    is_short(device.list("conditions"), MAX_CONDITIONS, &path.child("conditions"), errors);
    if device.has("data") {
        raw(device.field("data"), &path.child("data"), errors);
    }
    let (network, at) = (device.field("networkData"), path.child("networkData"));
    for (field, most) in [("interfaceName", 256), ("hardwareAddress", 128)] {
        if network.text(field).len() > most {
            errors.add(FieldError::too_long(&at.child(field), most));
        }
    }
    set((network.list("ips"), 16), &text_of, &interface_address, &at.child("ips"), errors);
}

/// An address with its network: `192.0.2.5/24`.
fn interface_address(address: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let text = address.as_str().unwrap_or_default();
    if text.parse::<ipnet::IpNet>().is_err() {
        let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        errors.invalid(path, text, detail);
    }
}

fn result(allocation: &Value, requests: &Requests<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let (devices, at) = (allocation.field("devices"), path.child("devices"));
    let (list, results) = (devices.list("results"), at.child("results"));
    if is_short(list, MAX_REQUESTS, &results, errors) {
        for (index, one) in list.iter().enumerate() {
            let at = results.index(index);
            requests.reference(one.text("request"), &at.child("request"), errors);
            driver_name(one.text("driver"), &at.child("driver"), errors);
            pool_name(one, "pool", &at, errors);
            label(one, "device", &at, errors);
            binding_conditions(one, &at, errors);
        }
    }
    let (list, at) = (devices.list("config"), at.child("config"));
    // What the class says, and what the claim says.
    if is_short(list, 2 * MAX_CONFIGURATIONS, &at, errors) {
        for (index, one) in list.iter().enumerate() {
            let at = at.index(index);
            errors.required_one_of(&at.child("source"), one.text("source"), &["FromClaim", "FromClass"]);
            requests.references(one.list("requests"), &at.child("requests"), errors);
            configuration(one, &at, errors);
        }
    }
    if allocation.has("nodeSelector") {
        node_selector(allocation.field("nodeSelector"), &path.child("nodeSelector"), errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(status: Value) -> Object {
        let devices = json!({"requests": [{"name": "a", "exactly": {"deviceClassName": "gpu"}}]});
        Object::from_value(json!({"spec": {"devices": devices}, "status": status})).expect("an object")
    }

    #[test]
    fn statuses() {
        let told = |new: &Value, old: &Value| {
            let found = claim_update(Part::Status, &object(new.clone()), &object(old.clone()));
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let one = |request: &str, device: &str| json!({"request": request, "driver": "a.b", "pool": "p", "device": device});
        let allocated = |request: &str, device: &str| json!({"allocation": {"devices": {"results": [one(request, device)]}}});
        let none = json!({});
        let good = allocated("a", "d");
        assert_eq!(told(&good, &none), Vec::<String>::new());
        assert_eq!(told(&none, &good), Vec::<String>::new(), "a claim is given back");
        let user = json!({"resource": "pods", "name": "p", "uid": "u"});
        let mut used = good.clone();
        used["reservedFor"] = json!([user]);
        used["devices"] = json!([{"driver": "a.b", "pool": "p", "device": "d"}]);
        assert_eq!(told(&used, &good), Vec::<String>::new());
        for (new, old, expected) in [
            (
                json!({"reservedFor": [user]}),
                &none,
                "status.reservedFor: Forbidden: may not be specified when `allocated` is not set".to_owned(),
            ),
            (
                json!({"devices": [{"driver": "a.b", "pool": "p", "device": "d"}]}),
                &none,
                "status.devices[0]: Invalid value: \"a.b/p/d/\": must be an allocated device in the claim"
                    .to_owned(),
            ),
        ] {
            assert_eq!(told(&new, old), [expected]);
        }
        assert!(told(&allocated("a", "e"), &good)[0].ends_with("field is immutable"));
        assert!(
            told(&allocated("b", "d"), &none)[0]
                .starts_with("status.allocation.devices.results[0].request: ")
        );
    }
}
