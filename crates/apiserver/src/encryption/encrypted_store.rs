//! A store in which values are encrypted.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use store::{
    Event, KeyValue, LeaseId, LeaseStatus, Operation, OperationResult, RangeRequest, RangeResponse, Reply,
    Store, StoreError, Txn, TxnResponse, WatchBatch, WatchRequest, WatchStream,
};

use super::Encryption;

/// The store below, seen through an encryption.
pub(crate) struct EncryptedStore {
    inner: Arc<dyn Store>,
    encryption: Arc<Encryption>,
}

impl EncryptedStore {
    pub(crate) fn new(inner: Arc<dyn Store>, encryption: Arc<Encryption>) -> Self {
        Self { inner, encryption }
    }

    fn seal(&self, operations: &mut [Operation]) -> Result<(), StoreError> {
        for operation in operations {
            if let Operation::Put { key, value, .. } = operation {
                *value = self.encryption.seal(key, std::mem::take(value))?;
            }
        }
        Ok(())
    }
}

/// Nothing is there in a deletion, or where only keys were asked for.
async fn open(encryption: &Encryption, kv: &mut KeyValue) -> Result<(), StoreError> {
    if !kv.value.is_empty() {
        kv.value = encryption.open(&kv.key, std::mem::take(&mut kv.value)).await?;
    }
    Ok(())
}

async fn open_all(encryption: &Encryption, kvs: &mut [KeyValue]) -> Result<(), StoreError> {
    for kv in kvs {
        open(encryption, kv).await?;
    }
    Ok(())
}

async fn open_batch(encryption: &Encryption, batch: &mut WatchBatch) -> Result<(), StoreError> {
    for Event { kv, previous, .. } in &mut batch.events {
        open(encryption, kv).await?;
        if let Some(previous) = previous {
            open(encryption, previous).await?;
        }
    }
    Ok(())
}

impl Store for EncryptedStore {
    fn range(&self, request: RangeRequest) -> Reply<'_, RangeResponse> {
        Box::pin(async move {
            let mut found = self.inner.range(request).await?;
            open_all(&self.encryption, &mut found.kvs).await?;
            Ok(found)
        })
    }

    fn txn(&self, mut txn: Txn) -> Reply<'_, TxnResponse> {
        Box::pin(async move {
            self.seal(&mut txn.success)?;
            self.seal(&mut txn.failure)?;
            let mut done = self.inner.txn(txn).await?;
            for result in &mut done.results {
                match result {
                    OperationResult::Put => {}
                    OperationResult::Delete { deleted } => open_all(&self.encryption, deleted).await?,
                    OperationResult::Range(found) => open_all(&self.encryption, &mut found.kvs).await?,
                }
            }
            Ok(done)
        })
    }

    fn watch(&self, request: WatchRequest) -> Reply<'_, WatchStream> {
        Box::pin(async move {
            let stream = self.inner.watch(request).await?;
            let encryption = Arc::clone(&self.encryption);
            let opened = stream.then(move |batch| {
                let encryption = Arc::clone(&encryption);
                async move {
                    let mut batch = batch?;
                    open_batch(&encryption, &mut batch).await?;
                    Ok(batch)
                }
            });
            Ok(WatchStream::new(opened.boxed()))
        })
    }

    fn read_revision(&self) -> Reply<'_, u64> {
        self.inner.read_revision()
    }

    fn compact(&self, revision: u64) -> Reply<'_, ()> {
        self.inner.compact(revision)
    }

    fn compacted_revision(&self) -> u64 {
        self.inner.compacted_revision()
    }

    fn lease_grant(&self, ttl: Duration) -> Reply<'_, LeaseStatus> {
        self.inner.lease_grant(ttl)
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> Reply<'_, LeaseStatus> {
        self.inner.lease_keep_alive(lease)
    }

    fn lease_revoke(&self, lease: LeaseId) -> Reply<'_, ()> {
        self.inner.lease_revoke(lease)
    }

    fn lease_time_to_live(&self, lease: LeaseId) -> Reply<'_, LeaseStatus> {
        self.inner.lease_time_to_live(lease)
    }

    fn close(&self) -> Reply<'_, ()> {
        self.inner.close()
    }
}
