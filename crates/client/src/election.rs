//! Leader election by a Lease object, as client-go does it: a holder renews; a
//! candidate takes over when it has seen no renewal for the lease's duration by
//! its own clock, so that clocks need not agree.

use std::time::Duration;

use api::openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use api::types::coordination::v1::{Lease, LeaseSpec};
use api::{Status, metav1};
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::verbs::Client;

/// The names and times of an election.
#[derive(Clone, Debug)]
pub struct Election {
    /// Namespace of the lease.
    pub namespace: String,
    /// Name of the lease.
    pub name: String,
    /// Who we are; unique.
    pub identity: String,
    /// A candidate waits this long after the last renewal that it saw.
    pub lease: Duration,
    /// A holder that cannot renew for this long gives up.
    pub renew_deadline: Duration,
    /// Time between tries.
    pub retry: Duration,
}

impl Election {
    /// An election in `kube-system` with upstream's times: 15, 10 and 2 seconds.
    #[must_use]
    pub fn new(name: &str, identity: &str) -> Self {
        Self {
            namespace: "kube-system".to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }

    /// Waits until we lead, and then renews in the background.
    pub async fn lead(
        self,
        client: &Client,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Leadership {
        let mut seen: Option<(Option<LeaseSpec>, Instant)> = None;
        loop {
            match self.try_take(client, &mut seen, now()).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(status) => {
                    tracing::warn!(lease = %self.name, error = %status, "cannot ask for leadership")
                }
            }
            tokio::time::sleep(self.retry.mul_f64(rand::random_range(1.0..1.2))).await;
        }
        tracing::info!(lease = %self.name, identity = %self.identity, "leading");
        let (stop, stopped) = oneshot::channel();
        let (lost, is_lost) = oneshot::channel();
        let client = client.clone();
        let done = crate::spawn_task(async move { self.hold(&client, now, stopped, lost).await });
        Leadership { stop: Some(stop), lost: is_lost, done }
    }

    async fn try_take(
        &self,
        client: &Client,
        seen: &mut Option<(Option<LeaseSpec>, Instant)>,
        now: Timestamp,
    ) -> Result<bool, Status> {
        let Some(mut lease) = client.find::<Lease>(&self.namespace, &self.name).await? else {
            let lease = Lease {
                metadata: metav1::ObjectMeta {
                    namespace: Some(self.namespace.clone()),
                    name: Some(self.name.clone()),
                    ..Default::default()
                },
                spec: Some(self.spec(now, now, 0)),
            };
            return match client.create(&lease).await {
                Ok(_) => Ok(true),
                Err(status) if status.reason == api::Reason::AlreadyExists => Ok(false),
                Err(status) => Err(status),
            };
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let changed = !matches!(seen, Some((last, _)) if *last == lease.spec);
        if changed {
            *seen = Some((lease.spec.clone(), Instant::now()));
        }
        let expired = seen.as_ref().is_some_and(|(_, at)| at.elapsed() >= self.lease);
        if !holder.is_empty() && holder != self.identity && !expired {
            return Ok(false);
        }
        let transitions = spec.lease_transitions.unwrap_or(0);
        let ours = holder == self.identity;
        let since = if ours { spec.acquire_time.map_or(now, |time| time.0) } else { now };
        lease.spec = Some(self.spec(now, since, if ours { transitions } else { transitions + 1 }));
        match client.update(&lease).await {
            Ok(_) => Ok(true),
            Err(status) if status.reason == api::Reason::Conflict => Ok(false),
            Err(status) => Err(status),
        }
    }

    fn spec(&self, renewed: Timestamp, acquired: Timestamp, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.lease.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: Some(MicroTime(acquired)),
            renew_time: Some(MicroTime(renewed)),
            lease_transitions: Some(transitions),
            ..Default::default()
        }
    }

    async fn hold(
        self,
        client: &Client,
        now: impl Fn() -> Timestamp,
        mut stopped: oneshot::Receiver<()>,
        lost: oneshot::Sender<()>,
    ) {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                _ = &mut stopped => return self.release(client).await,
                () = tokio::time::sleep(self.retry) => {}
            }
            let mut seen = None;
            let renewal = self.try_take(client, &mut seen, now());
            match tokio::time::timeout(self.renew_deadline, renewal).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => tracing::warn!(lease = %self.name, "the lease was changed by another"),
                Ok(Err(status)) => tracing::warn!(lease = %self.name, error = %status, "cannot renew"),
                Err(_) => tracing::warn!(lease = %self.name, "renewing takes too long"),
            }
            if renewed.elapsed() >= self.renew_deadline {
                tracing::error!(lease = %self.name, "leadership lost");
                // Nobody listening means that nobody acts as leader.
                let _ = lost.send(());
                return;
            }
        }
    }

    /// Gives the lease up, so that another need not wait.
    async fn release(&self, client: &Client) {
        let released = async {
            let Some(mut lease) = client.find::<Lease>(&self.namespace, &self.name).await? else {
                return Ok(());
            };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            client.update(&lease).await.map(drop)
        };
        match tokio::time::timeout(Duration::from_secs(2), released).await {
            Ok(Ok(())) => {}
            Ok(Err(status)) => tracing::warn!(lease = %self.name, error = %status, "cannot release"),
            Err(_) => tracing::warn!(lease = %self.name, "cannot release in time"),
        }
    }
}

/// Leadership, held until it is lost or given up.
pub struct Leadership {
    stop: Option<oneshot::Sender<()>>,
    lost: oneshot::Receiver<()>,
    done: tokio::task::JoinHandle<()>,
}

impl Leadership {
    /// Waits until leadership is lost.
    pub async fn lost(&mut self) {
        // A closed channel is as final as a message.
        let _ = (&mut self.lost).await;
    }

    /// Gives leadership up and waits until others can see it.
    pub async fn give_up(mut self) {
        if let Some(stop) = self.stop.take() {
            // The holder may have ended by itself.
            let _ = stop.send(());
        }
        if self.done.await.is_err() {
            tracing::warn!("the task that held leadership ended badly");
        }
    }
}
