//! The config map as it should be.

use std::collections::BTreeMap;

use api::metav1::ObjectMeta;
use api::types::core::v1::{ConfigMap, Namespace};
use reconcile::{Action, Plan};

use super::CONFIG_MAP;
use crate::namespaces::is_active;

const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
     internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes \
     clusters.",
);

pub(super) fn plan(namespace: &Namespace, published: Option<&ConfigMap>, certificate: &str) -> Plan {
    if !is_active(namespace) {
        return Plan::default();
    }
    let data: BTreeMap<String, String> = [("ca.crt".to_owned(), certificate.to_owned())].into();
    let (key, text) = DESCRIPTION;
    let described = |map: &ConfigMap| {
        map.metadata.annotations.as_ref().and_then(|all| all.get(key)).is_some_and(|now| now == text)
    };
    match published {
        None => {
            let metadata = ObjectMeta {
                name: Some(CONFIG_MAP.to_owned()),
                namespace: namespace.metadata.name.clone(),
                annotations: Some([(key.to_owned(), text.to_owned())].into()),
                ..ObjectMeta::default()
            };
            Plan::of(vec![Action::create(&ConfigMap { metadata, data: Some(data), ..ConfigMap::default() })])
        }
        Some(map) if map.data.as_ref() == Some(&data) && described(map) => Plan::default(),
        Some(map) => {
            let mut map = map.clone();
            map.data = Some(data);
            map.metadata.annotations.get_or_insert_default().insert(key.to_owned(), text.to_owned());
            Plan::of(vec![Action::update(&map)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_put_right_and_what_is_right_stays() {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("web".to_owned());
        let created = plan(&namespace, None, "PEM");
        let [Action::Create { object, .. }] = &created.actions[..] else { panic!("{created:?}") };
        let mut map: ConfigMap = serde_json::from_value(object.clone()).expect("a config map");
        assert_eq!(plan(&namespace, Some(&map), "PEM"), Plan::default());
        map.data = None;
        assert_eq!(plan(&namespace, Some(&map), "PEM").actions.len(), 1);
    }
}
