//! The class of a pod becomes its priority (upstream's `Priority`): of the class
//! that it names, else of the one that is the default, else zero.

use std::sync::Arc;

use api::{Object, Status};
use futures::future::BoxFuture;
use serde_json::Value;

use super::{Operation, Plugin, Request};
use crate::cache::WatchCache;

const GROUP: &str = "scheduling.k8s.io";
const RESOURCE: &str = "priorityclasses";
const LOWER: &str = "PreemptLowerPriority";

pub(super) struct Priority {
    cache: Arc<WatchCache>,
}

/// What a class says of its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Class {
    name: String,
    value: i64,
    preemption: String,
}

impl Class {
    fn read(object: &Object) -> Self {
        Self {
            name: object.name().to_owned(),
            value: object.integer(&["value"]).unwrap_or_default(),
            preemption: object.text(&["preemptionPolicy"]).to_owned(),
        }
    }

    /// Of pods where no class is the default.
    fn none() -> Self {
        Self { name: String::new(), value: 0, preemption: LOWER.to_owned() }
    }
}

impl Priority {
    pub(super) const fn new(cache: Arc<WatchCache>) -> Self {
        Self { cache }
    }

    async fn named(&self, name: &str) -> Result<Option<Class>, Status> {
        let classes = self.cache.resource(GROUP, RESOURCE);
        let mut found = classes.get("", name);
        if found.is_none() {
            // It may have been made a moment ago.
            self.cache.refreshed().await.map_err(|error| crate::registry::store_failed(&error))?;
            found = classes.get("", name);
        }
        let read = |object: Object| Class::read(&object);
        found.map(|stored| stored.object().map(read).map_err(Status::internal)).transpose()
    }

    /// The default class; of several the lowest.
    fn default_class(&self) -> Option<Class> {
        let all = self.cache.resource(GROUP, RESOURCE).all();
        let objects = all.iter().filter_map(|stored| stored.object().ok());
        let defaults = objects.filter(is_default).map(|object| Class::read(&object));
        defaults.min_by_key(|class| class.value)
    }

    async fn admit(&self, request: &mut Request<'_>) -> Result<(), Status> {
        if !request.is("", "pods", "") {
            return Ok(());
        }
        let Some(pod) = &request.object else { return Ok(()) };
        match request.operation {
            Operation::Create => {
                let name = pod.text(&["spec", "priorityClassName"]).to_owned();
                let class = if name.is_empty() {
                    self.default_class().unwrap_or_else(Class::none)
                } else {
                    let missing =
                        || request.forbidden(&format!("no PriorityClass with name {name} was found"));
                    self.named(&name).await?.ok_or_else(missing)?
                };
                let Some(pod) = &mut request.object else { return Ok(()) };
                settle(pod, &class).map_err(|why| request.forbidden(&why))
            }
            Operation::Update => {
                if let (Some(pod), Some(old)) = (&mut request.object, &request.old) {
                    keep(pod, old);
                }
                Ok(())
            }
            Operation::Delete | Operation::Connect => Ok(()),
        }
    }

    /// There is one default at most.
    fn judge(&self, request: &Request<'_>) -> Result<(), Status> {
        if !request.is(GROUP, RESOURCE, "") {
            return Ok(());
        }
        let Some(new) = request.object.as_ref().filter(|object| is_default(object)) else { return Ok(()) };
        match self.default_class() {
            Some(other) if request.operation == Operation::Create || other.name != new.name() => {
                let why = format!(
                    "PriorityClass {} is already marked as default. Only one default can exist",
                    other.name
                );
                Err(request.forbidden(&why))
            }
            _ => Ok(()),
        }
    }
}

impl Plugin for Priority {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.admit(request))
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move { self.judge(request) })
    }
}

fn is_default(class: &Object) -> bool {
    class.get("globalDefault").and_then(Value::as_bool).unwrap_or_default()
}

/// Writes a class into a new pod, which may say the same but nothing else.
fn settle(pod: &mut Object, class: &Class) -> Result<(), String> {
    if let Some(asked) = pod.integer(&["spec", "priority"]).filter(|asked| *asked != class.value) {
        return Err(format!(
            "the integer value of priority ({asked}) must not be provided in pod spec; priority admission \
             controller computed {} from the given PriorityClass name",
            class.value
        ));
    }
    let asked = pod.text(&["spec", "preemptionPolicy"]);
    if !class.preemption.is_empty() && !asked.is_empty() && asked != class.preemption {
        return Err(format!(
            "the string value of PreemptionPolicy ({asked}) must not be provided in pod spec; priority \
             admission controller computed {} from the given PriorityClass name",
            class.preemption
        ));
    }
    if !class.name.is_empty() {
        pod.set_at(&["spec", "priorityClassName"], class.name.as_str());
    }
    pod.set_at(&["spec", "priority"], class.value);
    if !class.preemption.is_empty() {
        pod.set_at(&["spec", "preemptionPolicy"], class.preemption.as_str());
    }
    Ok(())
}

/// What was settled when the pod was made stays, also where an update leaves it out.
fn keep(pod: &mut Object, old: &Object) {
    for field in ["priority", "preemptionPolicy"] {
        if pod.at(&["spec", field]).is_none()
            && let Some(value) = old.at(&["spec", field])
        {
            pod.set_at(&["spec", field], value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class(name: &str, value: i64, preemption: &str) -> Class {
        Class { name: name.to_owned(), value, preemption: preemption.to_owned() }
    }

    #[test]
    fn a_class_becomes_a_priority() {
        let high = class("high", 1000, "Never");
        let cases = [
            (json!({}), class("", 0, LOWER), Ok(json!({"priority": 0, "preemptionPolicy": LOWER}))),
            (
                json!({"priority": 1000, "priorityClassName": "high"}),
                high.clone(),
                Ok(json!({"priority": 1000, "priorityClassName": "high", "preemptionPolicy": "Never"})),
            ),
            (json!({"priority": 7}), high.clone(), Err("the integer value of priority (7) must not")),
            (
                json!({"preemptionPolicy": LOWER}),
                high,
                Err("the string value of PreemptionPolicy (PreemptLowerPriority) must not"),
            ),
        ];
        for (spec, class, expected) in cases {
            let mut pod = Object::from_value(json!({"spec": spec})).expect("an object");
            match (settle(&mut pod, &class), expected) {
                (Ok(()), Ok(expected)) => assert_eq!(pod.get("spec"), Some(&expected)),
                (Err(why), Err(expected)) => assert!(why.starts_with(expected), "{why}"),
                (result, expected) => panic!("{result:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn an_update_may_leave_it_out() {
        let old = Object::from_value(json!({"spec": {"priority": 7, "preemptionPolicy": "Never"}}));
        let mut pod = Object::from_value(json!({"spec": {"priority": 8}})).expect("an object");
        keep(&mut pod, &old.expect("an object"));
        assert_eq!(pod.get("spec"), Some(&json!({"priority": 8, "preemptionPolicy": "Never"})));
    }
}
