//! Durable puts per second and their latency: the store behind its etcd face and Debian's etcd
//! behind its own, with the same load generator, on the same disk, taking turns; and the store in
//! process, as the API server uses it.

mod load;
mod report;
pub(crate) mod serve;
mod servers;

use crate::store::load::{GrpcTarget, InProcessTarget, Load, Measured, Target};
use crate::store::report::Report;
use anyhow::Context as _;
use clap::Args;
use daemon::{Clock as _, SystemClock};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Durable puts of the store, through gRPC and in process, beside etcd.
#[derive(Debug, Args)]
pub(crate) struct StoreBenchmark {
    /// Where the data directories are made; on the disk to be measured.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// The numbers of concurrent clients.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 32, 256])]
    clients: Vec<usize>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How often each measurement is repeated; the middle one counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The connections that the clients share.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// The etcd to compare with.
    #[arg(long, default_value = "/usr/bin/etcd")]
    etcd: PathBuf,
    /// Leaves etcd out.
    #[arg(long)]
    without_etcd: bool,
    /// Leaves out the measurement in process.
    #[arg(long)]
    without_in_process: bool,
    /// Leaves out the measurements through gRPC.
    #[arg(long)]
    without_grpc: bool,
}

impl StoreBenchmark {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let dir = tempfile::tempdir_in(&self.dir).context("cannot make a data directory")?;
        let mut report = Report::default();
        if !self.without_grpc {
            self.run_grpc(&dir, &mut report).await?;
        }
        if !self.without_in_process {
            self.run_in_process(&dir, &mut report).await?;
        }
        println!("{report}");
        Ok(())
    }

    async fn run_grpc(&self, dir: &tempfile::TempDir, report: &mut Report) -> anyhow::Result<()> {
        let ours = servers::start_ours(&dir.path().join("corten")).await?;
        let etcd = match self.without_etcd {
            true => None,
            false => Some(servers::start_etcd(&self.etcd, &dir.path().join("etcd")).await?),
        };
        for clients in &self.clients {
            let connections = self.connections.min(*clients);
            for round in 0..self.rounds {
                // Neighbours in time share the machine's mood; who begins changes each round.
                let mut order: Vec<_> = etcd.iter().map(|etcd| ("etcd", etcd)).collect();
                order.push(("corten, gRPC", &ours));
                if round % 2 == 1 {
                    order.reverse();
                }
                for (name, server) in order {
                    let target = GrpcTarget::connect(server.address(), connections).await?;
                    let cpu = server.cpu_seconds()?;
                    let mut measured = self.measure(Arc::new(target), *clients).await?;
                    measured.server_cpu = Some(server.cpu_seconds()? - cpu);
                    report.add(name, *clients, measured);
                }
            }
        }
        ours.stop().await?;
        if let Some(etcd) = etcd {
            etcd.stop().await?;
        }
        Ok(())
    }

    async fn run_in_process(&self, dir: &tempfile::TempDir, report: &mut Report) -> anyhow::Result<()> {
        let store = serve::open(&dir.path().join("in-process")).await?;
        for clients in &self.clients {
            for _ in 0..self.rounds {
                let target = Arc::new(InProcessTarget::new(store.clone()));
                let measured = self.measure(target, *clients).await?;
                report.add("corten, in process", *clients, measured);
            }
        }
        let revisions = store::Store::read_revision(&*store).await?;
        let keys = store.live_keys();
        store::Store::close(&*store).await?;
        drop(store);
        let start = SystemClock.monotonic();
        let store = serve::open(&dir.path().join("in-process")).await?;
        let elapsed = SystemClock.monotonic() - start;
        report.note(format!(
            "opened again with {keys} keys in {revisions} revisions: {:.0} ms",
            elapsed.as_secs_f64() * 1e3
        ));
        store::Store::close(&*store).await?;
        Ok(())
    }

    async fn measure(&self, target: Arc<dyn Target>, clients: usize) -> anyhow::Result<Measured> {
        let load = Load { clients, duration: Duration::from_secs_f64(self.seconds) };
        load.run(target).await
    }
}
