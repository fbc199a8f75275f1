//! `kubeadm token`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use daemon::{Clock as _, SystemClock};
use kubeadm::token::{self, NODE_GROUP, Terms, Token};
use kubeadm::tokens;

use super::{HostFlags, block_on};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes a token and prints it.
    Create(Create),
    /// Lists the tokens.
    List(Admin),
    /// Takes away the validity of tokens.
    Delete(Delete),
    /// Prints a token that could be given to `create` or `init`; nothing else happens.
    Generate,
}

#[derive(Args)]
pub(crate) struct Admin {
    /// How to reach the API server as an administrator.
    #[arg(long, default_value = "/etc/kubernetes/admin.conf", value_name = "FILE")]
    kubeconfig: PathBuf,
}

#[derive(Args)]
pub(crate) struct Create {
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    host: HostFlags,
    /// The token; made up if not given.
    token: Option<Token>,
    /// Its life; 0: for ever.
    #[arg(long, default_value = "24h", value_parser = token::parse_life, value_name = "DURATION")]
    ttl: Duration,
    /// What it is for.
    #[arg(long, value_delimiter = ',', default_value = "signing,authentication", value_parser = ["signing", "authentication"])]
    usages: Vec<String>,
    /// Groups of whoever uses it, below system:bootstrappers.
    #[arg(long, value_delimiter = ',', default_value = NODE_GROUP, value_name = "GROUP")]
    groups: Vec<String>,
    /// For people.
    #[arg(long, default_value = "", value_name = "TEXT")]
    description: String,
    /// Print the whole command with which a node joins.
    #[arg(long)]
    print_join_command: bool,
}

#[derive(Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    admin: Admin,
    /// The tokens, or their first parts.
    #[arg(required = true)]
    tokens: Vec<String>,
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Generate => println!("{}", Token::generate().reveal()),
        Command::List(admin) => {
            let client = || tokens::client(&admin.kubeconfig);
            println!("{}", block_on(async { tokens::list(&client()?, SystemClock.now()).await })?);
        }
        Command::Delete(flags) => {
            for named in &flags.tokens {
                block_on(async { tokens::delete(&tokens::client(&flags.admin.kubeconfig)?, named).await })?;
                println!("bootstrap token {:?} deleted", named.split('.').next().unwrap_or_default());
            }
        }
        Command::Create(flags) => println!("{}", block_on(create(flags))?),
    }
    Ok(())
}

async fn create(flags: Create) -> anyhow::Result<String> {
    let client = tokens::client(&flags.admin.kubeconfig)?;
    let token = flags.token.unwrap_or_else(Token::generate);
    let terms = Terms {
        expires: token::expiry(flags.ttl, SystemClock.now())?,
        usages: flags.usages,
        groups: flags.groups,
        description: flags.description,
    };
    tokens::create(&client, &token, &terms).await?;
    if !flags.print_join_command {
        return Ok(token.reveal());
    }
    let endpoint = tokens::endpoint(&client).await?;
    let command = tokens::join_command(&flags.host.host()?, &endpoint, &token.reveal())?;
    Ok(command.replace(" \\\n\t", " "))
}
