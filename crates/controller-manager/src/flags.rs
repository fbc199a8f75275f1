//! The flags, under upstream's names.

use std::path::PathBuf;

use clap::Parser;
use ipnet::IpNet;

/// Who gives services of type LoadBalancer their addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ServiceLoadBalancer {
    /// Somebody else, or nobody.
    #[default]
    None,
    /// The nodes: services have their addresses.
    Nodes,
}

/// Runs the controllers of a cluster.
#[derive(Clone, Debug, Parser)]
#[command(name = "kube-controller-manager", version)]
pub struct Flags {
    /// Flags of every daemon.
    #[command(flatten)]
    pub common: daemon::shell::CommonFlags,
    /// File with the server's address and our credentials.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Act only while holding the lease, so that several may run.
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Controllers to run: `*` for all, a name to add one, `-name` to leave one out.
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    pub controllers: Vec<String>,
    /// Ranges of pod addresses, one per family.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub cluster_cidr: Vec<IpNet>,
    /// Who gives services of type LoadBalancer their addresses.
    #[arg(long, value_enum, default_value_t)]
    pub service_load_balancer: ServiceLoadBalancer,
    /// The directory on nodes under which the local path provisioner makes volumes, unless a
    /// storage class names another by its parameter `path`.
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/corten/local-path")]
    pub local_path_root: String,
    /// The image of the pods that delete such volumes; it needs `rm`.
    #[arg(long, value_name = "IMAGE", default_value = "busybox:stable")]
    pub local_path_helper_image: String,
    /// Give each node a part of the cluster's ranges.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub allocate_node_cidrs: bool,
    /// Size of a node's part of an IPv4 range.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub node_cidr_mask_size: u8,
    /// Size of a node's part of an IPv6 range.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=128))]
    pub node_cidr_mask_size_ipv6: u8,
    /// Certificate to publish in each namespace.
    #[arg(long, value_name = "FILE")]
    pub root_ca_file: Option<PathBuf>,
    /// Certificate of the authority that signs approved requests, PEM.
    #[arg(long, value_name = "FILE", requires = "cluster_signing_key_file")]
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// Key of that authority, PEM.
    #[arg(long, value_name = "FILE", requires = "cluster_signing_cert_file")]
    pub cluster_signing_key_file: Option<PathBuf>,
    /// Longest life of a certificate that is signed.
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = seconds)]
    pub cluster_signing_duration: std::time::Duration,
    /// How long a token of a service account may be unused before it is taken back.
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = seconds)]
    pub legacy_service_account_token_clean_up_period: std::time::Duration,
    /// Seconds without a sign of life after which a node counts as unhealthy.
    #[arg(long, value_name = "DURATION", default_value = "40s", value_parser = seconds)]
    pub node_monitor_grace_period: std::time::Duration,
    /// Ended pods that are kept; 0 keeps all.
    #[arg(long, default_value_t = 12_500)]
    pub terminated_pod_gc_threshold: usize,
    /// How often the size of an autoscaler's target is looked at.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = seconds)]
    pub horizontal_pod_autoscaler_sync_period: std::time::Duration,
    /// How long the highest recommended size is kept before a target shrinks.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = seconds)]
    pub horizontal_pod_autoscaler_downscale_stabilization: std::time::Duration,
    /// How far the ratio of use to goal may be from one before a target is resized.
    #[arg(long, default_value_t = 0.1)]
    pub horizontal_pod_autoscaler_tolerance: f64,
    /// How long after its start a pod's CPU use may be left out.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = seconds)]
    pub horizontal_pod_autoscaler_cpu_initialization_period: std::time::Duration,
    /// How long after its start a pod that is not ready counts as never ready.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = seconds)]
    pub horizontal_pod_autoscaler_initial_readiness_delay: std::time::Duration,
    /// Autoscalers worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_horizontal_pod_autoscaler_syncs: usize,
    /// Deployments worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_deployment_syncs: usize,
    /// Replica sets worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_replicaset_syncs: usize,
    /// Replication controllers worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_rc_syncs: usize,
    /// Daemon sets worked on at a time.
    #[arg(long, default_value_t = 2)]
    pub concurrent_daemonset_syncs: usize,
    /// Stateful sets worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_statefulset_syncs: usize,
    /// Cron jobs worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_cron_job_syncs: usize,
    /// Jobs worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_job_syncs: usize,
    /// Endpoints objects worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_endpoint_syncs: usize,
    /// Services whose slices are worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_service_endpoint_syncs: usize,
    /// Endpoints that are mirrored at a time.
    #[arg(long, default_value_t = 5)]
    pub mirroring_concurrent_service_endpoint_syncs: usize,
    /// Addresses of one subset of endpoints that are mirrored at most.
    #[arg(long, default_value_t = 1000)]
    pub mirroring_max_endpoints_per_subset: usize,
    /// Namespaces worked on at a time.
    #[arg(long, default_value_t = 10)]
    pub concurrent_namespace_syncs: usize,
    /// Resource quotas worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_resource_quota_syncs: usize,
    /// Namespaces whose service accounts are worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_serviceaccount_syncs: usize,
    /// Pods whose ephemeral volumes are worked on at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_ephemeralvolume_syncs: usize,
    /// Pods, and resource claims, worked on at a time.
    #[arg(long, default_value_t = 50)]
    pub concurrent_resource_claim_syncs: usize,
    /// Objects that the garbage collector works on at a time.
    #[arg(long, default_value_t = 20)]
    pub concurrent_gc_syncs: usize,
    /// Finished objects whose time to live is watched at a time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_ttl_after_finished_syncs: usize,
}

fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|error| format!("{text:?} is no duration: {error}"))?;
    span.try_into().map_err(|_| format!("{text:?} is negative"))
}

impl Flags {
    /// Whether a controller is wanted: named ones before `*`.
    #[must_use]
    pub fn wants(&self, controller: &str) -> bool {
        let mut star = false;
        for one in &self.controllers {
            if one == controller {
                return true;
            }
            if one.strip_prefix('-') == Some(controller) {
                return false;
            }
            star |= one == "*";
        }
        star
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_chosen_as_upstream_chooses() {
        let wants = |list: &str, name| {
            let flags = Flags::try_parse_from(["x", "--kubeconfig=k", &format!("--controllers={list}")]);
            flags.expect("valid flags").wants(name)
        };
        assert!(wants("*", "job-controller"));
        assert!(!wants("*,-job-controller", "job-controller"));
        assert!(wants("job-controller", "job-controller"));
        assert!(!wants("job-controller", "deployment-controller"));
        let odd = Flags::try_parse_from(["x", "--kubeconfig=k", "--node-monitor-grace-period=soon"]);
        assert!(odd.is_err());
    }
}
