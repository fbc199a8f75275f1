//! `version`.

use clap::Args;
use serde_json::{Value, json};

use super::Verb;
use crate::error::Error;
use crate::kube::Kube;
use crate::output::{self, Format};

/// The API level that this client is written for.
const API_LEVEL: &str = "v1.36.0";

#[derive(Args)]
pub(crate) struct Version {
    /// Ask no server
    #[arg(long)]
    client: bool,
    /// json, or yaml
    #[arg(short = 'o', long, default_value = "")]
    output: String,
}

impl Verb for Version {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let format = Format::parse(&self.output)?;
        let own = format!("{API_LEVEL}+corten-{}", env!("CARGO_PKG_VERSION"));
        let mut all = json!({"clientVersion": {"major": "1", "minor": "36", "gitVersion": own}});
        if !self.client {
            let mut objects = kube.client().await?.objects();
            let request = async {
                let request = wire::objects::VersionRequest {};
                objects.version(request).await.map_err(|error| client::of_grpc(&error))
            };
            let server: Value = serde_json::from_slice(&kube.in_time(request).await?.into_inner().json)?;
            all["serverVersion"] = server;
        }
        if !format.is_table() {
            return output::write(&format.print(&all, true)?);
        }
        output::line(format!("Client Version: {own}"))?;
        match all["serverVersion"]["gitVersion"].as_str() {
            Some(server) => output::line(format!("Server Version: {server}")),
            None => Ok(()),
        }
    }
}
