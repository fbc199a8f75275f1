//! Services of all types.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::changes::How;
use crate::error::Error;

#[derive(Subcommand)]
pub(super) enum Service {
    /// On an address of the cluster
    Clusterip(ClusterIp),
    /// On a port of every node
    Nodeport(NodePort),
    /// Behind a load balancer
    Loadbalancer(Plain),
    /// Another name for a name outside
    Externalname(ExternalName),
}

#[derive(Args)]
pub(super) struct Plain {
    name: String,
    /// PORT, or PORT:TARGET
    #[arg(long, value_delimiter = ',')]
    tcp: Vec<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
pub(super) struct ClusterIp {
    #[command(flatten)]
    plain: Plain,
    /// The address, or None
    #[arg(long, default_value = "")]
    clusterip: String,
}

#[derive(Args)]
pub(super) struct NodePort {
    #[command(flatten)]
    plain: Plain,
    /// The port of the nodes
    #[arg(long, default_value_t = 0)]
    node_port: u16,
}

#[derive(Args)]
pub(super) struct ExternalName {
    #[command(flatten)]
    plain: Plain,
    /// The name outside
    #[arg(long)]
    external_name: String,
}

impl Service {
    pub(super) fn object(self) -> Result<(Value, How), Error> {
        match self {
            Self::Clusterip(ClusterIp { plain, clusterip }) => {
                if plain.tcp.is_empty() && clusterip != "None" {
                    return Err(Error::said("at least one tcp port specifier must be provided"));
                }
                let mut spec = plain.spec("ClusterIP")?;
                if !clusterip.is_empty() {
                    spec["clusterIP"] = clusterip.into();
                }
                Ok(plain.made(spec))
            }
            Self::Nodeport(NodePort { plain, node_port }) => {
                let mut spec = plain.needed("NodePort")?;
                if node_port > 0 {
                    for port in spec["ports"].as_array_mut().into_iter().flatten() {
                        port["nodePort"] = node_port.into();
                    }
                }
                Ok(plain.made(spec))
            }
            Self::Loadbalancer(plain) => {
                let spec = plain.needed("LoadBalancer")?;
                Ok(plain.made(spec))
            }
            Self::Externalname(ExternalName { plain, external_name }) => {
                let mut spec = plain.spec("ExternalName")?;
                spec["externalName"] = external_name.into();
                Ok(plain.made(spec))
            }
        }
    }
}

impl Plain {
    fn needed(&self, kind: &str) -> Result<Value, Error> {
        if self.tcp.is_empty() {
            return Err(Error::said("at least one tcp port specifier must be provided"));
        }
        self.spec(kind)
    }

    fn spec(&self, kind: &str) -> Result<Value, Error> {
        let ports = self.tcp.iter().map(|text| port(text)).collect::<Result<Vec<_>, _>>()?;
        let mut spec = json!({"type": kind, "selector": {"app": self.name}});
        if !ports.is_empty() {
            spec["ports"] = ports.into();
        }
        Ok(spec)
    }

    fn made(self, spec: Value) -> (Value, How) {
        let metadata = json!({"name": self.name, "labels": {"app": self.name}});
        (json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}), self.how)
    }
}

/// Reads `80`, `80:8080` or `80:http`.
fn port(text: &str) -> Result<Value, Error> {
    let bad = |what: &str| Error::said(format!("{what} in --tcp {text:?}"));
    let (port, target) = text.split_once(':').unwrap_or((text, text));
    let number: u16 = port.parse().map_err(|_| bad("no port number"))?;
    let (target_port, name) = match target.parse::<u16>() {
        Ok(target) => (json!(target), format!("{number}-{target}")),
        Err(_) if !target.is_empty() => (json!(target), format!("{number}-{target}")),
        Err(_) => return Err(bad("no target port")),
    };
    let name = if text.contains(':') { name } else { number.to_string() };
    Ok(json!({"name": name, "port": number, "protocol": "TCP", "targetPort": target_port}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        assert_eq!(
            port("80:8080").expect("pair"),
            json!({"name": "80-8080", "port": 80, "protocol": "TCP", "targetPort": 8080})
        );
        assert_eq!(port("80").expect("one")["name"], "80");
        assert_eq!(port("80:http").expect("name")["targetPort"], "http");
        assert!(port("x").is_err() && port("80:").is_err());
    }
}
