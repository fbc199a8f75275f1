//! Runs a daemon from its first line to its last: logging, cryptography,
//! runtime, signals, health port.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::logging::{self, LoggingFlags};
use crate::{Clock, Health, Shutdown, SystemClock, systemd, tasks, tls};

/// What a daemon gets from its shell. Clones share everything.
#[derive(Clone)]
pub struct Shell {
    /// When to stop.
    pub shutdown: Shutdown,
    /// Checks and metrics.
    pub health: Health,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// The flags that every daemon has.
#[derive(Clone, Debug, Args)]
pub struct CommonFlags {
    /// File of flags, as YAML; flags on the command line win over it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
    /// Address of the plain HTTP port with /livez, /readyz and /metrics; keep it on loopback.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub healthz_bind_address: Option<SocketAddr>,
    /// Logging.
    #[command(flatten)]
    pub logging: LoggingFlags,
}

impl Shell {
    /// A shell without signals and ports, for tests and for daemons inside
    /// another process.
    #[must_use]
    pub fn quiet() -> Self {
        Self { shutdown: Shutdown::new(), health: Health::default(), clock: SystemClock::shared() }
    }

    /// Says that the daemon serves: to systemd, and in the log.
    pub fn ready(&self) {
        tracing::info!("ready");
        systemd::notify_ready();
    }
}

/// Runs a daemon's main future in its shell until it ends.
///
/// # Errors
/// What `main` returns, or why the shell cannot be made.
pub fn run<Main, Running>(flags: &CommonFlags, main: Main) -> anyhow::Result<()>
where
    Main: FnOnce(Shell) -> Running,
    Running: Future<Output = anyhow::Result<()>>,
{
    logging::start(&flags.logging)?;
    tls::install_crypto();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let outcome = runtime.block_on(async {
        let shell = Shell {
            shutdown: Shutdown::on_signals().context("install signal handlers")?,
            health: Health::default(),
            clock: SystemClock::shared(),
        };
        if let Some(address) = flags.healthz_bind_address {
            let listener =
                TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
            serve_health(listener, shell.health.clone(), shell.shutdown.clone());
        }
        let outcome = main(shell).await;
        systemd::notify_stopping();
        outcome
    });
    // Blocking threads (a disk that hangs) must not keep the process from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    outcome
}

/// Serves `/livez`, `/readyz`, `/healthz` and `/metrics` in plain HTTP until shutdown.
pub fn serve_health(listener: TcpListener, health: Health, shutdown: Shutdown) {
    tasks::spawn("health", async move {
        loop {
            let accepted = tokio::select! {
                () = shutdown.begun() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let health = health.clone();
            tasks::spawn("health-connection", async move {
                let service =
                    hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let answer = answer_health(&health, request.uri().path(), request.uri().query());
                        async move { Ok::<_, std::convert::Infallible>(answer) }
                    });
                let served = hyper::server::conn::http1::Builder::new()
                    .timer(hyper_util::rt::TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    tracing::debug!(%error, "health connection ended");
                }
            });
        }
    });
}

fn answer_health(health: &Health, path: &str, query: Option<&str>) -> Response<Full<bytes::Bytes>> {
    let (status, text) = match path {
        "/metrics" => (StatusCode::OK, health.metrics_text()),
        "/livez" | "/readyz" | "/healthz" => {
            let report = health.report(if path == "/readyz" { "readyz" } else { "livez" }, &[]);
            let status = if report.ok { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
            let verbose = query.is_some_and(|query| query.split('&').any(|part| part.starts_with("verbose")));
            let text = if report.ok && !verbose { "ok".to_owned() } else { report.lines.join("\n") + "\n" };
            (status, text)
        }
        _ => (StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
