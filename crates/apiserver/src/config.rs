//! The flags of the API server, with upstream's names.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use daemon::shell::CommonFlags;
use ipnet::IpNet;

use crate::audit::AuditFlags;
use crate::authn::AuthenticationFlags;
use crate::authz::AuthorizationFlags;

/// The Kubernetes API, and the store behind it.
#[derive(Clone, Debug, Parser)]
#[command(name = "kube-apiserver", version)]
pub struct Flags {
    /// What every daemon has.
    #[command(flatten)]
    pub common: CommonFlags,
    /// Address to listen on. Sockets passed by the service manager are listened on as well.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Port to listen on.
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// Address at which the cluster reaches this server.
    #[arg(long)]
    pub advertise_address: IpAddr,
    /// Where the store keeps its data.
    #[arg(long, default_value = "/var/lib/corten/store", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Configuration of encryption at rest (EncryptionConfiguration); without it, nothing is encrypted.
    #[arg(long, value_name = "FILE")]
    pub encryption_provider_config: Option<PathBuf>,
    /// Read that configuration again when it changes, without a restart.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub encryption_provider_config_automatic_reload: bool,
    /// How long the past of every object is kept, in seconds.
    #[arg(long, default_value = "3600", value_parser = seconds, value_name = "SECONDS")]
    pub history: Duration,
    /// Serving certificate, PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: PathBuf,
    /// Key of the serving certificate, PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_private_key_file: PathBuf,
    /// CA that signs clients, PEM.
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: PathBuf,
    /// Key that signs service account tokens, PEM.
    #[arg(long, value_name = "FILE")]
    pub service_account_signing_key_file: PathBuf,
    /// Key that verifies service account tokens, PEM.
    #[arg(long, value_name = "FILE")]
    pub service_account_key_file: PathBuf,
    /// Issuer of service account tokens.
    #[arg(long, default_value = "https://kubernetes.default.svc.cluster.local", value_name = "URL")]
    pub service_account_issuer: String,
    /// Where verifiers find the public keys of service account tokens; on this server where none is given.
    #[arg(long, value_name = "URL")]
    pub service_account_jwks_uri: Option<String>,
    /// Audiences of service account tokens; the issuer where none is given.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub api_audiences: Vec<String>,
    /// Take bootstrap tokens: secrets in kube-system with which nodes join.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub enable_bootstrap_token_auth: bool,
    /// CA that signed the kubelets' serving certificates, PEM.
    #[arg(long, value_name = "FILE")]
    pub kubelet_certificate_authority: PathBuf,
    /// Certificate with which to call kubelets, PEM.
    #[arg(long, value_name = "FILE")]
    pub kubelet_client_certificate: PathBuf,
    /// Key of that certificate, PEM.
    #[arg(long, value_name = "FILE")]
    pub kubelet_client_key: PathBuf,
    /// Certificate with which to call extension API servers, PEM.
    #[arg(long, value_name = "FILE", requires = "proxy_client_key_file")]
    pub proxy_client_cert_file: Option<PathBuf>,
    /// Key of that certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "proxy_client_cert_file")]
    pub proxy_client_key_file: Option<PathBuf>,
    /// Ranges of service addresses: one, or one of each family.
    #[arg(long, default_value = "10.96.0.0/16", value_delimiter = ',', value_name = "CIDR")]
    pub service_cluster_ip_range: Vec<IpNet>,
    /// Range of node ports.
    #[arg(long, default_value = "30000-32767", value_parser = port_range, value_name = "FIRST-LAST")]
    pub service_node_port_range: RangeInclusive<u16>,
    /// Let requests in by their flow schemas and priority levels.
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub enable_priority_and_fairness: bool,
    /// Requests at once that read; with priority and fairness, a part of the seats that
    /// all requests share.
    #[arg(long, default_value_t = 400, value_name = "COUNT")]
    pub max_requests_inflight: u32,
    /// Requests at once that write; likewise.
    #[arg(long, default_value_t = 200, value_name = "COUNT")]
    pub max_mutating_requests_inflight: u32,
    /// How long a request may take that is no watch, log, exec, attach, port-forward or proxy.
    #[arg(long, default_value = "1m0s", value_parser = positive_duration, value_name = "DURATION")]
    pub request_timeout: Duration,
    /// Whose tokens are taken.
    #[command(flatten)]
    pub authentication: AuthenticationFlags,
    /// Who is asked who may do what.
    #[command(flatten)]
    pub authorization: AuthorizationFlags,
    /// What is recorded.
    #[command(flatten)]
    pub audit: AuditFlags,
    /// Admission plugins to run beside those that run by themselves.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub enable_admission_plugins: Vec<String>,
    /// Admission plugins that run by themselves and shall not.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub disable_admission_plugins: Vec<String>,
    /// An AdmissionConfiguration, YAML: what single admission plugins are told.
    #[arg(long, value_name = "FILE")]
    pub admission_control_config_file: Option<PathBuf>,
}

impl Flags {
    /// The address to listen on.
    #[must_use]
    pub const fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.bind_address, self.secure_port)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|error| format!("whole seconds: {error}"))
}

/// A duration as Go writes it: `300ms`, `10s`, `2m`, `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration, such as 10s or 1m30s");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..end] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
        rest = &rest[end..];
    }
    if text.is_empty() { Err(bad()) } else { Ok(total) }
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    let parsed = duration(text)?;
    if parsed.is_zero() { Err("must be positive".to_owned()) } else { Ok(parsed) }
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').ok_or("expected FIRST-LAST")?;
    let port = |text: &str| text.trim().parse::<u16>().map_err(|error| format!("{text:?}: {error}"));
    let range = port(first)?..=port(last)?;
    if range.is_empty() || *range.start() == 0 { Err("the range is empty".to_owned()) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in
            [("10s", 10_000), ("1m30s", 90_000), ("250ms", 250), ("1.5h", 5_400_000), ("0", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for bad in ["", "10", "s", "1d", "-1s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn port_ranges() {
        assert_eq!(port_range("30000-32767"), Ok(30000..=32767));
        for bad in ["30000", "2-1", "0-5", "a-b", "1-70000"] {
            assert!(port_range(bad).is_err(), "{bad}");
        }
    }
}
