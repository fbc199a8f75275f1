//! The catalogue and its rules, in one binary.

mod contract;
mod mutations;
mod protobuf;
mod rules;
