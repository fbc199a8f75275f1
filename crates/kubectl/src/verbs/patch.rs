//! `patch`: sends a patch as it is.

use clap::{Args, ValueEnum};
use client::Patch;

use super::Verb;
use crate::changes::{DryRun, How};
use crate::error::Error;
use crate::kube::Kube;
use crate::resource_builder::{self, Files, Selection};

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Json,
    Merge,
    Strategic,
}

#[derive(Args)]
pub(crate) struct PatchVerb {
    /// TYPE NAME, or TYPE/NAME
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// The patch, JSON or YAML
    #[arg(short = 'p', long, default_value = "")]
    patch: String,
    /// A file with the patch
    #[arg(long)]
    patch_file: Option<String>,
    /// The patch's format
    #[arg(long = "type", value_enum, default_value = "strategic")]
    kind: Kind,
    /// The subresource to patch
    #[arg(long, default_value = "")]
    subresource: String,
    #[command(flatten)]
    how: How,
}

impl Verb for PatchVerb {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let text = match &self.patch_file {
            Some(path) => std::fs::read_to_string(path)?,
            None if self.patch.is_empty() => {
                return Err(Error::said(
                    "must specify --patch or --patch-file containing the contents of the patch",
                ));
            }
            None => self.patch.clone(),
        };
        let body = api::yaml::parse(&text)
            .map_err(|error| Error::said(format!("unable to parse {text:?}: {error}")))?;
        let patch = match self.kind {
            Kind::Json => Patch::Json(body),
            Kind::Merge => Patch::Merge(body),
            Kind::Strategic => Patch::Strategic(body),
        };
        let dry_run = self.how.dry_run()?;
        // How lists are merged is the server's knowledge: a try by the client is one by the server.
        let options = client::WriteOptions { dry_run: dry_run != DryRun::None, ..dry_run.options() };
        let selection = Selection::new(&self.words, &self.files);
        for info in resource_builder::resolve(kube, &selection).await? {
            let before = kube.get(info.target()).await?;
            let target = client::Target { subresource: self.subresource.clone(), ..info.target() };
            let after = kube.patch(target, &patch, &options).await?;
            let same = before.resource_version() == after.resource_version() && dry_run == DryRun::None;
            self.how.report(&info.label(), after, if same { "patched (no change)" } else { "patched" })?;
        }
        Ok(())
    }
}
