//! `cluster-info`: where the control plane is, and all there is to say about it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;
use wire::node::{LogsRequest, PodRef};

use super::Verb;
use crate::error::Error;
use crate::kube::Kube;
use crate::output::{self, Format};

#[derive(Args)]
pub(crate) struct ClusterInfo {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Print the state of the cluster, for debugging
    Dump(Dump),
}

#[derive(Args)]
struct Dump {
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Of these namespaces; by default the current one and kube-system
    #[arg(long, value_delimiter = ',')]
    namespaces: Vec<String>,
    /// A folder to write files to; - is standard output
    #[arg(long, default_value = "")]
    output_directory: String,
    /// json, or yaml
    #[arg(short = 'o', long, default_value = "json")]
    output: String,
}

impl Verb for ClusterInfo {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        match self.what {
            Some(What::Dump(dump)) => dump.run(kube).await,
            None => addresses(kube).await,
        }
    }
}

async fn addresses(kube: &Kube) -> Result<(), Error> {
    let server = kube.session()?.server;
    let services = kube.discovery().await?.of_kind("v1", "Service")?;
    let namespace = kube.demanded_namespace().unwrap_or("kube-system");
    let found = kube.list(services.target(namespace, ""), "kubernetes.io/cluster-service=true", "").await?;
    output::line(format!("Kubernetes control plane is running at {server}"))?;
    for service in found {
        let service = service.into_value();
        let name = service["metadata"]["labels"]["kubernetes.io/name"].as_str();
        let name = name.or_else(|| service["metadata"]["name"].as_str()).unwrap_or_default();
        output::line(format!("{name} is running at {}", link(&server, &service)))?;
    }
    output::line("\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.")
}

/// How a service is reached: by its load balancer, or through the API server.
fn link(server: &str, service: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ports = || service["spec"]["ports"].as_array().into_iter().flatten();
    if let Some(balancer) = service["status"]["loadBalancer"]["ingress"].get(0) {
        let host = balancer["ip"].as_str().or_else(|| balancer["hostname"].as_str()).unwrap_or_default();
        return ports().map(|port| format!("http://{host}:{} ", port["port"])).collect();
    }
    let mut name = text(&service["metadata"]["name"]);
    if let Some(port) = ports().next() {
        let port_name = text(&port["name"]);
        let is_https = port_name == "https" || port["port"] == 443;
        name = match (is_https, port_name.as_str()) {
            (true, port) => format!("https:{name}:{port}"),
            (false, "") => name,
            (false, port) => format!("{name}:{port}"),
        };
    }
    let namespace = text(&service["metadata"]["namespace"]);
    format!("{server}/api/v1/namespaces/{namespace}/services/{name}/proxy")
}

impl Dump {
    async fn run(&self, kube: &Kube) -> Result<(), Error> {
        let format = Format::parse(&self.output)?;
        let (ending, discovery) =
            (if self.output == "yaml" { "yaml" } else { "json" }, kube.discovery().await?);
        let list = async |api_version: &str, kind: &str, namespace: &str| {
            let resource = discovery.of_kind(api_version, kind)?;
            let objects = kube.list(resource.target(namespace, ""), "", "").await?;
            let items: Vec<Value> = objects.into_iter().map(api::Object::into_value).collect();
            Ok::<Value, Error>(serde_json::json!({"apiVersion": api_version, "items": items,
                "kind": format!("{kind}List"), "metadata": {"resourceVersion": ""}}))
        };
        let nodes = list("v1", "Node", "").await?;
        self.put(Path::new(&format!("nodes.{ending}")), &format.print(&nodes, true)?)?;
        let namespaces = if self.all_namespaces {
            let all = list("v1", "Namespace", "").await?;
            let names = all["items"].as_array().into_iter().flatten();
            names.filter_map(|one| one["metadata"]["name"].as_str().map(str::to_owned)).collect()
        } else if self.namespaces.is_empty() {
            vec!["kube-system".to_owned(), kube.namespace()?]
        } else {
            self.namespaces.clone()
        };
        for namespace in namespaces {
            for (api_version, kind, file) in [
                ("v1", "Event", "events"),
                ("v1", "ReplicationController", "replication-controllers"),
                ("v1", "Service", "services"),
                ("apps/v1", "DaemonSet", "daemonsets"),
                ("apps/v1", "Deployment", "deployments"),
                ("apps/v1", "ReplicaSet", "replicasets"),
                ("v1", "Pod", "pods"),
            ] {
                let all = list(api_version, kind, &namespace).await?;
                let path = PathBuf::from(&namespace).join(format!("{file}.{ending}"));
                self.put(&path, &format.print(&all, true)?)?;
                if kind == "Pod" {
                    for pod in all["items"].as_array().into_iter().flatten() {
                        self.logs(kube, pod).await?;
                    }
                }
            }
        }
        if !["", "-"].contains(&self.output_directory.as_str()) {
            output::line(format!("Cluster info dumped to {}", self.output_directory))?;
        }
        Ok(())
    }

    async fn logs(&self, kube: &Kube, pod: &Value) -> Result<(), Error> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
        for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
            let container = text(&container["name"]);
            let reference = PodRef {
                namespace: namespace.clone(),
                name: name.clone(),
                container: container.clone(),
                ..PodRef::default()
            };
            let request = LogsRequest { pod: Some(reference), ..LogsRequest::default() };
            let mut log = Vec::new();
            // A container that never ran has no log, which the dump says.
            match kube.client().await?.node().logs(request).await {
                Ok(chunks) => {
                    let mut chunks = chunks.into_inner();
                    while let Ok(Some(chunk)) = chunks.message().await {
                        log.extend_from_slice(&chunk.data);
                    }
                }
                Err(error) => {
                    log.extend_from_slice(format!("Request log error: {}\n", error.message()).as_bytes())
                }
            }
            let body = format!(
                "==== START logs for container {container} of pod {namespace}/{name} ====\n{}==== END logs for \
                 container {container} of pod {namespace}/{name} ====\n",
                String::from_utf8_lossy(&log)
            );
            self.put(&PathBuf::from(&namespace).join(&name).join("logs.txt"), &body)?;
        }
        Ok(())
    }

    /// Writes a part, or adds to it: to standard output, or to a file.
    fn put(&self, path: &Path, text: &str) -> Result<(), Error> {
        use std::io::Write as _;
        if ["", "-"].contains(&self.output_directory.as_str()) {
            return output::write(text);
        }
        let path = Path::new(&self.output_directory).join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        Ok(file.write_all(text.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn services_have_links() {
        let service = |spec: Value, status: Value| json!({"metadata": {"name": "dns", "namespace": "kube-system"}, "spec": spec, "status": status});
        let plain = service(json!({"ports": [{"name": "dns", "port": 53}]}), json!({}));
        assert_eq!(
            link("https://a", &plain),
            "https://a/api/v1/namespaces/kube-system/services/dns:dns/proxy"
        );
        let secure = service(json!({"ports": [{"port": 443}]}), json!({}));
        assert!(link("", &secure).contains("https:dns:/proxy"));
        let balanced = service(
            json!({"ports": [{"port": 80}]}),
            json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}),
        );
        assert_eq!(link("", &balanced), "http://1.2.3.4:80 ");
    }
}
