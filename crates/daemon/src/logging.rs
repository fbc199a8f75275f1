//! Structured logs on standard error, one vocabulary for all daemons: `kind`,
//! `namespace`, `name`, `uid`, `node`, `revision`.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// The flags about logging.
#[derive(Clone, Debug, Args)]
pub struct LoggingFlags {
    /// Log level (error, warn, info, debug, trace), or a filter such as `info,store=debug`.
    #[arg(long, default_value = "info", value_name = "FILTER")]
    pub log_level: String,
    /// Log format.
    #[arg(long, value_enum, default_value = "text")]
    pub logging_format: Format,
}

/// Starts logging for the process.
///
/// # Errors
/// A filter that cannot be read.
pub fn start(flags: &LoggingFlags) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&flags.log_level)
        .map_err(|error| anyhow::anyhow!("--log-level {:?}: {error}", flags.log_level))?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A second start in one process (tests) keeps the first subscriber.
    let started = match flags.logging_format {
        Format::Text => builder.with_target(true).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
    Ok(())
}
