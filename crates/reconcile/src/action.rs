//! What a plan can hold: writes with their preconditions, events, guards.

use std::sync::Arc;

use api::openapi::{Metadata, Resource};
use api::types::core::v1::ObjectReference;
use api::{Object, ObjectKey, metav1};
use client::verbs::target;
use client::{DeleteOptions, Patch, Target};
use serde::Serialize;
use serde_json::{Value, json};

/// One step of a plan.
#[derive(Clone, Debug)]
pub enum Action {
    /// Creates an object; a target may name a subresource.
    Create {
        /// Where.
        target: Target,
        /// The object.
        object: Value,
        /// The events about it.
        announce: Option<Announcement>,
    },
    /// Replaces an object or a part of it; its resourceVersion is the precondition.
    Update {
        /// Where.
        target: Target,
        /// The object.
        object: Value,
    },
    /// Replaces an object or a part of it after something was put into it that no
    /// plan can hold, because it takes randomness: a signature.
    Complete {
        /// Where.
        target: Target,
        /// The object, but for what is missing.
        object: Value,
        /// Puts in what is missing, when the action is carried out.
        by: Arc<dyn Completion>,
    },
    /// Changes an object; a uid or resourceVersion in the patch is a precondition.
    Patch {
        /// Where.
        target: Target,
        /// The change.
        patch: Patch,
    },
    /// Deletes an object; that it is gone already is a success.
    Delete {
        /// Where.
        target: Target,
        /// Grace, propagation, preconditions.
        options: DeleteOptions,
        /// The events about it.
        announce: Option<Announcement>,
    },
    /// Deletes every object of a resource, or those of one namespace.
    DeleteCollection {
        /// Where.
        target: Target,
    },
    /// Ends the plan here, to be made anew later, unless something holds on the
    /// server at this moment. For decisions that no cache can vouch for.
    Require(Guard),
    /// Tells people.
    Event(Note),
}

/// Puts into an object what takes randomness, outside of plans.
pub trait Completion: std::fmt::Debug + Send + Sync {
    /// The completed object.
    ///
    /// # Errors
    /// Why it cannot be completed, for the log.
    fn complete(&self, object: Value) -> Result<Value, String>;
}

/// Looks for something in objects.
pub trait Search: std::fmt::Debug + Send + Sync {
    /// Whether an object is what is looked for.
    fn finds(&self, object: &Object) -> bool;
}

/// What must hold for the rest of a plan to be carried out.
#[derive(Clone, Debug)]
pub enum Guard {
    /// There is no object there with this uid, or, if the uid is empty, none at all.
    Absent {
        /// Where.
        target: Target,
        /// Which.
        uid: String,
    },
    /// None of these collections has an object.
    Empty(Vec<Target>),
    /// No object of a collection is what is looked for.
    NoneOf {
        /// The collection.
        target: Target,
        /// What is looked for.
        search: Arc<dyn Search>,
    },
    /// The server answers one of these access reviews with yes.
    Allowed {
        /// Where reviews are answered.
        target: Target,
        /// The reviews.
        reviews: Vec<Value>,
    },
}

/// Whether an event is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Normal,
    /// Needs attention.
    Warning,
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// The object that it is about.
    pub about: ObjectReference,
    /// Good or bad news.
    pub tone: Tone,
    /// For machines.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// The events that a create or delete makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// The object that the events are about.
    pub about: ObjectReference,
    /// Reason and text after a success; `{name}` in it is the object's name.
    pub success: Option<(&'static str, String)>,
    /// Reason and text after a failure; `{error}` in it is the server's message.
    pub failure: Option<(&'static str, String)>,
}

/// The JSON of a typed object. An object that JSON cannot hold becomes `null`,
/// which the server refuses; API types always fit.
fn json_of<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn place<K: Resource + Metadata<Ty = metav1::ObjectMeta>>(object: &K, subresource: &str) -> Target {
    let key = ObjectKey::of(object);
    let mut place = target::<K>(&key.namespace, &key.name);
    subresource.clone_into(&mut place.subresource);
    place
}

impl Action {
    /// Creates an object.
    pub fn create<K>(object: &K) -> Self
    where
        K: Resource + Metadata<Ty = metav1::ObjectMeta> + Serialize,
    {
        let mut target = place(object, "");
        target.name.clear();
        Self::Create { target, object: json_of(object), announce: None }
    }

    /// Replaces an object that still has the resourceVersion in it.
    pub fn update<K>(object: &K) -> Self
    where
        K: Resource + Metadata<Ty = metav1::ObjectMeta> + Serialize,
    {
        Self::Update { target: place(object, ""), object: json_of(object) }
    }

    /// Completes an object and replaces a part of it, under the resourceVersion in it.
    pub fn complete_part<K>(subresource: &str, object: &K, by: Arc<dyn Completion>) -> Self
    where
        K: Resource + Metadata<Ty = metav1::ObjectMeta> + Serialize,
    {
        Self::Complete { target: place(object, subresource), object: json_of(object), by }
    }

    /// Replaces the status of an object that still has the resourceVersion in it.
    pub fn update_status<K>(object: &K) -> Self
    where
        K: Resource + Metadata<Ty = metav1::ObjectMeta> + Serialize,
    {
        Self::update_part("status", object)
    }

    /// Writes to a subresource, under the resourceVersion in the object.
    pub fn update_part<K>(subresource: &str, object: &K) -> Self
    where
        K: Resource + Metadata<Ty = metav1::ObjectMeta> + Serialize,
    {
        Self::Update { target: place(object, subresource), object: json_of(object) }
    }

    /// Merges a patch into the object if it is still the one with this uid.
    pub fn patch<K>(object: &K, patch: Value) -> Self
    where
        K: Resource + Metadata<Ty = metav1::ObjectMeta>,
    {
        Self::patch_part("", object, patch, false)
    }

    /// Merges a patch into the object if it has not changed since it was seen.
    pub fn patch_unchanged<K>(object: &K, patch: Value) -> Self
    where
        K: Resource + Metadata<Ty = metav1::ObjectMeta>,
    {
        Self::patch_part("", object, patch, true)
    }

    /// Merges a patch into the status of the object with this uid.
    pub fn patch_status<K>(object: &K, patch: Value) -> Self
    where
        K: Resource + Metadata<Ty = metav1::ObjectMeta>,
    {
        Self::patch_part("status", object, patch, false)
    }

    /// Merges a patch into a part of the object under preconditions.
    fn patch_part<K>(subresource: &str, object: &K, mut patch: Value, unchanged: bool) -> Self
    where
        K: Resource + Metadata<Ty = metav1::ObjectMeta>,
    {
        let metadata = object.metadata();
        let mut conditions = json!({"metadata": {"uid": metadata.uid}});
        if unchanged {
            conditions["metadata"]["resourceVersion"] = json!(metadata.resource_version);
        }
        api::patch::merge_patch(&mut patch, conditions);
        Self::Patch { target: place(object, subresource), patch: Patch::Merge(patch) }
    }

    /// Deletes the object with this uid.
    pub fn delete<K>(object: &K) -> Self
    where
        K: Resource + Metadata<Ty = metav1::ObjectMeta>,
    {
        let uid = object.metadata().uid.clone().unwrap_or_default();
        Self::Delete { target: place(object, ""), options: DeleteOptions::of_uid(uid), announce: None }
    }

    /// Deletes the object with this uid at once.
    pub fn delete_now<K>(object: &K) -> Self
    where
        K: Resource + Metadata<Ty = metav1::ObjectMeta>,
    {
        let uid = object.metadata().uid.clone().unwrap_or_default();
        let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::of_uid(uid) };
        Self::Delete { target: place(object, ""), options, announce: None }
    }

    /// Adds the events of a create or delete.
    #[must_use]
    pub fn announced(mut self, announcement: Announcement) -> Self {
        if let Self::Create { announce, .. } | Self::Delete { announce, .. } = &mut self {
            *announce = Some(announcement);
        }
        self
    }

    /// Good news.
    pub fn normal(about: ObjectReference, reason: &str, message: impl Into<String>) -> Self {
        Self::Event(Note { about, tone: Tone::Normal, reason: reason.to_owned(), message: message.into() })
    }

    /// Bad news.
    pub fn warning(about: ObjectReference, reason: &str, message: impl Into<String>) -> Self {
        Self::Event(Note { about, tone: Tone::Warning, reason: reason.to_owned(), message: message.into() })
    }

    /// What it does, in a word.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Update { .. } | Self::Complete { .. } => "update",
            Self::Patch { .. } => "patch",
            Self::Delete { .. } => "delete",
            Self::DeleteCollection { .. } => "deletecollection",
            Self::Require(_) => "require",
            Self::Event(_) => "event",
        }
    }

    /// Where it writes.
    #[must_use]
    pub const fn target(&self) -> Option<&Target> {
        match self {
            Self::Create { target, .. }
            | Self::Update { target, .. }
            | Self::Complete { target, .. }
            | Self::Patch { target, .. }
            | Self::Delete { target, .. }
            | Self::DeleteCollection { target } => Some(target),
            Self::Require(_) | Self::Event(_) => None,
        }
    }

    /// Whether two neighbours may run at the same time.
    pub(crate) fn runs_beside(&self, other: &Self) -> bool {
        let same = |one: &Target, two: &Target| one.group == two.group && one.resource == two.resource;
        match (self, other) {
            (Self::Create { target: one, .. }, Self::Create { target: two, .. })
            | (Self::Delete { target: one, .. }, Self::Delete { target: two, .. })
            | (Self::DeleteCollection { target: one }, Self::DeleteCollection { target: two }) => {
                same(one, two)
            }
            _ => false,
        }
    }
}

impl PartialEq for Guard {
    fn eq(&self, other: &Self) -> bool {
        // Targets, reviews and searches hold only what their debug form shows.
        format!("{self:?}") == format!("{other:?}")
    }
}

impl PartialEq for Action {
    fn eq(&self, other: &Self) -> bool {
        // Options and patches hold only what their debug form shows.
        format!("{self:?}") == format!("{other:?}")
    }
}
