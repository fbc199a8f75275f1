//! Bootstrap tokens: what they look like, and the secret that holds one.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use api::metav1::ObjectMeta;
use api::openapi::ByteString;
use api::types::core::v1::Secret;
use jiff::Timestamp;

/// The namespace of the tokens' secrets.
pub const NAMESPACE: &str = "kube-system";
/// The secrets' type.
pub const TYPE: &str = "bootstrap.kubernetes.io/token";
/// The group that nodes which join are in.
pub const NODE_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
/// A token's life where none is given.
pub const LIFE: Duration = Duration::from_hours(24);

const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret must not get into logs.
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

fn fits(part: &str, length: usize) -> bool {
    part.len() == length && part.bytes().all(|byte| LETTERS.contains(&byte))
}

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, secret) = text.split_once('.').unwrap_or_default();
        if fits(id, 6) && fits(secret, 16) {
            Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
        } else {
            Err("a token has the form abcdef.0123456789abcdef, in lower case".to_owned())
        }
    }
}

/// Whether a text is the first part of a token.
#[must_use]
pub fn is_id(text: &str) -> bool {
    fits(text, 6)
}

impl Token {
    /// A token that nobody can guess.
    #[must_use]
    pub fn generate() -> Self {
        let draw = |length: usize| -> String {
            (0..length).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
        };
        Self { id: draw(6), secret: draw(16) }
    }

    /// The part that is no secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole token. Whoever has it can add a node.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

/// The name of a token's secret.
#[must_use]
pub fn secret_name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

/// What a token is for.
#[derive(Clone, Debug)]
pub struct Terms {
    /// When it ends; `None`: never.
    pub expires: Option<Timestamp>,
    /// `authentication`, `signing`.
    pub usages: Vec<String>,
    /// Groups below `system:bootstrappers:`.
    pub groups: Vec<String>,
    /// For people.
    pub description: String,
}

/// The secret that makes a token valid.
#[must_use]
pub fn secret(token: &Token, terms: &Terms) -> Secret {
    let mut data: BTreeMap<String, String> =
        [("token-id".to_owned(), token.id.clone()), ("token-secret".to_owned(), token.secret.clone())].into();
    if let Some(expires) = terms.expires {
        data.insert("expiration".to_owned(), api::time::format(expires));
    }
    if !terms.description.is_empty() {
        data.insert("description".to_owned(), terms.description.clone());
    }
    for usage in &terms.usages {
        data.insert(format!("usage-bootstrap-{usage}"), "true".to_owned());
    }
    if !terms.groups.is_empty() {
        data.insert("auth-extra-groups".to_owned(), terms.groups.join(","));
    }
    Secret {
        metadata: ObjectMeta {
            name: Some(secret_name(&token.id)),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some(data.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect()),
        ..Secret::default()
    }
}

/// A token as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The whole token.
    pub token: String,
    /// How long it is still good, and until when.
    pub life: (String, String),
    /// What it is for.
    pub usages: String,
    /// For people.
    pub description: String,
    /// Groups.
    pub groups: String,
}

/// A token's line in the list; `None` for a secret that is no token.
#[must_use]
pub fn listed(secret: &Secret, now: Timestamp) -> Option<Listed> {
    let text =
        |key: &str| -> Option<String> { String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok() };
    let token: Token = format!("{}.{}", text("token-id")?, text("token-secret")?).parse().ok()?;
    let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
    let life = match text("expiration").map(|text| (text.parse::<Timestamp>(), text)) {
        None => ("<forever>".to_owned(), "<never>".to_owned()),
        Some((Ok(end), text)) if end > now => (remaining(end, now), text),
        Some((_, text)) => ("<invalid>".to_owned(), text),
    };
    let usages: Vec<&str> = ["authentication", "signing"]
        .into_iter()
        .filter(|usage| text(&format!("usage-bootstrap-{usage}")).as_deref() == Some("true"))
        .collect();
    Some(Listed {
        token: token.reveal(),
        life,
        usages: or_none(usages.join(",")),
        description: or_none(text("description").unwrap_or_default()),
        groups: or_none(text("auth-extra-groups").unwrap_or_default()),
    })
}

/// The time to an end, in the largest unit that fits twice, as kubectl has it.
#[must_use]
pub fn remaining(end: Timestamp, now: Timestamp) -> String {
    let seconds = end.duration_since(now).as_secs().max(0);
    let units = [(365 * 24 * 3600, "y"), (24 * 3600, "d"), (3600, "h"), (60, "m")];
    let fits = units.into_iter().find(|(size, _)| seconds >= 2 * size);
    fits.map_or_else(|| format!("{seconds}s"), |(size, name)| format!("{}{name}", seconds / size))
}

/// Reads a time to live: `24h`, `30m`, or `0` for ever.
///
/// # Errors
/// A text that is no duration.
pub fn parse_life(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let span: jiff::SignedDuration = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
    span.try_into().map_err(|_| format!("{text:?} is negative"))
}

/// When a token ends that lives from now on.
///
/// # Errors
/// A life beyond all calendars.
pub fn expiry(life: Duration, now: Timestamp) -> anyhow::Result<Option<Timestamp>> {
    if life.is_zero() {
        return Ok(None);
    }
    now.checked_add(life).map(Some).context("the token would outlive the calendar")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_790_000_000, 0);

    #[test]
    fn tokens_are_of_the_form_and_differ() {
        let (one, other) = (Token::generate(), Token::generate());
        assert_ne!(one, other);
        assert_eq!(one.reveal().parse(), Ok(one));
        for bad in
            ["", "abcdef", "abcdef.0123456789abcde", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef "]
        {
            assert!(bad.parse::<Token>().is_err(), "{bad:?}");
        }
        let token: Token = "abcdef.0123456789abcdef".parse().expect("a token");
        assert!(!format!("{token:?}").contains("0123"), "the secret is not shown");
    }

    #[test]
    fn a_token_is_listed_as_it_was_made() {
        let token: Token = "abcdef.0123456789abcdef".parse().expect("a token");
        let terms = Terms {
            expires: expiry(LIFE, NOW).expect("a time"),
            usages: vec!["signing".to_owned(), "authentication".to_owned()],
            groups: vec![NODE_GROUP.to_owned()],
            description: String::new(),
        };
        let made = secret(&token, &terms);
        assert_eq!(made.metadata.name.as_deref(), Some("bootstrap-token-abcdef"));
        let line = listed(&made, NOW).expect("a token");
        assert_eq!(line.life, ("24h".to_owned(), "2026-09-22T14:13:20Z".to_owned()));
        assert_eq!((line.usages.as_str(), line.description.as_str()), ("authentication,signing", "<none>"));
        assert_eq!(line.groups, NODE_GROUP);
        let forever = secret(&token, &Terms { expires: None, ..terms.clone() });
        assert_eq!(listed(&forever, NOW).expect("a token").life.0, "<forever>");
        let over = secret(&token, &Terms { expires: Some(NOW), ..terms });
        assert_eq!(listed(&over, NOW).expect("a token").life.0, "<invalid>");
        assert_eq!(listed(&Secret::default(), NOW), None);
    }

    #[test]
    fn lives() {
        assert_eq!(parse_life("24h"), Ok(LIFE));
        assert_eq!(parse_life("0"), Ok(Duration::ZERO));
        assert!(parse_life("-1h").is_err() && parse_life("soon").is_err());
        assert_eq!(expiry(Duration::ZERO, NOW).expect("a time"), None);
    }
}
