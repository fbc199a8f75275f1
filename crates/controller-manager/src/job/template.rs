//! The pod that a job starts.

use api::types::batch::v1::Job;
use api::types::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use super::indexes::INDEX;
use super::{TRACKING, per_index};
use crate::{owners, pods};

/// The longest prefix of generated names.
const LONGEST_PREFIX: usize = 58;

/// A pod of the job; with an index for an indexed one. `replaced` is the failed pod of the index
/// that it follows on.
pub(super) fn pod(job: &Job, index: Option<i32>, replaced: Option<&Pod>) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let owner = owners::controller_reference(job);
    let mut pod = pods::from_template(&template, owners::namespace(job), owners::name(job), owner);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|one| one == TRACKING) {
        finalizers.push(TRACKING.to_owned());
    }
    let Some(index) = index else { return pod };
    let text = index.to_string();
    pod.metadata.generate_name = Some(name_prefix(owners::name(job), index));
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), text.clone());
    if per_index::limit(job).is_some() {
        annotations.extend(per_index::annotations(job, replaced));
    }
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), text);
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{}-{index}", owners::name(job)));
    spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()).for_each(tell_index);
    pod
}

/// The start of the names of an index's pods, in which the index is never cut off.
fn name_prefix(job: &str, index: i32) -> String {
    let end = format!("-{index}-");
    let cut = job.floor_char_boundary(LONGEST_PREFIX - end.len());
    format!("{}{end}", &job[..cut])
}

fn tell_index(container: &mut Container) {
    const NAME: &str = "JOB_COMPLETION_INDEX";
    let environment = container.env.get_or_insert_default();
    if environment.iter().any(|variable| variable.name == NAME) {
        return;
    }
    let field =
        ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), ..Default::default() };
    environment.push(EnvVar {
        name: NAME.to_owned(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
    });
}
