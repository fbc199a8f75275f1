//! Tokens of service accounts.

use clap::Args;
use client::Target;
use serde_json::{Value, json};

use crate::error::Error;
use crate::kube::{Kube, parse_duration};
use crate::output::{self, Format};

#[derive(Args)]
pub(super) struct Token {
    /// The service account
    name: String,
    /// Whom the token is for
    #[arg(long)]
    audience: Vec<String>,
    /// How long it is to be valid; 0 for the server's choice
    #[arg(long, default_value = "0s")]
    duration: String,
    /// Pod, Secret or Node, whose end is the token's end
    #[arg(long, default_value = "", requires = "bound_object_name")]
    bound_object_kind: String,
    /// Its name
    #[arg(long, default_value = "")]
    bound_object_name: String,
    /// Its uid
    #[arg(long, default_value = "")]
    bound_object_uid: String,
    /// json, yaml
    #[arg(short = 'o', long, default_value = "")]
    output: String,
}

impl Token {
    pub(super) async fn run(&self, kube: &Kube) -> Result<(), Error> {
        let format = Format::parse(&self.output)?;
        let accounts = kube.discovery().await?.of_kind("v1", "ServiceAccount")?;
        let namespace = kube.namespace()?;
        let target = Target { subresource: "token".into(), ..accounts.target(&namespace, &self.name) };
        let request =
            api::Object::from_value(self.request()?).map_err(|error| Error::said(error.to_string()))?;
        let answer = kube.create(target, &request, &client::WriteOptions::default()).await?.into_value();
        if !format.is_table() {
            return output::write(&format.print(&answer, true)?);
        }
        match answer["status"]["token"].as_str() {
            Some(token) if !token.is_empty() => output::line(token),
            _ => Err(Error::said("failed to create token: no token in server response")),
        }
    }

    fn request(&self) -> Result<Value, Error> {
        let mut spec = json!({"audiences": self.audience});
        let seconds = parse_duration(&self.duration)?.as_secs();
        if seconds > 0 {
            spec["expirationSeconds"] = seconds.into();
        }
        let version = match self.bound_object_kind.as_str() {
            "" => None,
            "Pod" | "Secret" | "Node" => Some("v1"),
            other => {
                return Err(Error::said(format!(
                    "supported --bound-object-kind values are Node, Pod, Secret, not {other}"
                )));
            }
        };
        if let Some(version) = version {
            spec["boundObjectRef"] = json!({"apiVersion": version, "kind": self.bound_object_kind,
                "name": self.bound_object_name});
            if !self.bound_object_uid.is_empty() {
                spec["boundObjectRef"]["uid"] = self.bound_object_uid.clone().into();
            }
        }
        Ok(json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}))
    }
}
