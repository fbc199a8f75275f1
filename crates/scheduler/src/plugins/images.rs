//! Images that are on a node already.

use std::collections::HashMap;
use std::sync::Arc;

use super::{MAX_SCORE, NoArgs, Plugin, Roles, Score};
use crate::events::{Event, Kinds};
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};

/// Images smaller than this, bytes, do not matter.
const SMALLEST: i64 = 23 << 20;
/// Images larger than this, bytes, for each container, do not matter more.
const LARGEST: i64 = 1000 << 20;

/// Rather nodes that have the pod's images. An image that few nodes have counts
/// less, so that its pods do not all go to those.
pub(super) struct ImageLocality;

/// What is asked for.
pub(super) struct Wanted {
    /// The share of nodes that have each image, and how often the pod names it.
    images: HashMap<String, (f64, i64)>,
    containers: i64,
}

impl Plugin for ImageLocality {
    const NAME: &'static str = "ImageLocality";
    const HEEDS: Kinds = Kinds::NONE;
    type Args = NoArgs;

    fn new(_: NoArgs) -> Result<Self, String> {
        Ok(Self)
    }

    fn roles(self: Arc<Self>) -> Roles {
        Roles::default().scoring(&self)
    }

    fn is_helped_by(&self, _: &PodInfo, _: &Event<'_>) -> bool {
        false
    }
}

impl Score for ImageLocality {
    type Facts = Wanted;
    /// It depends on how many nodes have an image.
    const IS_LOCAL: bool = false;

    /// Where no node has any of the images, all score nothing.
    #[expect(clippy::cast_precision_loss, reason = "a share needs few bits")]
    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot, _: &[&NodeInfo]) -> Option<Wanted> {
        let spec = pod.pod.spec.as_ref()?;
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let names = containers.filter_map(|container| container.image.as_deref());
        let volumes = spec.volumes.iter().flatten();
        let volumes = volumes.filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
        let mut images: HashMap<String, (f64, i64)> = HashMap::new();
        for name in names.chain(volumes).map(normalized) {
            let nodes = snapshot.nodes_with_image(&name);
            if nodes > 0 {
                let share = nodes as f64 / snapshot.len() as f64;
                images.entry(name).or_insert((share, 0)).1 += 1;
            }
        }
        let count = spec.containers.len() + spec.init_containers.as_ref().map_or(0, Vec::len);
        (!images.is_empty()).then(|| Wanted { images, containers: i64::try_from(count).unwrap_or(i64::MAX) })
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "sizes have few bits")]
    fn score(&self, wanted: &Wanted, node: &NodeInfo) -> i64 {
        let own = |(name, (share, times)): (&String, &(f64, i64))| {
            let size = node.images.get(name).copied().unwrap_or(0);
            (size as f64 * share) as i64 * times
        };
        let sum: i64 = wanted.images.iter().map(own).sum();
        let largest = LARGEST * wanted.containers.max(1);
        MAX_SCORE * (sum.clamp(SMALLEST, largest) - SMALLEST) / (largest - SMALLEST)
    }
}

/// The name under which nodes report an image.
fn normalized(name: &str) -> String {
    if name.rfind(':') <= name.rfind('/') { format!("{name}:latest") } else { name.to_owned() }
}
