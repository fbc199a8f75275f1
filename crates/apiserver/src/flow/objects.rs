//! The life of flow control: it follows its objects, makes those that every cluster
//! has, says in a schema's status whether its level exists, and moves seats.

use std::sync::Arc;
use std::time::Duration;

use api::{Object, Reason, Status};
use daemon::{Shutdown, tasks};
use resources::Part;
use resources::flow_control::{AUTOUPDATE, CATCH_ALL, EXEMPT, GROUP, levels, schemas};
use serde_json::{Value, json};

use super::FlowControl;
use crate::gate::Gate;
use crate::registry::{Address, Caller, CreateOptions, DeleteOptions, UpdateOptions};

const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";
/// How often seats move between levels.
const ADJUST: Duration = Duration::from_secs(10);
/// How often, in these, what every cluster has is looked after.
const ENSURE: u32 = 6;
const DANGLING: &str = "Dangling";

/// Makes the objects that are missing, takes the configuration over, and follows it.
///
/// # Errors
/// An object cannot be made.
pub async fn start(control: &Arc<FlowControl>, gate: &Arc<Gate>, shutdown: Shutdown) -> anyhow::Result<()> {
    let flow = Following { control: Arc::clone(control), gate: Arc::clone(gate) };
    flow.ensure().await.map_err(|status| anyhow::anyhow!("make the objects of flow control: {status}"))?;
    flow.digest().await;
    tasks::spawn("flow-control", async move { flow.run(shutdown).await });
    Ok(())
}

struct Following {
    control: Arc<FlowControl>,
    gate: Arc<Gate>,
}

impl Following {
    async fn run(self, shutdown: Shutdown) {
        let resource = |name: &str| self.gate.registry().cache().resource(GROUP, name);
        let (mut of_schemas, mut of_levels) = (resource(SCHEMAS).changed(), resource(LEVELS).changed());
        let mut beats = 0_u32;
        let mut timer = tokio::time::interval(ADJUST);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                changed = of_schemas.changed() => if changed.is_err() { return },
                changed = of_levels.changed() => if changed.is_err() { return },
                _ = timer.tick() => {
                    beats = beats.wrapping_add(1);
                    if beats.is_multiple_of(ENSURE)
                        && let Err(error) = self.ensure().await
                    {
                        tracing::warn!(%error, "cannot look after the objects of flow control");
                    }
                    self.control.adjust();
                }
            }
            self.digest().await;
        }
    }

    fn all(&self, resource: &str) -> Vec<Object> {
        let stored = self.gate.registry().cache().resource(GROUP, resource).all();
        stored.iter().filter_map(|one| one.object().ok()).collect()
    }

    fn address(&self, resource: &str, name: &str) -> Result<Address, Status> {
        let kind = self.gate.registry().kinds().find(GROUP, "v1", resource);
        let kind = kind.ok_or_else(Status::no_such_resource)?;
        Ok(Address { kind, namespace: String::new(), name: name.to_owned() })
    }

    async fn digest(&self) {
        let (schemas, levels) = (self.all(SCHEMAS), self.all(LEVELS));
        self.control.digest(&schemas, &levels);
        for schema in &schemas {
            let level = schema.text(&["spec", "priorityLevelConfiguration", "name"]);
            let is_found =
                matches!(level, EXEMPT | CATCH_ALL) || levels.iter().any(|one| one.name() == level);
            match self.tell(schema, level, is_found).await {
                Err(error) if error.reason != Reason::NotFound => {
                    tracing::warn!(name = schema.name(), %error, "cannot write a flow schema's status");
                }
                _ => {}
            }
        }
    }

    /// Says in a schema's status whether its level exists.
    async fn tell(&self, schema: &Object, level: &str, is_found: bool) -> Result<(), Status> {
        let condition = dangling(level, is_found);
        if is_told(schema, &condition) {
            return Ok(());
        }
        let now = api::time::format(self.gate.registry().clock().now());
        let transform = |current: &Object| {
            let mut new = current.clone();
            if !is_told(current, &condition) {
                let mut condition = condition.clone();
                condition["lastTransitionTime"] = now.as_str().into();
                let list = current.at(&["status", "conditions"]).and_then(Value::as_array);
                let mut list = list.cloned().unwrap_or_default();
                list.retain(|one| one["type"] != DANGLING);
                list.push(condition);
                new.set_at(&["status", "conditions"], list);
            }
            Ok((new, Vec::new()))
        };
        let caller = Caller::server_as("api-priority-and-fairness-config-consumer-v1");
        let address = self.address(SCHEMAS, schema.name())?;
        let options = UpdateOptions::default();
        self.gate.registry().change(&caller, &address, Part::Status, &options, &transform).await.map(drop)
    }

    /// Makes what every cluster has, brings it up to date, and takes away what no
    /// version has any more.
    async fn ensure(&self) -> Result<(), Status> {
        for (resource, wanted) in [(LEVELS, levels()), (SCHEMAS, schemas())] {
            for object in &wanted {
                self.ensure_one(resource, object).await?;
            }
            let is_wanted = |name: &str| wanted.iter().any(|one| one["metadata"]["name"] == name);
            for old in self.all(resource) {
                if old.annotation(AUTOUPDATE) == Some("true") && !is_wanted(old.name()) {
                    let address = self.address(resource, old.name())?;
                    let options = DeleteOptions::default();
                    match self.gate.registry().delete(&Caller::server_as(MANAGER), &address, &options).await {
                        Err(error) if error.reason != Reason::NotFound => return Err(error),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    async fn ensure_one(&self, resource: &str, wanted: &Value) -> Result<(), Status> {
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        let address = self.address(resource, name)?;
        let registry = self.gate.registry();
        let Some(current) = registry.cache().resource(GROUP, resource).get("", name) else {
            let object = Object::from_value(wanted.clone()).map_err(Status::internal)?;
            let (caller, options) = (Caller::server_as(MANAGER), CreateOptions::default());
            return match registry.create(&caller, address, object, &options, Vec::new()).await {
                Err(error) if error.reason != Reason::AlreadyExists => Err(error),
                _ => Ok(()),
            };
        };
        let current = current.object().map_err(Status::internal)?;
        if revised(&current, wanted) == current {
            return Ok(());
        }
        let transform = |current: &Object| Ok((revised(current, wanted), Vec::new()));
        let options = UpdateOptions::default();
        registry
            .change(&Caller::server_as(MANAGER), &address, Part::Main, &options, &transform)
            .await
            .map(drop)
    }
}

const MANAGER: &str = "api-priority-and-fairness-config-producer-v1";

/// An object as it should be: its spec is kept up to date unless its annotation,
/// or somebody's change, says that it is looked after by hand.
fn revised(current: &Object, wanted: &Value) -> Object {
    let mut new = current.clone();
    let is_mandatory = matches!(current.name(), EXEMPT | CATCH_ALL);
    let is_ours = match current.annotation(AUTOUPDATE) {
        _ if is_mandatory => true,
        Some(text) => text == "true",
        None => current.integer(&["metadata", "generation"]) == Some(1),
    };
    if is_mandatory || current.annotation(AUTOUPDATE).is_none() {
        new.set_at(&["metadata", "annotations", AUTOUPDATE], if is_ours { "true" } else { "false" });
    }
    if is_ours {
        let mut spec = wanted["spec"].clone();
        // The seats of exempt requests are for operators to choose.
        if let Some(exempt) = current.at(&["spec", "exempt"]).filter(|_| !spec["exempt"].is_null()) {
            spec["exempt"] = exempt.clone();
        }
        new.set("spec", spec);
    }
    new
}

fn dangling(level: &str, is_found: bool) -> Value {
    let (status, reason, rest) = if is_found {
        ("False", "Found", "and it exists")
    } else {
        ("True", "NotFound", "but there is no such object")
    };
    let message =
        format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {rest}");
    json!({"type": DANGLING, "status": status, "reason": reason, "message": message})
}

fn is_told(schema: &Object, condition: &Value) -> bool {
    let list = schema.at(&["status", "conditions"]).and_then(Value::as_array);
    let own = list.into_iter().flatten().find(|one| one["type"] == DANGLING);
    own.is_some_and(|own| ["status", "reason", "message"].iter().all(|field| own[field] == condition[field]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_after_an_object() {
        let wanted = levels().into_iter().find(|one| one["metadata"]["name"] == "system").expect("there");
        let with = |change: Value| {
            let mut object = wanted.clone();
            api::patch::merge_patch(
                &mut object,
                json!({"spec": {"limited": {"nominalConcurrencyShares": 1}}}),
            );
            api::patch::merge_patch(&mut object, change);
            Object::from_value(object).expect("an object")
        };
        let shares = |object: &Object| {
            revised(object, &wanted).integer(&["spec", "limited", "nominalConcurrencyShares"])
        };
        assert_eq!(shares(&with(json!({}))), Some(30));
        let annotated = |value: Value, generation: u32| {
            with(json!({"metadata": {"annotations": {AUTOUPDATE: value}, "generation": generation}}))
        };
        assert_eq!(shares(&annotated("false".into(), 1)), Some(1));
        assert_eq!(shares(&annotated(Value::Null, 1)), Some(30));
        assert_eq!(shares(&annotated(Value::Null, 2)), Some(1));
        assert_eq!(
            revised(&annotated(Value::Null, 2), &wanted).annotation(AUTOUPDATE),
            Some("false"),
            "who changed it keeps it"
        );
    }

    #[test]
    fn exempt_seats_are_the_operators() {
        let wanted = levels().into_iter().find(|one| one["metadata"]["name"] == EXEMPT).expect("there");
        let mut object = wanted.clone();
        object["spec"]["exempt"]["nominalConcurrencyShares"] = 10.into();
        let object = Object::from_value(object).expect("an object");
        assert_eq!(revised(&object, &wanted), object);
    }
}
