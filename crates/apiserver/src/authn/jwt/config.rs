//! `AuthenticationConfiguration` (`apiserver.config.k8s.io`): which issuers' tokens
//! are taken, and which user each is. The `--oidc-*` flags are one such issuer.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::claims::{Check, Expression, Mapping, Source};

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Configuration {
    api_version: String,
    kind: String,
    pub(crate) jwt: Vec<Jwt>,
    pub(crate) anonymous: Option<Anonymous>,
}

/// Who may come without saying who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Anonymous {
    /// Whether anybody.
    pub enabled: bool,
    /// To which paths; none: to all.
    pub conditions: Vec<PathCondition>,
}

/// A path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PathCondition {
    /// The whole path.
    pub path: String,
}

/// One issuer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Jwt {
    pub(crate) issuer: IssuerConfig,
    pub(crate) claim_validation_rules: Vec<ClaimRule>,
    pub(crate) claim_mappings: Mappings,
    pub(crate) user_validation_rules: Vec<UserRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct IssuerConfig {
    pub(crate) url: String,
    #[serde(rename = "discoveryURL")]
    pub(crate) discovery_url: String,
    pub(crate) certificate_authority: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) audience_match_policy: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct ClaimRule {
    pub(crate) claim: String,
    pub(crate) required_value: String,
    pub(crate) expression: String,
    pub(crate) message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct UserRule {
    pub(crate) expression: String,
    pub(crate) message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Mappings {
    pub(crate) username: Prefixed,
    pub(crate) groups: Prefixed,
    pub(crate) uid: Unprefixed,
    pub(crate) extra: Vec<Extra>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Prefixed {
    pub(crate) claim: String,
    pub(crate) prefix: Option<String>,
    pub(crate) expression: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Unprefixed {
    claim: String,
    expression: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Extra {
    key: String,
    value_expression: String,
}

impl Configuration {
    /// Reads the file; `own` is the issuer of this server's own tokens.
    ///
    /// # Errors
    /// It cannot be read, or makes no sense.
    pub(crate) fn load(path: &Path, own: &str) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text, own)
            .with_context(|| format!("the authentication configuration {}", path.display()))
    }

    fn parse(text: &str, own: &str) -> anyhow::Result<Self> {
        let value: Value = api::yaml::parse(text).context("is no YAML")?;
        let found: Self = serde_json::from_value(value).context("has something that it cannot have")?;
        ensure!(
            found.kind == "AuthenticationConfiguration",
            "is no AuthenticationConfiguration, but {:?}",
            found.kind
        );
        ensure!(
            matches!(
                found.api_version.as_str(),
                "apiserver.config.k8s.io/v1" | "apiserver.config.k8s.io/v1beta1"
            ),
            "{:?} is no version of it",
            found.api_version
        );
        ensure!(found.jwt.len() <= 64, "jwt: must have at most 64 items");
        for (index, one) in found.jwt.iter().enumerate() {
            one.issuer.check(own).with_context(|| format!("jwt[{index}].issuer"))?;
            let before = &found.jwt[..index];
            let same =
                |of: fn(&Jwt) -> &str| !of(one).is_empty() && before.iter().any(|other| of(other) == of(one));
            ensure!(
                !same(|one| &one.issuer.url),
                "jwt[{index}].issuer.url: Duplicate value: {:?}",
                one.issuer.url
            );
            ensure!(
                !same(|one| &one.issuer.discovery_url),
                "jwt[{index}].issuer.discoveryURL: Duplicate value: {:?}",
                one.issuer.discovery_url
            );
            one.mapping().with_context(|| format!("jwt[{index}]"))?;
        }
        if let Some(anonymous) = &found.anonymous {
            ensure!(
                anonymous.enabled || anonymous.conditions.is_empty(),
                "anonymous.conditions: enabled should be set to true when conditions are defined"
            );
        }
        Ok(found)
    }
}

fn check_url(url: &str, own: &str) -> anyhow::Result<()> {
    ensure!(url != own, "URL must not overlap with disallowed issuers: [{own}]");
    let parsed: http::Uri = url.parse().with_context(|| format!("{url:?}"))?;
    ensure!(parsed.scheme_str() == Some("https"), "{url:?}: URL scheme must be https");
    let authority = parsed.authority().map_or("", http::uri::Authority::as_str);
    ensure!(!authority.contains('@'), "{url:?}: URL must not contain a username or password");
    ensure!(parsed.query().is_none(), "{url:?}: URL must not contain a query");
    ensure!(!url.contains('#'), "{url:?}: URL must not contain a fragment");
    Ok(())
}

impl IssuerConfig {
    /// Checks what the flags and the file both say.
    pub(crate) fn check(&self, own: &str) -> anyhow::Result<()> {
        ensure!(!self.url.is_empty(), "url: Required value");
        check_url(&self.url, own).context("url")?;
        if !self.discovery_url.is_empty() {
            ensure!(
                self.url.trim_end_matches('/') != self.discovery_url.trim_end_matches('/'),
                "discoveryURL must be different from URL"
            );
            check_url(&self.discovery_url, "").context("discoveryURL")?;
        }
        ensure!(!self.audiences.is_empty(), "audiences: at least one is required");
        for (index, audience) in self.audiences.iter().enumerate() {
            ensure!(!audience.is_empty(), "audiences[{index}]: Required value");
            ensure!(
                !self.audiences[..index].contains(audience),
                "audiences[{index}]: Duplicate value: {audience:?}"
            );
        }
        match (self.audiences.len(), self.audience_match_policy.as_str()) {
            (_, "MatchAny") | (1, "") => Ok(()),
            (1, _) => bail!("audienceMatchPolicy must be empty or MatchAny for single audience"),
            _ => bail!("audienceMatchPolicy must be MatchAny for multiple audiences"),
        }
    }
}

impl Jwt {
    /// What becomes of a token's claims.
    ///
    /// # Errors
    /// An expression that does not compile, or a rule that says two things.
    pub(crate) fn mapping(&self) -> anyhow::Result<Mapping> {
        let of = &self.claim_mappings;
        let username = of.username.source().context("claimMappings.username")?;
        let username = username.context("claimMappings.username: claim or expression is required")?;
        let checks = self.checks()?;
        username.check_email(&checks).context("claimMappings.username")?;
        let mut extra: BTreeMap<String, Expression> = BTreeMap::new();
        for (index, one) in of.extra.iter().enumerate() {
            let value = one.check().and_then(|()| Expression::of_claims(&one.value_expression));
            let value = value.with_context(|| format!("claimMappings.extra[{index}]"))?;
            let before = extra.insert(one.key.clone(), value);
            ensure!(before.is_none(), "claimMappings.extra[{index}].key: Duplicate value: {:?}", one.key);
        }
        let users = self.user_validation_rules.iter().enumerate().map(|(index, rule)| {
            let expression = Expression::of_user(&rule.expression);
            let expression =
                expression.with_context(|| format!("userValidationRules[{index}].expression"))?;
            Ok(Check::Holds { expression, message: rule.message.clone() })
        });
        Ok(Mapping {
            username,
            groups: of.groups.source().context("claimMappings.groups")?,
            uid: of.uid.source().context("claimMappings.uid")?,
            extra: extra.into_iter().collect(),
            checks,
            user_checks: users.collect::<anyhow::Result<_>>()?,
        })
    }

    fn checks(&self) -> anyhow::Result<Vec<Check>> {
        let check = |(index, rule): (usize, &ClaimRule)| {
            let at = || format!("claimValidationRules[{index}]");
            match (rule.claim.as_str(), rule.expression.as_str()) {
                ("", "") => bail!("{}: claim or expression is required", at()),
                ("", source) => {
                    ensure!(
                        rule.required_value.is_empty(),
                        "{}.requiredValue: may not be specified when expression is set",
                        at()
                    );
                    let expression = Expression::of_claims(source).with_context(at)?;
                    Ok(Check::Holds { expression, message: rule.message.clone() })
                }
                (claim, "") => {
                    ensure!(
                        rule.message.is_empty(),
                        "{}.message: may not be specified when claim is set",
                        at()
                    );
                    Ok(Check::Is { claim: claim.to_owned(), value: rule.required_value.clone() })
                }
                _ => bail!("{}: claim and expression can't both be set", at()),
            }
        };
        self.claim_validation_rules.iter().enumerate().map(check).collect()
    }
}

impl Prefixed {
    fn source(&self) -> anyhow::Result<Option<Source>> {
        match (self.claim.as_str(), self.expression.as_str()) {
            ("", "") => Ok(None),
            ("", source) => {
                ensure!(self.prefix.is_none(), "prefix: may not be specified when expression is set");
                Ok(Some(Source::Expression(Expression::of_claims(source)?)))
            }
            (claim, "") => {
                let prefix = self.prefix.clone().context(
                    "prefix is required when claim is set. It can be set to an empty string to disable prefixing",
                )?;
                Ok(Some(Source::Claim { claim: claim.to_owned(), prefix }))
            }
            _ => bail!("claim and expression can't both be set"),
        }
    }
}

impl Unprefixed {
    fn source(&self) -> anyhow::Result<Option<Source>> {
        let of = Prefixed {
            claim: self.claim.clone(),
            prefix: (!self.claim.is_empty()).then(String::new),
            expression: self.expression.clone(),
        };
        of.source()
    }
}

impl Extra {
    fn check(&self) -> anyhow::Result<()> {
        let key = &self.key;
        let domain = key.split_once('/').map_or("", |(domain, _)| domain);
        ensure!(
            resources::names::dns_subdomain(domain, false).is_empty() && key.len() > domain.len() + 1,
            "key: {key:?}: must be a domain-prefixed path (such as \"acme.io/foo\")"
        );
        ensure!(!key.bytes().any(|byte| byte.is_ascii_uppercase()), "key: {key:?}: must be lowercase");
        let is_ours = ["k8s.io", "kubernetes.io"]
            .iter()
            .any(|own| domain == *own || domain.strip_suffix(own).is_some_and(|rest| rest.ends_with('.')));
        ensure!(
            !is_ours,
            "key: {key:?}: k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: 'https://issuer', audiences: [a, b], audienceMatchPolicy: MatchAny}
  claimValidationRules:
  - {claim: hd, requiredValue: example.com}
  - {expression: 'claims.exp - claims.nbf <= 86400', message: too long}
  claimMappings:
    username: {expression: 'claims.sub'}
    groups: {claim: groups, prefix: 'oidc:'}
    uid: {claim: uid}
    extra: [{key: example.com/tenant, valueExpression: claims.tenant}]
  userValidationRules: [{expression: \"!user.username.startsWith('system:')\", message: reserved}]
anonymous: {enabled: true, conditions: [{path: /livez}]}
";

    #[test]
    fn a_configuration() {
        let found = Configuration::parse(GOOD, "https://own").expect("reads");
        assert_eq!(found.jwt.len(), 1);
        assert_eq!(found.anonymous.expect("there").conditions[0].path, "/livez");
    }

    #[test]
    fn what_makes_no_sense() {
        for (from, to) in [
            ("https://issuer", "http://issuer"),
            ("https://issuer", "https://own"),
            ("https://issuer", "https://issuer?x=y"),
            ("https://issuer", "https://u:p@issuer"),
            ("[a, b]", "[]"),
            ("[a, b]", "[a, a]"),
            ("audienceMatchPolicy: MatchAny", "audienceMatchPolicy: ''"),
            (", prefix: 'oidc:'", ""),
            ("{expression: 'claims.sub'}", "{}"),
            ("{expression: 'claims.sub'}", "{claim: email, expression: 'claims.sub', prefix: ''}"),
            ("{expression: 'claims.sub'}", "{expression: 'claims.'}"),
            ("{expression: 'claims.sub'}", "{expression: 'claims.email'}"),
            ("claim: hd,", "claim: hd, message: m,"),
            ("example.com/tenant", "tenant"),
            ("example.com/tenant", "a.k8s.io/tenant"),
            ("kind: Auth", "kind: Other"),
            ("uid: {claim", "uids: {claim"),
            ("enabled: true", "enabled: false"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            assert!(Configuration::parse(&GOOD.replacen(from, to, 1), "https://own").is_err(), "{to}");
        }
    }
}
