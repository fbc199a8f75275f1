//! Paths: from `/apis/apps/v1/namespaces/n/deployments/d/scale` to a target.

use crate::gate::Target;

/// What a path is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestPath {
    /// An object, a collection, or a subresource.
    Object {
        /// Which.
        target: Target,
        /// What follows the subresource, for proxies; empty or beginning with `/`.
        rest: String,
    },
    /// Anything else.
    Plain,
}

/// Subresources of a namespace; any other third element is a resource inside it.
const OF_NAMESPACE: [&str; 2] = ["status", "finalize"];

/// Takes a path apart.
#[must_use]
pub fn parse_path(path: &str) -> RequestPath {
    let mut parts = path.trim_start_matches('/').split('/').filter(|part| !part.is_empty());
    let (group, version) = match parts.next() {
        Some("api") => ("", parts.next()),
        Some("apis") => (parts.next().unwrap_or_default(), parts.next()),
        _ => return RequestPath::Plain,
    };
    let Some(version) = version else { return RequestPath::Plain };
    let mut parts: Vec<&str> = parts.collect();
    // The deprecated watch prefix is a query parameter today.
    if parts.first() == Some(&"watch") {
        parts.remove(0);
    }
    let mut target = Target { group: group.to_owned(), version: version.to_owned(), ..Target::default() };
    let parts = match parts.as_slice() {
        [] => return RequestPath::Plain,
        ["namespaces", name, third, ..] if group.is_empty() && OF_NAMESPACE.contains(third) => {
            let _ = name;
            parts.as_slice()
        }
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => {
            (*namespace).clone_into(&mut target.namespace);
            rest
        }
        all => all,
    };
    let mut parts = parts.iter();
    let mut next = || parts.next().map(|part| decode(part)).unwrap_or_default();
    target.resource = next();
    target.name = next();
    target.subresource = next();
    let rest: String = parts.map(|part| format!("/{part}")).collect();
    let rest = if !rest.is_empty() && path.ends_with('/') { rest + "/" } else { rest };
    RequestPath::Object { target, rest }
}

/// Percent-decoding of one element.
fn decode(part: &str) -> String {
    if !part.contains('%') {
        return part.to_owned();
    }
    // A plus sign is itself in a path, unlike in a query.
    let escaped = part.replace('+', "%2B");
    form_urlencoded::parse(escaped.as_bytes())
        .next()
        .map_or_else(|| part.to_owned(), |(text, _)| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(path: &str) -> (String, String) {
        match parse_path(path) {
            RequestPath::Object { target: t, rest } => (
                format!(
                    "{}|{}|{}|{}|{}|{}",
                    t.group, t.version, t.namespace, t.resource, t.name, t.subresource
                ),
                rest,
            ),
            RequestPath::Plain => ("plain".into(), String::new()),
        }
    }

    #[test]
    fn paths() {
        let table = [
            ("/api/v1/pods", "|v1||pods||"),
            ("/api/v1/namespaces", "|v1||namespaces||"),
            ("/api/v1/namespaces/n", "|v1||namespaces|n|"),
            ("/api/v1/namespaces/n/status", "|v1||namespaces|n|status"),
            ("/api/v1/namespaces/n/pods/p/log", "|v1|n|pods|p|log"),
            ("/api/v1/watch/namespaces/n/pods", "|v1|n|pods||"),
            ("/apis/apps/v1/namespaces/n/deployments/d", "apps|v1|n|deployments|d|"),
            (
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "rbac.authorization.k8s.io|v1||clusterroles|system:node|",
            ),
        ];
        for (path, target) in table {
            assert_eq!(object(path), (target.to_owned(), String::new()), "{path}");
        }
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/healthz",
            "/openapi/v3/apis/apps/v1",
        ] {
            assert_eq!(object(path).0, "plain", "{path}");
        }
        assert_eq!(
            object("/api/v1/namespaces/n/services/s:80/proxy/a/b/"),
            ("|v1|n|services|s:80|proxy".to_owned(), "/a/b/".to_owned())
        );
    }
}
