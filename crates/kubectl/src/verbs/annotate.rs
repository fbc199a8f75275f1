//! `annotate`.

use clap::Args;

use super::Verb;
use super::label::{Label, change};
use crate::error::Error;
use crate::kube::Kube;

#[derive(Args)]
pub(crate) struct Annotate {
    #[command(flatten)]
    same: Label,
}

impl Verb for Annotate {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        change(self.same, kube, "annotations", "annotation", "annotated").await
    }
}
