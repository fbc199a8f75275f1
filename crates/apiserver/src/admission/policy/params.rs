//! A policy's parameters: objects that its bindings refer to.

use std::sync::Arc;

use api::Object;
use resources::Descriptor;
use serde_json::Value;

use super::definition::ParamKind;
use crate::admission::matching::selector;
use crate::cache::{Selected, WatchCache};
use crate::registry::Kinds;

/// The kind of a policy's parameters.
pub(super) fn find(kinds: &Kinds, wanted: &ParamKind) -> Result<Arc<Descriptor>, String> {
    let (group, version) = wanted.api_version.split_once('/').unwrap_or(("", &wanted.api_version));
    let is_it =
        |kind: &Arc<Descriptor>| kind.group == group && kind.version == version && kind.kind == wanted.kind;
    kinds.all().into_iter().find(is_it).ok_or_else(|| {
        format!("failed to find resource referenced by paramKind: '{group}/{version}, Kind={}'", wanted.kind)
    })
}

/// The parameters of a binding; one that is absent where the policy or the binding
/// wants none. Without any, there is nothing to judge by.
pub(super) fn collect(
    cache: &WatchCache,
    kind: Option<&Descriptor>,
    reference: &Value,
    namespace: &str,
) -> Result<Vec<Option<Object>>, String> {
    let Some(kind) = kind.filter(|_| reference.is_object()) else { return Ok(vec![None]) };
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let namespace = match (kind.namespaced, text("namespace")) {
        (true, "") if namespace.is_empty() => {
            return Err(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                    .to_owned(),
            );
        }
        (true, "") => namespace,
        (true, given) => given,
        (false, "") => "",
        (false, _) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
        }
    };
    let resource = cache.resource(&kind.storage.0, &kind.storage.1);
    let found: Vec<_> = match (text("name"), reference["selector"].is_object()) {
        ("", false) => return Err("one of name or selector must be provided".to_owned()),
        ("", true) => {
            let labels = selector(reference, "selector")?;
            let selected = Selected { namespace: namespace.to_owned(), labels, ..Selected::default() };
            resource.list(&selected, 0, None).0
        }
        (_, true) => return Err("paramRef.name and paramRef.selector are mutually exclusive".to_owned()),
        (name, false) => resource.get(namespace, name).into_iter().collect(),
    };
    if found.is_empty() && text("parameterNotFoundAction") == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    let read = |stored: &Arc<crate::stored::Stored>| {
        let mut object = stored.object().map_err(|error| error.to_string())?;
        kind.strategy.from_stored(&mut object);
        Ok(Some(object))
    };
    found.iter().map(read).collect()
}
