//! The account that a namespace lacks.

use api::metav1::ObjectMeta;
use api::types::core::v1::{Namespace, ServiceAccount};
use reconcile::{Action, Plan};

use crate::namespaces::is_active;

pub(super) fn plan(namespace: &Namespace, account: Option<&ServiceAccount>) -> Plan {
    if account.is_some() || !is_active(namespace) {
        return Plan::default();
    }
    let metadata = ObjectMeta {
        name: Some(super::DEFAULT.to_owned()),
        namespace: namespace.metadata.name.clone(),
        ..ObjectMeta::default()
    };
    Plan::of(vec![Action::create(&ServiceAccount { metadata, ..ServiceAccount::default() })])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_active_namespace_without_the_account_gets_it() {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("web".to_owned());
        let account = ServiceAccount::default();
        let plan_of = |namespace: &Namespace, account| plan(namespace, account).actions.len();
        assert_eq!(plan_of(&namespace, None), 1);
        assert_eq!(plan_of(&namespace, Some(&account)), 0);
        namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
        assert_eq!(plan_of(&namespace, None), 0);
    }
}
