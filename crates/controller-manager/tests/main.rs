//! The controllers against a real API server, in one binary.

mod certificates;
mod controls;
mod leads;
mod workloads;
