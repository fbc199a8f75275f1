//! Parts of pods that several plugins read.

use api::Object;
use serde_json::Value;

/// The fields of a pod's specification that hold containers, in upstream's order.
pub(super) const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// A list of a pod's specification; empty if it is not there.
pub(super) fn list<'a>(pod: &'a Object, field: &str) -> &'a [Value] {
    pod.at(&["spec", field]).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
