//! The API server through its REST front: creates, gets, applies, lists, watch fan-out,
//! custom resource definitions, start, idle; with the server's own CPU time for each operation, the figure
//! that a noisy machine disturbs least.

mod definitions;
mod load;
mod pods;
mod server;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use daemon::{Clock as _, SystemClock};
use http_body_util::BodyExt as _;

use self::load::{Http, Measured, run_load};
use self::server::Server;

/// A part of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What an idle server takes.
    Idle,
    /// ConfigMaps one by one.
    Maps,
    /// Server-side apply.
    Applies,
    /// Pods through admission.
    Pods,
    /// Large lists.
    Lists,
    /// One write for many watchers.
    FanOut,
    /// Many definitions of custom resources.
    Definitions,
}

/// The API server through its REST front.
#[derive(Debug, Args)]
pub(crate) struct ApiBenchmark {
    /// The server to measure; the one beside this program where none is given.
    #[arg(long, value_name = "FILE")]
    kube_apiserver: Option<PathBuf>,
    /// Where the data folder is made; on the disk to be measured.
    #[arg(long, default_value = "/var/tmp", value_name = "DIR")]
    dir: PathBuf,
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::value_variants().to_vec(), value_name = "PART")]
    only: Vec<Part>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The numbers of concurrent clients.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 32, 256])]
    clients: Vec<usize>,
    /// Objects in the large list.
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    /// The numbers of watchers of the fan-out.
    #[arg(long, value_delimiter = ',', default_values_t = [200, 1_000])]
    watchers: Vec<usize>,
    /// Writes during the fan-out.
    #[arg(long, default_value_t = 1_000)]
    writes: usize,
    /// Custom resource definitions.
    #[arg(long, default_value_t = 1_000)]
    definitions: usize,
}

fn config_map(name: &str, bytes: usize) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","labels":{{"app":"bench"}}}},"data":{{"k":"{}"}}}}"#,
        "x".repeat(bytes)
    )
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LISTED: &str = "/api/v1/namespaces/listed/configmaps";

impl ApiBenchmark {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        daemon::tls::install_crypto();
        let mut server = Server::start(self.kube_apiserver.as_deref(), &self.dir).await?;
        println!("start to ready: {} ms", server.start_to_ready.as_millis());
        if self.wants(Part::Idle) {
            self.idle(&server).await?;
        }
        println!(
            "\n{:<34} {:>9} {:>9} {:>9} {:>14}",
            "operation", "per s", "p50 ms", "p99 ms", "server CPU ms"
        );
        let http = server.http()?;
        if self.wants(Part::Maps) {
            self.maps(&server, &http).await?;
        }
        if self.wants(Part::Applies) {
            self.applies(&server, &http).await?;
        }
        if self.wants(Part::Pods) {
            pods::run(&server, &http, self.duration()).await?;
        }
        if self.wants(Part::Lists) {
            self.lists(&server, &http).await?;
        }
        if self.wants(Part::FanOut) {
            for watchers in &self.watchers {
                self.fan_out(&server, &http, *watchers).await?;
            }
        }
        if self.wants(Part::Definitions) {
            definitions::run(&mut server, self.definitions).await?;
        }
        Ok(())
    }

    fn wants(&self, part: Part) -> bool {
        self.only.contains(&part)
    }

    /// Creates and gets of small objects.
    async fn maps(&self, server: &Server, http: &Http) -> anyhow::Result<()> {
        for clients in &self.clients {
            let next = Arc::new(AtomicU64::new(0));
            let prefix = format!("c{clients}");
            let measured = run_load(server, *clients, self.duration(), |_| {
                let (http, next, prefix) = (http.clone(), Arc::clone(&next), prefix.clone());
                async move {
                    let name = format!("{prefix}-{}", next.fetch_add(1, Ordering::Relaxed));
                    let answer = http.post(MAPS, config_map(&name, 500)).await?;
                    ensure!(answer.0 == 201, "create: {}", String::from_utf8_lossy(&answer.1));
                    Ok(())
                }
            })
            .await?;
            show(&format!("create a 0.5 KB ConfigMap, {clients} clients"), &measured);
        }
        for clients in &self.clients {
            let first = format!("{MAPS}/c{clients}-0");
            let measured = run_load(server, *clients, self.duration(), |_| {
                let (http, first) = (http.clone(), first.clone());
                async move {
                    let answer = http.get(&first).await?;
                    ensure!(answer.0 == 200, "get: {}", answer.0);
                    Ok(())
                }
            })
            .await?;
            show(&format!("get, {clients} clients"), &measured);
        }
        Ok(())
    }

    /// Server-side apply of what is there already.
    async fn applies(&self, server: &Server, http: &Http) -> anyhow::Result<()> {
        let path = format!("{MAPS}/applied?fieldManager=bench&force=true");
        let body = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap",{}"#, &config_map("applied", 500)[1..]);
        let first = http.apply(&path, body.clone()).await?;
        ensure!(first.0 == 201, "apply: {}", String::from_utf8_lossy(&first.1));
        let measured = run_load(server, 1, self.duration(), |_| {
            let (http, path, body) = (http.clone(), path.clone(), body.clone());
            async move {
                ensure!(http.apply(&path, body).await?.0 == 200, "apply");
                Ok(())
            }
        })
        .await?;
        show("apply what is there already", &measured);
        let last = http.get(&format!("{MAPS}/applied")).await?;
        let version = |body: &[u8]| {
            let object: serde_json::Value = serde_json::from_slice(body)?;
            anyhow::Ok(object["metadata"]["resourceVersion"].clone())
        };
        ensure!(version(&first.1)? == version(&last.1)?, "an apply that changes nothing was written");
        Ok(())
    }

    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    async fn idle(&self, server: &Server) -> anyhow::Result<()> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = server.usage()?.cpu;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let percent = (server.usage()?.cpu - before).as_secs_f64() / 5.0 * 100.0;
        println!("idle: {:.1} MiB resident, {percent:.2} % of a core", server.usage()?.resident_mib);
        Ok(())
    }

    async fn lists(&self, server: &Server, http: &Http) -> anyhow::Result<()> {
        let namespace =
            http.post("/api/v1/namespaces", r#"{"metadata":{"name":"listed"}}"#.to_owned()).await?;
        ensure!(namespace.0 == 201, "create a namespace: {}", namespace.0);
        let half = self.objects / 2;
        for (from, to) in [(0, half), (half, self.objects)] {
            let next = Arc::new(AtomicU64::new(from as u64));
            let workers = (0..32).map(|_| {
                let (http, next) = (http.clone(), Arc::clone(&next));
                async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= to as u64 {
                            return anyhow::Ok(());
                        }
                        let answer = http.post(LISTED, config_map(&format!("l{number}"), 800)).await?;
                        ensure!(answer.0 == 201, "create: {}", answer.0);
                    }
                }
            });
            futures::future::try_join_all(workers).await?;
            let measured = run_load(server, 1, self.duration(), |_| {
                let http = http.clone();
                async move {
                    let answer = http.get(LISTED).await?;
                    ensure!(answer.0 == 200 && answer.1.len() > to * 800, "list: {} bytes", answer.1.len());
                    Ok(())
                }
            })
            .await?;
            show(&format!("list of {to} 1 KB ConfigMaps"), &measured);
        }
        Ok(())
    }

    async fn fan_out(&self, server: &Server, http: &Http, watchers: usize) -> anyhow::Result<()> {
        let list = http.get(&format!("{MAPS}?limit=1")).await?;
        let list: serde_json::Value = serde_json::from_slice(&list.1).context("read a list")?;
        let version =
            list["metadata"]["resourceVersion"].as_str().context("a list has a version")?.to_owned();
        let delivered = Arc::new(AtomicU64::new(0));
        let path = format!("{MAPS}?watch=true&resourceVersion={version}");
        for _ in 0..watchers {
            let mut body = server.http()?.open(&path).await?.into_body();
            let delivered = Arc::clone(&delivered);
            daemon::tasks::spawn("watcher", async move {
                while let Some(Ok(frame)) = body.frame().await {
                    if let Ok(data) = frame.into_data() {
                        let events = data.iter().filter(|byte| **byte == b'\n').count();
                        delivered.fetch_add(events as u64, Ordering::Relaxed);
                    }
                }
            });
        }
        let (clock, before) = (SystemClock, server.usage()?.cpu);
        let started = clock.monotonic();
        let next = Arc::new(AtomicU64::new(0));
        let workers = (0..8).map(|_| {
            let (http, next, writes) = (http.clone(), Arc::clone(&next), self.writes as u64);
            async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= writes {
                        return anyhow::Ok(());
                    }
                    let answer = http.post(MAPS, config_map(&format!("w{watchers}-{number}"), 500)).await?;
                    ensure!(answer.0 == 201, "create: {}", answer.0);
                }
            }
        });
        futures::future::try_join_all(workers).await?;
        let expected = (self.writes * watchers) as u64;
        let all = async {
            while delivered.load(Ordering::Relaxed) < expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all)
            .await
            .with_context(|| format!("{} of {expected} events arrived", delivered.load(Ordering::Relaxed)))?;
        let seconds = clock.monotonic().duration_since(started).as_secs_f64();
        let cpu = (server.usage()?.cpu - before).as_secs_f64();
        println!(
            "\nwatch fan-out: {} watchers, {:.0} writes/s, {:.0} events/s, server CPU {:.1} µs an event (writes included)",
            watchers,
            self.writes as f64 / seconds,
            expected as f64 / seconds,
            cpu / expected as f64 * 1e6,
        );
        Ok(())
    }
}

fn show(what: &str, measured: &Measured) {
    println!(
        "{what:<34} {:>9.0} {:>9.2} {:>9.2} {:>14.3}",
        measured.per_second,
        measured.quantile(0.5),
        measured.quantile(0.99),
        measured.cpu_each.as_secs_f64() * 1e3
    );
}
