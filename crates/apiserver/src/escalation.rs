//! What keeps users from giving away more than they have.

use api::{Object, Status};
use serde_json::Value;

use crate::authn::User;
use crate::authz::Attributes;
use crate::gate::Gate;
use crate::registry::Address;

impl Gate {
    /// Nobody may give away, through a role or a binding, rights that they do
    /// not have, unless they may `escalate` or `bind`.
    pub(crate) fn guard_escalation(
        &self,
        user: &User,
        address: &Address,
        object: &Object,
    ) -> Result<(), Status> {
        if address.kind.group != "rbac.authorization.k8s.io" || user.is_in(crate::authn::MASTERS) {
            return Ok(());
        }
        let rules_of = |value: Option<&Value>| -> Vec<crate::authz::Rule> {
            value.cloned().and_then(|rules| serde_json::from_value(rules).ok()).unwrap_or_default()
        };
        let (verb, resource, name, rules) = if address.kind.resource.ends_with("bindings") {
            let role = object.text(&["roleRef", "name"]).to_owned();
            let resource =
                if object.text(&["roleRef", "kind"]) == "ClusterRole" { "clusterroles" } else { "roles" };
            let namespace = if resource == "roles" { address.namespace.as_str() } else { "" };
            let found = self.registry().cache().resource(&address.kind.group, resource).get(namespace, &role);
            let found = found.and_then(|stored| stored.object().ok());
            ("bind", resource, role, rules_of(found.as_ref().and_then(|role| role.get("rules"))))
        } else {
            (
                "escalate",
                address.kind.resource.as_str(),
                object.name().to_owned(),
                rules_of(object.get("rules")),
            )
        };
        let ask = Attributes {
            verb: verb.into(),
            group: address.kind.group.clone(),
            version: address.kind.version.clone(),
            resource: resource.into(),
            namespace: address.namespace.clone(),
            name,
            ..Attributes::default()
        };
        if self.authorizer().allows(user, &ask).is_ok() {
            return Ok(());
        }
        let held = self.authorizer().rules(user, &address.namespace);
        match crate::authz::escalation(&held, &rules) {
            None => Ok(()),
            Some(rule) => Err(Status::forbidden(
                &address.kind.group,
                &address.kind.resource,
                object.name(),
                &format!(
                    "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
                    user.name,
                    user.groups,
                    serde_json::to_string(rule).unwrap_or_default()
                ),
            )),
        }
    }
}
