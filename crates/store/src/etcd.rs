//! The outer face: etcd v3 gRPC services over a store.
