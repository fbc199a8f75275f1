//! Custom resource definitions at work: their names are accepted, their kinds are
//! served, and when they go, their objects go first.
//!
//! One task follows the definitions in the watch cache. Whatever it decides is
//! derived from all of them as they are, so that it may miss a change or begin
//! anew at any time. Start reading in [`Definitions::run`].

mod names;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::{Object, Status};
use daemon::{Shutdown, tasks};
use resources::kinds::custom_resource_definition::CLEANUP;
use resources::{Descriptor, Part};
use serde_json::Value;

use crate::authn::{MASTERS, User};
use crate::gate::Gate;
use crate::registry::{Address, Caller, DeleteOptions, ListQuery, Owners, UpdateOptions};

const GROUP: &str = "apiextensions.k8s.io";
const RESOURCE: &str = "customresourcedefinitions";
/// How soon something that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Follows the definitions.
struct Definitions {
    gate: Arc<Gate>,
    /// What was made of each definition, by its uid, and at which version.
    made: HashMap<String, (String, Vec<Arc<Descriptor>>)>,
}

fn caller() -> Caller {
    let user =
        User { name: "system:apiserver".to_owned(), groups: vec![MASTERS.to_owned()], ..User::default() };
    Caller { user: Arc::new(user), field_manager: "kube-apiserver".to_owned() }
}

/// Serves the kinds that are defined now, and follows the definitions from then on.
pub(crate) fn start(gate: &Arc<Gate>, shutdown: Shutdown) {
    let mut definitions = Definitions { gate: Arc::clone(gate), made: HashMap::new() };
    // What was established before is served before the first request.
    let all = definitions.all();
    definitions.serve(&all);
    tasks::spawn("definitions", async move { definitions.run(shutdown).await });
}

impl Definitions {
    async fn run(mut self, shutdown: Shutdown) {
        let mut changed = self.gate.registry().cache().resource(GROUP, RESOURCE).changed();
        loop {
            changed.mark_unchanged();
            let all = self.all();
            self.serve(&all);
            let mut is_settled = true;
            for definition in &all {
                if let Err(error) = self.settle(definition, &all).await {
                    tracing::warn!(name = definition.name(), %error, "cannot settle a definition");
                    is_settled = false;
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

    /// The definitions in the order in which they were made.
    fn all(&self) -> Vec<Object> {
        let resource = self.gate.registry().cache().resource(GROUP, RESOURCE);
        let (found, _) = resource.list(&crate::cache::Selected::default(), 0, None);
        let mut all: Vec<Object> = found.iter().filter_map(|stored| stored.object().ok()).collect();
        let order =
            |one: &Object| (one.text(&["metadata", "creationTimestamp"]).to_owned(), one.name().to_owned());
        all.sort_by_key(order);
        all
    }

    /// Serves the kinds of established definitions.
    fn serve(&mut self, all: &[Object]) {
        let mut custom = Vec::new();
        let mut made = HashMap::new();
        for definition in all.iter().filter(|one| names::is_true(one, "Established")) {
            let (uid, version) = (definition.uid().to_owned(), definition.resource_version().to_owned());
            let known = self.made.remove(&uid).filter(|(at, _)| *at == version).map(|(_, kinds)| kinds);
            let kinds = known.unwrap_or_else(|| match resources::custom::descriptors(definition) {
                Ok(kinds) => kinds.into_iter().map(Arc::new).collect(),
                Err(error) => {
                    tracing::error!(name = definition.name(), %error, "cannot serve a definition");
                    Vec::new()
                }
            });
            custom.extend(kinds.iter().cloned());
            made.insert(uid, (version, kinds));
        }
        self.made = made;
        self.gate.registry().kinds().set_custom(custom);
    }

    /// Brings one definition's status, or its end, forward.
    async fn settle(&self, definition: &Object, all: &[Object]) -> Result<(), Status> {
        let registry = self.gate.registry();
        let kind = registry.kinds().find(GROUP, "v1", RESOURCE).ok_or_else(Status::no_such_resource)?;
        let address = Address { kind, namespace: String::new(), name: definition.name().to_owned() };
        let now = api::time::format(registry.clock().now());
        let others: BTreeMap<&str, &Object> =
            all.iter().filter(|one| one.uid() != definition.uid()).map(|one| (one.name(), one)).collect();
        let reported = names::reported(definition, others.values().copied(), &now);
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
            return match registry.change(&caller(), &address, Part::Status, &options, &transform).await {
                // The change wakes this task again.
                Err(status) if matches!(status.reason, api::Reason::Conflict | api::Reason::NotFound) => {
                    Ok(())
                }
                other => other.map(drop),
            };
        }
        if definition.is_terminating() && definition.finalizers().any(|one| one == CLEANUP) {
            self.clean_up(definition, &address).await?;
        }
        Ok(())
    }

    /// Deletes the objects of a definition that goes; when none is left, lets it go.
    async fn clean_up(&self, definition: &Object, address: &Address) -> Result<(), Status> {
        let registry = self.gate.registry();
        let kinds = self.made.get(definition.uid()).map(|(_, kinds)| kinds.as_slice()).unwrap_or_default();
        // In the version that they are stored in, to depend on no conversion.
        let stored = kinds.iter().find(|kind| kind.api_version() == kind.stored_version);
        if let Some(kind) = stored.or(kinds.first()) {
            let collection =
                Address { kind: Arc::clone(kind), namespace: String::new(), name: String::new() };
            let (query, options) = (ListQuery::default(), DeleteOptions::default());
            registry.delete_collection(&caller(), &collection, &query, &options).await?;
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
        registry.change(&caller(), address, Part::Main, &options, &transform).await.map(drop)
    }
}
