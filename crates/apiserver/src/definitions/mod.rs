//! Custom resource definitions at work: their names are accepted, their kinds are
//! served, and when they go, their objects go first.
//!
//! One task follows the definitions in the watch cache. Whatever it decides is
//! derived from all of them as they are, so that it may miss a change or begin
//! anew at any time. Start reading in [`Definitions::run`].

mod names;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{Object, Status};
use daemon::{Shutdown, tasks};
use resources::kinds::custom_resource_definition::CLEANUP;
use resources::{Descriptor, Part};
use serde_json::Value;

use crate::gate::Gate;
use crate::registry::{Address, Caller, DeleteOptions, ListQuery, Owners, UpdateOptions};

const GROUP: &str = "apiextensions.k8s.io";
const RESOURCE: &str = "customresourcedefinitions";
/// How soon something that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Follows the definitions.
struct Definitions {
    gate: Arc<Gate>,
    /// By name.
    known: BTreeMap<String, Known>,
}

/// What is known of a definition.
struct Known {
    /// The definition without its versions, which may be large.
    definition: Object,
    /// The version that this was read from.
    revision: u64,
    /// What is served; nothing as long as its names are not accepted.
    kinds: Vec<Arc<Descriptor>>,
    /// Whether its status has been looked at since it changed.
    is_settled: bool,
}

impl Known {
    fn read(mut definition: Object, revision: u64) -> Self {
        let mut kinds = Vec::new();
        if names::is_true(&definition, "Established") {
            match resources::custom::descriptors(&definition) {
                Ok(made) => kinds.extend(made.into_iter().map(Arc::new)),
                Err(error) => tracing::error!(name = definition.name(), %error, "cannot serve a definition"),
            }
        }
        for large in [["spec", "versions"], ["metadata", "managedFields"], ["metadata", "annotations"]] {
            definition.remove_at(&large);
        }
        Self { definition, revision, kinds, is_settled: false }
    }

    /// Whether its status, or its end, may have to be brought forward. Names that were
    /// accepted stay so, whatever others do.
    fn is_due(&self) -> bool {
        !self.is_settled
            || self.definition.is_terminating()
            || !names::is_true(&self.definition, "NamesAccepted")
    }
}

/// Serves the kinds that are defined now, and follows the definitions from then on.
pub(crate) fn start(gate: &Arc<Gate>, shutdown: Shutdown) {
    let mut definitions = Definitions { gate: Arc::clone(gate), known: BTreeMap::new() };
    // What was established before is served before the first request.
    definitions.read();
    tasks::spawn("definitions", async move { definitions.run(shutdown).await });
}

impl Definitions {
    async fn run(mut self, shutdown: Shutdown) {
        let mut changed = self.gate.registry().cache().resource(GROUP, RESOURCE).changed();
        loop {
            changed.mark_unchanged();
            self.read();
            let mut is_settled = true;
            let due: Vec<String> =
                self.known.iter().filter(|(_, one)| one.is_due()).map(|(name, _)| name.clone()).collect();
            for name in due {
                match self.settle(&name).await {
                    Ok(()) => {
                        if let Some(known) = self.known.get_mut(&name) {
                            known.is_settled = true;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(name, %error, "cannot settle a definition");
                        is_settled = false;
                    }
                }
            }
            tokio::select! {
                () = shutdown.begun() => return,
                changed = changed.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(RETRY), if !is_settled => {}
            }
        }
    }

    /// Reads the definitions that changed, and serves the kinds of established ones in the
    /// order in which they were made.
    fn read(&mut self) {
        let resource = self.gate.registry().cache().resource(GROUP, RESOURCE);
        let (found, _) = resource.list(&crate::cache::Selected::default(), 0, None);
        let mut before = std::mem::take(&mut self.known);
        for stored in &found {
            let known = before.remove(stored.name()).filter(|known| known.revision == stored.revision);
            let known = known.or_else(|| Some(Known::read(stored.object().ok()?, stored.revision)));
            self.known.extend(known.map(|known| (stored.name().to_owned(), known)));
        }
        let mut in_order: Vec<&Known> = self.known.values().collect();
        in_order.sort_by_key(|one| one.definition.text(&["metadata", "creationTimestamp"]));
        let custom = in_order.iter().flat_map(|one| &one.kinds).cloned().collect();
        self.gate.registry().kinds().set_custom(custom);
    }

    /// Brings one definition's status, or its end, forward.
    async fn settle(&self, name: &str) -> Result<(), Status> {
        let registry = self.gate.registry();
        let Some(Known { definition, kinds, .. }) = self.known.get(name) else { return Ok(()) };
        let kind = registry.kinds().find(GROUP, "v1", RESOURCE).ok_or_else(Status::no_such_resource)?;
        let address = Address { kind, namespace: String::new(), name: definition.name().to_owned() };
        let now = api::time::format(registry.clock().now());
        let others = self.known.values().map(|one| &one.definition);
        let others = others.filter(|one| one.uid() != definition.uid());
        let reported = names::reported(definition, others, &now);
        if reported.get("status") != definition.get("status") {
            let uid = definition.uid().to_owned();
            let transform = |current: &Object| {
                let mut new = current.clone();
                if current.uid() == uid
                    && let Some(status) = reported.get("status")
                {
                    new.set("status", status.clone());
                    new.set_at(&["metadata", "resourceVersion"], definition.resource_version());
                }
                Ok((new, Vec::new()))
            };
            let options = UpdateOptions { owners: Owners::Track, ..UpdateOptions::default() };
            return match registry
                .change(&Caller::server(), &address, Part::Status, &options, &transform)
                .await
            {
                // The change wakes this task again.
                Err(status) if matches!(status.reason, api::Reason::Conflict | api::Reason::NotFound) => {
                    Ok(())
                }
                other => other.map(drop),
            };
        }
        if definition.is_terminating() && definition.finalizers().any(|one| one == CLEANUP) {
            self.clean_up(kinds, &address).await?;
        }
        Ok(())
    }

    /// Deletes the objects of a definition that goes; when none is left, lets it go.
    async fn clean_up(&self, kinds: &[Arc<Descriptor>], address: &Address) -> Result<(), Status> {
        let registry = self.gate.registry();
        // In the version that they are stored in, to depend on no conversion.
        let stored = kinds.iter().find(|kind| kind.api_version() == kind.stored_version);
        if let Some(kind) = stored.or(kinds.first()) {
            let collection =
                Address { kind: Arc::clone(kind), namespace: String::new(), name: String::new() };
            let (query, options) = (ListQuery::default(), DeleteOptions::default());
            registry.delete_collection(&Caller::server(), &collection, &query, &options).await?;
            let left = registry.list(&collection, &query).await?.objects.len();
            if left > 0 {
                return Err(Status::unavailable(format!("{left} objects have finalizers of their own")));
            }
        }
        let transform = |current: &Object| {
            let mut new = current.clone();
            let kept: Vec<Value> =
                current.finalizers().filter(|one| *one != CLEANUP).map(Value::from).collect();
            if kept.is_empty() {
                new.remove_at(&["metadata", "finalizers"]);
            } else {
                new.set_at(&["metadata", "finalizers"], kept);
            }
            Ok((new, Vec::new()))
        };
        let options = UpdateOptions { owners: Owners::Keep, ..UpdateOptions::default() };
        registry.change(&Caller::server(), address, Part::Main, &options, &transform).await.map(drop)
    }
}
