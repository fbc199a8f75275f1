//! What controllers ask of namespaces. Pure.

use api::types::core::v1::Namespace;

/// Whether new objects may be made in it.
#[must_use]
pub fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    phase != Some("Terminating") && namespace.metadata.deletion_timestamp.is_none()
}
