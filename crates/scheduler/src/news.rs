//! What the caches report, put in order for the one loop that takes it.

use std::sync::Arc;

use api::types::apps::v1::{ReplicaSet, StatefulSet};
use api::types::core::v1::{Namespace, Node, Pod, ReplicationController, Service};
use api::types::policy::v1::PodDisruptionBudget;
use api::{ObjectKey, Status};
use client::cached::Cached;
use client::{Cache, Change, Client, Scope};
use tokio::sync::mpsc;

use crate::pod::PodInfo;

/// Pods that have ended take nothing.
const LIVING_PODS: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Where news go. A send fails only after the loop has ended, when nobody needs
/// them.
pub type Teller = mpsc::UnboundedSender<News>;

/// One thing that the loop hears.
pub enum News {
    /// A node is, or is gone.
    Node(ObjectKey, Option<Arc<Node>>),
    /// A pod was, is, or both.
    Pod(Option<Arc<Pod>>, Option<Arc<PodInfo>>),
    /// A namespace is, or is gone.
    Namespace(ObjectKey, Option<Arc<Namespace>>),
    /// A service is, or is gone.
    Service(ObjectKey, Option<Arc<Service>>),
    /// A replication controller is, or is gone.
    Controller(ObjectKey, Option<Arc<ReplicationController>>),
    /// A replica set is, or is gone.
    ReplicaSet(ObjectKey, Option<Arc<ReplicaSet>>),
    /// A stateful set is, or is gone.
    StatefulSet(ObjectKey, Option<Arc<StatefulSet>>),
    /// A disruption budget is, or is gone.
    Budget(ObjectKey, Option<Arc<PodDisruptionBudget>>),
    /// Making room for a pod has ended.
    RoomMade {
        /// The pod's uid.
        uid: String,
        /// Whether all victims are on their way.
        was_made: bool,
    },
    /// A binding has ended.
    Bound {
        /// The pod.
        pod: Arc<PodInfo>,
        /// Its node.
        node: Arc<str>,
        /// How it ended.
        outcome: Result<(), Status>,
    },
}

/// What the scheduler follows.
pub struct Caches {
    nodes: Arc<Cache<Node>>,
    pods: Arc<Cache<Pod>>,
    namespaces: Arc<Cache<Namespace>>,
    services: Arc<Cache<Service>>,
    controllers: Arc<Cache<ReplicationController>>,
    replica_sets: Arc<Cache<ReplicaSet>>,
    stateful_sets: Arc<Cache<StatefulSet>>,
    budgets: Arc<Cache<PodDisruptionBudget>>,
}

impl Caches {
    /// Starts to follow.
    #[must_use]
    pub fn start(client: &Client) -> Self {
        Self {
            nodes: all(client),
            pods: Cache::start(client, Scope { fields: LIVING_PODS.to_owned(), ..Scope::default() }),
            namespaces: all(client),
            services: all(client),
            controllers: all(client),
            replica_sets: all(client),
            stateful_sets: all(client),
            budgets: all(client),
        }
    }

    /// Waits until everything was read once.
    pub async fn synced(&self) {
        tokio::join!(
            self.nodes.synced(),
            self.pods.synced(),
            self.namespaces.synced(),
            self.services.synced(),
            self.controllers.synced(),
            self.replica_sets.synced(),
            self.stateful_sets.synced(),
            self.budgets.synced(),
        );
    }

    /// Whether everything was read once.
    #[must_use]
    pub fn are_synced(&self) -> bool {
        self.nodes.is_synced()
            && self.pods.is_synced()
            && self.namespaces.is_synced()
            && self.services.is_synced()
            && self.controllers.is_synced()
            && self.replica_sets.is_synced()
            && self.stateful_sets.is_synced()
            && self.budgets.is_synced()
    }

    /// Tells of everything that is, and of every change.
    pub fn tell(&self, to: &Teller) {
        // What says how to place pods comes before the pods.
        feed(&self.namespaces, to, News::Namespace);
        feed(&self.services, to, News::Service);
        feed(&self.controllers, to, News::Controller);
        feed(&self.replica_sets, to, News::ReplicaSet);
        feed(&self.stateful_sets, to, News::StatefulSet);
        feed(&self.budgets, to, News::Budget);
        feed(&self.nodes, to, News::Node);
        let teller = to.clone();
        self.pods.subscribe(move |Change { old, new, .. }| {
            let new = new.map(|pod| Arc::new(PodInfo::new(Arc::clone(pod))));
            let _ = teller.send(News::Pod(old.cloned(), new));
        });
    }
}

fn all<K: Cached>(client: &Client) -> Arc<Cache<K>> {
    Cache::start(client, Scope::default())
}

fn feed<K: Cached>(cache: &Cache<K>, to: &Teller, news: fn(ObjectKey, Option<Arc<K>>) -> News) {
    let teller = to.clone();
    cache.subscribe(move |Change { key, new, .. }| {
        let _ = teller.send(news((*key).clone(), new.cloned()));
    });
}
