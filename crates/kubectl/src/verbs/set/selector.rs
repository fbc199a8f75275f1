//! `set selector`.

use clap::Args;
use serde_json::Value;

use super::{Which, split};
use crate::changes;
use crate::error::Error;
use crate::kube::Kube;
use crate::pods;

#[derive(Args)]
pub(super) struct SetSelector {
    /// TYPE NAME, or TYPE/NAME, and KEY=VALUE,...
    words: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// Only if the object still has this version
    #[arg(long, default_value = "")]
    resource_version: String,
}

impl SetSelector {
    pub(super) async fn run(self, kube: &Kube) -> Result<(), Error> {
        let (words, pairs) = split(&self.words, |word| word.contains('='));
        let [pairs] = pairs.as_slice() else {
            return Err(Error::said("one selector is required"));
        };
        let labels = pods::pairs(pairs)?;
        let infos = self.which.infos(kube, &words).await?;
        changes::change_each(kube, &infos, &self.which.how, |object, info| {
            if info.resource.kind != "Service" {
                return Err(Error::said(format!(
                    "setting a selector is only supported for Services, not for {}",
                    info.resource.kind
                )));
            }
            if !self.resource_version.is_empty()
                && object["metadata"]["resourceVersion"] != *self.resource_version
            {
                return Err(Error::said(format!(
                    "{:?}: the object has been modified; its version is {}",
                    info.name, object["metadata"]["resourceVersion"]
                )));
            }
            object["spec"]["selector"] = Value::Object(labels.clone());
            Ok(Some("selector updated".to_owned()))
        })
        .await
    }
}
