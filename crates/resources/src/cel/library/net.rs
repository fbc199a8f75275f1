//! URLs, addresses and networks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::cel::eval::{Outcome, failed};
use crate::cel::value::{Key, Value};
use crate::names;

/// The parts of a URL, as Go's `url.ParseRequestURI` divides it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub(in crate::cel) text: Arc<str>,
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl Url {
    /// An absolute URL, or an absolute path.
    fn parse(text: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("URL parse error during conversion from string: parse {text:?}: {why}");
        if text.is_empty() {
            return Err(bad("empty url"));
        }
        if text.chars().any(|c| c.is_ascii_control()) {
            return Err(bad("net/url: invalid control character in URL"));
        }
        let (before, query) = text.split_once('?').unwrap_or((text, ""));
        let scheme_end = before.find(':').filter(|_| !before.starts_with('/'));
        let (scheme, rest) = match scheme_end {
            Some(at) if is_scheme(&before[..at]) => (before[..at].to_ascii_lowercase(), &before[at + 1..]),
            _ if before.starts_with('/') => (String::new(), before),
            _ => return Err(bad("invalid URI for request")),
        };
        let (host, path) = match rest.strip_prefix("//").filter(|_| !scheme.is_empty()) {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        if host.contains([' ', '<', '>', '"']) {
            return Err(bad("invalid character in host name"));
        }
        let after_brackets = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
        let port = after_brackets.rsplit_once(':').map_or("", |(_, port)| port);
        if !port.chars().all(|c| c.is_ascii_digit()) {
            return Err(bad(&format!("invalid port \":{port}\" after host")));
        }
        Ok(Self {
            text: text.into(),
            scheme,
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    fn host_and_port(&self) -> (&str, &str) {
        if let Some(rest) = self.host.strip_prefix('[')
            && let Some((host, after)) = rest.split_once(']')
        {
            return (host, after.strip_prefix(':').unwrap_or_default());
        }
        self.host.split_once(':').unwrap_or((&self.host, ""))
    }

    fn queries(&self) -> Value {
        let mut found: BTreeMap<Key, Vec<Value>> = BTreeMap::new();
        for part in self.query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let key = Key::Text(unescape(name).as_str().into());
            found.entry(key).or_default().push(Value::text(&unescape(value)));
        }
        Value::Map(Arc::new(found.into_iter().map(|(key, values)| (key, Value::list(values))).collect()))
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut made = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match (bytes[at], code.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                made.push(byte);
                at += 3;
            }
            (b'+', _) => {
                made.push(b' ');
                at += 1;
            }
            (byte, _) => {
                made.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&made).into_owned()
}

/// An address in its strict form: no leading zeros, no zone, not IPv4 in IPv6.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.parse().ok()?;
    let is_mapped = matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    (!is_mapped).then_some(ip)
}

fn parse_cidr(text: &str) -> Option<IpNet> {
    let net: IpNet = text.parse().ok()?;
    let is_mapped = matches!(net.addr(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    let has_leading_zero =
        text.rsplit_once('/').is_some_and(|(_, bits)| bits.len() > 1 && bits.starts_with('0'));
    (!is_mapped && !has_leading_zero).then_some(net)
}

fn bad_ip(text: &str) -> Outcome {
    failed(format!("IP Address {text:?} parse error during conversion from string"))
}

fn bad_cidr(text: &str) -> Outcome {
    failed(format!("network address parse error during conversion from string: {text:?}"))
}

pub(super) fn call(name: &str, args: &[Value]) -> Option<Outcome> {
    match args {
        [Value::Text(text)] => read(name, text),
        [Value::Url(url)] => of_url(name, url),
        [Value::Ip(ip)] => of_ip(name, *ip),
        [Value::Cidr(cidr)] => Some(Ok(match name {
            "ip" => Value::Ip(cidr.addr()),
            "masked" => Value::Cidr(cidr.trunc()),
            "prefixLength" => Value::Int(cidr.prefix_len().into()),
            _ => return None,
        })),
        [Value::Cidr(cidr), other] => contains(name, cidr, other),
        _ => None,
    }
}

fn read(name: &str, text: &str) -> Option<Outcome> {
    Some(match name {
        "url" => Url::parse(text).map_or_else(failed, |url| Ok(Value::Url(Arc::new(url)))),
        "isURL" => Ok(Value::Bool(Url::parse(text).is_ok())),
        "ip" => parse_ip(text).map_or_else(|| bad_ip(text), |ip| Ok(Value::Ip(ip))),
        "isIP" => Ok(Value::Bool(parse_ip(text).is_some())),
        "ip.isCanonical" => match parse_ip(text) {
            Some(ip) => Ok(Value::Bool(ip.to_string() == text)),
            None => bad_ip(text),
        },
        "cidr" => parse_cidr(text).map_or_else(|| bad_cidr(text), |cidr| Ok(Value::Cidr(cidr))),
        "isCIDR" => Ok(Value::Bool(parse_cidr(text).is_some())),
        _ => return None,
    })
}

fn of_url(name: &str, url: &Url) -> Option<Outcome> {
    let (host, port) = url.host_and_port();
    Some(Ok(match name {
        "getScheme" => Value::text(&url.scheme),
        "getHost" => Value::text(&url.host),
        "getHostname" => Value::text(host),
        "getPort" => Value::text(port),
        "getEscapedPath" => Value::text(&url.path),
        "getQuery" => url.queries(),
        _ => return None,
    }))
}

fn of_ip(name: &str, ip: IpAddr) -> Option<Outcome> {
    let is_local_multicast = match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    };
    let is_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    Some(Ok(match name {
        "family" => Value::Int(if ip.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Value::Bool(ip.is_unspecified()),
        "isLoopback" => Value::Bool(ip.is_loopback()),
        "isLinkLocalMulticast" => Value::Bool(is_local_multicast),
        "isLinkLocalUnicast" => Value::Bool(is_local),
        "isGlobalUnicast" => Value::Bool(
            !(ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_multicast()
                || is_local
                || ip == IpAddr::from([255; 4])),
        ),
        _ => return None,
    }))
}

fn contains(name: &str, cidr: &IpNet, other: &Value) -> Option<Outcome> {
    Some(match (name, other) {
        ("containsIP", Value::Ip(ip)) => Ok(Value::Bool(cidr.contains(ip))),
        ("containsIP", Value::Text(text)) => match names::parse_ip(text).and_then(|_| parse_ip(text)) {
            Some(ip) => Ok(Value::Bool(cidr.contains(&ip))),
            None => bad_ip(text),
        },
        ("containsCIDR", Value::Cidr(other)) => Ok(Value::Bool(cidr.trunc().contains(other))),
        ("containsCIDR", Value::Text(text)) => match parse_cidr(text) {
            Some(other) => Ok(Value::Bool(cidr.trunc().contains(&other))),
            None => bad_cidr(text),
        },
        _ => return None,
    })
}
