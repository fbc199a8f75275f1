//! The files that every container gets from its pod: `/etc/hosts`,
//! `/etc/resolv.conf`, `/etc/hostname`. Their text is pure.

use std::net::IpAddr;

use api::types::core::v1::Pod;

use crate::pod;

/// How names are resolved on this node.
#[derive(Clone, Debug, Default)]
pub struct Dns {
    /// The cluster's name servers.
    pub servers: Vec<String>,
    /// The cluster's domain.
    pub domain: String,
    /// The node's own `resolv.conf`.
    pub host: String,
}

/// A pod's `/etc/hosts`.
#[must_use]
pub fn hosts(pod: &Pod, addresses: &[IpAddr], domain: &str, host: &str) -> String {
    let spec = pod::spec(pod);
    let mut text = String::from("# Kubernetes-managed hosts file");
    if pod::uses_host_network(pod) {
        text.push_str(" (host network).\n");
        text.push_str(host);
    } else {
        text.push_str(
            ".\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
             fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let name = pod::hostname(pod);
        for address in addresses {
            match spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty()) {
                Some(subdomain) => {
                    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                    text.push_str(&format!(
                        "{address}\t{name}.{subdomain}.{namespace}.svc.{domain}\t{name}\n"
                    ));
                }
                None => text.push_str(&format!("{address}\t{name}\n")),
            }
        }
    }
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            text.push_str(&format!(
                "{}\t{}\n",
                alias.ip,
                alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t")
            ));
        }
    }
    text
}

/// A pod's `/etc/resolv.conf`.
#[must_use]
pub fn resolv_conf(pod: &Pod, dns: &Dns) -> String {
    let spec = pod::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let (mut servers, mut searches, mut options) = parse(&dns.host);
    let is_cluster = match policy {
        "ClusterFirst" => !pod::uses_host_network(pod),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    if policy == "None" {
        (servers, searches, options) = Default::default();
    } else if is_cluster && !dns.servers.is_empty() {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        servers.clone_from(&dns.servers);
        let mut own = vec![
            format!("{namespace}.svc.{}", dns.domain),
            format!("svc.{}", dns.domain),
            dns.domain.clone(),
        ];
        own.append(&mut searches);
        searches = own;
        options = vec!["ndots:5".to_owned()];
    }
    if let Some(config) = &spec.dns_config {
        servers.extend(config.nameservers.iter().flatten().cloned());
        searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            options.retain(|old| old.split(':').next() != Some(name));
            options
                .push(option.value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}:{value}")));
        }
    }
    render(&deduplicated(servers), &deduplicated(searches), &options)
}

fn parse(text: &str) -> (Vec<String>, Vec<String>, Vec<String>) {
    let (mut servers, mut searches, mut options) = (Vec::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => servers.extend(words.next().map(str::to_owned)),
            Some("search") => searches = words.map(str::to_owned).collect(),
            Some("options") => options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    (servers, searches, options)
}

fn deduplicated(list: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    list.into_iter().filter(|entry| seen.insert(entry.clone())).collect()
}

fn render(servers: &[String], searches: &[String], options: &[String]) -> String {
    let mut text = String::new();
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(
            serde_json::json!({"metadata": {"name": "web-0", "namespace": "shop"}, "spec": spec}),
        )
        .expect("a pod")
    }

    #[test]
    fn resolvers() {
        let dns = Dns {
            servers: vec!["10.96.0.10".to_owned()],
            domain: "cluster.local".to_owned(),
            host: "nameserver 1.1.1.1\nsearch corp\noptions edns0\n".to_owned(),
        };
        let cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local corp\nnameserver 10.96.0.10\noptions ndots:5\n";
        let host = "search corp\nnameserver 1.1.1.1\noptions edns0\n";
        let cases = [
            (serde_json::json!({"containers": []}), cluster),
            (serde_json::json!({"containers": [], "hostNetwork": true}), host),
            (
                serde_json::json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
                cluster,
            ),
            (serde_json::json!({"containers": [], "dnsPolicy": "Default"}), host),
            (
                serde_json::json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {
                    "nameservers": ["9.9.9.9"], "searches": ["a"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
                "search a\nnameserver 9.9.9.9\noptions ndots:2 edns0\n",
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(resolv_conf(&pod(spec.clone()), &dns), expected, "{spec}");
        }
    }

    #[test]
    fn host_files() {
        let address: IpAddr = "10.1.0.2".parse().expect("an address");
        let text = hosts(
            &pod(serde_json::json!({"containers": [], "subdomain": "db",
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]})),
            &[address],
            "cluster.local",
            "",
        );
        assert!(text.contains("10.1.0.2\tweb-0.db.shop.svc.cluster.local\tweb-0\n"), "{text}");
        assert!(text.ends_with("1.2.3.4\ta\tb\n"));
        let text = hosts(
            &pod(serde_json::json!({"containers": [], "hostNetwork": true})),
            &[],
            "c",
            "127.0.0.1 node\n",
        );
        assert!(text.contains("127.0.0.1 node"));
    }
}
