//! One blob from a registry as a stream of bytes that goes on after a broken
//! connection where it stopped.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use oci_client::client::BlobResponse;
use oci_client::errors::OciDistributionError;
use oci_client::{Client, Reference};

use super::store::Blob;

/// How often a download is taken up again before it counts as failed.
const RESUMPTIONS: u32 = 5;
/// The pause before the first of them; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The bytes of an open connection.
type Part = BoxStream<'static, Result<Bytes, std::io::Error>>;

/// A blob on its way.
struct Download {
    client: Client,
    source: Reference,
    digest: String,
    size: u64,
    /// Bytes that were passed on.
    offset: u64,
    /// The open connection.
    part: Option<Part>,
    resumptions: u32,
}

/// Opens a blob; what goes wrong on the way is tried again, and only what does
/// not heal ends the stream with an error. The caller checks the digest.
///
/// # Errors
/// When the registry does not give the blob at all.
pub(super) async fn blob(
    client: &Client,
    source: &Reference,
    blob: &Blob,
) -> Result<impl Stream<Item = Result<Bytes, String>> + Unpin + Send + use<>, OciDistributionError> {
    let mut download = Download {
        client: client.clone(),
        source: source.clone(),
        digest: blob.digest.clone(),
        size: blob.size,
        offset: 0,
        part: None,
        resumptions: 0,
    };
    while let Err(error) = download.open().await {
        if !download.may_resume(&error) {
            return Err(error);
        }
        download.pause().await;
    }
    let stream = futures::stream::try_unfold(download, |mut download| async move {
        Ok(download.next().await?.map(|bytes| (bytes, download)))
    });
    Ok(Box::pin(stream))
}

impl Download {
    /// Connects at the offset.
    async fn open(&mut self) -> Result<(), OciDistributionError> {
        let digest = self.digest.as_str();
        self.part = Some(if self.offset == 0 {
            self.client.pull_blob_stream(&self.source, digest).await?.stream
        } else {
            match self.client.pull_blob_stream_partial(&self.source, digest, self.offset, None).await? {
                BlobResponse::Partial(part) => part.stream,
                // A server that knows no ranges begins anew.
                BlobResponse::Full(whole) => skip(whole.stream, self.offset),
            }
        });
        Ok(())
    }

    /// Whether another try may help: not if the registry said no.
    fn may_resume(&self, error: &OciDistributionError) -> bool {
        let is_passing = matches!(
            error,
            OciDistributionError::RequestError(_) | OciDistributionError::IoError(_)
        ) || matches!(error, OciDistributionError::ServerError { code, .. } if *code >= 500 || *code == 429);
        is_passing && self.resumptions < RESUMPTIONS
    }

    async fn pause(&mut self) {
        let pause = FIRST_PAUSE * 2_u32.pow(self.resumptions);
        self.resumptions += 1;
        tokio::time::sleep(pause).await;
    }

    /// The next bytes; nothing at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            let broken = match &mut self.part {
                None => match self.open().await {
                    Ok(()) => continue,
                    Err(error) if !self.may_resume(&error) => return Err(error.to_string()),
                    Err(error) => error.to_string(),
                },
                Some(part) => match part.next().await {
                    Some(Ok(bytes)) if bytes.is_empty() => continue,
                    Some(Ok(bytes)) => {
                        self.offset += bytes.len() as u64;
                        return Ok(Some(bytes));
                    }
                    // All bytes are there and still they are wrong.
                    Some(Err(error)) if self.offset >= self.size => return Err(error.to_string()),
                    None if self.offset >= self.size => return Ok(None),
                    Some(Err(error)) => error.to_string(),
                    None => "the connection was closed early".to_owned(),
                },
            };
            if self.resumptions >= RESUMPTIONS {
                return Err(broken);
            }
            tracing::info!(
                blob = self.digest,
                at = self.offset,
                of = self.size,
                error = broken,
                "download interrupted"
            );
            self.part = None;
            self.pause().await;
        }
    }
}

/// A stream without its first bytes.
fn skip(stream: Part, bytes: u64) -> Part {
    let mut left = bytes;
    stream
        .map(move |item| {
            item.map(|mut piece| {
                let gone = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
                left -= gone as u64;
                piece.split_off(gone)
            })
        })
        .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn skipping() {
        let pieces = || {
            let list: Vec<std::io::Result<Bytes>> =
                ["abc", "def", "g"].iter().map(|text| Ok(Bytes::from(*text))).collect();
            futures::stream::iter(list).boxed()
        };
        for (bytes, expected) in [(0, "abcdefg"), (2, "cdefg"), (3, "defg"), (5, "fg"), (7, ""), (9, "")] {
            let rest: Vec<Bytes> = skip(pieces(), bytes).map(|item| item.expect("bytes")).collect().await;
            assert_eq!(rest.concat(), expected.as_bytes(), "{bytes}");
        }
    }
}
