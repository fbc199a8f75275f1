//! Acting as somebody else: the `Impersonate-*` headers of a request name a user,
//! and whoever sends them must be allowed to become that user.
//!
//! The rules are upstream's (`apiserver/pkg/endpoints/filters/impersonation`): the
//! constrained modes, in which a right is given for one action and one sort of user,
//! come first, the plain `impersonate` verb last. Start reading in [`check`].

mod modes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use api::Status;
use http::{HeaderMap, HeaderName};

use crate::authn::{User, unescape};

pub(crate) use modes::check;

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";

/// The user that the headers of a request name, as they name it; the headers are
/// taken away, so that nothing behind can act on them.
///
/// # Errors
/// Headers that name groups, a uid or extras, but no user.
pub(crate) fn take(headers: &mut HeaderMap) -> Result<Option<User>, Status> {
    // Almost no request has any.
    if !headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Ok(None);
    }
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let first = |name: &str| headers.get(name).map(text).unwrap_or_default();
    let mut wanted = User {
        name: first(USER),
        uid: first(UID),
        groups: headers.get_all(GROUP).iter().map(text).collect(),
        extra: BTreeMap::new(),
    };
    let names: Vec<HeaderName> = headers.keys().cloned().collect();
    for name in &names {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            let values = headers.get_all(name).iter().map(text);
            wanted.extra.entry(unescape(key)).or_default().extend(values);
        }
    }
    if wanted.name.is_empty() {
        if wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty() {
            return Ok(None);
        }
        let shown = shown(&wanted);
        return Err(Status::bad_request(format!("requested {shown} without impersonating a user name")));
    }
    for name in names {
        if name == USER || name == UID || name == GROUP || name.as_str().starts_with(EXTRA) {
            headers.remove(name);
        }
    }
    Ok(Some(wanted))
}

/// A user as upstream's message shows it, in Go's notation.
fn shown(user: &User) -> String {
    let list = |values: &[String]| {
        let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        format!("[]string{{{}}}", values.join(", "))
    };
    let groups = if user.groups.is_empty() { "[]string(nil)".to_owned() } else { list(&user.groups) };
    let extra = if user.extra.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        let entries: Vec<String> =
            user.extra.iter().map(|(key, values)| format!("{key:?}:{}", list(values))).collect();
        format!("map[string][]string{{{}}}", entries.join(", "))
    };
    format!("&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{groups}, Extra:{extra}}}", user.name, user.uid)
}
