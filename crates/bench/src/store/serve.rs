//! A store behind etcd's API in a process of its own, as the benchmark needs it.

use anyhow::Context as _;
use clap::Args;
use daemon::SystemClock;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::etcd::EtcdFace;
use store::{Config, Embedded, Store as _};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

/// Serves a store through etcd's API on a free loopback port until standard input is closed.
#[derive(Debug, Args)]
pub(crate) struct StoreServe {
    /// The data directory.
    #[arg(long)]
    data_dir: PathBuf,
}

impl StoreServe {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let store = open(&self.data_dir).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        println!("{}", listener.local_addr()?);
        let identity = {
            let store = store.clone();
            Arc::new(move || store.status())
        };
        let face = EtcdFace::new(store.clone(), identity);
        Server::builder()
            .tcp_nodelay(true)
            .add_service(face.kv())
            .add_service(face.maintenance())
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stdin_closed())
            .await?;
        store.close().await?;
        Ok(())
    }
}

/// Opens a store with default settings.
pub(super) async fn open(data_dir: &Path) -> anyhow::Result<Arc<Embedded>> {
    let store = Embedded::open(Config::new(data_dir), SystemClock::shared()).await?;
    Ok(Arc::new(store))
}

async fn stdin_closed() {
    let mut rest = Vec::new();
    // An error ends the server like the end of input does.
    let _ = tokio::io::stdin().read_to_end(&mut rest).await;
}
