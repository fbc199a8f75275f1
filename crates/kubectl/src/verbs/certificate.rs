//! `certificate`: approves and denies signing requests.

use clap::{Args, Subcommand};
use client::Target;
use serde_json::{Value, json};

use super::Verb;
use crate::changes::How;
use crate::error::Error;
use crate::kube::{Info, Kube};
use crate::output;
use crate::resource_builder::{self, Files};

#[derive(Args)]
pub(crate) struct Certificate {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Approve signing requests
    Approve(Which),
    /// Deny signing requests
    Deny(Which),
}

#[derive(Args)]
struct Which {
    /// The requests
    names: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Update also what is decided already
    #[arg(long)]
    force: bool,
    /// json, yaml, name
    #[arg(short = 'o', long, default_value = "")]
    output: String,
}

impl Verb for Certificate {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        match self.what {
            What::Approve(which) => which.decide(kube, true).await,
            What::Deny(which) => which.decide(kube, false).await,
        }
    }
}

impl Which {
    async fn decide(&self, kube: &Kube, approve: bool) -> Result<(), Error> {
        if self.names.is_empty() && self.files.filenames.is_empty() {
            return Err(Error::said("one or more CSRs must be specified as <name> or -f <filename>"));
        }
        let resource =
            kube.discovery().await?.of_kind("certificates.k8s.io/v1", "CertificateSigningRequest")?;
        let mut infos = Vec::new();
        if !self.files.filenames.is_empty() {
            infos = resource_builder::from_files(kube, &self.files).await?;
            if let Some(other) = infos.iter().find(|info| info.resource.kind != resource.kind) {
                return Err(Error::said(format!(
                    "can only handle CertificateSigningRequest.certificates.k8s.io objects, got {}",
                    other.resource.kind
                )));
            }
        }
        infos.extend(self.names.iter().map(|name| Info {
            resource: resource.clone(),
            namespace: String::new(),
            name: name.rsplit('/').next().unwrap_or(name).to_owned(),
            object: None,
            source: None,
        }));
        let mut errors = Vec::new();
        for info in &infos {
            errors.extend(self.one(kube, info, approve).await.err());
        }
        if infos.is_empty() {
            output::line("No resources found")?;
        }
        Error::of_all(errors)
    }

    async fn one(&self, kube: &Kube, info: &Info, approve: bool) -> Result<(), Error> {
        const TRIES: usize = 10;
        let target = Target { subresource: "approval".into(), ..info.target() };
        let mut tries = 0;
        let object = loop {
            let now = kube.get(info.target()).await?;
            let (changed, value) = decided(now.clone().into_value(), approve).map_err(Error::said)?;
            if !changed && !self.force {
                break now;
            }
            let after = api::Object::from_value(value).map_err(|error| Error::said(error.to_string()))?;
            match kube.update(target.clone(), &after, &client::WriteOptions::default()).await {
                Ok(after) => break after,
                Err(error) if error.is_conflict() && tries < TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        };
        let how = How { dry_run: "none".into(), output: self.output.clone() };
        how.report(&info.label(), object, if approve { "approved" } else { "denied" })
    }
}

/// The request with the decision, and whether it is new.
fn decided(mut request: Value, approve: bool) -> Result<(bool, Value), String> {
    let (wanted, opposite, reason, word) = if approve {
        ("Approved", "Denied", "KubectlApprove", "approved")
    } else {
        ("Denied", "Approved", "KubectlDeny", "denied")
    };
    let mut conditions = request["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let has = |kind: &str| conditions.iter().any(|one| one["type"] == kind);
    if has(opposite) {
        let name = &request["metadata"]["name"];
        return Err(format!("certificate signing request {name} is already {opposite}"));
    }
    if has(wanted) {
        return Ok((false, request));
    }
    let verb = if approve { "approve" } else { "deny" };
    conditions.push(json!({"type": wanted, "status": "True", "reason": reason,
        "message": format!("This CSR was {word} by kubectl certificate {verb}."),
        "lastUpdateTime": api::time::format(crate::clock::now())}));
    if !request["status"].is_object() {
        request["status"] = json!({});
    }
    request["status"]["conditions"] = conditions.into();
    Ok((true, request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_decided_once() {
        let request = json!({"metadata": {"name": "r"}});
        let (changed, approved) = decided(request, true).expect("approves");
        assert!(changed);
        assert_eq!(approved["status"]["conditions"][0]["reason"], "KubectlApprove");
        assert!(!decided(approved.clone(), true).expect("again").0);
        assert_eq!(
            decided(approved, false),
            Err("certificate signing request \"r\" is already Approved".into())
        );
    }
}
