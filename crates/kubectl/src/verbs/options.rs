//! `options`: the flags that every command takes.

use std::fmt::Write as _;

use clap::Args;

use super::Verb;
use crate::error::Error;
use crate::kube::Kube;
use crate::output;

#[derive(Args)]
pub(crate) struct Options {}

impl Verb for Options {
    async fn run(self, _kube: &Kube) -> Result<(), Error> {
        output::write(&text())
    }
}

fn text() -> String {
    let mut text = String::from("The following options can be passed to any command:\n");
    for flag in crate::command().get_arguments().filter(|flag| flag.is_global_set()) {
        let short = flag.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
        let long = flag.get_long().unwrap_or_default();
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        // Writing into a string does not fail.
        let _ = write!(text, "\n    {short}--{long}=:\n\t{help}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_global_flag_is_told() {
        let text = super::text();
        assert!(text.contains("\n    -n, --namespace=:\n\t") && text.contains("\n    --kubeconfig=:\n\t"));
    }
}
