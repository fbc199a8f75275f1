//! Test support: builders, a fake clock, a control plane in one process.
