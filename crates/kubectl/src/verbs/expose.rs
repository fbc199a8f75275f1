//! `expose`: a service in front of a workload, a pod or another service.

use std::collections::BTreeSet;

use api::Object;
use clap::Args;
use serde_json::{Map, Value, json};

use super::Verb;
use crate::changes::How;
use crate::error::Error;
use crate::kube::{Info, Kube};
use crate::pods;
use crate::resource_builder::{self, Files, Selection};

#[derive(Args)]
pub(crate) struct Expose {
    /// TYPE NAME, or TYPE/NAME
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// The service's port; by default the ports of the containers
    #[arg(long, default_value = "")]
    port: String,
    /// The container's port, by number or name
    #[arg(long, default_value = "")]
    target_port: String,
    /// TCP, UDP or SCTP
    #[arg(long, default_value = "")]
    protocol: String,
    /// ClusterIP, NodePort, LoadBalancer or ExternalName
    #[arg(long = "type", default_value = "")]
    kind: String,
    /// The service's name
    #[arg(long, default_value = "")]
    name: String,
    /// Labels of the service
    #[arg(short = 'l', long, default_value = "")]
    labels: String,
    /// The pods, by labels
    #[arg(long, default_value = "")]
    selector: String,
    /// The service's address, or None
    #[arg(long, default_value = "")]
    cluster_ip: String,
    /// A further address
    #[arg(long, default_value = "")]
    external_ip: String,
    /// The load balancer's address
    #[arg(long, default_value = "")]
    load_balancer_ip: String,
    /// None or ClientIP
    #[arg(long, default_value = "")]
    session_affinity: String,
    #[command(flatten)]
    how: How,
}

impl Verb for Expose {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let selection = Selection::new(&self.words, &self.files);
        let services = kube.discovery().await?.of_kind("v1", "Service")?;
        for info in resource_builder::resolve(kube, &selection).await? {
            let object = kube.get(info.target()).await?;
            let service = self.service(&object).map_err(Error::said)?;
            let mut service = Object::from_value(service).map_err(|error| Error::said(error.to_string()))?;
            if kube.demanded_namespace().is_some() {
                service.set_at(&["metadata", "namespace"], info.namespace.clone());
            }
            let name = service.name().to_owned();
            let info = Info {
                resource: services.clone(),
                namespace: info.namespace,
                name,
                object: Some(service),
                source: None,
            };
            let made = self.how.create(kube, &info).await?;
            self.how.report(&info.label(), made, "exposed")?;
        }
        Ok(())
    }
}

impl Expose {
    fn service(&self, object: &Object) -> Result<Value, String> {
        const KINDS: [&str; 5] = ["ReplicationController", "Service", "Pod", "Deployment", "ReplicaSet"];
        if !KINDS.contains(&object.kind()) {
            return Err(format!("cannot expose a {}", kind_with_group(object)));
        }
        let read = |text: &str| pods::pairs(text).map_err(|error| error.to_string());
        let selector = if self.selector.is_empty() { selector_of(object)? } else { read(&self.selector)? };
        let labels = if self.labels.is_empty() {
            object.labels().cloned().unwrap_or_default()
        } else {
            read(&self.labels)?
        };
        let name = if self.name.is_empty() { object.name() } else { &self.name };
        let name: String = name.chars().take(63).collect();
        let mut metadata = json!({"name": name});
        if !labels.is_empty() {
            metadata["labels"] = Value::Object(labels);
        }
        let mut spec = json!({"selector": selector, "ports": self.ports(object)?});
        if spec["ports"].as_array().is_some_and(Vec::is_empty) {
            spec["ports"].take();
        }
        for (field, value) in [
            ("type", &self.kind),
            ("clusterIP", &self.cluster_ip),
            ("sessionAffinity", &self.session_affinity),
        ] {
            if !value.is_empty() {
                spec[field] = value.clone().into();
            }
        }
        if !["", "None", "ClientIP"].contains(&self.session_affinity.as_str()) {
            return Err(format!("unknown session affinity: {}", self.session_affinity));
        }
        if !self.external_ip.is_empty() {
            spec["externalIPs"] = json!([self.external_ip]);
        }
        if self.kind == "LoadBalancer" && !self.load_balancer_ip.is_empty() {
            spec["loadBalancerIP"] = self.load_balancer_ip.clone().into();
        }
        Ok(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}))
    }

    fn ports(&self, object: &Object) -> Result<Vec<Value>, String> {
        let known = ports_of(object);
        let mut numbers: Vec<i64> = Vec::new();
        if self.port.is_empty() {
            for (number, _) in &known {
                if !numbers.contains(number) {
                    numbers.push(*number);
                }
            }
            if numbers.is_empty() && self.cluster_ip != "None" {
                return Err("couldn't find port via --port flag or introspection".into());
            }
        } else {
            for text in self.port.split(',') {
                numbers.push(
                    text.parse().map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))?,
                );
            }
        }
        let several = numbers.len() > 1;
        let mut ports = Vec::new();
        for (index, number) in numbers.iter().enumerate() {
            let protocols: BTreeSet<&str> = known
                .iter()
                .filter(|(port, _)| port == number)
                .map(|(_, protocol)| protocol.as_str())
                .collect();
            let protocols: Vec<&str> = match (self.protocol.as_str(), protocols.len()) {
                ("", 0) => vec!["TCP"],
                ("", _) => protocols.into_iter().collect(),
                (protocol, _) => vec![protocol],
            };
            let target = match (self.target_port.as_str(), self.target_port.parse::<i64>()) {
                ("", _) => json!(number),
                (_, Ok(number)) => json!(number),
                (name, Err(_)) => json!(name),
            };
            for protocol in &protocols {
                let mut port = json!({"port": number, "protocol": protocol, "targetPort": target});
                if protocols.len() > 1 {
                    port["name"] = format!("port-{}-{}", index + 1, protocol.to_lowercase()).into();
                } else if several {
                    port["name"] = format!("port-{}", index + 1).into();
                }
                ports.push(port);
            }
        }
        Ok(ports)
    }
}

/// `Job.batch`.
fn kind_with_group(object: &Object) -> String {
    let group = object.api_version().split_once('/').map_or("", |(group, _)| group);
    api::status::qualified(group, object.kind())
}

/// The labels that select an object's pods.
fn selector_of(object: &Object) -> Result<Map<String, Value>, String> {
    let spec = object.at(&["spec", "selector"]);
    let map = |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
    match object.kind() {
        "Pod" => match object.labels() {
            Some(labels) if !labels.is_empty() => Ok(labels.clone()),
            _ => Err("the pod has no labels and cannot be exposed".into()),
        },
        "Service" | "ReplicationController" => match map(spec) {
            none if none.is_empty() => Err("the service has no pod selector set".into()),
            labels => Ok(labels),
        },
        _ => {
            let expressions = spec.and_then(|spec| spec.get("matchExpressions")).and_then(Value::as_array);
            if expressions.is_some_and(|list| !list.is_empty()) {
                return Err("couldn't retrieve selectors via --selector flag or introspection: couldn't convert expressions to map-based selector format".into());
            }
            Ok(map(spec.and_then(|spec| spec.get("matchLabels"))))
        }
    }
}

/// The ports of an object, with their protocols.
fn ports_of(object: &Object) -> Vec<(i64, String)> {
    let mut value = object.clone().into_value();
    let read = |port: &Value, field: &str| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        Some((port[field].as_i64()?, protocol.to_owned()))
    };
    if object.kind() == "Service" {
        let ports = value["spec"]["ports"].as_array();
        return ports.into_iter().flatten().filter_map(|port| read(port, "port")).collect();
    }
    let Some(spec) = pods::spec_of(&mut value) else { return Vec::new() };
    let containers = spec["containers"].as_array();
    let ports = containers.into_iter().flatten().filter_map(|one| one["ports"].as_array()).flatten();
    ports.filter_map(|port| read(port, "containerPort")).collect()
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches as _, Parser};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        expose: Expose,
    }

    fn expose(flags: &[&str], object: Value) -> Result<Value, String> {
        let matches = <Line as clap::CommandFactory>::command().get_matches_from([&["x"], flags].concat());
        let line = Line::from_arg_matches(&matches).expect("flags");
        line.expose.service(&Object::from_value(object).expect("object"))
    }

    fn web() -> Value {
        json!({"kind": "Deployment", "metadata": {"name": "web", "labels": {"l": "1"}},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {"containers": [
                {"ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]}]}}}})
    }

    #[test]
    fn services_are_made() {
        let service = expose(&[], web()).expect("service");
        assert_eq!(service["metadata"], json!({"name": "web", "labels": {"l": "1"}}));
        assert_eq!(service["spec"]["selector"], json!({"app": "web"}));
        assert_eq!(
            service["spec"]["ports"],
            json!([{"name": "port-1", "port": 80, "protocol": "TCP", "targetPort": 80},
                   {"name": "port-2", "port": 53, "protocol": "UDP", "targetPort": 53}])
        );
        let flags = ["--port", "90", "--target-port", "http", "--name", "n", "--type", "NodePort"];
        let service = expose(&flags, web()).expect("service");
        assert_eq!(service["spec"]["ports"], json!([{"port": 90, "protocol": "TCP", "targetPort": "http"}]));
        assert_eq!(
            (&service["spec"]["type"], &service["metadata"]["name"]),
            (&json!("NodePort"), &json!("n"))
        );
        assert!(expose(&[], json!({"kind": "Pod", "metadata": {"name": "p"}})).is_err());
        assert!(expose(&[], json!({"kind": "Job"})).is_err());
    }
}
