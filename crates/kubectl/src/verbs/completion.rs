//! `completion`: code for shells.

use clap::{Args, ValueEnum as _};
use clap_complete::Shell;

use super::Verb;
use crate::error::Error;
use crate::kube::Kube;
use crate::output;

#[derive(Args)]
pub(crate) struct Completion {
    /// bash, zsh, fish, or powershell
    shell: String,
}

impl Verb for Completion {
    async fn run(self, _kube: &Kube) -> Result<(), Error> {
        let shell = Shell::from_str(&self.shell, false)
            .map_err(|_| Error::said(format!("Unsupported shell type {:?}.", self.shell)))?;
        output::write_bytes(&code(shell))
    }
}

fn code(shell: Shell) -> Vec<u8> {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut crate::command(), "kubectl", &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_get_code() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell] {
            let code = String::from_utf8(code(shell)).expect("text");
            assert!(code.contains("port-forward"), "{shell}");
        }
    }
}
