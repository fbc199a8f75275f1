//! Front proxies: whoever comes with a certificate of theirs says in headers who its
//! client is, and is believed.
//!
//! The rules are upstream's (`apiserver/pkg/authentication/request/headerrequest`). The
//! same names of headers are used towards extension API servers, to which this server is
//! the front proxy itself.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use daemon::server::Peer;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use super::x509::{self, Identity};
use super::{User, unescape};

/// Who may say who asks, and how.
#[derive(Clone, Debug, Args)]
pub struct FrontProxyFlags {
    /// CA whose clients may say in headers who asks, PEM; extension API servers are told of it.
    #[arg(long, value_name = "FILE")]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Names of those clients; none given, any that the CA signed.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub requestheader_allowed_names: Vec<String>,
    /// The headers that hold the user's name; the first that is there counts.
    #[arg(long, default_value = "X-Remote-User", value_delimiter = ',', value_parser = header, value_name = "HEADER")]
    pub requestheader_username_headers: Vec<String>,
    /// The headers that hold the user's uid; the first that is there counts.
    #[arg(long, default_value = "X-Remote-Uid", value_delimiter = ',', value_parser = header, value_name = "HEADER")]
    pub requestheader_uid_headers: Vec<String>,
    /// The headers that hold the user's groups.
    #[arg(long, default_value = "X-Remote-Group", value_delimiter = ',', value_parser = header, value_name = "HEADER")]
    pub requestheader_group_headers: Vec<String>,
    /// What the names of headers with further facts begin with.
    #[arg(long, default_value = "X-Remote-Extra-", value_delimiter = ',', value_parser = header, value_name = "PREFIX")]
    pub requestheader_extra_headers_prefix: Vec<String>,
}

impl FrontProxyFlags {
    /// The user whom a front proxy names; the headers are taken away, so that nothing
    /// behind can act on them. `None` where the peer is no front proxy, or names nobody.
    pub(super) fn user(&self, peer: &Peer, headers: &mut HeaderMap, now: Timestamp) -> Option<User> {
        let leaf = peer.front_proxy.as_ref()?.first()?;
        let name = first(headers, &self.requestheader_username_headers)?;
        let Identity { user: proxy, until } = x509::identity(leaf)?;
        if until < now {
            return None;
        }
        let allowed = &self.requestheader_allowed_names;
        if !allowed.is_empty() && !allowed.contains(&proxy.name) {
            tracing::warn!(proxy = proxy.name, "a front proxy is not among --requestheader-allowed-names");
            return None;
        }
        let groups = self.requestheader_group_headers.iter().flat_map(|name| headers.get_all(name)).map(text);
        let user = User {
            name,
            uid: first(headers, &self.requestheader_uid_headers).unwrap_or_default(),
            groups: groups.filter(|group| !group.is_empty()).collect(),
            extra: self.extra(headers),
        };
        let said: Vec<HeaderName> = headers.keys().filter(|name| self.says(name)).cloned().collect();
        for name in said {
            headers.remove(name);
        }
        Some(user)
    }

    fn extra(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut extra = BTreeMap::<String, Vec<String>>::new();
        for prefix in &self.requestheader_extra_headers_prefix {
            for (name, value) in headers {
                if let Some(key) = after(name, prefix) {
                    extra.entry(unescape(key)).or_default().push(text(value));
                }
            }
        }
        extra
    }

    /// Whether a header says who asks.
    fn says(&self, header: &HeaderName) -> bool {
        let named = [
            &self.requestheader_username_headers,
            &self.requestheader_uid_headers,
            &self.requestheader_group_headers,
        ];
        let mut prefixes = self.requestheader_extra_headers_prefix.iter();
        named.into_iter().flatten().any(|name| header.as_str().eq_ignore_ascii_case(name))
            || prefixes.any(|prefix| after(header, prefix).is_some())
    }
}

/// The rest of a header's name after a prefix in any case.
fn after<'a>(header: &'a HeaderName, prefix: &str) -> Option<&'a str> {
    let (start, rest) = header.as_str().split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Names go to extension API servers as they are written.
fn header(text: &str) -> Result<String, String> {
    match text.trim().parse::<HeaderName>() {
        Ok(_) => Ok(text.trim().to_owned()),
        Err(_) => Err("is no name of a header".to_owned()),
    }
}

fn first(headers: &HeaderMap, names: &[String]) -> Option<String> {
    names.iter().filter_map(|name| headers.get(name)).map(text).find(|value| !value.is_empty())
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
