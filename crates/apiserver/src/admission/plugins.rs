//! The plugins by upstream's names, in upstream's order, and which of them run.

use std::collections::HashSet;
use std::sync::Arc;

use api::Status;
use futures::future::BoxFuture;

use super::always_pull_images::AlwaysPullImages;
use super::anti_affinity::LimitPodHardAntiAffinityTopology;
use super::certificates::{
    CertificateApproval, CertificateSigning, CertificateSubjectRestriction, Requester,
};
use super::claim_resize::PersistentVolumeClaimResize;
use super::configuration::Configuration;
use super::declared_features::NodeDeclaredFeatureValidator;
use super::default_classes::DefaultClass;
use super::default_tolerations::DefaultTolerationSeconds;
use super::deny_external_ips::DenyServiceExternalIps;
use super::event_rate_limit::EventRateLimit;
use super::extended_tolerations::ExtendedResourceToleration;
use super::image_policy::ImagePolicyWebhook;
use super::limit_ranger::LimitRanger;
use super::namespace_exists::NamespaceExists;
use super::namespace_lifecycle::NamespaceLifecycle;
use super::node_restriction::NodeRestriction;
use super::owner_references::OwnerReferences;
use super::pod_node_selector::PodNodeSelector;
use super::pod_resize::PodResizeValidator;
use super::pod_security::PodSecurity;
use super::pod_tolerations::PodTolerationRestriction;
use super::pod_topology_labels::PodTopologyLabels;
use super::policy::{MutatingPolicies, ValidatingPolicies};
use super::priority::Priority;
use super::runtime_class::RuntimeClass;
use super::service_account::ServiceAccount;
use super::storage_protection::StorageObjectInUseProtection;
use super::taint_nodes::TaintNodesByCondition;
use super::webhook::Webhooks;
use super::{Plugin, Request};
use crate::authz::Authorizer;
use crate::cache::WatchCache;
use crate::connect::Outward;
use crate::conversion::Converter;
use crate::registry::Kinds;

/// What plugins are made of.
pub struct Parts {
    /// What they read.
    pub cache: Arc<WatchCache>,
    /// The kinds.
    pub kinds: Arc<Kinds>,
    /// Who may do what.
    pub authorizer: Arc<Authorizer>,
    /// The way to webhooks.
    pub outward: Arc<Outward>,
    /// The way between versions.
    pub converter: Arc<Converter>,
    /// What the administrator tells single plugins.
    pub configuration: Configuration,
}

impl Parts {
    pub(super) fn cache(&self) -> Arc<WatchCache> {
        Arc::clone(&self.cache)
    }

    fn authorizer(&self) -> Arc<Authorizer> {
        Arc::clone(&self.authorizer)
    }

    fn webhooks(&self) -> Webhooks {
        Webhooks::new(self)
    }
}

/// What is behind a name.
#[derive(Clone, Copy)]
enum Behind {
    Plugin(fn(&Parts) -> Box<dyn Plugin>),
    /// The registry does it, in the transaction of the write.
    Registry,
    /// Does nothing upstream either, or not unless features are on that are off by default.
    Gated,
    /// Not part of this server: it can be turned off, not on.
    Nothing,
}

use Behind::{Gated, Nothing, Registry};

const QUOTA: &str = "ResourceQuota";
const IMAGE_POLICY: &str = "ImagePolicyWebhook";

/// Name, whether it runs unless it is turned off, and what it is.
const ALL: [(&str, bool, Behind); 40] = [
    ("AlwaysAdmit", false, Gated),
    ("NamespaceAutoProvision", false, Nothing),
    ("NamespaceLifecycle", true, Behind::Plugin(|parts| Box::new(NamespaceLifecycle::new(parts.cache())))),
    ("NamespaceExists", false, Behind::Plugin(|parts| Box::new(NamespaceExists::new(parts.cache())))),
    (
        "LimitPodHardAntiAffinityTopology",
        false,
        Behind::Plugin(|_| Box::new(LimitPodHardAntiAffinityTopology)),
    ),
    ("LimitRanger", true, Behind::Plugin(|parts| Box::new(LimitRanger::new(parts.cache())))),
    ("ServiceAccount", true, Behind::Plugin(|parts| Box::new(ServiceAccount::new(parts.cache())))),
    // Upstream leaves it to the installer to turn it on beside the Node
    // authorizer; here that authorizer is always on.
    (
        "NodeRestriction",
        true,
        Behind::Plugin(|parts| Box::new(NodeRestriction::new(parts.cache(), parts.authorizer()))),
    ),
    ("TaintNodesByCondition", true, Behind::Plugin(|_| Box::new(TaintNodesByCondition))),
    ("AlwaysPullImages", false, Behind::Plugin(|_| Box::new(AlwaysPullImages))),
    (
        IMAGE_POLICY,
        false,
        Behind::Plugin(|parts| Box::new(ImagePolicyWebhook::new(parts.configuration.image_policy.clone()))),
    ),
    ("PodSecurity", true, Behind::Plugin(|parts| Box::new(PodSecurity::new(parts)))),
    ("PodNodeSelector", false, Behind::Plugin(|parts| Box::new(PodNodeSelector::new(parts)))),
    ("Priority", true, Behind::Plugin(|parts| Box::new(Priority::new(parts.cache())))),
    ("DefaultTolerationSeconds", true, Behind::Plugin(|_| Box::new(DefaultTolerationSeconds))),
    (
        "PodTolerationRestriction",
        false,
        Behind::Plugin(|parts| Box::new(PodTolerationRestriction::new(parts))),
    ),
    ("EventRateLimit", false, Behind::Plugin(|parts| Box::new(EventRateLimit::new(parts)))),
    ("ExtendedResourceToleration", false, Behind::Plugin(|_| Box::new(ExtendedResourceToleration))),
    ("DefaultStorageClass", true, Behind::Plugin(|parts| Box::new(DefaultClass::of_storage(parts.cache())))),
    ("StorageObjectInUseProtection", true, Behind::Plugin(|_| Box::new(StorageObjectInUseProtection))),
    ("PodGroupProtection", true, Gated),
    (
        "OwnerReferencesPermissionEnforcement",
        false,
        Behind::Plugin(|parts| Box::new(OwnerReferences::new(parts.authorizer(), Arc::clone(&parts.kinds)))),
    ),
    (
        "PersistentVolumeClaimResize",
        true,
        Behind::Plugin(|parts| Box::new(PersistentVolumeClaimResize::new(parts.cache()))),
    ),
    ("RuntimeClass", true, Behind::Plugin(|parts| Box::new(RuntimeClass::new(parts.cache())))),
    (
        "CertificateApproval",
        true,
        Behind::Plugin(|parts| Box::new(CertificateApproval::new(parts.authorizer()))),
    ),
    (
        "CertificateSigning",
        true,
        Behind::Plugin(|parts| Box::new(CertificateSigning::new(parts.authorizer()))),
    ),
    ("ClusterTrustBundleAttest", true, Gated),
    ("CertificateSubjectRestriction", true, Behind::Plugin(|_| Box::new(CertificateSubjectRestriction))),
    ("DefaultIngressClass", true, Behind::Plugin(|parts| Box::new(DefaultClass::of_ingress(parts.cache())))),
    ("DenyServiceExternalIPs", false, Behind::Plugin(|_| Box::new(DenyServiceExternalIps))),
    ("PodTopologyLabels", true, Behind::Plugin(|parts| Box::new(PodTopologyLabels::new(parts.cache())))),
    ("PodGroupWorkloadExists", true, Gated),
    (
        "NodeDeclaredFeatureValidator",
        true,
        Behind::Plugin(|parts| Box::new(NodeDeclaredFeatureValidator::new(parts.cache()))),
    ),
    ("JobValidation", true, Gated),
    ("PodResizeValidator", true, Behind::Plugin(|parts| Box::new(PodResizeValidator::new(parts.cache())))),
    // These see what the others made of the object.
    ("MutatingAdmissionPolicy", true, Behind::Plugin(|parts| Box::new(MutatingPolicies::new(parts)))),
    ("MutatingAdmissionWebhook", true, Behind::Plugin(|parts| Box::new(Changing(parts.webhooks())))),
    ("ValidatingAdmissionPolicy", true, Behind::Plugin(|parts| Box::new(ValidatingPolicies::new(parts)))),
    ("ValidatingAdmissionWebhook", true, Behind::Plugin(|parts| Box::new(Judging(parts.webhooks())))),
    (QUOTA, true, Registry),
];

/// A choice of plugins that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// A name that upstream does not have.
    #[error("--{flag}: there is no admission plugin {name:?}")]
    Unknown {
        /// The flag.
        flag: &'static str,
        /// The name.
        name: String,
    },
    /// A name that only upstream has.
    #[error("--enable-admission-plugins: the admission plugin {0:?} is not part of this server")]
    Absent(String),
    /// A plugin that works only with a configuration.
    #[error("the admission plugin {0:?} needs its part of --admission-control-config-file")]
    Untold(&'static str),
    /// Turned on and off.
    #[error("the admission plugin {0:?} is both enabled and disabled")]
    Both(String),
}

/// The plugins that run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice(HashSet<&'static str>);

impl Choice {
    /// What runs by itself, with some more and without some.
    ///
    /// # Errors
    /// Names that are none, or that cannot be turned on.
    pub fn new(enabled: &[String], disabled: &[String]) -> Result<Self, ChoiceError> {
        let lists = [("enable-admission-plugins", enabled), ("disable-admission-plugins", disabled)];
        for (flag, names) in lists {
            if let Some(name) = names.iter().find(|name| find(name).is_none()) {
                return Err(ChoiceError::Unknown { flag, name: name.clone() });
            }
        }
        if let Some(name) = enabled.iter().find(|name| disabled.contains(name)) {
            return Err(ChoiceError::Both(name.clone()));
        }
        if let Some(name) = enabled.iter().find(|name| matches!(find(name), Some(Nothing))) {
            return Err(ChoiceError::Absent(name.clone()));
        }
        let is_in = |list: &[String], name: &str| list.iter().any(|one| one == name);
        let runs = ALL
            .iter()
            .filter(|(name, by_itself, _)| (*by_itself || is_in(enabled, name)) && !is_in(disabled, name));
        Ok(Self(runs.map(|(name, _, _)| *name).collect()))
    }

    /// Whether every chosen plugin knows what it has to.
    ///
    /// # Errors
    /// The plugin that lacks its configuration.
    pub fn suits(&self, configuration: &Configuration) -> Result<(), ChoiceError> {
        let is_untold = self.0.contains(IMAGE_POLICY) && configuration.image_policy.is_none();
        if is_untold { Err(ChoiceError::Untold(IMAGE_POLICY)) } else { Ok(()) }
    }

    /// Whether writes are charged to quotas.
    pub(super) fn charges(&self) -> bool {
        self.0.contains(QUOTA)
    }

    /// The plugins, in their order.
    pub(super) fn make(&self, parts: &Parts) -> Vec<Box<dyn Plugin>> {
        let chosen = ALL.iter().filter(|(name, _, _)| self.0.contains(name));
        let made = chosen.filter_map(|(_, _, behind)| match behind {
            Behind::Plugin(make) => Some(make(parts)),
            Registry | Gated | Nothing => None,
        });
        let requester: Box<dyn Plugin> = Box::new(Requester);
        std::iter::once(requester).chain(made).collect()
    }
}

fn find(name: &str) -> Option<Behind> {
    ALL.iter().find(|(known, _, _)| *known == name).map(|(_, _, behind)| *behind)
}

/// The webhooks that change.
struct Changing(Webhooks);

/// The webhooks that judge.
struct Judging(Webhooks);

impl Plugin for Changing {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        self.0.mutate(request)
    }

    fn is_last_word(&self) -> bool {
        self.0.is_last_word()
    }
}

impl Plugin for Judging {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        self.0.validate(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_chosen() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let runs = |enabled: &[&str], disabled: &[&str], name: &str| {
            Choice::new(&names(enabled), &names(disabled)).map(|choice| choice.0.contains(name))
        };
        assert_eq!(runs(&[], &[], "NodeRestriction"), Ok(true));
        assert_eq!(runs(&["NodeRestriction"], &[], "NodeRestriction"), Ok(true));
        assert_eq!(runs(&[], &["PodSecurity"], "PodSecurity"), Ok(false));
        assert_eq!(runs(&[], &[], "ExtendedResourceToleration"), Ok(false));
        let extended = "ExtendedResourceToleration";
        assert_eq!(runs(&[extended], &[], extended), Ok(true));
        assert_eq!(runs(&[], &["AlwaysPullImages"], "AlwaysPullImages"), Ok(false));
        let told = |enabled: &[&str], disabled: &[&str]| {
            Choice::new(&names(enabled), &names(disabled)).expect_err("an error").to_string()
        };
        assert_eq!(
            told(&["Wrong"], &[]),
            "--enable-admission-plugins: there is no admission plugin \"Wrong\""
        );
        assert_eq!(
            told(&[], &["Wrong"]),
            "--disable-admission-plugins: there is no admission plugin \"Wrong\""
        );
        assert_eq!(
            told(&["Priority"], &["Priority"]),
            "the admission plugin \"Priority\" is both enabled and disabled"
        );
        assert_eq!(
            told(&["NamespaceAutoProvision"], &[]),
            "--enable-admission-plugins: the admission plugin \"NamespaceAutoProvision\" is not part of this server"
        );
        let judged = Choice::new(&names(&[IMAGE_POLICY]), &[]).expect("a choice");
        assert_eq!(judged.suits(&Configuration::default()), Err(ChoiceError::Untold(IMAGE_POLICY)));
        assert!(!Choice::new(&[], &names(&[QUOTA])).expect("a choice").charges());
    }
}
