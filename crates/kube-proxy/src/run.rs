//! The shell: takes what the caches report, computes the rules of the services
//! that changed, and programs the kernel. One task owns all state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::ObjectKey;
use api::types::core::v1::{Node, Service};
use api::types::discovery::v1::EndpointSlice;
use client::{Cache, Change};
use daemon::{Clock, Shutdown};
use tokio::sync::mpsc;

use crate::conntrack::{self, Flow};
use crate::metrics::Metrics;
use crate::programmer::Programmer;
use crate::routes::{Routes, wanted};
use crate::rules::{Place, compute};

/// How often the kernel is compared with what should be there.
const VERIFY: Duration = Duration::from_secs(30);
/// How long to wait after the kernel refused.
const RETRY: Duration = Duration::from_secs(2);

/// The index of endpoint slices by service.
pub const BY_SERVICE: &str = "service";

/// The key of an endpoint slice's service.
#[must_use]
pub fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?;
    Some(ObjectKey::new(slice.metadata.namespace.clone().unwrap_or_default(), name.clone()))
}

/// The terms of [`BY_SERVICE`].
#[must_use]
pub fn service_terms(slice: &EndpointSlice) -> Vec<String> {
    service_of(slice).map(|key| key.to_string()).into_iter().collect()
}

/// What the loop follows.
pub struct Caches {
    /// Services.
    pub services: Arc<Cache<Service>>,
    /// Endpoint slices, with the index [`BY_SERVICE`].
    pub slices: Arc<Cache<EndpointSlice>>,
    /// Nodes.
    pub nodes: Arc<Cache<Node>>,
}

enum News {
    Service(ObjectKey),
    Nodes,
}

/// What the loop works with.
pub struct Parts {
    /// Where this is.
    pub place: Place,
    /// The way to the rules in the kernel.
    pub programmer: Programmer,
    /// The way to the kernel's routes; `None`: they are not ours.
    pub routes: Option<Routes>,
    /// Counters.
    pub metrics: Metrics,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// The loop.
pub struct Loop {
    caches: Caches,
    parts: Parts,
    flows: BTreeMap<ObjectKey, BTreeSet<Flow>>,
    news: mpsc::UnboundedReceiver<News>,
    programmed: Arc<AtomicBool>,
}

impl Loop {
    /// A loop over filled caches.
    #[must_use]
    pub fn new(caches: Caches, parts: Parts) -> Self {
        let (tell, news) = mpsc::unbounded_channel();
        // A send fails only after the loop has ended.
        let teller = tell.clone();
        caches.services.subscribe(move |change| {
            let _ = teller.send(News::Service(change.key.clone()));
        });
        let teller = tell.clone();
        caches.slices.subscribe(move |Change { old, new, .. }| {
            for key in [*old, *new].into_iter().flatten().filter_map(|slice| service_of(slice)) {
                let _ = teller.send(News::Service(key));
            }
        });
        caches.nodes.subscribe(move |Change { old, new, .. }| {
            let facts = |node: &Arc<Node>| {
                let addresses = node.status.as_ref().and_then(|status| status.addresses.clone());
                (addresses, node.spec.as_ref().and_then(|spec| spec.pod_cidrs.clone()))
            };
            if old.map(facts) != new.map(facts) {
                let _ = tell.send(News::Nodes);
            }
        });
        Self { caches, parts, flows: BTreeMap::new(), news, programmed: Arc::default() }
    }

    /// Set as long as the kernel holds what it should.
    #[must_use]
    pub fn programmed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.programmed)
    }

    /// Programs until shutdown. The rules stay when it ends: traffic goes on.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut verify = tokio::time::interval(VERIFY);
        verify.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let (mut services, mut nodes) = (BTreeSet::new(), false);
            let retry = !self.programmed.load(Ordering::Relaxed);
            let first = tokio::select! {
                () = shutdown.begun() => return,
                first = self.news.recv() => first,
                _ = verify.tick() => None,
                () = tokio::time::sleep(RETRY), if retry => None,
            };
            let periodic = first.is_none();
            let mut take = |news| match news {
                News::Service(key) => drop(services.insert(key)),
                News::Nodes => nodes = true,
            };
            first.into_iter().for_each(&mut take);
            while let Ok(news) = self.news.try_recv() {
                take(news);
            }
            if periodic {
                // All of them: a service may have waited for an address that is free now.
                services.extend(self.caches.services.list().iter().map(|service| ObjectKey::of(&**service)));
                services.extend(self.parts.programmer.services().cloned());
            }
            self.program(services, periodic).await;
            if nodes || periodic {
                self.route().await;
            }
        }
    }

    async fn program(&mut self, changed: BTreeSet<ObjectKey>, verify: bool) {
        let began = self.parts.clock.monotonic();
        let mut rules = BTreeMap::new();
        let mut stale = BTreeSet::new();
        for key in changed {
            let service = self.caches.services.get_key(&key);
            let slices = self.caches.slices.indexed(BY_SERVICE, &key.to_string());
            let slices: Vec<&EndpointSlice> = slices.iter().map(Arc::as_ref).collect();
            let flows = service
                .as_ref()
                .map(|one| conntrack::flows(one, &slices, &self.parts.place))
                .unwrap_or_default();
            let old = if flows.is_empty() {
                self.flows.remove(&key).unwrap_or_default()
            } else {
                self.flows.insert(key.clone(), flows.clone()).unwrap_or_default()
            };
            stale.extend(conntrack::stale(&old, &flows));
            let computed =
                service.map(|one| compute(&key, &one, &slices, &self.parts.place)).unwrap_or_default();
            rules.insert(key, computed);
        }
        let mut outcome = self.parts.programmer.update(rules).await.map(|script| script.lines().count());
        if let (Ok(lines), true) = (&mut outcome, verify) {
            match self.parts.programmer.verify().await {
                Ok(script) => *lines += script.map_or(0, |script| script.lines().count()),
                Err(error) => outcome = Err(error),
            }
        }
        self.programmed.store(outcome.is_ok(), Ordering::Relaxed);
        let metrics = &self.parts.metrics;
        match outcome {
            Ok(0) => {}
            Ok(lines) => {
                metrics.lines.inc_by(u64::try_from(lines).unwrap_or(u64::MAX));
                metrics.duration.observe(self.parts.clock.monotonic().duration_since(began).as_secs_f64());
                tracing::debug!(lines, "programmed");
            }
            Err(error) => {
                metrics.failures.inc();
                tracing::error!(%error, "cannot program the kernel");
            }
        }
        conntrack::forget(&stale).await;
    }

    async fn route(&self) {
        let Some(routes) = &self.parts.routes else { return };
        let nodes = self.caches.nodes.list();
        let wanted = wanted(nodes.iter().map(Arc::as_ref), &self.parts.place.node);
        if let Err(error) = routes.apply(&wanted).await {
            tracing::error!(%error, "cannot set routes");
        }
    }
}
