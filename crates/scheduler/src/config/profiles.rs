//! Profiles from what is configured: defaults, changed by `multiPoint`, changed
//! by the sets of single points, as upstream expands them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde_json::{Value, json};

use super::DEFAULT_SCHEDULER;
use super::file::{self, Configuration, PluginEntry, PluginSet};
use crate::plugins::Roles;
use crate::plugins::table::{self, Entry, Made};
use crate::profile::Profile;

const ALL: &str = "*";
/// The plugin that is told which resources to ignore.
const FIT: &str = "NodeResourcesFit";

/// A plugin and how much its score counts.
#[derive(Clone, Debug)]
struct Chosen {
    name: String,
    weight: Option<i64>,
}

/// The profiles of a configuration; without any, the default one.
///
/// # Errors
/// What cannot be done, where it stands, and what to write instead.
pub fn profiles(configuration: &Configuration) -> anyhow::Result<Vec<Profile>> {
    let given = &configuration.profiles;
    let single = [file::Profile::default()];
    let given = if given.is_empty() { &single[..] } else { given };
    let mut names = BTreeSet::new();
    let mut profiles = Vec::new();
    for (place, profile) in given.iter().enumerate() {
        let name = match profile.scheduler_name.as_deref() {
            Some(name) if !name.is_empty() => name,
            None if given.len() == 1 => DEFAULT_SCHEDULER,
            _ => bail!("profiles[{place}]: schedulerName is missing"),
        };
        ensure!(names.insert(name), "profiles[{place}]: {name} is there twice");
        let percentage = profile.percentage_of_nodes_to_score.or(configuration.percentage_of_nodes_to_score);
        let ignored = ignored(configuration);
        let made = make(name, profile, percentage, &ignored).with_context(|| format!("profiles[{place}]"))?;
        profiles.push(made);
    }
    Ok(profiles)
}

/// Resources that only extenders count.
fn ignored(configuration: &Configuration) -> Vec<Value> {
    let managed = configuration.extenders.iter().flat_map(|extender| &extender.managed_resources);
    managed.filter(|one| one.ignored_by_scheduler).map(|one| one.name.clone().into()).collect()
}

fn make(
    name: &str,
    given: &file::Profile,
    percentage: Option<i64>,
    ignored: &[Value],
) -> anyhow::Result<Profile> {
    let table = table::all();
    let sets = &given.plugins;
    check_names(&table, given)?;
    let mut arguments = arguments(given)?;
    if !ignored.is_empty() {
        let fit = arguments.entry(FIT).or_insert_with(|| json!({}));
        let list = fit["ignoredResources"].as_array().cloned().unwrap_or_default();
        fit["ignoredResources"] = list.into_iter().chain(ignored.iter().cloned()).collect();
    }
    let multi_point = merged(&table, &sets.multi_point);
    let mut plugins: BTreeMap<String, Made> = BTreeMap::new();
    for entry in &table {
        let args = arguments.get(entry.name).cloned();
        let made = entry.make(args).map_err(|error| anyhow!(error));
        plugins.insert(entry.name.to_owned(), made.with_context(|| format!("args of {}", entry.name))?);
    }
    let mut profile = Profile::empty(name);
    profile.percentage = match percentage.unwrap_or(0) {
        percentage @ 0..=100 => usize::try_from(percentage)?,
        other => bail!("percentageOfNodesToScore: {other} is not in 0 to 100"),
    };
    let at = |point: &str, set: &PluginSet, has: fn(&Roles) -> bool| {
        expanded(&multi_point, set, |name| has(&plugins[name].roles))
            .with_context(|| format!("plugins.{point}"))
    };
    let filters = at("filter", &sets.filter, |roles| roles.filter.is_some())?;
    for chosen in &filters {
        profile.filter_by(&plugins[&chosen.name]);
    }
    let scores = at("score", &sets.score, |roles| roles.score.is_some())?;
    for chosen in &scores {
        profile.score_by(&plugins[&chosen.name], weight(chosen)?);
    }
    let evicting = at("postFilter", &sets.post_filter, |roles| roles.preemption.is_some())?;
    profile.preemption = evicting.first().and_then(|chosen| plugins[&chosen.name].roles.preemption);
    profile.keeps_gates = !at("preEnqueue", &sets.pre_enqueue, |roles| roles.keeps_gates)?.is_empty();
    if at("queueSort", &sets.queue_sort, |roles| roles.sorts)?.is_empty() {
        bail!("plugins.queueSort: something must sort the queue: enable PrioritySort");
    }
    if at("bind", &sets.bind, |roles| roles.binds)?.is_empty() {
        bail!("plugins.bind: something must bind pods: enable DefaultBinder");
    }
    agree("preFilter", &sets.pre_filter, "filter", &filters)?;
    agree("reserve", &sets.reserve, "filter", &filters)?;
    agree("preBind", &sets.pre_bind, "filter", &filters)?;
    agree("preScore", &sets.pre_score, "score", &scores)?;
    Ok(profile)
}

/// The arguments by plugin.
fn arguments(given: &file::Profile) -> anyhow::Result<BTreeMap<&str, Value>> {
    let mut arguments = BTreeMap::new();
    for config in &given.plugin_config {
        let mut args = config.args.clone();
        if let Some(fields) = args.as_object_mut() {
            fields.remove("apiVersion");
            let kind = fields.remove("kind");
            let kind = kind.as_ref().and_then(Value::as_str);
            let expected = format!("{}Args", config.name);
            if let Some(kind) = kind.filter(|kind| *kind != expected) {
                bail!(
                    "pluginConfig: args of {} are no {kind}: write {expected}, or leave it out",
                    config.name
                );
            }
        } else if args.is_null() {
            args = Value::Object(serde_json::Map::new());
        }
        ensure!(
            arguments.insert(config.name.as_str(), args).is_none(),
            "pluginConfig: {} is there twice",
            config.name
        );
    }
    Ok(arguments)
}

/// Every name that is given must be that of a plugin.
fn check_names(table: &[Entry], given: &file::Profile) -> anyhow::Result<()> {
    let sets = &given.plugins;
    let points = [
        ("multiPoint", &sets.multi_point),
        ("preEnqueue", &sets.pre_enqueue),
        ("queueSort", &sets.queue_sort),
        ("preFilter", &sets.pre_filter),
        ("filter", &sets.filter),
        ("postFilter", &sets.post_filter),
        ("preScore", &sets.pre_score),
        ("score", &sets.score),
        ("reserve", &sets.reserve),
        ("permit", &sets.permit),
        ("preBind", &sets.pre_bind),
        ("bind", &sets.bind),
        ("postBind", &sets.post_bind),
        ("placementGenerate", &sets.placement_generate),
        ("placementScore", &sets.placement_score),
    ];
    let is_known = |name: &str| table.iter().any(|entry| entry.name == name);
    let known = || table.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
    for (point, set) in points {
        if let Some(entry) = set.enabled.iter().find(|entry| !is_known(&entry.name)) {
            bail!("plugins.{point}: there is no plugin {:?}: there are {}", entry.name, known());
        }
        let mut off = set.disabled.iter();
        if let Some(entry) = off.find(|entry| entry.name != ALL && !is_known(&entry.name)) {
            bail!("plugins.{point}: there is no plugin {:?} to disable: there are {}", entry.name, known());
        }
    }
    match given.plugin_config.iter().find(|config| !is_known(&config.name)) {
        Some(config) => bail!("pluginConfig: there is no plugin {:?}: there are {}", config.name, known()),
        None => Ok(()),
    }
}

/// The default plugins, changed by a set: what is configured anew keeps its
/// place, what is new comes last.
fn merged(table: &[Entry], set: &PluginSet) -> Vec<Chosen> {
    let is_off = |name: &str| set.disabled.iter().any(|off| off.name == name || off.name == ALL);
    let find = |name: &str| set.enabled.iter().find(|entry| entry.name == name);
    let kept: Vec<&Entry> = table.iter().filter(|entry| !is_off(entry.name)).collect();
    let mut chosen: Vec<Chosen> = kept
        .iter()
        .map(|entry| match find(entry.name) {
            Some(own) => Chosen::from(own),
            None => Chosen { name: entry.name.to_owned(), weight: Some(entry.weight) },
        })
        .collect();
    let new = set.enabled.iter().filter(|own| kept.iter().all(|entry| entry.name != own.name));
    chosen.extend(new.map(Chosen::from));
    chosen
}

/// The plugins at a point: those that the point's own set configures anew, the
/// others of `multiPoint` that can do it, and what else the set enables.
fn expanded(
    multi_point: &[Chosen],
    set: &PluginSet,
    can: impl Fn(&str) -> bool,
) -> anyhow::Result<Vec<Chosen>> {
    let is_off = |name: &str| set.disabled.iter().any(|off| off.name == name || off.name == ALL);
    let mut seen = BTreeSet::new();
    for entry in &set.enabled {
        ensure!(can(&entry.name), "{} does nothing here: remove it", entry.name);
        ensure!(seen.insert(&entry.name), "{} is enabled twice", entry.name);
    }
    let mut from_all: Vec<&Chosen> = Vec::new();
    for chosen in multi_point.iter().filter(|chosen| can(&chosen.name) && !is_off(&chosen.name)) {
        let is_double = from_all.iter().any(|other| other.name == chosen.name);
        ensure!(!is_double, "{} is enabled twice at multiPoint", chosen.name);
        from_all.push(chosen);
    }
    let is_among = |name: &str| from_all.iter().any(|chosen| chosen.name == name);
    let (anew, more): (Vec<&PluginEntry>, Vec<&PluginEntry>) =
        set.enabled.iter().partition(|entry| is_among(&entry.name));
    let mut plugins: Vec<Chosen> = anew.iter().map(|entry| Chosen::from(*entry)).collect();
    plugins.extend(from_all.into_iter().filter(|chosen| !seen.contains(&chosen.name)).cloned());
    plugins.extend(more.into_iter().map(Chosen::from));
    Ok(plugins)
}

/// Some points of upstream's are one with another here: what is said about them
/// must say the same.
fn agree(point: &str, set: &PluginSet, main: &str, chosen: &[Chosen]) -> anyhow::Result<()> {
    let is_on = |name: &str| chosen.iter().any(|chosen| chosen.name == name);
    for entry in &set.disabled {
        let still_on = if entry.name == ALL { !chosen.is_empty() } else { is_on(&entry.name) };
        ensure!(!still_on, "plugins.{point}: disable {} at {main} too: they are one", entry.name);
    }
    match set.enabled.iter().find(|entry| !is_on(&entry.name)) {
        Some(entry) => bail!("plugins.{point}: enable {} at {main} too: they are one", entry.name),
        None => Ok(()),
    }
}

fn weight(chosen: &Chosen) -> anyhow::Result<i64> {
    match chosen.weight.unwrap_or(0) {
        0 => Ok(1),
        weight if weight > 0 && weight <= i64::from(i32::MAX) => Ok(weight),
        weight => bail!("plugins.score: {} has the weight {weight}: write a positive one", chosen.name),
    }
}

impl From<&PluginEntry> for Chosen {
    fn from(entry: &PluginEntry) -> Self {
        Self { name: entry.name.clone(), weight: entry.weight }
    }
}
