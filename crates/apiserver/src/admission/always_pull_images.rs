//! Every image is pulled anew, so that a pod runs only what its own credentials
//! open (upstream's `AlwaysPullImages`; off unless it is asked for).

use std::collections::HashSet;

use api::{FieldError, Object, Path, Status};
use futures::future::BoxFuture;
use serde_json::Value;

use super::pods::{CONTAINERS, list};
use super::{Operation, Plugin, Request};

const ALWAYS: &str = "Always";

pub(super) struct AlwaysPullImages;

impl Plugin for AlwaysPullImages {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if brings_images(request)
                && let Some(pod) = &mut request.object
            {
                pull_always(pod);
            }
            Ok(())
        })
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let Some(pod) = request.object.as_ref().filter(|_| brings_images(request)) else { return Ok(()) };
            let errors = others(pod);
            if errors.is_empty() {
                return Ok(());
            }
            Err(request.forbidden(&api::field::aggregate(&errors)))
        })
    }
}

/// Whether the request makes a pod, or brings an image that the pod did not have.
fn brings_images(request: &Request<'_>) -> bool {
    if !request.is("", "pods", "") {
        return false;
    }
    match (request.operation, &request.object, &request.old) {
        (Operation::Create, ..) => true,
        (Operation::Update, Some(new), Some(old)) => {
            let before: HashSet<&str> = images(old).collect();
            images(new).any(|image| !before.contains(image))
        }
        _ => false,
    }
}

fn images(pod: &Object) -> impl Iterator<Item = &str> {
    let containers = CONTAINERS.iter().flat_map(|field| list(pod, field));
    containers.map(|container| container["image"].as_str().unwrap_or_default())
}

fn pull_always(pod: &mut Object) {
    for field in CONTAINERS {
        let mut containers = list(pod, field).to_vec();
        for container in &mut containers {
            container["imagePullPolicy"] = ALWAYS.into();
        }
        if !containers.is_empty() {
            pod.set_at(&["spec", field], containers);
        }
    }
    let mut volumes = list(pod, "volumes").to_vec();
    for volume in volumes.iter_mut().filter(|volume| volume["image"].is_object()) {
        volume["image"]["pullPolicy"] = ALWAYS.into();
    }
    if !volumes.is_empty() {
        pod.set_at(&["spec", "volumes"], volumes);
    }
}

/// Where something else is asked for.
fn others(pod: &Object) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let mut errors = Vec::new();
    let mut check = |policy: &Value, path: &Path<'_>| {
        if policy != ALWAYS {
            errors.push(FieldError::not_supported(path, policy.as_str().unwrap_or_default(), &[ALWAYS]));
        }
    };
    for field in CONTAINERS {
        let containers = spec.child(field);
        for (index, container) in list(pod, field).iter().enumerate() {
            check(&container["imagePullPolicy"], &containers.index(index).child("imagePullPolicy"));
        }
    }
    let volumes = spec.child("volumes");
    for (index, volume) in list(pod, "volumes").iter().enumerate() {
        if volume["image"].is_object() {
            let volume_path = volumes.index(index);
            check(&volume["image"]["pullPolicy"], &volume_path.child("image").child("pullPolicy"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_image_is_pulled() {
        let mut pod = Object::from_value(json!({"spec": {
            "containers": [{"name": "c", "imagePullPolicy": "Never"}],
            "initContainers": [{"name": "i"}],
            "volumes": [{"name": "v", "image": {"reference": "r"}}, {"name": "e", "emptyDir": {}}],
        }}))
        .expect("a pod");
        let told: Vec<String> = others(&pod).iter().map(ToString::to_string).collect();
        assert_eq!(
            told[0],
            "spec.initContainers[0].imagePullPolicy: Unsupported value: \"\": supported values: \"Always\""
        );
        assert_eq!(told.len(), 3, "{told:?}");
        pull_always(&mut pod);
        assert!(others(&pod).is_empty(), "{pod:?}");
        assert_eq!(pod.at(&["spec", "volumes"]).expect("volumes")[1], json!({"name": "e", "emptyDir": {}}));
    }
}
