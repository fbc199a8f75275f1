//! From the objects in the API to levels and an ordered list of schemas; and how
//! the server's seats move between levels.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Object;
use resources::flow_control::{CATCH_ALL, EXEMPT, mandatory_level, mandatory_schema};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::allocate::{Claim, allocate};
use super::level::{Level, Wants};
use super::metrics::{Metrics, SchemaMetrics};
use super::schema::{LevelSpec, SchemaSpec};
use super::{FlowControl, Nanos};

/// A schema in use.
pub(super) struct Schema {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) spec: SchemaSpec,
    pub(super) level: Arc<Level>,
    pub(super) level_uid: String,
    pub(super) metrics: SchemaMetrics,
}

/// Levels by name, those that are going included.
pub(super) type Levels = BTreeMap<String, Arc<Level>>;

fn spec<T: DeserializeOwned>(object: &Object) -> Option<T> {
    let spec = object.get("spec").cloned().unwrap_or(Value::Null);
    match serde_json::from_value(spec) {
        Ok(spec) => Some(spec),
        Err(error) => {
            tracing::warn!(name = object.name(), %error, "flow control ignores an object that it cannot read");
            None
        }
    }
}

/// The objects, and the mandatory ones of them that are missing.
fn with_mandatory(objects: &[Object], mandatory: fn(&str) -> Option<Value>) -> Vec<Object> {
    let mut all = objects.to_vec();
    for name in [EXEMPT, CATCH_ALL] {
        if !all.iter().any(|one| one.name() == name) {
            all.extend(mandatory(name).and_then(|object| Object::from_value(object).ok()));
        }
    }
    all
}

impl FlowControl {
    /// Takes a configuration over; what runs and waits stays.
    pub(super) fn digest(&self, schemas: &[Object], levels: &[Object]) {
        let now = self.now();
        let mut known = self.levels.lock();
        let mut uids = BTreeMap::new();
        let mut next = Levels::new();
        for object in with_mandatory(levels, mandatory_level) {
            let Some(spec) = spec::<LevelSpec>(&object) else { continue };
            let name = object.name().to_owned();
            let level = match known.get(&name) {
                Some(level) => {
                    level.set_spec(spec);
                    Arc::clone(level)
                }
                None => Arc::new(Level::new(&name, spec)),
            };
            uids.insert(name.clone(), object.uid().to_owned());
            next.insert(name, level);
        }
        // A level that is gone keeps its seats until its last request has ended.
        for (name, level) in known.iter() {
            if !next.contains_key(name) && !level.is_idle() {
                next.insert(name.clone(), Arc::clone(level));
            }
        }
        let shares: u64 = next.values().map(|level| level.shares()).sum();
        for level in next.values() {
            let limits = level.configure(now, self.server, shares);
            self.metrics.limits(&level.name, limits);
        }
        let mut found = Vec::new();
        for object in with_mandatory(schemas, mandatory_schema) {
            let Some(spec) = spec::<SchemaSpec>(&object) else { continue };
            let name = &spec.priority_level_configuration.name;
            let (Some(level), Some(level_uid)) = (next.get(name), uids.get(name)) else { continue };
            found.push(Arc::new(Schema {
                name: object.name().to_owned(),
                uid: object.uid().to_owned(),
                metrics: self.metrics.of_schema(name, object.name()),
                level: Arc::clone(level),
                level_uid: level_uid.clone(),
                spec,
            }));
        }
        found.sort_by(|one, other| {
            let order = |schema: &Schema| schema.spec.matching_precedence;
            order(one).cmp(&order(other)).then_with(|| one.name.cmp(&other.name))
        });
        self.schemas.store(Arc::new(found));
        *known = next;
    }

    /// Moves seats to the levels that want them.
    pub(super) fn adjust(&self) {
        let now = self.now();
        let levels = self.levels.lock();
        adjust(&levels, now, self.server, &self.metrics);
    }
}

fn adjust(levels: &Levels, now: Nanos, server: u64, metrics: &Metrics) {
    let wants: Vec<(&Arc<Level>, Wants)> = levels.values().map(|level| (level, level.look(now))).collect();
    let (seats, fair) = share(&wants.iter().map(|(_, wants)| wants).collect::<Vec<_>>(), server);
    metrics.fair(fair);
    for ((level, wants), seats) in wants.iter().zip(seats) {
        level.set_current(now, seats);
        metrics.adjusted(&level.name, wants.demand, target(wants), seats);
    }
}

/// The least that a level gets now: what it does not lend, and of what it lends
/// what it used lately.
fn least(wants: &Wants) -> u64 {
    let limits = wants.limits;
    if wants.is_exempt {
        limits.lower.max(wants.demand.peak)
    } else {
        limits.lower.max(limits.nominal.min(wants.demand.peak))
    }
}

fn target(wants: &Wants) -> f64 {
    (least(wants) as f64).max(wants.demand.smoothed)
}

/// The seats of each level, and the part of their targets that levels get.
fn share(wants: &[&Wants], server: u64) -> (Vec<u64>, f64) {
    let limited = || wants.iter().filter(|one| !one.is_exempt);
    let nominal: u64 = wants.iter().map(|one| one.limits.nominal).sum();
    let exempt: u64 = wants.iter().filter(|one| one.is_exempt).map(|one| least(one)).sum();
    let remaining = nominal.saturating_sub(exempt);
    let lowest: u64 = limited().map(|one| one.limits.lower).sum();
    let lower: u64 = limited().map(|one| least(one)).sum();
    let each = |of: &dyn Fn(&Wants) -> u64| -> Vec<u64> {
        wants.iter().map(|one| if one.is_exempt { least(one) } else { of(one) }).collect()
    };
    if remaining <= lowest {
        return (each(&|one| one.limits.lower), 0.0);
    }
    if remaining <= lower {
        // Lower is above lowest here.
        let part = (remaining - lowest) as f64 / (lower - lowest) as f64;
        let between = |one: &Wants| {
            let more = (least(one) - one.limits.lower) as f64 * part;
            one.limits.lower + more.round() as u64
        };
        return (each(&between), 0.0);
    }
    let claims: Vec<Claim> = limited()
        .map(|one| Claim {
            target: target(one),
            lower: least(one) as f64,
            upper: one.limits.upper.min(server.max(nominal)).max(least(one)) as f64,
        })
        .collect();
    let Some((shares, fair)) = allocate(remaining as f64, &claims) else {
        return (each(&|one| one.limits.nominal), 0.0);
    };
    let mut shares = shares.into_iter();
    let seats = wants
        .iter()
        .map(|one| if one.is_exempt { least(one) } else { shares.next().unwrap_or_default().round() as u64 });
    (seats.collect(), fair)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::demand::Smoothed;
    use crate::flow::schema::Limits;

    fn wants(nominal: u64, lower: u64, upper: u64, peak: u64) -> Wants {
        let demand = Smoothed { peak, smoothed: peak as f64, ..Smoothed::default() };
        Wants { is_exempt: false, limits: Limits { nominal, lower, upper, widest: 1 }, demand }
    }

    #[test]
    fn seats_go_to_who_wants_them() {
        let (idle, greedy) = (wants(100, 10, 300, 0), wants(100, 50, 300, 1000));
        let (seats, _) = share(&[&idle, &greedy], 200);
        assert_eq!(seats, [10, 190], "all that is lent");
        let bounded = wants(100, 50, 120, 1000);
        assert_eq!(share(&[&idle, &bounded], 200).0, [80, 120], "no more than may be borrowed");
        let back = wants(100, 10, 300, 100);
        assert_eq!(share(&[&back, &greedy], 200).0, [100, 100], "what is lent comes back when it is wanted");
        let exempt = Wants { is_exempt: true, ..wants(0, 0, 200, 30) };
        assert_eq!(share(&[&exempt, &idle, &greedy], 200).0, [30, 10, 160]);
        let flood = Wants { is_exempt: true, ..wants(0, 0, 200, 500) };
        assert_eq!(share(&[&flood, &idle, &greedy], 200).0, [500, 10, 50]);
    }
}
