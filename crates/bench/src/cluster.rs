//! A whole cluster on real containers: seconds from start to ready nodes, what
//! each daemon costs when nothing happens, and the time from a pod's creation to
//! its running container, with the image present.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::types::core::v1::Pod;
use clap::Args;
use client::verbs::target;
use client::watch::{Step, Watched, follow};
use client::{Client, DeleteOptions, Session};
use daemon::{Clock, SystemClock};
use kubeadm::dev::{self, Layout};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::process::Usage;

/// How long a pod may take.
const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: &str = "docker.io/library/busybox:latest";

/// A whole cluster: start, idle, pods.
#[derive(Debug, Args)]
pub(crate) struct ClusterBenchmark {
    /// Where the cluster's files are made.
    #[arg(long, default_value = "/var/tmp", value_name = "DIR")]
    dir: PathBuf,
    /// Seconds for which the idle cluster is watched.
    #[arg(long, default_value_t = 20)]
    idle_seconds: u64,
    /// Pods that are started one after the other.
    #[arg(long, default_value_t = 20)]
    pods: usize,
    /// Pods that are started at once.
    #[arg(long, default_value_t = 30)]
    burst: usize,
}

/// A cluster that is removed when it is dropped.
struct Cluster {
    layout: Layout,
    _folder: TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = dev::down(&self.layout, &|_| {}) {
            println!("kubeadm dev down: {error:#}");
        }
    }
}

impl ClusterBenchmark {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        daemon::tls::install_crypto();
        let cluster = self.prepare()?;
        let clock = SystemClock;
        let started = clock.monotonic();
        dev::up(&cluster.layout, &clock, &|_| {}).await?;
        let ready = clock.monotonic().duration_since(started);
        println!("one node, from nothing to ready (keys and containerd's start included): {ready:.2?}");
        self.idle(&cluster).await?;
        let session = Session::from_file(&cluster.layout.admin_kubeconfig())?;
        let client = Client::new(&session, "corten-bench")?;
        let mut pods = Pods::follow(&client);
        let mut times = Vec::new();
        for number in 0..self.pods {
            times.extend(pods.start(&client, &[format!("one-{number}")]).await?);
        }
        times.sort();
        println!("\npod created to running, image present, one at a time: {}", spread(&times));
        let names: Vec<String> = (0..self.burst).map(|number| format!("burst-{number}")).collect();
        let mut times = pods.start(&client, &names).await?;
        times.sort();
        println!("pod created to running, {} at once: {}", self.burst, spread(&times));
        Ok(())
    }

    fn prepare(&self) -> anyhow::Result<Cluster> {
        let folder = tempfile::tempdir_in(&self.dir).context("make a folder for the cluster")?;
        let images = folder.path().join("images");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/make-image");
        let made = Command::new(&script).arg(IMAGE).arg(images.join("busybox.tar")).output();
        let made = made.with_context(|| format!("run {}", script.display()))?;
        ensure!(made.status.success(), "make-image: {}", String::from_utf8_lossy(&made.stderr));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?;
        let layout = Layout {
            state: folder.path().join("state"),
            name: format!("bench{}", std::process::id()),
            node_count: 1,
            port: listener.local_addr()?.port(),
            cni_plugins: "/usr/lib/cni".into(),
            image_archives: Some(images),
        };
        Ok(Cluster { layout, _folder: folder })
    }

    /// What each daemon costs when nothing happens.
    async fn idle(&self, cluster: &Cluster) -> anyhow::Result<()> {
        // Start-up work is over when the caches are filled and events are written.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let processes = dev::processes(&cluster.layout)?;
        let look = || -> anyhow::Result<Vec<(String, Usage)>> {
            processes.iter().map(|(name, id)| Ok((name.clone(), Usage::of(*id)?))).collect()
        };
        let before = look()?;
        tokio::time::sleep(Duration::from_secs(self.idle_seconds)).await;
        let after = look()?;
        println!("\n{:<28} {:>14} {:>14}", "idle", "resident MiB", "% of a core");
        let mut control_plane = (0.0, 0.0);
        for ((name, before), (_, after)) in before.iter().zip(&after) {
            let percent = (after.cpu - before.cpu).as_secs_f64() / self.idle_seconds as f64 * 100.0;
            println!("{name:<28} {:>14.1} {percent:>14.2}", after.resident_mib);
            if ["kube-apiserver", "kube-scheduler", "kube-controller-manager"].contains(&name.as_str()) {
                control_plane = (control_plane.0 + after.resident_mib, control_plane.1 + percent);
            }
        }
        println!("{:<28} {:>14.1} {:>14.2}", "control plane (first three)", control_plane.0, control_plane.1);
        Ok(())
    }
}

fn spread(sorted: &[Duration]) -> String {
    let at = |quantile: f64| sorted[((sorted.len() - 1) as f64 * quantile).round() as usize].as_millis();
    format!("min {} ms, median {} ms, p90 {} ms, max {} ms", at(0.0), at(0.5), at(0.9), at(1.0))
}

/// The pods as a watch shows them.
struct Pods {
    running: mpsc::UnboundedReceiver<(String, std::time::Instant)>,
}

impl Pods {
    fn follow(client: &Client) -> Self {
        let watched =
            Watched { target: target::<Pod>("default", ""), labels: String::new(), fields: String::new() };
        let (sender, running) = mpsc::unbounded_channel();
        let client = client.clone();
        daemon::tasks::spawn("pods", async move {
            follow(&client, &watched, |step| match step {
                Step::Applied { json, .. } => {
                    let pod: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
                    let is_running = !pod["status"]["containerStatuses"][0]["state"]["running"].is_null();
                    let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                    !is_running || sender.send((name, SystemClock.monotonic())).is_ok()
                }
                _ => true,
            })
            .await;
        });
        Self { running }
    }

    /// Creates pods at once; gives the time that each took to run, and deletes them.
    async fn start(&mut self, client: &Client, names: &[String]) -> anyhow::Result<Vec<Duration>> {
        let mut created = std::collections::BTreeMap::new();
        for name in names {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "default"},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                        "command": ["sleep", "1000"],
                    }],
                },
            }))?;
            created.insert(name.clone(), SystemClock.monotonic());
            client.create(&pod).await.with_context(|| format!("create pod {name}"))?;
        }
        let mut times = Vec::new();
        while !created.is_empty() {
            let next = tokio::time::timeout(PATIENCE, self.running.recv()).await;
            let next = next.with_context(|| format!("these pods do not run: {created:?}"))?;
            let (name, at) = next.context("the watch ended")?;
            if let Some(start) = created.remove(&name) {
                times.push(at.duration_since(start));
            }
        }
        for name in names {
            client.delete::<Pod>("default", name, &DeleteOptions::default()).await?;
        }
        Ok(times)
    }
}
