//! Jobs.

use std::collections::HashSet;

use api::{ErrorList, FieldError, Object, Path};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::cells;
use super::pod::{self, scheduling, spec};
use super::workload::selects;
use crate::fields::{Fields, default_text, default_to, object_at, object_in, objects_in, same};
use crate::report::Report;
use crate::{Part, Strategy, metadata, names};

/// The behaviour of jobs.
pub(super) struct Job;

const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];

/// Defaults of a job's spec, for jobs and for templates of jobs.
pub(super) fn default_spec(spec: &mut Map<String, Value>) {
    if !spec.has("completions") && !spec.has("parallelism") {
        spec.insert("completions".into(), 1.into());
    }
    default_to(spec, "parallelism", 1);
    let limit = if spec.has("backoffLimitPerIndex") { i32::MAX } else { 6 };
    default_to(spec, "backoffLimit", limit);
    default_to(spec, "completionMode", "NonIndexed");
    default_to(spec, "suspend", false);
    let replacement = if spec.has("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    default_to(spec, "podReplacementPolicy", replacement);
    default_to(spec, "manualSelector", false);
    if let Some(policy) = object_in(spec, "podFailurePolicy") {
        for rule in objects_in(policy, "rules") {
            for pattern in objects_in(rule, "onPodConditions") {
                default_text(pattern, "status", "True");
            }
        }
    }
    if let Some(template) = object_at(spec, "template") {
        pod::defaults::template(template);
    }
}

/// A job without labels has those of its pods.
fn take_labels(object: &mut Object) {
    let labels = object.at(&["spec", "template", "metadata", "labels"]).cloned();
    if let (Some(labels), true) = (labels, object.labels().is_none_or(Map::is_empty)) {
        object.set_at(&["metadata", "labels"], labels);
    }
}

impl Strategy for Job {
    fn default(&self, object: &mut Object) {
        if let Some(spec) = object_at(object.as_map_mut(), "spec") {
            default_spec(spec);
        }
        take_labels(object);
    }

    fn prepare_create(&self, object: &mut Object) {
        metadata::first_generation(object);
        object.set("status", json!({}));
        if object.field("spec").flag("manualSelector") {
            return;
        }
        let (name, uid) = (object.name().to_owned(), object.uid().to_owned());
        for (labels, value) in [(NAME_LABELS, &name), (UID_LABELS, &uid)] {
            for label in labels {
                let path = ["spec", "template", "metadata", "labels", label];
                if object.at(&path).is_none() {
                    object.set_at(&path, value.as_str());
                }
            }
        }
        let path = ["spec", "selector", "matchLabels", UID_LABELS[1]];
        if object.at(&path).is_none() {
            object.set_at(&path, uid);
        }
        // Upstream's default, which sees the generated labels when the job is read.
        take_labels(object);
    }

    fn prepare_update(&self, part: Part<'_>, new: &mut Object, old: &Object) {
        metadata::keep_other_parts(part, new, old);
        if part == Part::Main {
            metadata::raise_generation(new, old);
        }
    }

    fn validate(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let (spec, path) = (object.field("spec"), Path::new("spec"));
        generated_selector(object, &mut errors);
        validate_spec(spec, &path, &mut errors);
        let (selector, at) = (spec.field("selector"), path.child("selector"));
        if selector.is_null() {
            errors.required(&at, "");
        } else {
            scheduling::label_selector(selector, &at, &mut errors);
            let labels = spec.below(&["template", "metadata", "labels"]);
            if selects(selector, labels) == Some(false) {
                let template = path.child("template");
                let meta = template.child("metadata");
                let detail = "`selector` does not match template `labels`";
                errors.invalid(&meta.child("labels"), labels.clone(), detail);
            }
        }
        let completions = spec.int("completions").unwrap_or_default();
        if spec.text("completionMode") == "Indexed" && completions > 0 {
            let host = format!("{}-{}", object.name(), completions - 1);
            if !names::label(&host).is_empty() {
                let meta = Path::new("metadata");
                let detail = format!("will not able to create pod with invalid DNS label: {host}");
                errors.invalid(&meta.child("name"), object.name(), detail);
            }
        }
        errors
    }

    fn validate_update(&self, part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        match part {
            Part::Main => main_update(new, old),
            Part::Status => status_update(new, old),
            Part::Other(_) => ErrorList::new(),
        }
    }

    fn warnings(&self, new: &Object, _old: Option<&Object>) -> Vec<String> {
        pod::template_warnings(new.below(&["spec", "template", "spec"]), "spec.template.spec")
    }

    fn selectable_names(&self) -> Vec<&str> {
        vec!["status.successful"]
    }

    fn selectable(&self, object: &Object) -> Vec<(&'static str, String)> {
        let done = object.field("status").int("succeeded").unwrap_or_default();
        vec![("status.successful", done.to_string())]
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (object.field("spec"), object.field("status"));
        let done = status.int("succeeded").unwrap_or_default();
        let completions = match (spec.int("completions"), spec.int("parallelism")) {
            (Some(all), _) => format!("{done}/{all}"),
            (None, Some(parallel @ 2..)) => format!("{done}/1 of {parallel}"),
            (None, _) => format!("{done}/1"),
        };
        let started = api::time::parse(status.text("startTime"));
        let ended = api::time::parse(status.text("completionTime")).unwrap_or(now);
        let duration = started
            .map(|started| api::time::human_duration(ended.as_second() - started.as_second()))
            .unwrap_or_default();
        let (names, images) = cells::containers(spec.below(&["template", "spec"]).list("containers"));
        vec![
            object.name().into(),
            state(object).into(),
            completions.into(),
            duration.into(),
            metadata::age(object, now).into(),
            names.into(),
            images.into(),
            cells::selector(spec.field("selector")).into(),
        ]
    }
}

fn is_true(object: &Object, kind: &str) -> bool {
    let conditions = object.field("status").list("conditions");
    conditions.iter().any(|one| one.text("type") == kind && one.text("status") == "True")
}

fn state(job: &Object) -> &'static str {
    if is_true(job, "Complete") {
        return "Complete";
    }
    if is_true(job, "Failed") {
        return "Failed";
    }
    if job.is_terminating() {
        return "Terminating";
    }
    [
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ]
    .iter()
    .find(|(condition, _)| is_true(job, condition))
    .map_or("Running", |(_, shown)| shown)
}

/// A selector that the server made is left as it made it.
fn generated_selector(job: &Object, errors: &mut ErrorList) {
    let spec = job.field("spec");
    if spec.flag("manualSelector") || !spec.has("selector") {
        return;
    }
    if job.uid().is_empty() {
        errors.required(&Path::new("metadata").child("uid"), "");
    }
    let root = Path::new("spec");
    let template = root.child("template");
    let meta = template.child("metadata");
    let labels = spec.below(&["template", "metadata", "labels"]);
    for (names, wanted) in [(UID_LABELS, job.uid()), (NAME_LABELS, job.name())] {
        for name in names {
            let path = meta.child("labels");
            match labels.field(name).as_str() {
                None => errors.required(&path.key(name), &format!("must be '{wanted}'")),
                Some(found) if found != wanted => {
                    errors.invalid(&path.key(name), labels.clone(), format!("must be '{wanted}'"));
                }
                Some(_) => {}
            }
        }
    }
    let mut expected = Map::new();
    for (names, wanted) in [(UID_LABELS, job.uid()), (NAME_LABELS, job.name())] {
        expected.extend(names.map(|name| (name.to_owned(), wanted.into())));
    }
    if selects(spec.field("selector"), &Value::Object(expected)) == Some(false) {
        let detail = "`selector` not auto-generated";
        errors.invalid(&root.child("selector"), spec.field("selector").clone(), detail);
    }
}

/// Rules for the spec, for jobs and for templates of jobs.
pub(super) fn validate_spec(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        errors.not_negative(spec, field, path);
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        errors.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    indexes(spec, path, errors);
    failure_policy(spec, &path.child("podFailurePolicy"), errors);
    if spec.has("podReplacementPolicy") {
        let allowed: &[&str] =
            if spec.has("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        errors.one_of(&path.child("podReplacementPolicy"), spec.text("podReplacementPolicy"), allowed);
    }
    let template = path.child("template");
    spec::validate_template(spec.field("template"), &template, errors);
    let template_spec = template.child("spec");
    let at = template_spec.child("restartPolicy");
    match spec.below(&["template", "spec"]).text("restartPolicy") {
        "" | "Always" => errors.required(&at, "valid values: \"OnFailure\", \"Never\""),
        policy @ ("OnFailure" | "Never") => {
            if spec.has("podFailurePolicy") && policy != "Never" {
                let detail = "only \"Never\" is supported when podFailurePolicy is specified";
                errors.invalid(&at, policy, detail);
            }
        }
        other => errors.one_of(&at, other, &["OnFailure", "Never"]),
    }
}

/// Rules for cron jobs: those of the jobs they make, and a schedule.
pub(super) fn cron_job(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (of, path) = (object.field("spec"), Path::new("spec"));
    if of.text("schedule").is_empty() {
        errors.required(&path.child("schedule"), "");
    }
    errors.one_of(
        &path.child("concurrencyPolicy"),
        of.text("concurrencyPolicy"),
        &["Allow", "Forbid", "Replace"],
    );
    for field in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        errors.not_negative(of, field, &path);
    }
    let template = path.child("jobTemplate");
    validate_spec(of.below(&["jobTemplate", "spec"]), &template.child("spec"), &mut errors);
    if object.name().len() > 52 {
        let (meta, detail) = (Path::new("metadata"), "must be no more than 52 characters");
        errors.invalid(&meta.child("name"), object.name(), detail);
    }
    errors
}

fn indexes(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let number = |name: &str| spec.int(name).unwrap_or_default();
    let mode = spec.text("completionMode");
    if spec.has("completionMode") {
        errors.one_of(&path.child("completionMode"), mode, &["NonIndexed", "Indexed"]);
    }
    if mode != "Indexed" {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if spec.has(field) {
                errors.invalid(&path.child(field), number(field), "requires indexed completion mode");
            }
        }
        if spec.has("successPolicy") {
            let policy = spec.field("successPolicy").clone();
            errors.invalid(&path.child("successPolicy"), policy, "requires indexed completion mode");
        }
        return;
    }
    if !spec.has("completions") {
        errors.required(&path.child("completions"), "when completion mode is Indexed");
    }
    if number("parallelism") > 100_000 {
        let detail = "must be less than or equal to 100000 when completion mode is Indexed";
        errors.invalid(&path.child("parallelism"), number("parallelism"), detail);
    }
    if spec.has("completions") && number("maxFailedIndexes") > number("completions") {
        let detail = "must be less than or equal to completions";
        errors.invalid(&path.child("maxFailedIndexes"), number("maxFailedIndexes"), detail);
    }
    if number("maxFailedIndexes") > 100_000 {
        let detail = "must be less than or equal to 100000";
        errors.invalid(&path.child("maxFailedIndexes"), number("maxFailedIndexes"), detail);
    }
    let policy = spec.field("successPolicy");
    if !policy.is_null() && policy.list("rules").is_empty() {
        let policy = path.child("successPolicy");
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.required(&policy.child("rules"), detail);
    }
}

fn failure_policy(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let rules = spec.field("podFailurePolicy").list("rules");
    let path = path.child("rules");
    if rules.len() > 20 {
        errors.add(FieldError::too_many(&path, rules.len(), 20));
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = path.index(index);
        match rule.text("action") {
            "" => {
                let detail = "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]";
                errors.required(&at.child("action"), detail);
            }
            "FailIndex" if !spec.has("backoffLimitPerIndex") => {
                let detail = "requires the backoffLimitPerIndex to be set";
                errors.invalid(&at.child("action"), "FailIndex", detail);
            }
            action => {
                errors.one_of(&at.child("action"), action, &["Count", "FailIndex", "FailJob", "Ignore"])
            }
        }
        let (codes, conditions) = (rule.field("onExitCodes"), rule.list("onPodConditions"));
        if !codes.is_null() {
            exit_codes(codes, &at.child("onExitCodes"), errors);
        }
        for (index, pattern) in conditions.iter().enumerate() {
            let list = at.child("onPodConditions");
            let at = list.index(index);
            let kind = pattern.text("type");
            errors.invalid_all(&at.child("type"), kind, names::qualified(kind));
            errors.one_of(&at.child("status"), pattern.text("status"), &["False", "True", "Unknown"]);
        }
        let both = match (codes.is_null(), conditions.is_empty()) {
            (false, false) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (true, true) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        let mut error = FieldError::invalid(&at, Value::Null, both);
        error.value = None;
        errors.add(error);
    }
}

fn exit_codes(codes: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    errors.one_of(&path.child("operator"), codes.text("operator"), &["In", "NotIn"]);
    let (values, at) = (codes.list("values"), path.child("values"));
    if values.is_empty() {
        errors.invalid(&at, codes.field("values").clone(), "at least one value is required");
    } else if values.len() > 255 {
        errors.add(FieldError::too_many(&at, values.len(), 255));
    }
    let numbers: Vec<i64> = values.iter().filter_map(Value::as_i64).collect();
    let mut seen = HashSet::new();
    for (index, number) in numbers.iter().enumerate() {
        if *number == 0 && codes.text("operator") == "In" {
            errors.invalid(&at.index(index), 0, "must not be 0 for the In operator");
        }
        if !seen.insert(number) {
            errors.duplicate(&at.index(index), *number);
        }
    }
    if !numbers.is_sorted() {
        errors.invalid(&at, codes.field("values").clone(), "must be ordered");
    }
}

fn main_update(new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (after, before, path) = (new.field("spec"), old.field("spec"), Path::new("spec"));
    let (field, at) = ("completions", path.child("completions"));
    if after.text("completionMode") != "Indexed" {
        metadata::immutable(after.field(field), before.field(field), &at, &mut errors);
    } else if after.int(field) != before.int(field) && after.int(field) != after.int("parallelism") {
        // An indexed job may grow and shrink, its pods with it.
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.invalid(&at, after.field(field).clone(), detail);
    }
    let field = "selector";
    metadata::immutable(after.field(field), before.field(field), &path.child(field), &mut errors);
    template_update(after, before, old, &path, &mut errors);
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        metadata::immutable(after.field(field), before.field(field), &path.child(field), &mut errors);
    }
    errors
}

/// The template is fixed, but for scheduling directives of a job that has not
/// started.
fn template_update(after: &Value, before: &Value, old: &Object, path: &Path<'_>, errors: &mut ErrorList) {
    let mut rest = after.field("template").clone();
    let unstarted = before.flag("suspend") && !old.field("status").has("startTime");
    if unstarted {
        let was = before.field("template");
        for (part, fields) in [
            ("metadata", &["annotations", "labels"][..]),
            ("spec", &["nodeSelector", "affinity", "tolerations", "schedulingGates"][..]),
        ] {
            let Some(map) = rest.get_mut(part).and_then(Value::as_object_mut) else { continue };
            for field in fields {
                match was.field(part).get(*field) {
                    Some(value) => map.insert((*field).to_owned(), value.clone()),
                    None => map.remove(*field),
                };
            }
        }
    }
    if !same(&rest, before.field("template")) {
        errors.invalid(&path.child("template"), after.field("template").clone(), metadata::IMMUTABLE);
    }
}

fn status_update(new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (status, path) = (new.field("status"), Path::new("status"));
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        errors.not_negative(status, field, &path);
    }
    let conditions = |detail: &str| {
        let mut error = FieldError::invalid(&path.child("conditions"), Value::Null, detail);
        error.value = None;
        error
    };
    if is_true(new, "Complete") && is_true(new, "Failed") {
        errors.add(conditions("cannot set Complete=True and Failed=true conditions"));
    }
    if is_true(new, "Complete") && is_true(new, "FailureTarget") {
        errors.add(conditions("cannot set Complete=True and FailureTarget=true conditions"));
    }
    for (kind, detail) in [
        ("Complete", "cannot disable the terminal Complete=True condition"),
        ("Failed", "cannot disable the terminal Failed=True condition"),
        ("SuccessCriteriaMet", "cannot disable the SuccessCriteriaMet=True condition"),
    ] {
        if is_true(old, kind) && !is_true(new, kind) {
            errors.add(conditions(detail));
        }
    }
    if status.has("completionTime") && !is_true(new, "Complete") {
        let detail = "cannot set completionTime when there is no Complete=True condition";
        errors.invalid(&path.child("completionTime"), status.text("completionTime"), detail);
    }
    errors
}
