//! The in-memory server: objects, revisions, preconditions, graceful deletion.

use std::collections::BTreeMap;

use api::{Object, ObjectKey, Status};
use client::cached::Cached;
use client::{DeleteOptions, Patch, Target};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::action::{Action, Guard, Note};
use crate::wiring::ResourceName;

/// A change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The resource.
    pub resource: ResourceName,
    /// The object.
    pub key: ObjectKey,
    /// As it is; `None`: gone.
    pub object: Option<Value>,
    /// The revision of the change.
    pub revision: u64,
}

/// The server's state and its whole history.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// Every event that loops made.
    pub events: Vec<Note>,
    objects: BTreeMap<(ResourceName, ObjectKey), Object>,
    log: Vec<Change>,
    revision: u64,
    names: u64,
}

fn resource_of(target: &Target) -> ResourceName {
    (target.group.clone(), target.resource.clone())
}

fn name_of<K: Cached>() -> ResourceName {
    (K::GROUP.to_owned(), K::URL_PATH_SEGMENT.to_owned())
}

impl World {
    /// An empty world at a time.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        // Caches take revision 0 for "never listed".
        Self { now, revision: 1, ..Self::default() }
    }

    /// The newest revision.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) const fn log_length(&self) -> usize {
        self.log.len()
    }

    /// Every change so far.
    #[must_use]
    pub fn history(&self) -> &[Change] {
        &self.log
    }

    pub(crate) fn after(&self, resource: &ResourceName, position: usize) -> Option<(usize, &Change)> {
        let later = self.log.iter().enumerate().skip(position);
        later.into_iter().find(|(_, change)| change.resource == *resource)
    }

    pub(crate) fn objects(&self, resource: &ResourceName) -> Vec<Value> {
        let all = self.objects.iter().filter(|((name, _), _)| name == resource);
        all.map(|(_, object)| object.clone().into_value()).collect()
    }

    /// All objects of a kind.
    #[must_use]
    pub fn list<K: Cached>(&self) -> Vec<K> {
        let objects = self.objects(&name_of::<K>()).into_iter();
        objects
            .map(|object| serde_json::from_value(object).expect("the world holds objects of their kind"))
            .collect()
    }

    /// Puts an object there, as a user would create it.
    pub fn put<K: Cached + serde::Serialize>(&mut self, object: &K) {
        self.act(&Action::create(object)).expect("a new object");
    }

    /// Changes an object in place, as a kubelet or user would.
    pub fn edit<K: Cached>(&mut self, key: &ObjectKey, change: impl FnOnce(&mut Object)) {
        let place = (name_of::<K>(), key.clone());
        let Some(mut object) = self.objects.get(&place).cloned() else { return };
        let spec = object.get("spec").cloned();
        change(&mut object);
        self.store(place, object, spec.as_ref());
    }

    /// Takes an object away, as a kubelet or the garbage collector would.
    pub fn take<K: Cached>(&mut self, key: &ObjectKey) {
        self.forget(&(name_of::<K>(), key.clone()));
    }

    fn forget(&mut self, place: &(ResourceName, ObjectKey)) {
        if self.objects.remove(place).is_some() {
            self.revision += 1;
            let (resource, key) = place.clone();
            self.log.push(Change { resource, key, object: None, revision: self.revision });
        }
    }

    fn store(&mut self, place: (ResourceName, ObjectKey), mut object: Object, old_spec: Option<&Value>) {
        if object.get("spec") != old_spec {
            let generation = object.generation() + 1;
            object.set_at(&["metadata", "generation"], generation);
        }
        if object.is_terminating() && object.finalizers().next().is_none() && place.0.1 != "pods" {
            return self.forget(&place);
        }
        self.revision += 1;
        object.set_at(&["metadata", "resourceVersion"], self.revision.to_string());
        let (resource, key) = place.clone();
        let value = object.clone().into_value();
        self.log.push(Change { resource, key, object: Some(value), revision: self.revision });
        self.objects.insert(place, object);
    }

    /// Does what an action says.
    ///
    /// # Errors
    /// As the server: conflicts, objects that are there or are not.
    pub fn act(&mut self, action: &Action) -> Result<Option<(ResourceName, u64)>, Status> {
        match action {
            Action::Create { target, object, announce } => {
                let name = self.create(target, object)?;
                self.events.extend(announce.as_ref().and_then(|announce| announce.note(Ok(name))));
            }
            Action::Update { target, object } => {
                let new = Object::from_value(object.clone()).map_err(malformed)?;
                if !self.replace(target, |_| Ok(new))? {
                    return Ok(None);
                }
            }
            Action::Complete { target, object, by } => {
                let object = by.complete(object.clone()).map_err(Status::internal)?;
                let new = Object::from_value(object).map_err(malformed)?;
                if !self.replace(target, |_| Ok(new))? {
                    return Ok(None);
                }
            }
            Action::Patch { target, patch } => {
                let (Patch::Merge(patch)
                | Patch::Strategic(patch)
                | Patch::Json(patch)
                | Patch::Apply(patch)) = patch;
                let changed = self.replace(target, |old| {
                    let mut value = old.into_value();
                    api::patch::merge_patch(&mut value, patch.clone());
                    Object::from_value(value).map_err(malformed)
                })?;
                if !changed {
                    return Ok(None);
                }
            }
            Action::Delete { target, options, announce } => {
                self.delete(target, options)?;
                let name = target.name.clone();
                self.events.extend(announce.as_ref().and_then(|announce| announce.note(Ok(name))));
            }
            Action::DeleteCollection { target } => {
                let resource = resource_of(target);
                let all: Vec<ObjectKey> = self
                    .objects
                    .keys()
                    .filter(|(name, _)| *name == resource)
                    .map(|(_, key)| key.clone())
                    .filter(|key| key.namespace == target.namespace)
                    .collect();
                for key in all {
                    let one = Target { name: key.name, ..target.clone() };
                    self.delete(&one, &DeleteOptions::default())?;
                }
            }
            Action::Require(guard) => return self.require(guard).map(|()| None),
            Action::Event(note) => {
                self.events.push(note.clone());
                return Ok(None);
            }
        }
        Ok(action.target().map(|target| (resource_of(target), self.revision)))
    }

    fn require(&self, guard: &Guard) -> Result<(), Status> {
        let conflict = || Status::conflict("", "guard", "", "it does not hold");
        let holds = match guard {
            Guard::Absent { target, uid } => {
                let place = (resource_of(target), ObjectKey::new(&*target.namespace, &*target.name));
                self.objects.get(&place).is_none_or(|object| !uid.is_empty() && object.uid() != uid)
            }
            Guard::Empty(targets) => targets.iter().all(|target| {
                let resource = resource_of(target);
                !self.objects.keys().any(|(name, key)| *name == resource && key.namespace == target.namespace)
            }),
            Guard::NoneOf { target, search } => {
                let resource = resource_of(target);
                let is_there =
                    |key: &ObjectKey| target.namespace.is_empty() || key.namespace == target.namespace;
                !self
                    .objects
                    .iter()
                    .any(|((name, key), object)| *name == resource && is_there(key) && search.finds(object))
            }
            // Who may what is for the real server to say.
            Guard::Allowed { .. } => true,
        };
        if holds { Ok(()) } else { Err(conflict()) }
    }

    fn create(&mut self, target: &Target, object: &Value) -> Result<String, Status> {
        let mut object = Object::from_value(object.clone()).map_err(malformed)?;
        self.names += 1;
        if object.name().is_empty() {
            let name = format!("{}{:05x}", object.text(&["metadata", "generateName"]), self.names);
            object.set_at(&["metadata", "name"], name);
        }
        let key = ObjectKey::new(&*target.namespace, object.name());
        let place = (resource_of(target), key.clone());
        if self.objects.contains_key(&place) {
            return Err(Status::already_exists(&target.group, &target.resource, &key.name));
        }
        object.set_at(&["metadata", "uid"], format!("uid-{}", self.names));
        object.set_at(&["metadata", "creationTimestamp"], api::time::format(self.now));
        self.store(place, object, None);
        Ok(key.name)
    }

    /// Stores a change; whether there was one.
    fn replace(
        &mut self,
        target: &Target,
        change: impl FnOnce(Object) -> Result<Object, Status>,
    ) -> Result<bool, Status> {
        let place = (resource_of(target), ObjectKey::new(&*target.namespace, &*target.name));
        let Some(old) = self.objects.get(&place).cloned() else {
            return Err(Status::not_found(&target.group, &target.resource, &target.name));
        };
        let mut new = change(old.clone())?;
        let stale = |seen: &str, is: &str| !seen.is_empty() && seen != is;
        if stale(new.resource_version(), old.resource_version()) || stale(new.uid(), old.uid()) {
            return Err(Status::conflict(&target.group, &target.resource, &target.name, Status::MODIFIED));
        }
        let (mut kept, part) =
            if target.subresource == "status" { (old.clone(), &mut new) } else { (new, &mut old.clone()) };
        match part.remove("status") {
            Some(status) => kept.set("status", status),
            None => drop(kept.remove("status")),
        }
        if kept == old {
            return Ok(false);
        }
        self.store(place, kept, old.get("spec"));
        Ok(true)
    }

    fn delete(&mut self, target: &Target, options: &DeleteOptions) -> Result<(), Status> {
        let place = (resource_of(target), ObjectKey::new(&*target.namespace, &*target.name));
        let Some(mut object) = self.objects.get(&place).cloned() else { return Ok(()) };
        let wanted = options.preconditions.as_ref().and_then(|conditions| conditions.uid.as_deref());
        if wanted.is_some_and(|uid| uid != object.uid()) {
            return Err(Status::conflict(&target.group, &target.resource, &target.name, "another uid"));
        }
        let graceful = target.resource == "pods"
            && !object.text(&["spec", "nodeName"]).is_empty()
            && options.grace_period_seconds != Some(0);
        if !graceful && object.finalizers().next().is_none() {
            self.forget(&place);
        } else if !object.is_terminating() {
            object.set_at(&["metadata", "deletionTimestamp"], json!(api::time::format(self.now)));
            let spec = object.get("spec").cloned();
            self.store(place, object, spec.as_ref());
        }
        Ok(())
    }
}

fn malformed(error: api::object::NotAnObject) -> Status {
    Status::bad_request(error.to_string())
}
