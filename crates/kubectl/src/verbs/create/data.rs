//! Config maps and secrets, from files and values.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::changes::How;
use crate::error::Error;

#[derive(Args)]
pub(super) struct Data {
    name: String,
    /// A file, or every file of a directory; KEY=PATH names the key
    #[arg(long)]
    from_file: Vec<String>,
    /// KEY=VALUE
    #[arg(long)]
    from_literal: Vec<String>,
    /// A file of KEY=VALUE lines
    #[arg(long)]
    from_env_file: Vec<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Subcommand)]
pub(super) enum Secret {
    /// From files and values
    Generic(Generic),
    /// A certificate and its key
    Tls(Tls),
    /// Credentials of a registry
    DockerRegistry(Registry),
}

#[derive(Args)]
pub(super) struct Generic {
    #[command(flatten)]
    data: Data,
    /// The secret's type
    #[arg(long = "type", default_value = "")]
    kind: String,
}

#[derive(Args)]
pub(super) struct Tls {
    name: String,
    /// The certificate, PEM
    #[arg(long)]
    cert: String,
    /// Its key, PEM
    #[arg(long)]
    key: String,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
pub(super) struct Registry {
    name: String,
    /// The registry
    #[arg(long, default_value = "https://index.docker.io/v1/")]
    docker_server: String,
    /// The user
    #[arg(long)]
    docker_username: String,
    /// The password
    #[arg(long)]
    docker_password: String,
    /// The user's address
    #[arg(long, default_value = "")]
    docker_email: String,
    #[command(flatten)]
    how: How,
}

fn encode(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn secret(name: &str, kind: &str, data: Map<String, Value>) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    if !data.is_empty() {
        object["data"] = Value::Object(data);
    }
    if !kind.is_empty() {
        object["type"] = kind.into();
    }
    object
}

impl Secret {
    pub(super) fn object(self) -> Result<(Value, How), Error> {
        match self {
            Self::Generic(Generic { data, kind }) => {
                let values =
                    data.read()?.into_iter().map(|(key, bytes)| (key, encode(&bytes).into())).collect();
                Ok((secret(&data.name, &kind, values), data.how))
            }
            Self::Tls(Tls { name, cert, key, how }) => {
                let read = |path: &str| {
                    std::fs::read(path).map_err(|error| Error::said(format!("open {path}: {error}")))
                };
                let (certificate, key) = (read(&cert)?, read(&key)?);
                check_pair(&certificate, &key)?;
                let mut data = Map::new();
                data.insert("tls.crt".into(), encode(&certificate).into());
                data.insert("tls.key".into(), encode(&key).into());
                Ok((secret(&name, "kubernetes.io/tls", data), how))
            }
            Self::DockerRegistry(registry) => {
                let Registry { name, docker_server, docker_username, docker_password, docker_email, how } =
                    registry;
                let mut entry = json!({"username": docker_username, "password": docker_password,
                    "auth": encode(format!("{docker_username}:{docker_password}").as_bytes())});
                if !docker_email.is_empty() {
                    entry["email"] = docker_email.into();
                }
                let config = json!({"auths": {docker_server: entry}}).to_string();
                let mut data = Map::new();
                data.insert(".dockerconfigjson".into(), encode(config.as_bytes()).into());
                Ok((secret(&name, "kubernetes.io/dockerconfigjson", data), how))
            }
        }
    }
}

/// Whether a key is a certificate's.
fn check_pair(certificate: &[u8], key: &[u8]) -> Result<(), Error> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let bad = |error: &dyn std::fmt::Display| Error::said(format!("tls: {error}"));
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().map_err(|error| bad(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| bad(&error))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    match rustls::sign::CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(bad(&"private key does not match public key")),
        Err(error) => Err(bad(&error)),
    }
}

impl Data {
    pub(super) fn config_map(self) -> Result<(Value, How), Error> {
        let (mut texts, mut binary) = (Map::new(), Map::new());
        for (key, bytes) in self.read()? {
            match String::from_utf8(bytes) {
                Ok(text) => texts.insert(key, text.into()),
                Err(error) => binary.insert(key, encode(error.as_bytes()).into()),
            };
        }
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": self.name}});
        if !texts.is_empty() {
            object["data"] = Value::Object(texts);
        }
        if !binary.is_empty() {
            object["binaryData"] = Value::Object(binary);
        }
        Ok((object, self.how))
    }

    fn read(&self) -> Result<BTreeMap<String, Vec<u8>>, Error> {
        let mut found = BTreeMap::new();
        let mut put = |key: String, bytes: Vec<u8>| match found.insert(key.clone(), bytes) {
            Some(_) => {
                Err(Error::said(format!("cannot add key {key:?}, another key by that name already exists")))
            }
            None => Ok(()),
        };
        for source in &self.from_file {
            let (key, path) = match source.split_once('=') {
                Some((key, path)) => (Some(key), Path::new(path)),
                None => (None, Path::new(source)),
            };
            let unreadable =
                |error: std::io::Error| Error::said(format!("error reading {}: {error}", path.display()));
            let base = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
                for entry in std::fs::read_dir(path).map_err(unreadable)? {
                    let path = entry.map_err(unreadable)?.path();
                    if path.is_file() {
                        put(base(&path), std::fs::read(&path).map_err(unreadable)?)?;
                    }
                }
            } else {
                put(key.map_or_else(|| base(path), str::to_owned), std::fs::read(path).map_err(unreadable)?)?;
            }
        }
        let pair = |text: &str| {
            text.split_once('=')
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .ok_or_else(|| Error::said(format!("invalid literal source {text}, expected key=value")))
        };
        for literal in &self.from_literal {
            let (key, value) = pair(literal)?;
            put(key, value.into_bytes())?;
        }
        for path in &self.from_env_file {
            let text = std::fs::read_to_string(path)?;
            for line in
                text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'))
            {
                let (key, value) = pair(line)?;
                put(key, value.into_bytes())?;
            }
        }
        Ok(found)
    }
}
