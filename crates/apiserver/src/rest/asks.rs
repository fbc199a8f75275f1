//! What a request asks, told from its method, path and query alone, as
//! upstream's request info does: it is known before the body is read.

use std::time::Duration;

use http::Method;

use super::path::RequestPath;
use super::query::Query;
use crate::authz::Attributes;
use crate::flow::Reading;

/// What a request asks.
pub(super) fn asks(method: &Method, path: &str, parsed: &RequestPath, query: &Query) -> Attributes {
    let RequestPath::Object { target, .. } = parsed else {
        let verb = match method.as_str() {
            "HEAD" => "get".to_owned(),
            other => other.to_ascii_lowercase(),
        };
        return Attributes { verb, path: path.to_owned(), ..Attributes::default() };
    };
    let verb = match (method.as_str(), target.name.is_empty()) {
        ("GET" | "HEAD", false) => "get",
        ("GET" | "HEAD", true) if query.flag("watch") => "watch",
        ("GET" | "HEAD", true) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", false) => "delete",
        ("DELETE", true) => "deletecollection",
        // Nobody is given a verb that does not exist.
        _ => "unknown",
    };
    let mut asked = target.asks(verb);
    if matches!(verb, "list" | "watch" | "deletecollection") {
        // A list or watch of one name is about that name.
        let fields = query.get("fieldSelector").and_then(|text| api::FieldSelector::parse(text).ok());
        let name = fields.as_ref().and_then(|fields| fields.required("metadata.name"));
        name.unwrap_or_default().clone_into(&mut asked.name);
    }
    asked
}

/// What the query says of how much a list or watch reads.
pub(super) fn reading(query: &Query, time: Option<Duration>) -> Reading {
    let limit = query.get("limit").and_then(|text| text.parse().ok()).unwrap_or(0);
    let from = query.get("resourceVersion").unwrap_or_default();
    let sends_initial = query.flag("sendInitialEvents") || matches!(from, "" | "0");
    Reading { time, limit, sends_initial }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::parse_path;

    #[test]
    fn verbs() {
        let table = [
            ("GET", "/api/v1/pods", "", "list|pods||"),
            ("GET", "/api/v1/pods", "watch=1", "watch|pods||"),
            ("GET", "/api/v1/pods", "watch=0", "list|pods||"),
            ("GET", "/api/v1/pods", "fieldSelector=metadata.name%3Da", "list|pods|a|"),
            ("HEAD", "/api/v1/namespaces/n/pods/p", "", "get|pods|p|"),
            ("POST", "/api/v1/namespaces/n/pods/p/binding", "", "create|pods|p|"),
            ("PUT", "/api/v1/nodes/w/status", "", "update|nodes|w|"),
            ("PATCH", "/api/v1/nodes/w", "", "patch|nodes|w|"),
            ("DELETE", "/api/v1/nodes/w", "", "delete|nodes|w|"),
            ("DELETE", "/api/v1/nodes", "", "deletecollection|nodes||"),
            ("GET", "/healthz", "", "get|||/healthz"),
            ("POST", "/apis", "", "post|||/apis"),
        ];
        for (method, path, query, expected) in table {
            let method: Method = method.parse().expect("a method");
            let asked = asks(&method, path, &parse_path(path), &Query::parse(query));
            let shown = format!("{}|{}|{}|{}", asked.verb, asked.resource, asked.name, asked.path);
            assert_eq!(shown, expected, "{method} {path}?{query}");
        }
    }
}
