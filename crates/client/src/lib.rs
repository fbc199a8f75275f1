//! gRPC client of the API server: verbs, watches, cached lists, leader election, events.
