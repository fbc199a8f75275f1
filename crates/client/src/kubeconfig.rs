//! The kubeconfig file: which server, which CA, which credentials.
//!
//! Files that it names are read again at each new connection, so that rotated
//! certificates and tokens are used without a restart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// The file cannot be read.
    #[error("read kubeconfig {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a kubeconfig.
    #[error("parse kubeconfig {path}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<api::yaml::YamlError>,
    },
    /// The file's content is not a kubeconfig.
    #[error("kubeconfig {path} has a field of the wrong type")]
    Shape {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It names something that it does not have.
    #[error("kubeconfig has no {what} named {name:?}")]
    Missing {
        /// `context`, `cluster` or `user`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A field holds something that cannot be used.
    #[error("kubeconfig field {field}: {why}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// The file's content; fields that are not known are kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Kubeconfig {
    /// `v1`.
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    /// `Config`.
    pub kind: String,
    /// The context in use.
    pub current_context: String,
    /// The clusters.
    pub clusters: Vec<NamedCluster>,
    /// The users.
    pub users: Vec<NamedUser>,
    /// The contexts.
    pub contexts: Vec<NamedContext>,
    /// Everything else.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// A cluster with its name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NamedCluster {
    /// The name.
    pub name: String,
    /// The cluster.
    #[serde(default)]
    pub cluster: Cluster,
}

/// Where a cluster is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Cluster {
    /// URL of the API server.
    pub server: String,
    /// CA file, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<PathBuf>,
    /// CA, base64 of PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority_data: Option<String>,
    /// The name in the server's certificate, where it differs from the URL's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// A user with its name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NamedUser {
    /// The name.
    pub name: String,
    /// The user.
    #[serde(default)]
    pub user: User,
}

/// How a user proves who they are.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct User {
    /// Certificate file, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,
    /// Certificate, base64 of PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_data: Option<String>,
    /// Key file, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    /// Key, base64 of PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key_data: Option<String>,
    /// Bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// File with a bearer token.
    #[serde(rename = "tokenFile", skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The user to act as, in the flattened fields `as`, `as-uid` and so on.
    #[serde(flatten)]
    pub impersonation: Impersonation,
    /// Everything else.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys and tokens must not get into logs.
        f.debug_struct("User").finish_non_exhaustive()
    }
}

/// On whose behalf requests are made, where that is not the user themself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Impersonation {
    /// The user's name.
    #[serde(rename = "as", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// The user's uid.
    #[serde(rename = "as-uid", skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The user's groups.
    #[serde(rename = "as-groups", skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Further facts about the user.
    #[serde(rename = "as-user-extra", skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Impersonation {
    /// The headers that say so.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, String)> {
        let one = |name: &str, value: &String| (name.to_owned(), value.clone());
        let mut headers = Vec::new();
        headers.extend(
            [&self.user]
                .into_iter()
                .filter(|text| !text.is_empty())
                .map(|text| one("impersonate-user", text)),
        );
        headers.extend(
            [&self.uid].into_iter().filter(|text| !text.is_empty()).map(|text| one("impersonate-uid", text)),
        );
        headers.extend(self.groups.iter().map(|group| one("impersonate-group", group)));
        for (key, values) in &self.extra {
            let name = format!("impersonate-extra-{}", escape(key));
            headers.extend(values.iter().map(|value| one(&name, value)));
        }
        headers
    }
}

/// A key as a part of a header's name: what no name may have is percent-encoded.
fn escape(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            text.push(char::from(byte.to_ascii_lowercase()));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// A context with its name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NamedContext {
    /// The name.
    pub name: String,
    /// The context.
    #[serde(default)]
    pub context: Context,
}

/// A cluster, a user, and the namespace to work in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Context {
    /// The cluster's name.
    pub cluster: String,
    /// The user's name.
    pub user: String,
    /// The namespace; empty for `default`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Everything else.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// Bytes in a file, read when they are wanted, or at hand.
#[derive(Clone)]
pub enum Material {
    /// A file's path.
    File(PathBuf),
    /// The bytes.
    Bytes(Vec<u8>),
}

impl Material {
    /// The bytes as they are now.
    ///
    /// # Errors
    /// The file cannot be read; the message names it.
    pub fn read(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::File(path) => std::fs::read(path).map_err(|error| {
                std::io::Error::new(error.kind(), format!("read {}: {error}", path.display()))
            }),
            Self::Bytes(bytes) => Ok(bytes.clone()),
        }
    }
}

/// What it takes to talk to one cluster as one user.
#[derive(Clone)]
pub struct Session {
    /// `https://host:port`.
    pub server: String,
    /// The CA that signed the server's certificate; the machine's trust store is never used.
    pub ca: Option<Material>,
    /// The name in the server's certificate, where it is not the URL's host.
    pub server_name: Option<String>,
    /// Certificate and key of the client.
    pub identity: Option<(Material, Material)>,
    /// Bearer token.
    pub token: Option<Material>,
    /// On whose behalf.
    pub impersonation: Impersonation,
    /// The namespace to work in.
    pub namespace: String,
}

impl Kubeconfig {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read or is no kubeconfig.
    pub fn load(path: &Path) -> Result<Self, KubeconfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| KubeconfigError::Read { path: path.to_owned(), source })?;
        let value = api::yaml::parse(&text)
            .map_err(|source| KubeconfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        let mut config: Self = serde_json::from_value(value)
            .map_err(|source| KubeconfigError::Shape { path: path.to_owned(), source })?;
        config.resolve_paths(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Relative paths are relative to the file.
    fn resolve_paths(&mut self, folder: &Path) {
        let absolute = |path: &mut Option<PathBuf>| {
            if let Some(path) = path {
                *path = folder.join(&*path);
            }
        };
        for cluster in &mut self.clusters {
            absolute(&mut cluster.cluster.certificate_authority);
        }
        for user in &mut self.users {
            absolute(&mut user.user.client_certificate);
            absolute(&mut user.user.client_key);
            absolute(&mut user.user.token_file);
        }
    }

    /// The session of a context, or of the current one.
    ///
    /// # Errors
    /// A name that is not there, or data that cannot be read.
    pub fn session(&self, context: Option<&str>) -> Result<Session, KubeconfigError> {
        let name = context.unwrap_or(&self.current_context);
        let missing = |what, name: &str| KubeconfigError::Missing { what, name: name.to_owned() };
        let context = &self
            .contexts
            .iter()
            .find(|one| one.name == name)
            .ok_or_else(|| missing("context", name))?
            .context;
        let cluster = &self
            .clusters
            .iter()
            .find(|one| one.name == context.cluster)
            .ok_or_else(|| missing("cluster", &context.cluster))?
            .cluster;
        let anonymous = User::default();
        let user = match self.users.iter().find(|one| one.name == context.user) {
            Some(named) => &named.user,
            None if context.user.is_empty() => &anonymous,
            None => return Err(missing("user", &context.user)),
        };
        let certificate =
            material("client-certificate-data", &user.client_certificate, &user.client_certificate_data)?;
        let key = material("client-key-data", &user.client_key, &user.client_key_data)?;
        let token = match (&user.token, &user.token_file) {
            (Some(token), _) => Some(Material::Bytes(token.clone().into_bytes())),
            (None, Some(path)) => Some(Material::File(path.clone())),
            (None, None) => None,
        };
        Ok(Session {
            server: cluster.server.clone(),
            ca: material(
                "certificate-authority-data",
                &cluster.certificate_authority,
                &cluster.certificate_authority_data,
            )?,
            server_name: cluster.tls_server_name.clone(),
            identity: certificate.zip(key),
            token,
            impersonation: user.impersonation.clone(),
            namespace: if context.namespace.is_empty() {
                "default".into()
            } else {
                context.namespace.clone()
            },
        })
    }
}

impl Session {
    /// The session of a kubeconfig file's current context.
    ///
    /// # Errors
    /// As [`Kubeconfig::load`] and [`Kubeconfig::session`].
    pub fn from_file(path: &Path) -> Result<Self, KubeconfigError> {
        Kubeconfig::load(path)?.session(None)
    }
}

fn material(
    field: &'static str,
    file: &Option<PathBuf>,
    data: &Option<String>,
) -> Result<Option<Material>, KubeconfigError> {
    use base64::Engine as _;
    match (data, file) {
        (Some(data), _) if !data.is_empty() => base64::engine::general_purpose::STANDARD
            .decode(data.trim())
            .map(|bytes| Some(Material::Bytes(bytes)))
            .map_err(|error| KubeconfigError::Field { field, why: error.to_string() }),
        (_, Some(path)) => Ok(Some(Material::File(path.clone()))),
        _ => Ok(None),
    }
}
