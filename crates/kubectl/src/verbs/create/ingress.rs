//! Ingresses, from rules in a line each.

use clap::Args;
use serde_json::{Value, json};

use crate::changes::How;
use crate::error::Error;

#[derive(Args)]
pub(super) struct Ingress {
    name: String,
    /// The class
    #[arg(long, default_value = "")]
    class: String,
    /// HOST/PATH=SERVICE:PORT[,tls[=SECRET]]; a path that ends in * is a prefix
    #[arg(long)]
    rule: Vec<String>,
    /// SERVICE:PORT for all that no rule is about
    #[arg(long, default_value = "")]
    default_backend: String,
    /// KEY=VALUE
    #[arg(long)]
    annotation: Vec<String>,
    #[command(flatten)]
    how: How,
}

impl Ingress {
    pub(super) fn object(self) -> Result<(Value, How), Error> {
        if self.rule.is_empty() && self.default_backend.is_empty() {
            return Err(Error::said(
                "not enough information provided: every ingress has to either specify a default-backend (which catches all traffic) or a list of rules (which catch specific paths)",
            ));
        }
        let mut object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": self.name}, "spec": {}});
        for text in &self.annotation {
            let (key, value) =
                text.split_once('=').ok_or_else(|| Error::said(format!("{text} is not key=value")))?;
            object["metadata"]["annotations"][key] = value.into();
        }
        if !self.class.is_empty() {
            object["spec"]["ingressClassName"] = self.class.clone().into();
        }
        if !self.default_backend.is_empty() {
            object["spec"]["defaultBackend"] = backend(&self.default_backend)?;
        }
        let (mut rules, mut tls): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
        for text in &self.rule {
            add(text, &mut rules, &mut tls)?;
        }
        if !rules.is_empty() {
            object["spec"]["rules"] = rules.into();
        }
        if !tls.is_empty() {
            object["spec"]["tls"] = tls.into();
        }
        Ok((object, self.how))
    }
}

fn backend(text: &str) -> Result<Value, Error> {
    match text.split_once(':') {
        Some((service, port)) if !service.is_empty() && !port.is_empty() => {
            let port = match port.parse::<u16>() {
                Ok(number) => json!({"number": number}),
                Err(_) => json!({"name": port}),
            };
            Ok(json!({"service": {"name": service, "port": port}}))
        }
        _ => Err(Error::said(format!("{text:?} is not service:port"))),
    }
}

/// Adds a rule to those that there are; a host's paths stand together.
fn add(text: &str, rules: &mut Vec<Value>, tls: &mut Vec<Value>) -> Result<(), Error> {
    let bad = || {
        Error::said(format!(
            "rule {text} is invalid and should be in format host/path=svcname:svcport[,tls[=secret]]"
        ))
    };
    let (rule, secret) = match text.split_once(',') {
        None => (text, None),
        Some((rule, "tls")) => (rule, Some("")),
        Some((rule, rest)) => (rule, Some(rest.strip_prefix("tls=").ok_or_else(bad)?)),
    };
    let (place, service) = rule.split_once('=').ok_or_else(bad)?;
    let (host, path) = place.find('/').map(|at| place.split_at(at)).ok_or_else(bad)?;
    let (path, kind) = match path.strip_suffix('*') {
        Some(path) => (path, "Prefix"),
        None => (path, "Exact"),
    };
    let entry = json!({"path": path, "pathType": kind, "backend": backend(service)?});
    let is_host = |rule: &&mut Value| rule["host"].as_str().unwrap_or_default() == host;
    match rules.iter_mut().find(is_host) {
        Some(rule) => {
            if let Some(paths) = rule["http"]["paths"].as_array_mut() {
                paths.push(entry);
            }
        }
        None => {
            let mut rule = json!({"http": {"paths": [entry]}});
            if !host.is_empty() {
                rule["host"] = host.into();
            }
            rules.push(rule);
        }
    }
    if let Some(secret) = secret {
        let known = tls.iter_mut().find(|one| one["secretName"].as_str().unwrap_or_default() == secret);
        match known {
            Some(one) => {
                if let Some(hosts) = one["hosts"].as_array_mut()
                    && !host.is_empty()
                    && !hosts.iter().any(|known| known == host)
                {
                    hosts.push(host.into());
                }
            }
            None => {
                let mut one = json!({"hosts": if host.is_empty() { vec![] } else { vec![host] }});
                if !secret.is_empty() {
                    one["secretName"] = secret.into();
                }
                tls.push(one);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let (mut rules, mut tls) = (Vec::new(), Vec::new());
        for text in ["a.b/x*=s:80,tls=t", "a.b/y=s:http", "/=z:1"] {
            add(text, &mut rules, &mut tls).expect(text);
        }
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[0]["http"]["paths"][0]["pathType"], "Prefix");
        assert_eq!(
            rules[0]["http"]["paths"][1]["backend"],
            json!({"service": {"name": "s", "port": {"name": "http"}}})
        );
        assert_eq!(tls, [json!({"hosts": ["a.b"], "secretName": "t"})]);
        for bad in ["a.b=s:80", "a/b=s", "a/b=s:1,x"] {
            assert!(add(bad, &mut rules, &mut tls).is_err(), "{bad}");
        }
    }
}
