//! `corten-bench`: measurements that anyone can repeat, each beside its reference where there is
//! one. A subcommand is a module; this file only names them.

#![expect(clippy::print_stdout, reason = "its output is what a benchmark is for")]

mod api;
mod cluster;
mod process;
mod store;

use clap::{Parser, Subcommand};

/// The one of `kube-apiserver`, whose store is served and driven here.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Debug, Parser)]
#[command(name = "corten-bench", version, about = "Benchmarks of Corten")]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// The API server: creates, gets, lists, watch fan-out, start, idle.
    Api(api::ApiBenchmark),
    /// A whole cluster: start, idle cost of each daemon, pods.
    Cluster(cluster::ClusterBenchmark),
    /// Durable puts of the store, through gRPC and in process, beside etcd.
    Store(store::StoreBenchmark),
    /// Serves a store through etcd's API until standard input is closed (used by `store`).
    #[command(hide = true)]
    StoreServe(store::serve::StoreServe),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.benchmark {
            Benchmark::Api(benchmark) => benchmark.run().await,
            Benchmark::Cluster(benchmark) => benchmark.run().await,
            Benchmark::Store(benchmark) => benchmark.run().await,
            Benchmark::StoreServe(serve) => serve.run().await,
        }
    })
}
