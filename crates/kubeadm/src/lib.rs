//! Makes, joins and looks after clusters: keys and certificates, kubeconfigs,
//! the daemons' configuration and units, and development clusters in network
//! namespaces.
//!
//! Start reading in [`daemons`] for what runs, then in [`init`] and [`join`] for
//! hosts, [`dev`] for a cluster on one machine. What is decided (units, settings,
//! tokens, certificates) is computed as values; [`systemd`], [`preflight`] and
//! the phases do the rest.

pub mod addons;
pub mod certificate;
pub mod certs;
pub mod daemons;
pub mod dev;
pub mod discovery;
pub mod host;
pub mod init;
pub mod join;
pub mod kubeconfigs;
pub mod leftovers;
pub mod node;
pub mod pki;
pub mod preflight;
pub mod reset;
pub mod settings;
pub mod signing;
pub mod systemd;
pub mod token;
pub mod tokens;
pub mod units;
