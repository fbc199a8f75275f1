//! Pods on a real containerd of the test's own, in a network namespace of the
//! test's own, with the API server faked. Needs root and Debian's containerd,
//! runc, CNI plugins and busybox-static.

#![allow(
    clippy::too_many_lines,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a test of the real thing is one story from start to end, on the machine's own clock, and says how quick it was"
)]

mod fake;
mod http;
mod life;
mod machine;
mod registry;
mod registry_server;
mod robustness;
mod standalone;
mod static_pods;
mod streams;
