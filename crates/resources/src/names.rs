//! Why a text is no name, label, key or address, in upstream's words.
//!
//! Each function returns one message per broken rule, as
//! `k8s.io/apimachinery/pkg/util/validation` and
//! `k8s.io/apimachinery/pkg/api/validation` word them: the texts are part of the
//! API, clients and conformance tests read them.

use std::net::IpAddr;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_1035: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

/// `must be no more than N characters`.
#[must_use]
pub fn max_length(length: usize) -> String {
    format!("must be no more than {length} characters")
}

/// `must be between LOW and HIGH, inclusive`.
#[must_use]
pub fn between(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

pub(crate) fn shape_message(rule: &str, examples: &[&str], pattern: &str) -> String {
    let examples: Vec<String> = examples.iter().map(|one| format!("'{one}', ")).collect();
    if examples.is_empty() {
        format!("{rule} (regex used for validation is '{pattern}')")
    } else {
        format!("{rule} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
    }
}

/// A prefix will have text appended: a trailing dash is fine in one.
fn masked(name: &str, prefix: bool) -> std::borrow::Cow<'_, str> {
    match name.strip_suffix('-') {
        // The character before the dash goes too, as upstream does it.
        Some(rest) if prefix && !rest.is_empty() => {
            let end = rest.char_indices().last().map_or(0, |(at, _)| at);
            format!("{}a", &rest[..end]).into()
        }
        _ => name.into(),
    }
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            is_lower_alphanumeric(*first)
                && is_lower_alphanumeric(*last)
                && bytes.iter().all(|byte| is_lower_alphanumeric(*byte) || *byte == b'-')
        }
        _ => false,
    }
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_qualified(text: &str) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric()
                && last.is_ascii_alphanumeric()
                && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        }
        _ => false,
    }
}

/// Names of most objects: an RFC 1123 subdomain.
#[must_use]
pub fn dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    subdomain(&masked(name, prefix))
}

/// An RFC 1123 subdomain, never a prefix.
#[must_use]
pub fn subdomain(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > 253 {
        errors.push(max_length(253));
    }
    if !is_subdomain(name) {
        errors.push(shape_message(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            &["example.com"],
            SUBDOMAIN,
        ));
    }
    errors
}

/// Names of namespaces: an RFC 1123 label.
#[must_use]
pub fn dns_label(name: &str, prefix: bool) -> Vec<String> {
    label(&masked(name, prefix))
}

/// An RFC 1123 label, never a prefix.
#[must_use]
pub fn label(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > 63 {
        errors.push(max_length(63));
    }
    if !is_label(name) {
        errors.push(if is_subdomain(name) {
            "must not contain dots".to_owned()
        } else {
            shape_message(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                &["my-name", "123-abc"],
                LABEL,
            )
        });
    }
    errors
}

/// Names of services: an RFC 1035 label.
#[must_use]
pub fn dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut errors = Vec::new();
    if name.len() > 63 {
        errors.push(max_length(63));
    }
    if !is_label(&name) || name.as_bytes()[0].is_ascii_digit() {
        errors.push(shape_message(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            &["my-name", "abc-123"],
            LABEL_1035,
        ));
    }
    errors
}

/// DNS search paths: an RFC 1123 subdomain whose labels may hold underscores.
#[must_use]
pub fn subdomain_with_underscore(name: &str) -> Vec<String> {
    const PATTERN: &str = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
    let mut errors = Vec::new();
    if name.len() > 253 {
        errors.push(max_length(253));
    }
    // An underscore inside a label may stand wherever a dash may.
    let as_dashes = |label: &str| label.strip_prefix('_').unwrap_or(label).replace('_', "-");
    if !name.split('.').all(|label| is_label(&as_dashes(label))) {
        errors.push(shape_message(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            &["example.com"],
            PATTERN,
        ));
    }
    errors
}

/// Host names that may start with `*.`.
#[must_use]
pub fn wildcard_subdomain(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > 253 {
        errors.push(max_length(253));
    }
    if !name.strip_prefix("*.").is_some_and(is_subdomain) {
        errors.push(shape_message(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &["*.example.com"],
            &format!("\\*\\.{SUBDOMAIN}"),
        ));
    }
    errors
}

/// Names that only need to fit into a URL path: RBAC's.
#[must_use]
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    if !prefix && (name == "." || name == "..") {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|one| name.contains(**one))
        .map(|one| format!("may not contain '{one}'"))
        .collect()
}

/// Keys of labels and annotations, names of finalizers and resources.
#[must_use]
pub fn qualified(name: &str) -> Vec<String> {
    const RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    const EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];
    let mut errors = Vec::new();
    let mut parts = name.split('/');
    let (prefix, part) = match (parts.next(), parts.next(), parts.next()) {
        (Some(part), None, _) => (None, part),
        (Some(prefix), Some(part), None) => (Some(prefix), part),
        _ => {
            let text = shape_message(&format!("a valid label key {RULE}"), EXAMPLES, QUALIFIED);
            return vec![format!(
                "{text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    match prefix {
        Some("") => errors.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => {
            errors.extend(subdomain(prefix).into_iter().map(|text| format!("prefix part {text}")))
        }
        None => {}
    }
    if part.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if part.len() > 63 {
        errors.push(format!("name part {}", max_length(63)));
    }
    if !is_qualified(part) {
        errors.push(shape_message(&format!("name part {RULE}"), EXAMPLES, QUALIFIED));
    }
    errors
}

/// Values of labels.
#[must_use]
pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > 63 {
        errors.push(max_length(63));
    }
    if !value.is_empty() && !is_qualified(value) {
        errors.push(shape_message(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            &["MyValue", "my_value", "12345"],
            LABEL_VALUE,
        ));
    }
    errors
}

/// Names of environment variables: printable ASCII without `=`.
#[must_use]
pub fn env_var(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push("environment variable name must be non-empty".to_owned());
    }
    if name.chars().any(|one| !(' '..='~').contains(&one) || one == '=') {
        errors.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    errors
}

/// Keys of config maps and secrets.
#[must_use]
pub fn config_map_key(key: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if key.len() > 253 {
        errors.push(max_length(253));
    }
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        errors.push(shape_message(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            &["key.name", "KEY_NAME", "key-name"],
            "[-._a-zA-Z0-9]+",
        ));
    }
    match key {
        "." | ".." => errors.push(format!("must not be '{key}'")),
        _ if key.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

/// Names of ports (RFC 6335's IANA_SVC_NAME).
#[must_use]
pub fn port_name(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > 15 {
        errors.push(max_length(15));
    }
    if name.is_empty() || !name.bytes().all(|byte| is_lower_alphanumeric(byte) || byte == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

/// Numbers of ports.
#[must_use]
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65_535).contains(&port) { Vec::new() } else { vec![between(1, 65_535)] }
}

/// User and group ids.
#[must_use]
pub fn user_id(id: i64) -> Vec<String> {
    if (0..=i64::from(i32::MAX)).contains(&id) { Vec::new() } else { vec![between(0, i64::from(i32::MAX))] }
}

/// Percentages such as `25%`.
#[must_use]
pub fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    vec![shape_message(
        "a valid percent string must be a numeric string followed by an ending '%'",
        &["1%", "93%"],
        "[0-9]+%",
    )]
}

/// Names of HTTP headers.
#[must_use]
pub fn http_header(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Vec::new();
    }
    vec![shape_message(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        &["X-Header-Name"],
        "[-A-Za-z0-9]+",
    )]
}

/// C identifiers: variables that a shell can name.
#[must_use]
pub fn c_identifier(name: &str) -> Vec<String> {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if starts && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Vec::new();
    }
    vec![shape_message(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
        &["my_name", "MY_NAME", "MyName"],
        "[A-Za-z_][A-Za-z0-9_]*",
    )]
}

/// Reads an address in any of Go's forms that upstream takes strictly.
#[must_use]
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// IP addresses: no leading zeroes, no IPv4 in IPv6.
#[must_use]
pub fn ip(text: &str) -> Vec<String> {
    let without_zeroes = || {
        let trim = |part: &str| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0".to_owned(),
            rest => rest.to_owned(),
        };
        text.split('.').map(trim).collect::<Vec<_>>().join(".")
    };
    match parse_ip(text) {
        Some(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            vec!["must not be an IPv4-mapped IPv6 address".to_owned()]
        }
        Some(_) => Vec::new(),
        None if without_zeroes().parse::<std::net::Ipv4Addr>().is_ok() => {
            vec!["must not have leading 0s".to_owned()]
        }
        None => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

/// Names that are IP addresses, in the form that there is only one of.
#[must_use]
pub fn canonical_ip(name: &str, _prefix: bool) -> Vec<String> {
    let errors = ip(name);
    match parse_ip(name) {
        Some(address) if errors.is_empty() && address.to_string() != name => {
            vec![format!("must be in canonical form ({:?})", address.to_string())]
        }
        _ => errors,
    }
}

/// CIDR blocks: no bits set beyond the prefix.
#[must_use]
pub fn cidr(text: &str) -> Vec<String> {
    let Ok(net) = text.parse::<ipnet::IpNet>() else {
        return vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()];
    };
    let prefix = text.rsplit('/').next().unwrap_or_default();
    if prefix.len() > 1 && prefix.starts_with('0') {
        return vec!["must not have leading 0s in IP or prefix length".to_owned()];
    }
    match net.addr() {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => {
            vec!["must not have an IPv4-mapped IPv6 address".to_owned()]
        }
        _ if net.addr() != net.network() => {
            vec!["must not have bits set beyond the prefix length".to_owned()]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_upstream_judges_them() {
        let none: Vec<String> = Vec::new();
        assert_eq!(dns_subdomain("web.example-1", false), none);
        assert_eq!(dns_subdomain("web-", true), none);
        assert_eq!(
            dns_subdomain("Web", false),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(dns_label("a.b", false), ["must not contain dots"]);
        assert_eq!(
            dns_label("-a", false),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(dns_label(&"a".repeat(64), false), ["must be no more than 63 characters"]);
        assert_eq!(
            dns1035_label("1a", false),
            [
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(path_segment("system:a", false), none);
        assert_eq!(path_segment("a/b%", false), ["may not contain '/'", "may not contain '%'"]);
        assert_eq!(path_segment("..", false), ["may not be '..'"]);
    }

    #[test]
    fn keys_and_values_are_judged_as_upstream_judges_them() {
        let none: Vec<String> = Vec::new();
        assert_eq!(qualified("app.kubernetes.io/name"), none);
        assert_eq!(
            qualified(""),
            [
                "name part must be non-empty",
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ]
        );
        assert_eq!(qualified("/a"), ["prefix part must be non-empty"]);
        assert!(qualified("a/b/c")[0].starts_with("a valid label key must consist of"));
        assert_eq!(label_value(""), none);
        assert!(label_value("a b")[0].starts_with("a valid label must be an empty string or consist of"));
        assert_eq!(config_map_key("..a"), ["must not start with '..'"]);
        assert_eq!(port_name("http-1"), none);
        assert_eq!(port_name("80"), ["must contain at least one letter (a-z)"]);
        assert_eq!(env_var("A B"), none);
        assert_eq!(env_var("A=B").len(), 1);
        assert_eq!(percent("25%"), none);
        assert_eq!(percent("%").len(), 1);
    }

    #[test]
    fn addresses_are_judged_as_upstream_judges_them() {
        let none: Vec<String> = Vec::new();
        assert_eq!(ip("10.0.0.1"), none);
        assert_eq!(ip("fd00::1"), none);
        assert_eq!(ip("010.0.0.1"), ["must not have leading 0s"]);
        assert_eq!(ip("::ffff:1.2.3.4"), ["must not be an IPv4-mapped IPv6 address"]);
        assert_eq!(ip("x"), ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]);
        assert_eq!(canonical_ip("fe80::1", false), none);
        assert_eq!(canonical_ip("FE80:0::1", false), ["must be in canonical form (\"fe80::1\")"]);
        assert_eq!(canonical_ip("10.0.0", false), ip("10.0.0"));
        assert_eq!(cidr("10.0.0.0/8"), none);
        assert_eq!(cidr("10.0.0.1/8"), ["must not have bits set beyond the prefix length"]);
        assert_eq!(cidr("10.0.0.1"), ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]);
    }
}
