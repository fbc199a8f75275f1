//! `kubeadm token`: makes, lists and deletes bootstrap tokens.

use std::path::Path;

use anyhow::{Context as _, bail};
use api::Reason;
use api::types::core::v1::{ConfigMap, Secret};
use client::{Client, DeleteOptions, ListOptions, Session};
use jiff::Timestamp;

use crate::certificate::Digest;
use crate::host::Host;
use crate::settings::{CONFIG_MAP, Cluster};
use crate::token::{self, NAMESPACE, Terms, Token};

/// A client by a kubeconfig of an administrator.
///
/// # Errors
/// The file cannot be used.
pub fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    Ok(Client::new(&Session::from_file(kubeconfig)?, "kubeadm")?)
}

/// The command with which a node joins.
///
/// # Errors
/// The authority's certificate cannot be read.
pub fn join_command(host: &Host, endpoint: &str, token: &str) -> anyhow::Result<String> {
    let path = host.pki.join("ca.crt");
    let authority = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let digest = Digest::of_pem(&authority)?;
    Ok(format!("kubeadm join {endpoint} --token {token} \\\n\t--discovery-token-ca-cert-hash {digest}"))
}

/// Makes a token valid.
///
/// # Errors
/// The server's refusal.
pub async fn create(client: &Client, token: &Token, terms: &Terms) -> anyhow::Result<()> {
    match client.create(&token::secret(token, terms)).await {
        Ok(_) => Ok(()),
        Err(status) if status.reason == Reason::AlreadyExists => {
            bail!("a token with the id {:?} already exists", token.id())
        }
        Err(status) => Err(status).context("make the token"),
    }
}

/// `HOST:PORT` of the cluster's API server.
///
/// # Errors
/// The cluster was not made by `kubeadm init`.
pub async fn endpoint(client: &Client) -> anyhow::Result<String> {
    let map =
        client.get::<ConfigMap>("kube-system", CONFIG_MAP).await.context("read the cluster's settings")?;
    Ok(Cluster::from_config_map(&map)?.endpoint)
}

/// The tokens as a table.
///
/// # Errors
/// The server's refusal.
pub async fn list(client: &Client, now: Timestamp) -> anyhow::Result<String> {
    let options = ListOptions {
        namespace: NAMESPACE.to_owned(),
        fields: format!("type={}", token::TYPE),
        ..ListOptions::default()
    };
    let secrets = client.list::<Secret>(&options).await.context("list the tokens")?;
    let mut rows =
        vec![["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"].map(str::to_owned)];
    for one in secrets.items.iter().filter_map(|secret| token::listed(secret, now)) {
        rows.push([one.token, one.life.0, one.life.1, one.usages, one.description, one.groups]);
    }
    Ok(table(&rows))
}

/// Takes a token's validity away; it may be named by its first part.
///
/// # Errors
/// There is no such token.
pub async fn delete(client: &Client, named: &str) -> anyhow::Result<()> {
    let id = named.parse::<Token>().map_or_else(|_| named.to_owned(), |token| token.id().to_owned());
    if !token::is_id(&id) {
        bail!("{named:?} is neither a token nor the id of one");
    }
    client
        .delete::<Secret>(NAMESPACE, &token::secret_name(&id), &DeleteOptions::default())
        .await
        .with_context(|| format!("delete the token {id:?}"))
}

/// Columns, each as wide as its widest cell.
#[must_use]
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let rows = [row(["A", "LONG", "C"]), row(["abc", "d", ""])];
        assert_eq!(table(&rows), "A     LONG   C\nabc   d");
    }
}
