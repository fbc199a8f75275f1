//! A user who asks as somebody else, which they need the right for: to each name,
//! group, uid and further fact, following `k8s.io/apiserver/pkg/endpoints/filters`.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Status;
use http::HeaderMap;

use super::{AUTHENTICATED, UNAUTHENTICATED, User};
use crate::authz::{Attributes, Authorizer};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const ANONYMOUS: &str = "system:anonymous";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// The group of uids and further facts, as resources.
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Who a request is to be answered as: whoever asks, unless its headers say otherwise.
///
/// # Errors
/// Headers that make no sense, or that the user has no right to.
pub(crate) fn impersonated(
    asking: Arc<User>,
    headers: &HeaderMap,
    authorizer: &Authorizer,
) -> Result<Arc<User>, Status> {
    let Some(wanted) = wanted(headers)? else { return Ok(asking) };
    for attributes in wanted.needs() {
        authorizer.check(&asking, &attributes)?;
    }
    Ok(Arc::new(wanted.user()))
}

/// What the headers say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

fn wanted(headers: &HeaderMap) -> Result<Option<Wanted>, Status> {
    let mut wanted = Wanted::default();
    for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with("impersonate-")) {
        let value =
            value.to_str().map_err(|_| Status::bad_request(format!("the header {name} is no text")))?;
        match name.as_str() {
            USER => value.clone_into(&mut wanted.name),
            UID => value.clone_into(&mut wanted.uid),
            GROUP => wanted.groups.push(value.to_owned()),
            other => {
                if let Some(key) = other.strip_prefix(EXTRA) {
                    let key = form_urlencoded_path(key);
                    wanted.extra.entry(key).or_default().push(value.to_owned());
                }
            }
        }
    }
    if !wanted.name.is_empty() {
        return Ok(Some(wanted));
    }
    if wanted == Wanted::default() {
        return Ok(None);
    }
    Err(Status::internal("requested impersonation of groups, a uid or extra without impersonating a user"))
}

/// A key with `%2f` and the like as what they stand for.
fn form_urlencoded_path(key: &str) -> String {
    // A plus is a plus here.
    let key = key.replace('+', "%2B");
    form_urlencoded::parse(key.as_bytes()).next().map_or(key.clone(), |(key, _)| key.into_owned())
}

/// Namespace and name of a service account.
fn service_account(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(SERVICE_ACCOUNT)?.split_once(':').filter(|(_, name)| !name.contains(':'))
}

impl Wanted {
    /// The rights that it takes.
    fn needs(&self) -> Vec<Attributes> {
        let need = |group: &str, resource: &str, name: &str| Attributes {
            verb: "impersonate".to_owned(),
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        };
        let mut needs = vec![match service_account(&self.name) {
            Some((namespace, name)) => {
                Attributes { namespace: namespace.to_owned(), ..need("", "serviceaccounts", name) }
            }
            None => need("", "users", &self.name),
        }];
        needs.extend(self.groups.iter().map(|group| need("", "groups", group)));
        for (key, values) in &self.extra {
            let of = |value: &String| Attributes {
                subresource: key.clone(),
                ..need(AUTHENTICATION, "userextras", value)
            };
            needs.extend(values.iter().map(of));
        }
        if !self.uid.is_empty() {
            needs.push(need(AUTHENTICATION, "uids", &self.uid));
        }
        needs
    }

    /// The user, in the groups that such a user is in.
    fn user(self) -> User {
        let mut groups = self.groups;
        if groups.is_empty()
            && let Some((namespace, _)) = service_account(&self.name)
        {
            groups.push("system:serviceaccounts".to_owned());
            groups.push(format!("system:serviceaccounts:{namespace}"));
        }
        let general = if self.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
        if !groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED) {
            groups.push(general.to_owned());
        }
        User { name: self.name, uid: self.uid, groups, extra: self.extra }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(list: &[(&'static str, &'static str)]) -> Result<Option<Wanted>, Status> {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        wanted(&headers)
    }

    #[test]
    fn headers_become_users_and_rights() {
        assert_eq!(of(&[("accept", "x")]), Ok(None));
        assert!(of(&[("impersonate-group", "g")]).is_err());
        let wanted = of(&[
            ("impersonate-user", "jane"),
            ("impersonate-group", "a"),
            ("impersonate-group", "b"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-x.io%2fscopes", "one"),
            ("impersonate-extra-x.io%2fscopes", "two"),
        ])
        .expect("reads")
        .expect("somebody");
        let needs: Vec<String> = wanted
            .needs()
            .iter()
            .map(|need| format!("{}/{}/{} {}", need.group, need.resource, need.subresource, need.name))
            .collect();
        assert_eq!(
            needs,
            [
                "/users/ jane",
                "/groups/ a",
                "/groups/ b",
                "authentication.k8s.io/userextras/x.io/scopes one",
                "authentication.k8s.io/userextras/x.io/scopes two",
                "authentication.k8s.io/uids/ 7",
            ]
        );
        let user = wanted.user();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "7"));
        assert_eq!(user.groups, ["a", "b", AUTHENTICATED]);
    }

    #[test]
    fn service_accounts_and_nobody() {
        let account =
            of(&[("impersonate-user", "system:serviceaccount:ns:sa")]).expect("reads").expect("somebody");
        let needs = account.needs();
        assert_eq!(
            (needs[0].resource.as_str(), needs[0].namespace.as_str(), needs[0].name.as_str()),
            ("serviceaccounts", "ns", "sa")
        );
        assert_eq!(
            account.user().groups,
            ["system:serviceaccounts", "system:serviceaccounts:ns", AUTHENTICATED]
        );
        let nobody = of(&[("impersonate-user", ANONYMOUS)]).expect("reads").expect("somebody");
        assert_eq!(nobody.user().groups, [UNAUTHENTICATED]);
        let chosen = of(&[("impersonate-user", "x"), ("impersonate-group", UNAUTHENTICATED)]);
        assert_eq!(chosen.expect("reads").expect("somebody").user().groups, [UNAUTHENTICATED]);
    }
}
