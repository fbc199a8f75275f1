//! `hosts.toml`, containerd's way to say how a registry is reached: mirrors, and
//! for each address what it may be asked for and how its TLS is verified.
//!
//! A directory has one folder a registry (`registry.example:5000`, or
//! `registry.example_5000_`), and `_default` for all others. What this reader
//! does not know is an error: a setting that is passed over would fail later and
//! say less.

use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, TableLike};

/// A `hosts.toml` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// It cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It says something that cannot be followed.
    #[error("{}: {why}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// One address that serves a registry's images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Plain HTTP instead of HTTPS.
    pub is_plain: bool,
    /// Host, port and path; `/v2` follows.
    pub address: String,
    /// May be asked what a tag means.
    pub resolves: bool,
    /// May be asked for manifests by digest, and for blobs.
    pub pulls: bool,
    /// Its certificate is not verified.
    pub skips_verification: bool,
    /// Files of authorities to trust besides the machine's.
    pub authorities: Vec<PathBuf>,
}

impl Host {
    /// An address that may be asked for everything.
    #[must_use]
    pub fn new(address: impl Into<String>, is_plain: bool) -> Self {
        Self {
            is_plain,
            address: address.into(),
            resolves: true,
            pulls: true,
            skips_verification: false,
            authorities: Vec::new(),
        }
    }
}

/// How a registry is reached by the files of a directory, in the order to try;
/// nothing if they do not speak of it.
///
/// # Errors
/// When there is a file that cannot be used.
pub fn read(directory: &Path, registry: &str) -> Result<Option<Vec<Host>>, HostsError> {
    let underscored = registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    for name in [Some(registry.to_owned()), underscored, Some("_default".to_owned())].into_iter().flatten() {
        let path = directory.join(name).join("hosts.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let folder = path.parent().unwrap_or(directory);
                let hosts = parse(&text, registry, folder);
                return hosts.map(Some).map_err(|why| HostsError::Unfit { path: path.clone(), why });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(HostsError::Read { path, source }),
        }
    }
    Ok(None)
}

/// The hosts of a file: those that it lists, then the registry's own server.
fn parse(text: &str, registry: &str, folder: &Path) -> Result<Vec<Host>, String> {
    let document: DocumentMut = text.parse().map_err(|error| format!("{error}"))?;
    let mut hosts = Vec::new();
    if let Some(listed) = document.get("host") {
        let listed = listed.as_table_like().ok_or("host is not a table")?;
        for (url, settings) in listed.iter() {
            let settings = settings.as_table_like().ok_or_else(|| format!("host {url:?} is not a table"))?;
            hosts.push(host(url, settings, folder, &[])?);
        }
    }
    let server = match document.get("server") {
        Some(server) => server.as_str().ok_or("server is not a string")?.to_owned(),
        None => registry.to_owned(),
    };
    hosts.push(host(&server, document.as_table(), folder, &["server", "host"])?);
    Ok(hosts)
}

fn host(url: &str, settings: &dyn TableLike, folder: &Path, others: &[&str]) -> Result<Host, String> {
    let (is_plain, rest) = match url.split_once("://") {
        None => (false, url),
        Some(("https", rest)) => (false, rest),
        Some(("http", rest)) => (true, rest),
        Some((scheme, _)) => return Err(format!("{url}: unknown scheme {scheme}")),
    };
    let address = rest.trim_end_matches('/').trim_end_matches("/v2");
    if address.is_empty() {
        return Err(format!("{url:?} names no host"));
    }
    let mut host = Host::new(address, is_plain);
    for (key, value) in settings.iter() {
        match key {
            "capabilities" => {
                let list = strings(value).ok_or_else(|| format!("{url}: capabilities is not a list"))?;
                let has = |name: &str| list.iter().any(|one| one == name);
                if let Some(unknown) =
                    list.iter().find(|one| !matches!(one.as_str(), "pull" | "resolve" | "push"))
                {
                    return Err(format!("{url}: unknown capability {unknown:?}"));
                }
                (host.resolves, host.pulls) = (has("resolve"), has("pull"));
            }
            "skip_verify" => {
                host.skips_verification =
                    value.as_bool().ok_or_else(|| format!("{url}: skip_verify is not a boolean"))?;
            }
            "ca" => {
                let list = strings(value).ok_or_else(|| format!("{url}: ca names no files"))?;
                host.authorities = list.into_iter().map(|file| folder.join(file)).collect();
            }
            other if others.contains(&other) => {}
            other => return Err(format!("{url}: {other} is not supported")),
        }
    }
    Ok(host)
}

/// A string, or a list of them.
fn strings(item: &Item) -> Option<Vec<String>> {
    if let Some(one) = item.as_str() {
        return Some(vec![one.to_owned()]);
    }
    item.as_array()?.iter().map(|value| value.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_before_the_server() {
        let text = r#"
            server = "https://registry-1.docker.io"
            [host."http://mirror.lab:5000"]
              capabilities = ["pull", "resolve"]
            [host."https://cache.lab/docker/"]
              capabilities = "pull"
              skip_verify = true
              ca = ["a.crt", "/abs/b.crt"]
        "#;
        let hosts = parse(text, "docker.io", Path::new("/etc/certs.d/docker.io")).expect("parses");
        assert_eq!(hosts[0], Host::new("mirror.lab:5000", true));
        let cache = Host {
            resolves: false,
            skips_verification: true,
            authorities: vec!["/etc/certs.d/docker.io/a.crt".into(), "/abs/b.crt".into()],
            ..Host::new("cache.lab/docker", false)
        };
        assert_eq!(hosts[1], cache);
        assert_eq!(hosts[2], Host::new("registry-1.docker.io", false));
        assert_eq!(parse("", "lab:5000", Path::new("")).expect("parses"), [Host::new("lab:5000", false)]);
        let itself = parse("server = 'http://lab:5000'\nskip_verify = true", "lab:5000", Path::new(""));
        assert_eq!(
            itself.expect("parses"),
            [Host { skips_verification: true, ..Host::new("lab:5000", true) }]
        );
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        for (text, expected) in [
            ("server = ", "TOML"),
            ("server = 1", "server is not a string"),
            ("server = 'ftp://x'", "unknown scheme"),
            ("[host.'https://x']\nclient = 'a.pem'", "client is not supported"),
            ("[host.'https://x']\ncapabilities = ['fly']", "unknown capability"),
            ("skip_verify = 'yes'", "not a boolean"),
        ] {
            let why = parse(text, "r", Path::new("")).expect_err(text);
            assert!(why.contains(expected), "{text}: {why}");
        }
    }

    #[test]
    fn folders_by_registry() {
        let dir = tempfile::tempdir().expect("temp dir");
        let lay = |folder: &str, server: &str| {
            std::fs::create_dir_all(dir.path().join(folder)).expect("mkdir");
            let text = format!("server = 'http://{server}'");
            std::fs::write(dir.path().join(folder).join("hosts.toml"), text).expect("write");
        };
        let address = |registry: &str| {
            let hosts = read(dir.path(), registry).expect("reads")?;
            hosts.last().map(|host| host.address.clone())
        };
        assert_eq!(address("a:5000"), None);
        lay("_default", "default");
        assert_eq!(address("a:5000").as_deref(), Some("default"));
        lay("a_5000_", "underscored");
        assert_eq!(address("a:5000").as_deref(), Some("underscored"));
        lay("a:5000", "exact");
        assert_eq!(address("a:5000").as_deref(), Some("exact"));
    }
}
