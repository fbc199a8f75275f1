//! The flags of authentication that are about others' tokens, with upstream's names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{ArgAction, Args};
use daemon::Clock;

use super::jwt::{
    ALGORITHMS, Anonymous, ClaimRule, Configuration, Issuer, IssuerConfig, Jwt, Mappings, Prefixed,
};
use super::webhook::TokenWebhook;
use super::{FrontProxyFlags, Others};
use crate::config::duration;

/// Whose tokens are taken.
#[derive(Clone, Debug, Args)]
pub struct AuthenticationFlags {
    /// Clients that say who theirs are.
    #[command(flatten)]
    pub front_proxies: FrontProxyFlags,
    /// Take requests of nobody in particular.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub anonymous_auth: Option<bool>,
    /// An AuthenticationConfiguration, YAML.
    #[arg(long, value_name = "FILE")]
    pub authentication_config: Option<PathBuf>,
    /// Ask the server of this kubeconfig about tokens.
    #[arg(long, value_name = "FILE")]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// The version of TokenReview that it speaks.
    #[arg(long, default_value = "v1beta1", value_name = "VERSION")]
    pub authentication_token_webhook_version: String,
    /// How long its answers are remembered.
    #[arg(long, default_value = "2m", value_parser = duration, value_name = "DURATION")]
    pub authentication_token_webhook_cache_ttl: Duration,
    /// The address of an OpenID issuer.
    #[arg(long, value_name = "URL")]
    pub oidc_issuer_url: Option<String>,
    /// The audience of its tokens for this server.
    #[arg(long, value_name = "ID")]
    pub oidc_client_id: Option<String>,
    /// CA that signed the issuer's serving certificate, PEM; the system's roots where none is given.
    #[arg(long, value_name = "FILE")]
    pub oidc_ca_file: Option<PathBuf>,
    /// The claim that is the user's name.
    #[arg(long, default_value = "sub", value_name = "CLAIM")]
    pub oidc_username_claim: String,
    /// What is put before it; - for nothing. By default the issuer, but for email.
    #[arg(long, default_value = "", value_name = "PREFIX", hide_default_value = true)]
    pub oidc_username_prefix: String,
    /// The claim that is the user's groups.
    #[arg(long, value_name = "CLAIM")]
    pub oidc_groups_claim: Option<String>,
    /// What is put before each.
    #[arg(long, default_value = "", value_name = "PREFIX", hide_default_value = true)]
    pub oidc_groups_prefix: String,
    /// How tokens may be signed.
    #[arg(long, default_value = "RS256", value_delimiter = ',', value_name = "NAME")]
    pub oidc_signing_algs: Vec<String>,
    /// A claim that tokens must have; may be given again.
    #[arg(long, value_name = "CLAIM=VALUE")]
    pub oidc_required_claim: Vec<String>,
}

impl AuthenticationFlags {
    /// What the flags ask for; `own` is the issuer of this server's own tokens.
    ///
    /// # Errors
    /// Flags that make no sense, or files that cannot be used.
    pub fn open(&self, own: &str, clock: &Arc<dyn Clock>) -> anyhow::Result<Others> {
        let mut anonymous = None;
        let mut issuers = Vec::new();
        if let Some(path) = &self.authentication_config {
            ensure!(
                self.oidc_issuer_url.is_none() && self.oidc_client_id.is_none(),
                "--authentication-config and --oidc-* flags are mutually exclusive"
            );
            let found = Configuration::load(path, own)?;
            let all = ALGORITHMS.map(str::to_owned);
            issuers = found.jwt.iter().map(|one| Issuer::new(one, &all, clock)).collect::<Result<_, _>>()?;
            anonymous = found.anonymous;
        } else if let Some(jwt) = self.jwt(own)? {
            issuers.push(Issuer::new(&jwt, &self.oidc_signing_algs, clock)?);
        }
        let anonymous = match (anonymous, self.anonymous_auth) {
            (Some(_), Some(_)) => bail!(
                "--anonymous-auth and the anonymous part of --authentication-config are mutually exclusive"
            ),
            (Some(anonymous), None) => anonymous,
            (None, flag) => Anonymous { enabled: flag.unwrap_or(true), ..Anonymous::default() },
        };
        let webhook = self.authentication_token_webhook_config_file.as_ref().map(|path| {
            let version = &self.authentication_token_webhook_version;
            TokenWebhook::load(path, version, self.authentication_token_webhook_cache_ttl, Arc::clone(clock))
        });
        let front_proxies = self.front_proxies.clone();
        Ok(Others { front_proxies, issuers, webhook: webhook.transpose()?, anonymous })
    }

    /// The issuer of the `--oidc-*` flags.
    fn jwt(&self, own: &str) -> anyhow::Result<Option<Jwt>> {
        let (url, client) = match (&self.oidc_issuer_url, &self.oidc_client_id) {
            (None, None) => return Ok(None),
            (Some(url), Some(client)) => (url.clone(), client.clone()),
            _ => bail!("--oidc-issuer-url and --oidc-client-id must be specified together"),
        };
        let prefix = match (self.oidc_username_prefix.as_str(), self.oidc_username_claim.as_str()) {
            ("-", _) | ("", "email") => String::new(),
            ("", _) => format!("{url}#"),
            (prefix, _) => prefix.to_owned(),
        };
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
        };
        let ca = self.oidc_ca_file.as_ref().map(read).transpose()?.unwrap_or_default();
        let rules = self.oidc_required_claim.iter().map(|text| {
            let (claim, value) =
                text.split_once('=').context("--oidc-required-claim: expected CLAIM=VALUE")?;
            Ok(ClaimRule {
                claim: claim.to_owned(),
                required_value: value.to_owned(),
                ..ClaimRule::default()
            })
        });
        let claim = |claim: &str, prefix: String| Prefixed {
            claim: claim.to_owned(),
            prefix: Some(prefix),
            ..Prefixed::default()
        };
        let groups = self.oidc_groups_claim.as_deref();
        let issuer = IssuerConfig {
            url,
            audiences: vec![client],
            certificate_authority: ca,
            ..IssuerConfig::default()
        };
        issuer.check(own).context("--oidc-issuer-url")?;
        Ok(Some(Jwt {
            issuer,
            claim_validation_rules: rules.collect::<anyhow::Result<_>>()?,
            claim_mappings: Mappings {
                username: claim(&self.oidc_username_claim, prefix),
                groups: groups
                    .map_or_else(Prefixed::default, |name| claim(name, self.oidc_groups_prefix.clone())),
                ..Mappings::default()
            },
            ..Jwt::default()
        }))
    }
}
