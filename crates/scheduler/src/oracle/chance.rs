//! Nodes and pods by chance; small ranges, so that things meet.

use api::types::core::v1::{Node, Pod};
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::testing::{labelled, node_json};

pub(super) struct Chance(pub(super) StdRng);

impl Chance {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    /// True once in so many times.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn one_of(&mut self, list: &[&str]) -> String {
        list[self.below(list.len())].to_owned()
    }

    pub(super) fn node(&mut self, name: &str) -> Node {
        let mut labels = json!({});
        if !self.once_in(6) {
            labels["zone"] = json!(self.one_of(&["a", "b", "c"]));
        }
        if !self.once_in(6) {
            labels["kubernetes.io/hostname"] = json!(name);
        }
        if self.once_in(3) {
            labels["disk"] = json!("ssd");
        }
        let mut spec = json!({"unschedulable": self.once_in(10)});
        if self.once_in(4) {
            let effect = self.one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"]);
            spec["taints"] = json!([{"key": self.one_of(&["k", "l"]), "value": "v", "effect": effect}]);
        }
        let allocatable = json!({"cpu": "4", "memory": "8Gi", "pods": self.one_of(&["3", "8", "20"])});
        node_json(name, allocatable, spec, labels)
    }

    fn term(&mut self) -> Value {
        let key = self.one_of(&["zone", "kubernetes.io/hostname", "disk"]);
        let app = self.one_of(&["web", "db"]);
        let mut term = json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key});
        match self.below(6) {
            0 => term["namespaces"] = json!(["other"]),
            1 => term["namespaceSelector"] = json!({"matchLabels": {"team": "x"}}),
            2 => term["namespaceSelector"] = json!({}),
            _ => {}
        }
        term
    }

    fn affinity(&mut self) -> Value {
        let mut affinity = json!({});
        for kind in ["podAffinity", "podAntiAffinity"] {
            if self.once_in(4) {
                affinity[kind]["requiredDuringSchedulingIgnoredDuringExecution"] = json!([self.term()]);
            }
            if self.once_in(4) {
                let weighted = json!({"weight": 1 + self.below(50), "podAffinityTerm": self.term()});
                affinity[kind]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([weighted]);
            }
        }
        affinity
    }

    fn constraint(&mut self, key: &str) -> Value {
        let mut constraint = json!({
            "maxSkew": 1 + self.below(3),
            "topologyKey": key,
            "whenUnsatisfiable": self.one_of(&["DoNotSchedule", "ScheduleAnyway"]),
            "labelSelector": {"matchLabels": {"app": self.one_of(&["web", "db"])}},
        });
        if constraint["whenUnsatisfiable"] == "DoNotSchedule" && self.once_in(4) {
            constraint["minDomains"] = json!(1 + self.below(4));
        }
        if self.once_in(4) {
            constraint["nodeAffinityPolicy"] = json!("Ignore");
        }
        if self.once_in(4) {
            constraint["nodeTaintsPolicy"] = json!("Honor");
        }
        constraint
    }

    /// What a pod asks for, and perhaps a port.
    pub(super) fn plain_pod(&mut self, name: &str) -> Pod {
        let mut container = json!({"name": "c", "resources": {"requests": {}}});
        if !self.once_in(4) {
            container["resources"]["requests"]["cpu"] = json!(format!("{}m", 100 * self.below(25)));
        }
        if !self.once_in(4) {
            container["resources"]["requests"]["memory"] = json!(format!("{}Mi", 256 * self.below(16)));
        }
        if self.once_in(5) {
            let port = 80 + self.below(2);
            container["ports"] = json!([{"containerPort": port, "hostPort": port}]);
        }
        let labels = json!({"app": self.one_of(&["web", "db", "none"])});
        let mut pod = labelled(name, labels, json!({"containers": [container]}));
        if self.once_in(4) {
            pod.metadata.namespace = Some("other".to_owned());
        }
        pod
    }

    pub(super) fn pod(&mut self, name: &str) -> Pod {
        let pod = self.plain_pod(name);
        let mut json = serde_json::to_value(pod).expect("encodes");
        let spec = &mut json["spec"];
        if self.once_in(2) {
            spec["affinity"] = self.affinity();
        }
        if self.once_in(3) {
            let mut constraints = vec![self.constraint("zone")];
            if self.once_in(2) {
                constraints.push(self.constraint("kubernetes.io/hostname"));
            }
            spec["topologySpreadConstraints"] = json!(constraints);
        }
        if self.once_in(5) {
            spec["nodeSelector"] = json!({"disk": "ssd"});
        }
        if self.once_in(3) {
            spec["tolerations"] = json!([{"key": self.one_of(&["k", "l"]), "operator": "Exists"}]);
        }
        if self.once_in(8) {
            json["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        serde_json::from_value(json).expect("a pod")
    }
}
