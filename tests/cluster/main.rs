//! A whole cluster of two nodes with real containers, as an operator meets it:
//! brought up by `kubeadm dev`, used by our kubectl and, where there is one, by a
//! stock kubectl, and hurt while an application serves. Needs root.
//!
//! One story, since a cluster is what costs here. Start reading in
//! [`a_cluster_serves_through_every_fault`].

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test of the real thing runs on the machine's own clock, and says how far it is"
)]

mod cluster;
mod commands;
mod faults;
mod probe;

use cluster::Cluster;

#[test]
fn a_cluster_serves_through_every_fault() {
    let cluster = Cluster::start();
    commands::the_example_runs(&cluster);
    commands::the_example_answers(&cluster);
    commands::both_kubectls_work(&cluster);
    faults::each_daemon_is_killed_while_the_application_serves(&cluster);
    faults::the_api_server_is_killed_while_it_opens_its_store(&cluster);
    faults::pods_go_with_their_deployment(&cluster);
    cluster.end();
}
