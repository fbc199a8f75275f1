//! `api-versions`.

use clap::Args;

use super::Verb;
use crate::error::Error;
use crate::kube::Kube;
use crate::output;

#[derive(Args)]
pub(crate) struct ApiVersions {}

impl Verb for ApiVersions {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let discovery = kube.discovery().await?;
        let mut names: Vec<String> = Vec::new();
        for (group, versions) in &discovery.groups {
            let name = |version: &String| {
                if group.is_empty() { version.clone() } else { format!("{group}/{version}") }
            };
            names.extend(versions.iter().map(name));
        }
        names.sort();
        names.iter().try_for_each(output::line)
    }
}
