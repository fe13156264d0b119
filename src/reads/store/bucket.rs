//! Kept blobs in a bucket: S3 and what speaks it, Google Cloud Storage, Azure Blob Storage.
//!
//! An object appears when its upload is complete, never before. The bucket's own lifecycle rules delete old objects, and the
//! parts of uploads that a crash left incomplete.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream::FuturesUnordered};
use object_store::{
    Error, GetOptions, GetRange, GetResult, GetResultPayload, MultipartUpload, ObjectStore,
    ObjectStoreExt as _, PutPayload, path::Path,
};
use tokio::sync::Semaphore;

use super::{
    directory::parts,
    failure::Failure,
    footer::{self, Damage, End, FIRST_READ, Footer},
    staged_file::StagedFile,
};
use crate::oci::Digest;

/// The parts of an upload have 8 MiB: S3 wants at least 5, some servers want parts of the same size.
const PIECES_OF_A_PART: u64 = 8;
/// With two uploads at a time, uploads hold at most 32 MiB.
const PARTS_AT_ONCE: usize = 2;
const UPLOADS_AT_ONCE: usize = 2;
/// For one part of 8 MiB, its retries included: 140 KiB/s.
const PART_TIMEOUT: Duration = Duration::from_secs(60);

/// A bucket, and the prefix of the objects in it.
#[derive(Debug)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    timeout: Duration,
    uploads: Semaphore,
}

impl Bucket {
    pub(super) fn new(store: Arc<dyn ObjectStore>, prefix: &str, timeout: Duration) -> Self {
        Self { store, prefix: prefix.to_owned(), timeout, uploads: Semaphore::new(UPLOADS_AT_ONCE) }
    }

    pub(super) fn name(&self, digest: &Digest) -> Path {
        let (algorithm, first, hex) = parts(digest);
        Path::from(format!("{}/v1/{algorithm}/{first}/{hex}", self.prefix))
    }

    /// The footer of a blob. `None` if there is no such object.
    pub(super) async fn footer(&self, digest: &Digest) -> Result<Option<Footer>, Failure> {
        within(self.timeout, self.find(digest)).await
    }

    async fn find(&self, digest: &Digest) -> Result<Option<Footer>, Failure> {
        let Some((object_bytes, mut end)) = self.end(digest).await? else { return Ok(None) };
        if let End::Longer(bytes) = Footer::parse(object_bytes, &end, digest)? {
            let start = object_bytes.checked_sub(bytes.min(Footer::max_bytes()));
            let start = start.ok_or(Damage("the footer is too short"))?;
            end = self.range(&self.name(digest), start..object_bytes).await?;
        }
        match Footer::parse(object_bytes, &end, digest)? {
            End::Complete(footer) => Ok(Some(footer)),
            End::Longer(_) => Err(Damage("the footer is too short").into()),
        }
    }

    /// The size of the object, and its last bytes.
    async fn end(&self, digest: &Digest) -> Result<Option<(u64, Bytes)>, Failure> {
        let name = self.name(digest);
        let options = GetOptions { range: Some(GetRange::Suffix(FIRST_READ)), ..GetOptions::default() };
        match self.store.get_opts(&name, options).await {
            Ok(result) => Ok(Some((result.meta.size, collect(result, FIRST_READ).await?))),
            // Azure has no ranges from the end.
            Err(Error::NotSupported { .. }) => match self.store.head(&name).await {
                Ok(meta) => {
                    let start = meta.size.saturating_sub(FIRST_READ);
                    Ok(Some((meta.size, self.range(&name, start..meta.size).await?)))
                }
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            },
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A piece, verified.
    pub(super) async fn piece(&self, footer: &Footer, index: u64) -> Result<Bytes, Failure> {
        let (start, length) = footer.piece(index).ok_or(Damage("there is no such piece"))?;
        let range = self.name(&footer.digest);
        let read = async { self.range(&range, start..start + length as u64).await };
        let piece = within(self.timeout, read).await?;
        if footer.matches(index, &piece) {
            Ok(piece)
        } else {
            Err(Damage("the checksum of a piece does not match").into())
        }
    }

    async fn range(&self, name: &Path, range: std::ops::Range<u64>) -> Result<Bytes, Failure> {
        let most = range.end - range.start;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        collect(self.store.get_opts(name, options).await?, most).await
    }

    /// Uploads a complete blob. A failed upload leaves no object.
    pub(super) async fn upload(&self, footer: &Footer, staged: &Arc<StagedFile>) -> Result<(), Failure> {
        let _permit = self.uploads.acquire().await.map_err(|error| Failure::Failed(error.to_string()))?;
        let name = self.name(&footer.digest);
        if footer::pieces(footer.size) < PIECES_OF_A_PART {
            let payload = payload(footer, staged, 0).await?;
            return within(PART_TIMEOUT, async { Ok(self.store.put(&name, payload).await.map(drop)?) }).await;
        }
        let mut upload = within(PART_TIMEOUT, async { Ok(self.store.put_multipart(&name).await?) }).await?;
        let done = match send_parts(&mut *upload, footer, staged).await {
            Ok(()) => within(PART_TIMEOUT, async { Ok(upload.complete().await.map(drop)?) }).await,
            Err(failure) => Err(failure),
        };
        if done.is_err()
            && let Err(failure) = within(self.timeout, async { Ok(upload.abort().await?) }).await
        {
            tracing::debug!(digest = %footer.digest, %failure, "an incomplete upload cannot be deleted");
        }
        done
    }

    pub(super) async fn delete(&self, digest: &Digest) -> Result<(), Failure> {
        let name = self.name(digest);
        within(self.timeout, async { Ok(self.store.delete(&name).await?) }).await
    }

    /// Writes, reads and deletes an object.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        const CONTENT: Bytes = Bytes::from_static(b"rexd");
        let name = Path::from(format!("{}/v1/probe/{:032x}", self.prefix, rand::random::<u128>()));
        let doing =
            |what: &'static str| move |failure: Failure| Failure::Failed(format!("{what}: {failure}"));
        let put = async { Ok(self.store.put(&name, CONTENT.into()).await.map(drop)?) };
        within(self.timeout, put).await.map_err(doing("cannot write an object"))?;
        let read = within(self.timeout, self.range(&name, 0..CONTENT.len() as u64)).await;
        let deleted = within(self.timeout, async { Ok(self.store.delete(&name).await?) }).await;
        if read.map_err(doing("cannot read an object"))? != CONTENT {
            return Err(Failure::Failed("an object has other content than was written".to_owned()));
        }
        deleted.map_err(doing("cannot delete an object"))
    }
}

async fn send_parts(
    upload: &mut dyn MultipartUpload,
    footer: &Footer,
    staged: &Arc<StagedFile>,
) -> Result<(), Failure> {
    let mut sending = FuturesUnordered::new();
    for part in 0..=footer::pieces(footer.size) / PIECES_OF_A_PART {
        let payload = payload(footer, staged, part).await?;
        if sending.len() == PARTS_AT_ONCE {
            sending.next().await.transpose()?;
        }
        let sent = upload.put_part(payload);
        sending.push(within(PART_TIMEOUT, async { Ok(sent.await?) }));
    }
    sending.try_collect().await
}

/// The content of a part. The last part has the rest of the pieces, which may be none, and the footer.
async fn payload(footer: &Footer, staged: &Arc<StagedFile>, part: u64) -> Result<PutPayload, Failure> {
    let pieces = footer::pieces(footer.size);
    let (first, end) = (part * PIECES_OF_A_PART, (part + 1) * PIECES_OF_A_PART);
    let mut content = Vec::new();
    for index in first..end.min(pieces) {
        content.push(staged.piece(index).await?);
    }
    if end > pieces {
        content.push(footer.encode().ok_or(Damage("the media type is too long"))?.into());
    }
    Ok(content.into_iter().collect())
}

/// The body of a response, which must not be longer than what was asked for.
async fn collect(result: GetResult, most: u64) -> Result<Bytes, Failure> {
    const LONGER: Damage = Damage("the bucket sent more than was asked for");
    let most = usize::try_from(most).map_err(|_| LONGER)?;
    let GetResultPayload::Stream(mut chunks) = result.payload;
    let mut collected = BytesMut::new();
    while let Some(chunk) = chunks.try_next().await? {
        if collected.len() + chunk.len() > most {
            return Err(LONGER.into());
        }
        collected.reserve(if collected.is_empty() { most } else { chunk.len() });
        collected.extend_from_slice(&chunk);
    }
    Ok(collected.freeze())
}

async fn within<T>(timeout: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = |_| Failure::Failed("it did not answer in time".to_owned());
    tokio::time::timeout(timeout, work).await.map_err(late)?
}
