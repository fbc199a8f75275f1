//! Registry credentials out of pull secrets.

use api::types::core::v1::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_client::Reference;
use oci_client::secrets::RegistryAuth;
use serde_json::Value;

/// Names and passwords, by registry.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credentials(Vec<(String, Login)>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Login {
    name: String,
    password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the passwords.
        f.debug_list().entries(self.0.iter().map(|(registry, login)| (registry, &login.name))).finish()
    }
}

impl Credentials {
    /// Takes what pull secrets hold; a malformed one holds nothing.
    #[must_use]
    pub fn from_secrets<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        Self(secrets.into_iter().flat_map(of_secret).collect())
    }

    /// All that fit an image at the address that is asked for it, the most
    /// specific first; the last is none. A mirror gets the mirror's credentials,
    /// never those of the registry that it mirrors.
    #[must_use]
    pub fn matching(&self, address: &str, image: &Reference) -> Vec<RegistryAuth> {
        let address = if address == image.resolve_registry() { image.registry() } else { address };
        let path = format!("{address}/{}", image.repository());
        let mut found: Vec<&(String, Login)> =
            self.0.iter().filter(|(key, _)| path == *key || path.starts_with(&format!("{key}/"))).collect();
        found.sort_by_key(|(key, _)| std::cmp::Reverse(key.len()));
        let logins = found
            .into_iter()
            .map(|(_, login)| RegistryAuth::Basic(login.name.clone(), login.password.clone()));
        logins.chain([RegistryAuth::Anonymous]).collect()
    }
}

fn of_secret(secret: &Secret) -> Vec<(String, Login)> {
    let data = |key: &str| {
        let bytes = &secret.data.as_ref()?.get(key)?.0;
        serde_json::from_slice::<Value>(bytes).ok()
    };
    let auths = match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => {
            data(".dockerconfigjson").map(|config| config["auths"].clone())
        }
        Some("kubernetes.io/dockercfg") => data(".dockercfg"),
        _ => None,
    };
    let entries = auths.as_ref().and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(registry, entry)| Some((normalize(registry), login(entry)?))).collect()
}

fn login(entry: &Value) -> Option<Login> {
    let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty());
    if let (Some(name), Some(password)) = (text("username"), text("password")) {
        return Some(Login { name: name.to_owned(), password: password.to_owned() });
    }
    let decoded = String::from_utf8(STANDARD.decode(text("auth")?).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some(Login { name: name.to_owned(), password: password.to_owned() })
}

/// `https://index.docker.io/v1/` and the like as host and path.
fn normalize(registry: &str) -> String {
    let bare = registry.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let bare = bare.trim_end_matches("/v1").trim_end_matches("/v2");
    if bare == "index.docker.io" { "docker.io".to_owned() } else { bare.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_comes_first() {
        let config = serde_json::json!({"auths": {
            "https://index.docker.io/v1/": {"auth": STANDARD.encode("hub:secret")},
            "registry.local:5000": {"username": "a", "password": "1"},
            "registry.local:5000/team": {"username": "b", "password": "2"},
        }});
        let secret: Secret = serde_json::from_value(serde_json::json!({
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": STANDARD.encode(config.to_string())}
        }))
        .expect("a secret");
        let credentials = Credentials::from_secrets([&secret]);
        let at = |address: Option<&str>, image: &str| -> Vec<String> {
            let image: Reference = image.parse().expect("a reference");
            credentials
                .matching(address.unwrap_or_else(|| image.registry()), &image)
                .into_iter()
                .map(|auth| match auth {
                    RegistryAuth::Basic(name, _) => name,
                    _ => "-".to_owned(),
                })
                .collect()
        };
        let names = |image: &str| at(None, image);
        assert_eq!(names("busybox"), ["hub", "-"]);
        assert_eq!(names("registry.local:5000/team/app"), ["b", "a", "-"]);
        assert_eq!(names("registry.local:5000/teams/app"), ["a", "-"]);
        assert_eq!(names("elsewhere/x"), ["hub", "-"]);
        assert_eq!(names("elsewhere.example/x"), ["-"]);
        assert_eq!(at(Some("mirror.example"), "busybox"), ["-"], "a mirror does not get the registry's");
        assert_eq!(at(Some("registry.local:5000"), "elsewhere.example/x"), ["a", "-"], "but its own");
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
