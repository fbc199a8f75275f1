//! `auth can-i`: asks the server whether the user, or another one, may do
//! something, or what all they may do.

use clap::Args;
use serde_json::{Value, json};

use super::review;
use crate::discovery::Discovery;
use crate::error::Error;
use crate::kube::Kube;
use crate::output;
use crate::output::table::Lines;
use crate::verbs::describe::compact_rules;

const VERBS: [&str; 16] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "use",
    "bind",
    "impersonate",
    "*",
    "approve",
    "sign",
    "escalate",
    "attest",
];
const PATH_VERBS: [&str; 8] = ["get", "put", "post", "head", "options", "delete", "patch", "*"];

#[derive(Args)]
pub(super) struct CanI {
    /// VERB, and TYPE, TYPE/NAME or /PATH
    words: Vec<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// A subresource, such as log
    #[arg(long, default_value = "")]
    subresource: String,
    /// List all that is allowed
    #[arg(long)]
    list: bool,
    /// Print no headers
    #[arg(long)]
    no_headers: bool,
    /// Print nothing; the exit code tells
    #[arg(short = 'q', long)]
    quiet: bool,
}

impl CanI {
    pub(super) async fn run(&self, kube: &Kube) -> Result<(), Error> {
        if self.list {
            return self.print_all(kube).await;
        }
        if self.no_headers {
            return Err(Error::said("--no-headers cannot be set without --list specified"));
        }
        let [verb, what] = self.words.as_slice() else {
            return Err(Error::said(
                "you must specify two arguments: verb resource or verb resource/resourceName.\nSee 'kubectl auth \
                 can-i -h' for help and examples.",
            ));
        };
        let namespace = if self.all_namespaces { String::new() } else { kube.namespace()? };
        let (spec, warnings) =
            attributes(kube.discovery().await?, verb, what, &self.subresource, &namespace)?;
        for warning in warnings {
            eprintln!("Warning: {warning}\n");
        }
        let asked =
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec});
        let status = review(kube, asked).await?["status"].take();
        let allowed = status["allowed"] == true;
        if !self.quiet {
            output::line(answer(&status))?;
        }
        if allowed { Ok(()) } else { Err(Error::Exit(1)) }
    }

    async fn print_all(&self, kube: &Kube) -> Result<(), Error> {
        if !self.words.is_empty() {
            return Err(Error::said("list option must be specified with no arguments"));
        }
        if self.quiet || self.all_namespaces || !self.subresource.is_empty() {
            return Err(Error::said(
                "list option can't be specified with neither quiet, all-namespaces nor subresource options",
            ));
        }
        let asked = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": kube.namespace()?}});
        let answer = review(kube, asked).await?;
        let status = &answer["status"];
        if status["incomplete"] == true {
            let why = status["evaluationError"].as_str().unwrap_or_default();
            eprintln!("Warning: the list may be incomplete: {why}");
        }
        let mut lines = Lines::default();
        if !self.no_headers {
            lines.push(["Resources", "Non-Resource URLs", "Resource Names", "Verbs"]);
        }
        let rules = ["resourceRules", "nonResourceRules"]
            .into_iter()
            .filter_map(|field| status[field].as_array())
            .flatten();
        for line in compact_rules(rules) {
            lines.push(line.split('\t'));
        }
        output::write(&lines.take())
    }
}

fn answer(status: &Value) -> String {
    if status["allowed"] == true {
        return "yes".into();
    }
    let mut text = String::from("no");
    for field in ["reason", "evaluationError"] {
        if let Some(why) = status[field].as_str().filter(|why| !why.is_empty()) {
            text.push_str(&format!(" - {why}"));
        }
    }
    text
}

/// What is asked, and what is odd about it.
fn attributes(
    discovery: &Discovery,
    verb: &str,
    what: &str,
    subresource: &str,
    namespace: &str,
) -> Result<(Value, Vec<String>), Error> {
    let mut warnings = Vec::new();
    if what.starts_with('/') {
        if !subresource.is_empty() {
            return Err(Error::said("--subresource can not be used with NonResourceURL"));
        }
        if !PATH_VERBS.contains(&verb) {
            warnings.push(format!("verb '{verb}' is not a known verb"));
        }
        return Ok((json!({"nonResourceAttributes": {"verb": verb, "path": what}}), warnings));
    }
    let (kind, name) = what.split_once('/').unwrap_or((what, ""));
    let (group, plural) = match discovery.find(kind) {
        Ok(found) => {
            if !found.namespaced && !namespace.is_empty() {
                let group = if found.group.is_empty() {
                    String::new()
                } else {
                    format!(" in group '{}'", found.group)
                };
                warnings.push(format!("resource '{}' is not namespace scoped{group}", found.plural));
            }
            (found.group.clone(), found.plural.clone())
        }
        Err(_) => {
            if !["*", "users", "groups"].contains(&kind) {
                warnings.push(match kind.split_once('.') {
                    Some((kind, group)) => {
                        format!("the server doesn't have a resource type '{kind}' in group '{group}'")
                    }
                    None => format!("the server doesn't have a resource type '{kind}'"),
                });
            }
            (String::new(), kind.to_owned())
        }
    };
    if !VERBS.contains(&verb) {
        warnings.push(format!("verb '{verb}' is not a known verb"));
    }
    let spec = json!({"resourceAttributes": {"namespace": namespace, "verb": verb, "group": group,
        "resource": plural, "subresource": subresource, "name": name}});
    Ok((spec, warnings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_made() {
        let discovery = crate::discovery::tests::sample();
        let ask = |verb: &str, what: &str| attributes(&discovery, verb, what, "", "d").expect("asks");
        let (spec, warnings) = ask("get", "deploy/web");
        assert_eq!(
            spec["resourceAttributes"],
            json!({"namespace": "d", "verb": "get", "group": "apps", "resource": "deployments", "subresource": "", "name": "web"})
        );
        assert!(warnings.is_empty());
        assert_eq!(
            ask("fly", "nodes").1,
            ["resource 'nodes' is not namespace scoped", "verb 'fly' is not a known verb"]
        );
        assert_eq!(ask("get", "foo.x.y").1, ["the server doesn't have a resource type 'foo' in group 'x.y'"]);
        assert_eq!(
            ask("get", "/healthz").0,
            json!({"nonResourceAttributes": {"verb": "get", "path": "/healthz"}})
        );
    }

    #[test]
    fn answers_are_told() {
        assert_eq!(answer(&json!({"allowed": true})), "yes");
        assert_eq!(answer(&json!({"allowed": false, "reason": "r"})), "no - r");
    }
}
