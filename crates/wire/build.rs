//! Generates Rust from the contracts in `proto/`.

use std::path::Path;

const CONTRACTS: [&str; 6] = [
    "corten/objects/v1/objects.proto",
    "corten/node/v1/node.proto",
    "corten/raft/v1/raft.proto",
    "etcd/kv.proto",
    "etcd/rpc.proto",
    "kms/v2.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    tonic_prost_build::configure()
        .bytes(".")
        .build_transport(false)
        .compile_protos(&CONTRACTS.map(|contract| root.join(contract)), &[root.to_path_buf()])?;
    Ok(())
}
