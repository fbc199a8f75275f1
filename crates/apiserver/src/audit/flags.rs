//! The flags of audit, with upstream's names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{ArgAction, Args};
use daemon::Clock;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use super::file::{LogFile, Rotation};
use super::policy::Policy;
use super::sink::{Batching, Mode, Sink, Target};
use super::{Audit, Metrics};
use crate::config::duration;
use crate::remote::Remote;

/// How long a webhook has to take a batch.
const LIMIT: Duration = Duration::from_secs(30);

/// What is recorded, and where.
#[derive(Clone, Debug, Args)]
pub struct AuditFlags {
    /// The audit policy, YAML; without one nothing is recorded.
    #[arg(long, value_name = "FILE")]
    pub audit_policy_file: Option<PathBuf>,
    /// Write events to this file; - for the standard output.
    #[arg(long, value_name = "FILE")]
    pub audit_log_path: Option<PathBuf>,
    /// json, or legacy for a line of text.
    #[arg(long, default_value = "json", value_name = "FORMAT")]
    pub audit_log_format: String,
    /// Days for which old files are kept; 0 for ever.
    #[arg(long, default_value_t = 366, value_name = "DAYS")]
    pub audit_log_maxage: u32,
    /// Old files that are kept; 0 for all.
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    pub audit_log_maxbackup: usize,
    /// Megabytes at which a file is put aside; 0 for never.
    #[arg(long, default_value_t = 100, value_name = "MEGABYTES")]
    pub audit_log_maxsize: u64,
    /// Compress old files.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub audit_log_compress: bool,
    /// batch, blocking or blocking-strict.
    #[arg(long, default_value = "blocking", value_name = "MODE")]
    pub audit_log_mode: String,
    /// Events that may wait to be written.
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    pub audit_log_batch_buffer_size: usize,
    /// Events written at once.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub audit_log_batch_max_size: usize,
    /// How long events wait for others to be written with.
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "DURATION")]
    pub audit_log_batch_max_wait: Duration,
    /// Bound the batches a second.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub audit_log_batch_throttle_enable: bool,
    /// Batches a second.
    #[arg(long, default_value_t = 0.0, value_name = "RATE")]
    pub audit_log_batch_throttle_qps: f64,
    /// Leave the bodies of large events out.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub audit_log_truncate_enabled: bool,
    /// The largest event, in bytes.
    #[arg(long, default_value_t = 102_400, value_name = "BYTES")]
    pub audit_log_truncate_max_event_size: usize,
    /// Send events to the server of this kubeconfig.
    #[arg(long, value_name = "FILE")]
    pub audit_webhook_config_file: Option<PathBuf>,
    /// How long to wait before a refused batch is sent again.
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub audit_webhook_initial_backoff: Duration,
    /// batch, blocking or blocking-strict.
    #[arg(long, default_value = "batch", value_name = "MODE")]
    pub audit_webhook_mode: String,
    /// Events that may wait to be sent.
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    pub audit_webhook_batch_buffer_size: usize,
    /// Events sent at once.
    #[arg(long, default_value_t = 400, value_name = "COUNT")]
    pub audit_webhook_batch_max_size: usize,
    /// How long events wait for others to be sent with.
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub audit_webhook_batch_max_wait: Duration,
    /// Bound the batches a second.
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub audit_webhook_batch_throttle_enable: bool,
    /// Batches a second.
    #[arg(long, default_value_t = 10.0, value_name = "RATE")]
    pub audit_webhook_batch_throttle_qps: f64,
    /// Leave the bodies of large events out.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub audit_webhook_truncate_enabled: bool,
    /// The largest event, in bytes.
    #[arg(long, default_value_t = 102_400, value_name = "BYTES")]
    pub audit_webhook_truncate_max_event_size: usize,
}

fn batching(
    flags: (&str, &str),
    (buffer, most): (usize, usize),
    wait: Duration,
    rate: Option<f64>,
) -> anyhow::Result<(Mode, Batching)> {
    let (name, mode) = flags;
    let mode: Mode = mode.parse().map_err(|why| anyhow::anyhow!("--audit-{name}-mode: {why}"))?;
    ensure!(buffer > 0, "--audit-{name}-batch-buffer-size must be a positive number");
    ensure!(most > 0, "--audit-{name}-batch-max-size must be a positive number");
    ensure!(
        rate.is_none_or(|rate| rate > 0.0),
        "--audit-{name}-batch-throttle-qps must be a positive number"
    );
    Ok((mode, Batching { buffer, most, wait, rate }))
}

impl AuditFlags {
    /// What the flags ask for; `None` where nothing is recorded.
    ///
    /// # Errors
    /// Flags that make no sense, or files that cannot be used.
    pub fn open(
        &self,
        clock: &Arc<dyn Clock>,
        register: impl FnOnce(&dyn Fn(&mut Registry)),
    ) -> anyhow::Result<Option<Arc<Audit>>> {
        let (log, webhook) = (&self.audit_log_path, &self.audit_webhook_config_file);
        let Some(path) = self.audit_policy_file.as_ref().filter(|_| log.is_some() || webhook.is_some())
        else {
            return Ok(None);
        };
        let policy = Policy::load(path)?;
        let metrics = Metrics::default();
        let mut sinks = Vec::new();
        if let Some(path) = log {
            sinks.push(self.log(path, &metrics, clock)?);
        }
        if let Some(path) = webhook {
            sinks.push(self.webhook(path, &metrics, clock)?);
        }
        register(&|registry| metrics.register(registry));
        Ok(Some(Arc::new(Audit::new(policy, sinks, metrics, Arc::clone(clock)))))
    }

    fn log(
        &self,
        path: &std::path::Path,
        metrics: &Metrics,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Arc<Sink>> {
        let is_legacy = match self.audit_log_format.as_str() {
            "json" => false,
            "legacy" => true,
            other => anyhow::bail!("--audit-log-format: {other:?} is none of json, legacy"),
        };
        let rotation = Rotation {
            size: self.audit_log_maxsize << 20,
            days: self.audit_log_maxage,
            count: self.audit_log_maxbackup,
            compresses: self.audit_log_compress,
        };
        let file = LogFile::open(path, rotation, Arc::clone(clock))
            .with_context(|| format!("open the audit log {}", path.display()))?;
        let how = batching(
            ("log", &self.audit_log_mode),
            (self.audit_log_batch_buffer_size, self.audit_log_batch_max_size),
            self.audit_log_batch_max_wait,
            self.audit_log_batch_throttle_enable.then_some(self.audit_log_batch_throttle_qps),
        )?;
        let largest = self.audit_log_truncate_enabled.then_some(self.audit_log_truncate_max_event_size);
        let target = Target::File(Mutex::new(file), is_legacy);
        Ok(Sink::new("log", how, target, largest, metrics.lost("log")))
    }

    fn webhook(
        &self,
        path: &std::path::Path,
        metrics: &Metrics,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Arc<Sink>> {
        let remote = Remote::load(path, LIMIT, Arc::clone(clock))?;
        let how = batching(
            ("webhook", &self.audit_webhook_mode),
            (self.audit_webhook_batch_buffer_size, self.audit_webhook_batch_max_size),
            self.audit_webhook_batch_max_wait,
            self.audit_webhook_batch_throttle_enable.then_some(self.audit_webhook_batch_throttle_qps),
        )?;
        let largest =
            self.audit_webhook_truncate_enabled.then_some(self.audit_webhook_truncate_max_event_size);
        let target = Target::Webhook(Box::new(remote), self.audit_webhook_initial_backoff);
        Ok(Sink::new("webhook", how, target, largest, metrics.lost("webhook")))
    }
}
