//! Registry credentials out of pull secrets.

use api::types::core::v1::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_client::Reference;
use oci_client::secrets::RegistryAuth;
use serde_json::Value;

/// Names and passwords, by registry.
#[derive(Clone, Debug, Default)]
pub struct Credentials(Vec<(String, RegistryAuth)>);

impl Credentials {
    /// Takes what pull secrets hold; a malformed one holds nothing.
    #[must_use]
    pub fn from_secrets<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        Self(secrets.into_iter().flat_map(of_secret).collect())
    }

    /// All that fit an image, the most specific first; the last is anonymous.
    #[must_use]
    pub fn matching(&self, image: &Reference) -> Vec<RegistryAuth> {
        let path = format!("{}/{}", image.registry(), image.repository());
        let mut found: Vec<&(String, RegistryAuth)> =
            self.0.iter().filter(|(key, _)| path == *key || path.starts_with(&format!("{key}/"))).collect();
        found.sort_by_key(|(key, _)| std::cmp::Reverse(key.len()));
        found.into_iter().map(|(_, auth)| auth.clone()).chain([RegistryAuth::Anonymous]).collect()
    }
}

fn of_secret(secret: &Secret) -> Vec<(String, RegistryAuth)> {
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

fn login(entry: &Value) -> Option<RegistryAuth> {
    let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty());
    if let (Some(name), Some(password)) = (text("username"), text("password")) {
        return Some(RegistryAuth::Basic(name.to_owned(), password.to_owned()));
    }
    let decoded = String::from_utf8(STANDARD.decode(text("auth")?).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some(RegistryAuth::Basic(name.to_owned(), password.to_owned()))
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
        let names = |image: &str| -> Vec<String> {
            let image = image.parse().expect("a reference");
            credentials
                .matching(&image)
                .into_iter()
                .map(|auth| match auth {
                    RegistryAuth::Basic(name, _) => name,
                    _ => "-".to_owned(),
                })
                .collect()
        };
        assert_eq!(names("busybox"), ["hub", "-"]);
        assert_eq!(names("registry.local:5000/team/app"), ["b", "a", "-"]);
        assert_eq!(names("registry.local:5000/teams/app"), ["a", "-"]);
        assert_eq!(names("elsewhere/x"), ["hub", "-"]);
        assert_eq!(names("elsewhere.example/x"), ["-"]);
    }
}
