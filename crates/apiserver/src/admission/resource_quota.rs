//! What a write uses of its namespace's quotas (upstream's `ResourceQuota`).
//!
//! This is the last word of admission: the registry asks for it after every
//! plugin, and stores the charge in the same transaction as the object, so that
//! nobody ever gets more than a quota has, and nothing is charged in vain.

use api::quota::{self, Amounts};
use api::{Object, Quantity};
use jiff::Timestamp;
use serde_json::Value;

use super::{Operation, Request};

/// Whether a write can use more than the object used before.
pub(crate) fn is_charged(request: &Request<'_>) -> bool {
    let kind = (request.kind.group.as_str(), request.kind.resource.as_str());
    if !request.kind.namespaced || kind.1 == "events" {
        return false;
    }
    matches!(
        (request.operation, request.subresource, kind),
        (Operation::Create, "", _)
            | (Operation::Update, "", ("", "services" | "persistentvolumeclaims" | "pods"))
            | (Operation::Update, "resize", ("", "pods"))
    )
}

/// A change of an object, as quotas see it.
struct Change<'a> {
    group: &'a str,
    resource: &'a str,
    new: &'a Object,
    old: Option<&'a Object>,
    now: Timestamp,
}

/// The quotas with a request charged to them: those of them that change.
///
/// # Errors
/// Why the request does not fit, as the client is told it.
pub(crate) fn charge(
    quotas: Vec<Object>,
    request: &Request<'_>,
    now: Timestamp,
) -> Result<Vec<Object>, String> {
    let Some(new) = &request.object else { return Ok(Vec::new()) };
    let change = Change {
        group: &request.kind.group,
        resource: &request.kind.resource,
        new,
        old: request.old.as_ref(),
        now,
    };
    change.charge(quotas)
}

impl Change<'_> {
    fn charge(&self, quotas: Vec<Object>) -> Result<Vec<Object>, String> {
        let covers = |quota: &Object, object| {
            let hard = field(quota, "status", "hard");
            quota::covers(quota.get("spec").unwrap_or(&Value::Null), hard, self.group, self.resource, object)
        };
        let mut covering: Vec<Object> = quotas.into_iter().filter(|quota| covers(quota, self.new)).collect();
        for quota in &covering {
            self.check_known(quota)?;
        }
        let used = quota::usage(self.group, self.resource, self.new, self.now);
        let negative: Vec<&str> =
            used.iter().filter(|(_, amount)| amount.is_negative()).map(|(name, _)| name.as_str()).collect();
        if !covering.is_empty() && !negative.is_empty() {
            return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
        }
        let before = self.old.map(|old| quota::usage(self.group, self.resource, old, self.now));
        let mut charged = Vec::new();
        for mut quota in covering.drain(..) {
            let more = match (&before, self.old) {
                (Some(before), Some(old)) if covers(&quota, old) => increase(&used, before),
                _ => used.clone(),
            };
            if let Some(total) = add(&quota, more)? {
                quota.set_at(&["status", "used"], quota::to_json(&total));
                charged.push(quota);
            }
        }
        Ok(charged)
    }

    /// Whether the object says what the quota needs to know, and what is used is known.
    fn check_known(&self, quota: &Object) -> Result<(), String> {
        let hard = field(quota, "status", "hard").as_object();
        let limited: Vec<&str> = hard
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .filter(|name| quota::is_used_by(self.group, self.resource, name))
            .collect();
        if (self.group, self.resource) == ("", "pods") {
            quota::require_explicit(self.new, &limited)
                .map_err(|why| format!("failed quota: {}: {why}", quota.name()))?;
        }
        let used = field(quota, "status", "used");
        if limited.iter().any(|name| used.get(name).is_none()) {
            return Err(format!(
                "status unknown for quota: {}, resources: {}",
                quota.name(),
                limited.join(",")
            ));
        }
        Ok(())
    }
}

fn field<'a>(quota: &'a Object, part: &str, name: &str) -> &'a Value {
    quota.at(&[part, name]).unwrap_or(&Value::Null)
}

/// What is used more than before.
fn increase(used: &Amounts, before: &Amounts) -> Amounts {
    let more = used.iter().map(|(name, amount)| {
        let before = before.get(name).copied().unwrap_or_default();
        (name.clone(), (*amount - before).max(Quantity::ZERO))
    });
    more.collect()
}

/// What a quota's use becomes; none if it is not touched.
fn add(quota: &Object, more: Amounts) -> Result<Option<Amounts>, String> {
    let hard = quota::amounts(field(quota, "status", "hard"));
    let mut total = quota::amounts(field(quota, "status", "used"));
    let requested: Amounts =
        more.into_iter().filter(|(name, amount)| hard.contains_key(name) && !amount.is_zero()).collect();
    if requested.is_empty() {
        return Ok(None);
    }
    let used = total.clone();
    quota::add(&mut total, &requested);
    let exceeded = |name: &String| total.get(name) > hard.get(name);
    let names: Vec<&String> = requested.keys().filter(|name| exceeded(name)).collect();
    if names.is_empty() {
        return Ok(Some(total));
    }
    let text = |amounts: &Amounts| {
        let of_names = amounts.iter().filter(|(name, _)| names.contains(name));
        quota::to_text(&of_names.map(|(name, amount)| (name.clone(), *amount)).collect())
    };
    Err(format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        quota.name(),
        text(&requested),
        text(&used),
        text(&hard)
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    fn pod(cpu: &str) -> Object {
        let resources = if cpu.is_empty() { json!({}) } else { json!({"requests": {"cpu": cpu}}) };
        object(json!({"spec": {"containers": [{"name": "c", "resources": resources}]}}))
    }

    fn charged(status: Value, resource: &str, new: &Object, old: Option<&Object>) -> Result<Value, String> {
        let quota = object(json!({"metadata": {"name": "q"}, "spec": {}, "status": status}));
        let now = "2026-11-25T00:00:00Z".parse().expect("a time");
        let quotas = Change { group: "", resource, new, old, now }.charge(vec![quota])?;
        Ok(quotas.first().map_or(Value::Null, |quota| field(quota, "status", "used").clone()))
    }

    #[test]
    fn a_pod_is_charged_or_refused() {
        let hard = json!({"pods": "3", "requests.cpu": "1", "secrets": "1"});
        let status =
            |pods: &str, cpu: &str| json!({"hard": hard, "used": {"pods": pods, "requests.cpu": cpu}});
        let cases = [
            (status("1", "200m"), "300m", Ok(json!({"pods": "2", "requests.cpu": "500m"}))),
            (status("2", "0"), "1", Ok(json!({"pods": "3", "requests.cpu": "1"}))),
            (
                status("3", "200m"),
                "900m",
                Err(
                    "exceeded quota: q, requested: pods=1,requests.cpu=900m, used: pods=3,requests.cpu=200m, \
                     limited: pods=3,requests.cpu=1",
                ),
            ),
            (
                status("3", "200m"),
                "100m",
                Err("exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3"),
            ),
            (status("0", "0"), "", Err("failed quota: q: must specify requests.cpu for: c")),
            (json!({"hard": hard}), "1", Err("status unknown for quota: q, resources: pods,requests.cpu")),
            (json!({}), "1", Ok(Value::Null)),
        ];
        for (status, cpu, expected) in cases {
            assert_eq!(charged(status, "pods", &pod(cpu), None), expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn an_update_is_charged_for_what_is_more() {
        let claim = |size: &str| object(json!({"spec": {"resources": {"requests": {"storage": size}}}}));
        let status = json!({"hard": {"requests.storage": "3Gi"}, "used": {"requests.storage": "2Gi"}});
        let change =
            |new: &str| charged(status.clone(), "persistentvolumeclaims", &claim(new), Some(&claim("1Gi")));
        assert_eq!(change("2Gi"), Ok(json!({"requests.storage": "3Gi"})));
        assert_eq!(change("1Gi"), Ok(Value::Null));
        assert_eq!(
            change("3Gi"),
            Err("exceeded quota: q, requested: requests.storage=2Gi, used: requests.storage=2Gi, limited: \
                 requests.storage=3Gi"
                .to_owned())
        );
    }
}
