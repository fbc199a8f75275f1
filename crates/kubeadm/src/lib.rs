//! Makes, joins and looks after clusters: keys and certificates, kubeconfigs,
//! the daemons' configuration and units, and development clusters in network
//! namespaces.
//!
//! Start reading in [`pki`], then [`dev`].

pub mod daemons;
pub mod dev;
pub mod kubeconfigs;
pub mod pki;
