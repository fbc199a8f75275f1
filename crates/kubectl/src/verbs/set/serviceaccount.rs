//! `set serviceaccount`.

use clap::Args;

use super::{Which, spec_of};
use crate::changes;
use crate::error::Error;
use crate::kube::Kube;

#[derive(Args)]
pub(super) struct ServiceAccount {
    /// TYPE NAME, or TYPE/NAME, and the account
    words: Vec<String>,
    #[command(flatten)]
    which: Which,
}

impl ServiceAccount {
    pub(super) async fn run(self, kube: &Kube) -> Result<(), Error> {
        let Some((account, words)) = self.words.split_last() else {
            return Err(Error::said("serviceaccount is required"));
        };
        let infos = self.which.infos(kube, words).await?;
        changes::change_each(kube, &infos, &self.which.how, |object, info| {
            let spec = spec_of(object, info)?;
            spec["serviceAccountName"] = account.clone().into();
            spec["serviceAccount"] = account.clone().into();
            Ok(Some("serviceaccount updated".to_owned()))
        })
        .await
    }
}
