//! Puts the scheduler together; reads like the diagram in the architecture page.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use client::election::Election;
use client::{Client, Recorder, Session};
use daemon::{Shell, tasks};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::task::JoinHandle;

use crate::config::Flags;
use crate::metrics::Metrics;
use crate::news::Caches;
use crate::profile::Profile;
use crate::queue::Queue;
use crate::run::{Loop, Parts};
use crate::schedule::Search;
use crate::verdicts::Verdicts;

/// A running scheduler.
pub struct Running {
    /// What the nodes said about pods that fit nowhere.
    pub verdicts: Verdicts,
    running: JoinHandle<anyhow::Result<()>>,
}

/// Starts the scheduler.
///
/// # Errors
/// A kubeconfig that cannot be used.
pub async fn assemble(flags: &Flags, shell: &Shell) -> anyhow::Result<Running> {
    let session = Session::from_file(&flags.kubeconfig)?;
    let client = Client::new(&session, "kube-scheduler").context("connect to the API server")?;
    Ok(start(client, flags.leader_elect.then(|| flags.identity()), shell))
}

/// Starts the scheduler with a client; `identity` is its name in the shared
/// lease, `None`: it works without one.
#[must_use]
pub fn start(client: Client, identity: Option<String>, shell: &Shell) -> Running {
    let verdicts = Verdicts::default();
    let metrics = shell.health.metrics(Metrics::register);
    let caches = Arc::new(Caches::start(&client));
    {
        let caches = Arc::clone(&caches);
        shell.health.ready("caches", move || {
            if caches.are_synced() { Ok(()) } else { Err("the caches are not filled".to_owned()) }
        });
    }
    let profiles = vec![Profile::default()];
    let recorder = |profile: &Profile| {
        let clock = Arc::clone(&shell.clock);
        Recorder::start(&client, &profile.name, None, move || clock.now())
    };
    let parts = Parts {
        recorders: profiles.iter().map(recorder).collect(),
        client: client.clone(),
        clock: Arc::clone(&shell.clock),
        profiles,
        search: Search::new(StdRng::seed_from_u64(rand::random())),
        metrics,
        verdicts: verdicts.clone(),
    };
    let shell = shell.clone();
    let running = tasks::spawn("schedule", async move {
        tokio::select! {
            () = shell.shutdown.begun() => return Ok(()),
            () = caches.synced() => {}
        }
        shell.ready();
        let work = |shell: Shell| async move {
            Loop::new(parts, Queue::default(), &caches).run(shell.shutdown).await;
        };
        match identity {
            Some(identity) => lead(&client, &identity, &shell, work).await,
            None => {
                work(shell).await;
                Ok(())
            }
        }
    });
    Running { verdicts, running }
}

async fn lead<Working: Future<Output = ()>>(
    client: &Client,
    identity: &str,
    shell: &Shell,
    work: impl FnOnce(Shell) -> Working,
) -> anyhow::Result<()> {
    let clock = Arc::clone(&shell.clock);
    let election = Election::new("kube-scheduler", identity);
    let mut leadership = tokio::select! {
        () = shell.shutdown.begun() => return Ok(()),
        leadership = election.lead(client, move || clock.now()) => leadership,
    };
    tokio::select! {
        () = work(shell.clone()) => {}
        () = leadership.lost() => bail!("another scheduler took over the lease"),
    }
    leadership.give_up().await;
    Ok(())
}

impl Running {
    /// Waits until the scheduler has ended.
    ///
    /// # Errors
    /// It lost the lease, or ended badly.
    pub async fn finished(self) -> anyhow::Result<()> {
        self.running.await.context("the scheduler ended badly")?
    }
}
