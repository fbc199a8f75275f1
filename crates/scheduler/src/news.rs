//! What the caches report, put in order for the one loop that takes it.

use std::sync::Arc;

use api::types::apps::v1::{ReplicaSet, StatefulSet};
use api::types::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use api::types::policy::v1::PodDisruptionBudget;
use api::types::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};
use api::{ObjectKey, Status};
use client::cached::Cached;
use client::{Cache, Change, Client, Scope};
use futures::future::{BoxFuture, join_all};
use tokio::sync::mpsc;

use crate::pod::PodInfo;
use crate::volumes::bind::Writes;

/// Pods that have ended take nothing.
const LIVING_PODS: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Where news go. A send fails only after the loop has ended, when nobody needs
/// them.
pub type Teller = mpsc::UnboundedSender<News>;

/// One thing that the loop hears. Where there is no object, it is gone.
pub enum News {
    /// A node.
    Node(ObjectKey, Option<Arc<Node>>),
    /// A pod as it was, and as it is.
    Pod(Option<Arc<Pod>>, Option<Arc<PodInfo>>),
    /// A namespace.
    Namespace(ObjectKey, Option<Arc<Namespace>>),
    /// A service.
    Service(ObjectKey, Option<Arc<Service>>),
    /// A replication controller.
    Controller(ObjectKey, Option<Arc<ReplicationController>>),
    /// A replica set.
    ReplicaSet(ObjectKey, Option<Arc<ReplicaSet>>),
    /// A stateful set.
    StatefulSet(ObjectKey, Option<Arc<StatefulSet>>),
    /// A disruption budget.
    Budget(ObjectKey, Option<Arc<PodDisruptionBudget>>),
    /// A claim.
    Claim(ObjectKey, Option<Arc<PersistentVolumeClaim>>),
    /// A volume.
    Volume(ObjectKey, Option<Arc<PersistentVolume>>),
    /// A storage class.
    Class(ObjectKey, Option<Arc<StorageClass>>),
    /// What a node says of its drivers.
    CsiNode(ObjectKey, Option<Arc<CSINode>>),
    /// A driver.
    Driver(ObjectKey, Option<Arc<CSIDriver>>),
    /// The room that a driver has.
    Capacity(ObjectKey, Option<Arc<CSIStorageCapacity>>),
    /// A volume on a node.
    Attachment(ObjectKey, Option<Arc<VolumeAttachment>>),
    /// Making room for a pod has ended.
    RoomMade {
        /// The pod's uid.
        uid: String,
        /// Whether all victims are on their way.
        was_made: bool,
    },
    /// A binding has ended.
    Bound(Bound),
}

/// A binding that has ended.
pub struct Bound {
    /// The pod.
    pub pod: Arc<PodInfo>,
    /// Its node.
    pub node: Arc<str>,
    /// What was decided about its volumes.
    pub(crate) volumes: Writes,
    /// How it ended.
    pub outcome: Result<(), Status>,
}

/// What the scheduler follows.
pub struct Caches {
    pods: Arc<Cache<Pod>>,
    /// In the order in which they are told of first.
    others: Vec<Box<dyn Followed>>,
}

impl Caches {
    /// Starts to follow.
    #[must_use]
    pub fn start(client: &Client) -> Self {
        Self {
            pods: Cache::start(client, Scope { fields: LIVING_PODS.to_owned(), ..Scope::default() }),
            // What says how to place pods comes before the pods.
            others: vec![
                follow(client, News::Namespace),
                follow(client, News::Service),
                follow(client, News::Controller),
                follow(client, News::ReplicaSet),
                follow(client, News::StatefulSet),
                follow(client, News::Budget),
                follow(client, News::Class),
                follow(client, News::Volume),
                follow(client, News::Claim),
                follow(client, News::CsiNode),
                follow(client, News::Driver),
                follow(client, News::Capacity),
                follow(client, News::Attachment),
                follow(client, News::Node),
            ],
        }
    }

    /// Waits until everything was read once.
    pub async fn synced(&self) {
        self.pods.synced().await;
        join_all(self.others.iter().map(|one| one.synced())).await;
    }

    /// Whether everything was read once.
    #[must_use]
    pub fn are_synced(&self) -> bool {
        self.pods.is_synced() && self.others.iter().all(|one| one.is_synced())
    }

    /// Tells of everything that is, and of every change.
    pub fn tell(&self, to: &Teller) {
        for one in &self.others {
            one.tell(to);
        }
        let teller = to.clone();
        self.pods.subscribe(move |Change { old, new, .. }| {
            let new = new.map(|pod| Arc::new(PodInfo::new(Arc::clone(pod))));
            let _ = teller.send(News::Pod(old.cloned(), new));
        });
    }
}

/// A cache of any kind, whose changes are news.
trait Followed: Send + Sync {
    fn synced(&self) -> BoxFuture<'_, ()>;
    fn is_synced(&self) -> bool;
    fn tell(&self, to: &Teller);
}

struct Feed<K> {
    cache: Arc<Cache<K>>,
    news: fn(ObjectKey, Option<Arc<K>>) -> News,
}

impl<K: Cached> Followed for Feed<K> {
    fn synced(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.cache.synced())
    }

    fn is_synced(&self) -> bool {
        self.cache.is_synced()
    }

    fn tell(&self, to: &Teller) {
        let (teller, news) = (to.clone(), self.news);
        self.cache.subscribe(move |Change { key, new, .. }| {
            let _ = teller.send(news((*key).clone(), new.cloned()));
        });
    }
}

fn follow<K: Cached>(client: &Client, news: fn(ObjectKey, Option<Arc<K>>) -> News) -> Box<dyn Followed> {
    Box::new(Feed { cache: Cache::start(client, Scope::default()), news })
}
