//! The API server, tested from outside: through REST and gRPC, in one binary.

mod admission;
mod aggregation;
mod api;
mod apply;
mod audit;
mod cel;
mod contract;
mod custom;
mod evictions;
mod flow_control;
mod front_proxy;
mod hostile;
mod identity;
mod impersonation;
mod mutating_policies;
mod optional_plugins;
mod others;
mod protobuf;
mod webhooks;
