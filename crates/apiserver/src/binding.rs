//! A pod gets its node.

use api::{Object, Reason, Status};
use resources::Part;
use serde_json::{Value, json};

use crate::conditions;
use crate::gate::Gate;
use crate::registry::{Address, Caller, Owners, UpdateOptions, Written};

impl Gate {
    /// Binds a pod to a node, once.
    ///
    /// # Errors
    /// As a status.
    pub async fn bind(
        &self,
        caller: &Caller,
        address: &Address,
        binding: Object,
        dry_run: bool,
    ) -> Result<Written, Status> {
        let (binding, warnings) =
            self.registry().admit_part(caller, address, "binding", binding, dry_run).await?;
        let node = binding.text(&["target", "name"]).to_owned();
        let kind = binding.text(&["target", "kind"]);
        if node.is_empty() || !matches!(kind, "" | "Node") {
            let field = api::Path::new("target").child("name").to_string();
            return Err(Status::new(
                Reason::Invalid,
                format!(
                    "Binding \"\" is invalid: {field}: Required value: the target must be a node with a name"
                ),
            ));
        }
        let uid = binding.uid().to_owned();
        let (annotations, labels) = (binding.annotations().cloned(), binding.labels().cloned());
        let now = api::time::format(self.registry().clock().now());
        let transform = |pod: &Object| {
            if !uid.is_empty() && pod.uid() != uid {
                return Err(address.conflict(&format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                    pod.uid()
                )));
            }
            if pod.is_terminating() {
                return Err(address.conflict(&format!(
                    "pod {} is being deleted, cannot be assigned to a host",
                    pod.name()
                )));
            }
            let bound = pod.text(&["spec", "nodeName"]);
            if !bound.is_empty() {
                return Err(
                    address.conflict(&format!("pod {} is already assigned to node {bound:?}", pod.name()))
                );
            }
            let gates = pod.at(&["spec", "schedulingGates"]).and_then(Value::as_array);
            if gates.is_some_and(|gates| !gates.is_empty()) {
                return Err(
                    address.conflict(&format!("pod {} has non-empty .spec.schedulingGates", pod.name()))
                );
            }
            let mut pod = pod.clone();
            pod.set_at(&["spec", "nodeName"], node.as_str());
            for (key, value) in annotations.iter().flatten() {
                pod.set_at(&["metadata", "annotations", key], value.clone());
            }
            for (key, value) in labels.iter().flatten() {
                pod.set_at(&["metadata", "labels", key], value.clone());
            }
            conditions::put(
                &mut pod,
                json!({
                    "type": "PodScheduled", "status": "True", "lastTransitionTime": now, "lastProbeTime": null,
                }),
            );
            Ok((pod, Vec::new()))
        };
        let options =
            UpdateOptions { dry_run, owners: Owners::Keep, is_admitted: true, ..UpdateOptions::default() };
        self.registry().change(caller, address, Part::Other("binding"), &options, &transform).await?;
        Ok(Written::done(warnings))
    }
}
