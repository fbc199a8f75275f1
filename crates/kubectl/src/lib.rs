//! The command line: Kubernetes' `kubectl` over Corten's gRPC.
//!
//! It knows no kind by itself where the server can tell: names and verbs come
//! from discovery, shapes from OpenAPI, columns from server-side tables. Start
//! reading in [`verbs`], the table of verbs, then in `kube` for what each verb
//! is given.
#![expect(clippy::print_stderr, reason = "a command line talks on standard error")]

mod changes;
mod clock;
mod discovery;
mod error;
mod gotemplate;
mod kube;
mod output;
mod pods;
mod remote;
mod resource_builder;
mod schema;
mod terminal;
mod three_way;
pub mod verbs;

use std::ffi::OsString;

use api::jsonpath;
use clap::{Arg, ArgAction, ArgMatches, Command};

use error::Error;
use kube::Kube;

/// Runs one command line and gives its exit code.
pub async fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            // Help that was asked for is no failure.
            let failed = error.use_stderr();
            return if error.print().is_err() || failed { 1 } else { 0 };
        }
    };
    match dispatch(&matches).await {
        Ok(()) => 0,
        Err(error) => {
            let text = error.to_string();
            if !text.is_empty() {
                eprintln!("{text}");
            }
            error.code()
        }
    }
}

async fn dispatch(matches: &ArgMatches) -> Result<(), Error> {
    let kube = Kube::from_flags(matches);
    let Some((name, below)) = matches.subcommand() else {
        return Err(Error::said("a command is required; see kubectl --help"));
    };
    match verbs::TABLE.iter().find(|entry| entry.name == name) {
        Some(entry) => (entry.run)(below, &kube).await,
        None => Err(Error::said(format!("unknown command {name:?} for \"kubectl\""))),
    }
}

/// The whole command line, from the table of verbs.
#[must_use]
pub fn command() -> Command {
    let flag = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help).global(true)
    };
    let mut command = Command::new("kubectl")
        .about("kubectl controls the Kubernetes cluster manager.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_version_flag(true)
        .arg(flag("kubeconfig", "FILE", "Path to the kubeconfig file to use"))
        .arg(flag("context", "NAME", "The kubeconfig context to use"))
        .arg(flag("namespace", "NAMESPACE", "The namespace to work in").short('n'))
        .arg(flag("server", "URL", "The address of the API server").short('s'))
        .arg(flag("cluster", "NAME", "The kubeconfig cluster to use"))
        .arg(flag("user", "NAME", "The kubeconfig user to use"))
        .arg(flag("token", "TOKEN", "A bearer token"))
        .arg(flag("certificate-authority", "FILE", "The certificate authority of the server"))
        .arg(flag("client-certificate", "FILE", "The client's certificate"))
        .arg(flag("client-key", "FILE", "The client's key"))
        .arg(flag("tls-server-name", "NAME", "The name in the server's certificate"))
        .arg(flag("as", "NAME", "The user to act as: a name, or system:serviceaccount:NAMESPACE:NAME"))
        .arg(flag("as-group", "NAME", "A group to act as; may be given again").action(ArgAction::Append))
        .arg(flag("as-uid", "UID", "The uid to act as"))
        .arg(
            flag("as-user-extra", "KEY=VALUE", "A further fact about the user to act as; may be given again")
                .action(ArgAction::Append),
        )
        .arg(flag("field-manager", "NAME", "The name in the fields that are managed"))
        .arg(flag("request-timeout", "DURATION", "How long to wait for one request; 0 for ever"))
        .arg(
            Arg::new("verbosity")
                .long("v")
                .short('v')
                .value_name("LEVEL")
                .help("How much to say about what is done")
                .value_parser(clap::value_parser!(u8))
                .action(ArgAction::Set)
                .global(true),
        );
    for entry in verbs::TABLE {
        command = command.subcommand((entry.augment)(Command::new(entry.name).about(entry.about)));
    }
    command
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
