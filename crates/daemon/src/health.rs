//! Whether the daemon lives and is ready, by named checks, and its metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use prometheus_client::registry::Registry;

/// A check: `Err` says why it fails.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The daemon's health and metrics. Clones are the same health.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    live: RwLock<BTreeMap<String, Check>>,
    ready: RwLock<BTreeMap<String, Check>>,
    metrics: Mutex<Registry>,
}

/// The outcome of all checks of one endpoint.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether all passed.
    pub ok: bool,
    /// A line per check, as Kubernetes' health endpoints print with `?verbose`.
    pub lines: Vec<String>,
}

impl Default for Health {
    fn default() -> Self {
        let mut metrics = Registry::default();
        metrics.register_collector(Box::new(process::ProcessMetrics));
        Self(Arc::new(Inner {
            live: RwLock::new(BTreeMap::new()),
            ready: RwLock::new(BTreeMap::new()),
            metrics: Mutex::new(metrics),
        }))
    }
}

impl Health {
    /// Adds a check to `/livez`; a failing one asks for a restart.
    pub fn live(&self, name: &str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.0.live.write().insert(name.to_owned(), Arc::new(check));
    }

    /// Adds a check to `/readyz`; a failing one asks for patience.
    pub fn ready(&self, name: &str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.0.ready.write().insert(name.to_owned(), Arc::new(check));
    }

    /// Registers metrics.
    pub fn metrics<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.0.metrics.lock())
    }

    /// Runs the checks of `livez` or `readyz`, leaving out those named.
    #[must_use]
    pub fn report(&self, endpoint: &str, excluded: &[&str]) -> Report {
        let mut checks: BTreeMap<String, Check> = self.0.live.read().clone();
        if endpoint == "readyz" {
            checks.extend(self.0.ready.read().clone());
        }
        let mut report = Report { ok: true, lines: vec!["[+]ping ok".to_owned()] };
        for (name, check) in checks {
            let line = if excluded.contains(&name.as_str()) {
                format!("[+]{name} excluded: ok")
            } else {
                match check() {
                    Ok(()) => format!("[+]{name} ok"),
                    Err(why) => {
                        report.ok = false;
                        tracing::debug!(check = %name, %why, "check fails");
                        format!("[-]{name} failed: reason withheld")
                    }
                }
            };
            report.lines.push(line);
        }
        let outcome = if report.ok { "passed" } else { "failed" };
        report.lines.push(format!("{endpoint} check {outcome}"));
        report
    }

    /// Whether every check passes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.report("readyz", &[]).ok
    }

    /// The metrics in the OpenMetrics text format.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.0.metrics.lock()) {
            Ok(()) => text,
            Err(error) => format!("# cannot encode: {error}\n"),
        }
    }
}

mod process {
    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
    use prometheus_client::metrics::counter::ConstCounter;
    use prometheus_client::metrics::gauge::ConstGauge;

    /// Memory, CPU time and descriptors of this process, read when asked for.
    #[derive(Debug)]
    pub(super) struct ProcessMetrics;

    impl Collector for ProcessMetrics {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
            if let Some(bytes) = resident_bytes() {
                let gauge = ConstGauge::new(bytes);
                gauge.encode(encoder.encode_descriptor(
                    "process_resident_memory_bytes",
                    "Resident memory",
                    None,
                    gauge.metric_type(),
                )?)?;
            }
            if let Some(seconds) = cpu_seconds() {
                let counter = ConstCounter::new(seconds);
                counter.encode(encoder.encode_descriptor(
                    "process_cpu_seconds",
                    "User and system CPU time",
                    None,
                    counter.metric_type(),
                )?)?;
            }
            if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
                let gauge = ConstGauge::new(i64::try_from(entries.count()).unwrap_or(i64::MAX));
                gauge.encode(encoder.encode_descriptor(
                    "process_open_fds",
                    "Open file descriptors",
                    None,
                    gauge.metric_type(),
                )?)?;
            }
            Ok(())
        }
    }

    fn resident_bytes() -> Option<i64> {
        let text = std::fs::read_to_string("/proc/self/statm").ok()?;
        let pages: i64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some(pages * 4096)
    }

    fn cpu_seconds() -> Option<f64> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        let after_name = text.rsplit_once(')')?.1;
        let mut fields = after_name.split_ascii_whitespace().skip(11);
        let user: f64 = fields.next()?.parse().ok()?;
        let system: f64 = fields.next()?.parse().ok()?;
        // USER_HZ is 100 on every Linux that Rust runs on.
        Some((user + system) / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_check_fails_the_report_and_keeps_its_reason() {
        let health = Health::default();
        health.live("a", || Ok(()));
        health.ready("b", || Err("secret".into()));
        assert!(health.report("livez", &[]).ok);
        let report = health.report("readyz", &[]);
        assert!(!report.ok && report.lines.contains(&"[-]b failed: reason withheld".to_owned()));
        assert!(health.report("readyz", &["b"]).ok);
        assert!(health.metrics_text().contains("process_resident_memory_bytes"));
    }
}
