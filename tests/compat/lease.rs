//! Leader election over a `Lease`, as client-go does it, through kube-rs.

use std::time::Duration;

use daemon::{Clock as _, SystemClock};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;

/// How long a leader leads without renewing.
const TERM: Duration = Duration::from_secs(2);
/// How often a leader renews, and others look.
const PERIOD: Duration = Duration::from_millis(300);

/// One who wants to lead.
pub(crate) struct Candidate {
    leases: Api<Lease>,
    lease: &'static str,
    identity: &'static str,
}

impl Candidate {
    pub(crate) fn new(client: Client, lease: &'static str, identity: &'static str) -> Self {
        Self { leases: Api::default_namespaced(client), lease, identity }
    }

    /// Returns when this one leads.
    pub(crate) async fn lead(&self) {
        // Clocks of others are not trusted: a lease has expired when it did not change
        // for a term.
        let mut seen: Option<(LeaseSpec, Instant)> = None;
        loop {
            if let Ok(lease) = self.leases.get_opt(self.lease).await {
                let spec = lease.as_ref().and_then(|lease| lease.spec.clone());
                let since = match &seen {
                    Some((before, since)) if spec.as_ref() == Some(before) => *since,
                    _ => Instant::now(),
                };
                let is_free = lease.is_none() || since.elapsed() > TERM;
                if is_free && self.take(lease).await.is_ok() {
                    return;
                }
                seen = spec.map(|spec| (spec, since));
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Renews until somebody else leads, or for a term nothing could be renewed.
    pub(crate) async fn hold(&self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < TERM {
            tokio::time::sleep(PERIOD).await;
            let Ok(lease) = self.leases.get(self.lease).await else { continue };
            let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
            if holder != Some(self.identity) {
                return;
            }
            if self.take(Some(lease)).await.is_ok() {
                renewed = Instant::now();
            }
        }
    }

    /// Writes this one into the lease, unless somebody else was quicker.
    async fn take(&self, lease: Option<Lease>) -> Result<(), kube::Error> {
        let now = MicroTime(SystemClock.now());
        let options = PostParams::default();
        let mut next = lease.clone().unwrap_or_default();
        let spec = next.spec.get_or_insert_default();
        let is_new = spec.holder_identity.as_deref() != Some(self.identity);
        if is_new {
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |before| before + 1));
            spec.acquire_time = Some(now.clone());
            spec.holder_identity = Some(self.identity.to_owned());
        }
        spec.renew_time = Some(now);
        spec.lease_duration_seconds = i32::try_from(TERM.as_secs()).ok();
        if lease.is_some() {
            self.leases.replace(self.lease, &options, &next).await?;
        } else {
            next.metadata.name = Some(self.lease.to_owned());
            self.leases.create(&options, &next).await?;
        }
        Ok(())
    }
}
