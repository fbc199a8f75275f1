use api::schema::Shape;

use super::*;

#[test]
fn every_go_type_resolves() {
    assert_eq!(schema::read().unresolved, Vec::<String>::new());
}

#[test]
fn every_row_of_the_resources_is_served() {
    let found = descriptors();
    for row in rows(RESOURCES) {
        let (group, version, path) = (group_name(row[0]), row[1], row[2]);
        let (resource, sub) =
            path.split_once('/').map_or((path, None), |(resource, sub)| (resource, Some(sub)));
        let one = found
            .iter()
            .find(|one| one.resource == resource && one.group == group && one.version == version)
            .unwrap_or_else(|| panic!("{group}/{version}/{path} is not served"));
        if let Some(sub) = sub {
            assert!(one.subresource(sub).is_some(), "{path} is not served");
        }
    }
}

#[test]
fn pod_and_deployment_have_the_shape_of_the_table() {
    let schema = schema();
    let field = |of: &str, name: &str| {
        let of = schema.get(schema.find(of).expect("struct"));
        of.fields.get(name).unwrap_or_else(|| panic!("{name} in {}", of.name)).clone()
    };
    let kind = field("core/v1.Pod", "kind");
    assert_eq!((kind.shape, kind.proto), (Shape::String, None));
    let spec = schema.find("core/v1.PodSpec").expect("spec");
    assert_eq!(field("core/v1.Pod", "spec").shape, Shape::Struct(spec));
    let containers = field("core/v1.PodSpec", "containers");
    assert!(containers.required && containers.patch.merge);
    assert_eq!(containers.patch.merge_key.as_deref(), Some("name"));
    assert_eq!(containers.list_type, api::schema::ListType::Map(vec!["name".into()]));
    // Inlined in JSON, nested in protobuf.
    let volume = schema.get(schema.find("core/v1.Volume").expect("volume"));
    assert!(volume.fields.contains_key("emptyDir"));
    assert_eq!(volume.nested_proto[0].number, 2);
    assert_eq!(schema.get(volume.nested_proto[0].of).name, "core/v1.VolumeSource");
    // An inlined struct that itself inlines.
    let probe = schema.get(schema.find("core/v1.Probe").expect("probe"));
    assert!(probe.fields.contains_key("httpGet") && probe.fields.contains_key("periodSeconds"));
    let limits = field("core/v1.ResourceRequirements", "limits");
    assert_eq!(limits.shape, Shape::Map(Box::new(Shape::Quantity)));
    let surge = field("apps/v1.RollingUpdateDeployment", "maxSurge");
    assert_eq!((surge.shape, surge.pointer), (Shape::IntOrString, true));
    let template = field("apps/v1.DeploymentSpec", "template");
    assert_eq!(template.shape, Shape::Struct(schema.find("core/v1.PodTemplateSpec").expect("template")));
    let protocol = field("core/v1.ContainerPort", "protocol");
    assert_eq!(protocol.default.as_deref(), Some("\"TCP\""));
    let time = field("meta/v1.ObjectMeta", "creationTimestamp");
    assert!(time.omit_zero && time.shape == Shape::Time);
}

#[test]
fn scales_carry_their_own_group() {
    let found = descriptors();
    let deployments = found.iter().find(|one| one.resource == "deployments").expect("deployments");
    let scale = deployments.subresource("scale").expect("scale");
    assert_eq!(scale.kind, "Scale");
    assert_eq!(scale.group_version, Some(("autoscaling".into(), "v1".into())));
    assert!(scale.scale.is_some());
    assert!(deployments.subresource("status").expect("status").scale.is_none());
}

#[test]
fn columns_keep_their_priority() {
    let found = descriptors();
    let pods = found.iter().find(|one| one.resource == "pods").expect("pods");
    let shown: Vec<&str> =
        pods.columns.iter().filter(|one| one.priority == 0).map(|one| one.name.as_str()).collect();
    assert_eq!(shown, ["Name", "Ready", "Status", "Restarts", "Age"]);
}
