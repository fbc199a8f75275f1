//! Puts the scheduler together; reads like the diagram in the architecture page.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use client::election::Election;
use client::{Client, Recorder, Session};
use daemon::{Shell, tasks};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::task::JoinHandle;

use crate::config::{Configuration, Settings, profiles};
use crate::extender::extenders;
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
/// A kubeconfig that cannot be used, or a configuration that cannot be done.
pub async fn assemble(settings: &Settings, shell: &Shell) -> anyhow::Result<Running> {
    let session = Session::from_file(settings.kubeconfig()?)?;
    let client = Client::new(&session, "kube-scheduler").context("connect to the API server")?;
    start(client, settings.election(), &settings.file, shell)
}

/// Starts the scheduler with a client; without an election it works at once.
///
/// # Errors
/// The configuration cannot be done.
pub fn start(
    client: Client,
    election: Option<Election>,
    configuration: &Configuration,
    shell: &Shell,
) -> anyhow::Result<Running> {
    let mut profiles = profiles(configuration)?;
    let extenders = extenders(configuration)?;
    for profile in &mut profiles {
        profile.has_extenders = !extenders.is_empty();
    }
    let queue = Queue::new(configuration.backoff());
    let verdicts = Verdicts::default();
    let metrics = shell.health.metrics(Metrics::register);
    let caches = Arc::new(Caches::start(&client));
    {
        let caches = Arc::clone(&caches);
        shell.health.ready("caches", move || {
            if caches.are_synced() { Ok(()) } else { Err("the caches are not filled".to_owned()) }
        });
    }
    let recorder = |profile: &Profile| {
        let clock = Arc::clone(&shell.clock);
        Recorder::start(&client, &profile.name, None, move || clock.now())
    };
    let parts = Parts {
        recorders: profiles.iter().map(recorder).collect(),
        client: client.clone(),
        clock: Arc::clone(&shell.clock),
        profiles,
        extenders,
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
            Loop::new(parts, queue, &caches).run(shell.shutdown).await;
        };
        match election {
            Some(election) => lead(&client, election, &shell, work).await,
            None => {
                work(shell).await;
                Ok(())
            }
        }
    });
    Ok(Running { verdicts, running })
}

async fn lead<Working: Future<Output = ()>>(
    client: &Client,
    election: Election,
    shell: &Shell,
    work: impl FnOnce(Shell) -> Working,
) -> anyhow::Result<()> {
    let clock = Arc::clone(&shell.clock);
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
