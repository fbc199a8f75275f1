//! The history of a workload's pod template, kept as controller revisions
//! (upstream: `pkg/controller/history`). Pure.

use std::sync::Arc;

use api::Metadata;
use api::Resource;
use api::metav1::ObjectMeta;
use api::openapi::apimachinery::pkg::runtime::RawExtension;
use api::types::apps::v1::ControllerRevision;
use api::types::core::v1::PodTemplateSpec;
use reconcile::Action;
use serde_json::{Value, json};

use crate::deployment::short_hash;
use crate::owners;

/// The longest part that a workload's name has in the name of a revision.
const LONGEST_PREFIX: usize = 223;

/// A workload whose template has a history.
pub trait Versioned: Resource + Metadata<Ty = ObjectMeta> {
    /// The label of a revision that holds its hash.
    const HASH: &'static str;

    /// The present template.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// How often the name of a revision was taken.
    fn collisions(&self) -> Option<i32>;
    /// How many revisions that nothing carries are kept; `None`: the default.
    fn history_limit(&self) -> Option<i32>;
}

/// The present template's revision.
pub struct Current {
    /// The revision, where it is there.
    pub revision: Option<Arc<ControllerRevision>>,
    /// Its hash.
    pub hash: String,
    /// What must be written for it to be there, and to be the newest.
    pub actions: Vec<Action>,
    /// The new number of collisions, where its name is taken.
    pub collision: Option<i32>,
}

/// The template as a patch that puts it back.
fn data<O: Versioned>(owner: &O) -> Value {
    let mut template = serde_json::to_value(owner.template()).unwrap_or_default();
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

fn hash<O: Versioned>(owner: &O) -> String {
    short_hash(&data(owner), owner.collisions())
}

/// The name of the revision for the present template.
pub fn new_name<O: Versioned>(owner: &O) -> String {
    let name = owners::name(owner);
    let cut = name.floor_char_boundary(LONGEST_PREFIX);
    format!("{}-{}", &name[..cut], hash(owner))
}

/// A revision's hash; empty where it has none.
#[must_use]
pub fn hash_of<O: Versioned>(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(O::HASH)).map(String::as_str).unwrap_or_default()
}

/// The template that a revision keeps.
#[must_use]
pub fn template_in(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// Whether a revision keeps the owner's present template. One that was written
/// by another release may spell defaults differently, so templates are compared
/// as they are read.
fn keeps_present<O: Versioned>(revision: &ControllerRevision, owner: &O, data: &Value) -> bool {
    revision.data.as_ref().is_some_and(|held| held.0 == *data)
        || template_in(revision).is_some_and(|template| owner.template() == Some(&template))
}

/// Finds the present template's revision among the owner's, or plans it;
/// `namesake` is whatever has the name that it would get.
pub fn current<O: Versioned>(
    owner: &O,
    revisions: &[Arc<ControllerRevision>],
    namesake: Option<&ControllerRevision>,
) -> Current {
    let data = data(owner);
    let newest = revisions.iter().map(|one| one.revision).max().unwrap_or_default();
    let same = |one: &&Arc<ControllerRevision>| keeps_present(one, owner, &data);
    if let Some(found) = revisions.iter().filter(same).max_by_key(|one| one.revision) {
        let mut actions = Vec::new();
        if found.revision < newest {
            // Back to an old template: it is the newest again.
            actions.push(Action::patch_unchanged(&**found, json!({"revision": newest + 1})));
        }
        let hash = hash_of::<O>(found).to_owned();
        return Current { revision: Some(Arc::clone(found)), hash, actions, collision: None };
    }
    let hash = hash(owner);
    if namesake.is_some() {
        let collision = Some(owner.collisions().unwrap_or_default() + 1);
        return Current { revision: None, hash, actions: Vec::new(), collision };
    }
    let described = owner.template().and_then(|template| template.metadata.clone()).unwrap_or_default();
    let mut labels = described.labels.unwrap_or_default();
    labels.insert(O::HASH.to_owned(), hash.clone());
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(new_name(owner)),
            namespace: owner.metadata().namespace.clone(),
            labels: Some(labels),
            annotations: owner.metadata().annotations.clone(),
            owner_references: Some(vec![owners::controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: newest + 1,
    };
    Current { revision: None, hash, actions: vec![Action::create(&revision)], collision: None }
}

/// Deletes the oldest revisions beyond the limit that are not in use.
pub fn clean_up<O: Versioned>(
    owner: &O,
    revisions: &[Arc<ControllerRevision>],
    is_in_use: impl Fn(&ControllerRevision) -> bool,
) -> Vec<Action> {
    let Ok(limit) = usize::try_from(owner.history_limit().unwrap_or(10)) else { return Vec::new() };
    let mut old: Vec<&Arc<ControllerRevision>> = revisions.iter().filter(|one| !is_in_use(one)).collect();
    old.sort_by_key(|one| one.revision);
    let surplus = old.len().saturating_sub(limit);
    old.into_iter().take(surplus).map(|one| Action::delete(&**one)).collect()
}
