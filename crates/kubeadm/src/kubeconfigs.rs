//! Kubeconfig files for people and daemons, credentials inside.

use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use serde_json::{Value, json};

use crate::pki::{Authority, Subject, write_secret};

/// The text of a kubeconfig: one cluster, one user, one context.
///
/// # Errors
/// The user's certificate cannot be signed.
pub fn kubeconfig(
    cluster: &str,
    server: &str,
    authority: &Authority,
    subject: &Subject,
    now: jiff::Timestamp,
) -> anyhow::Result<String> {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let pair = authority.issue(subject, now)?;
    let context = format!("{}@{cluster}", subject.name);
    let config: Value = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": context,
        "clusters": [{"name": cluster, "cluster": {
            "server": server, "certificate-authority-data": encode(authority.pem()),
        }}],
        "users": [{"name": subject.name, "user": {
            "client-certificate-data": encode(&pair.certificate), "client-key-data": encode(&pair.key),
        }}],
        "contexts": [{"name": context, "context": {"cluster": cluster, "user": subject.name}}],
    });
    api::yaml::format(&config).context("write a kubeconfig")
}

/// The text of a kubeconfig whose credentials are in a file that is replaced when
/// the certificate is renewed.
///
/// # Errors
/// A text that YAML cannot hold.
pub fn with_file(
    cluster: &str,
    server: &str,
    authority: &str,
    user: &str,
    file: &Path,
) -> anyhow::Result<String> {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let context = format!("{user}@{cluster}");
    let config: Value = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": context,
        "clusters": [{"name": cluster, "cluster": {
            "server": server, "certificate-authority-data": encode(authority),
        }}],
        "users": [{"name": user, "user": {"client-certificate": file, "client-key": file}}],
        "contexts": [{"name": context, "context": {"cluster": cluster, "user": user}}],
    });
    api::yaml::format(&config).context("write a kubeconfig")
}

/// Writes a kubeconfig if it is not there.
///
/// # Errors
/// The file cannot be written, or the certificate not signed.
pub fn ensure(
    path: &Path,
    cluster: &str,
    server: &str,
    authority: &Authority,
    subject: &Subject,
    now: jiff::Timestamp,
) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    write_secret(path, &kubeconfig(cluster, server, authority, subject, now)?)
}
