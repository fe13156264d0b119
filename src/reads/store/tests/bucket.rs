use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart, memory::InMemory, path::Path,
};
use tokio::time::Instant;

use super::{
    super::{PieceError, bucket::Bucket},
    MIB, TIMEOUT, digest, files_below, in_bucket, keep, read, sample,
};

/// What a bucket does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    None,
    /// Requests get no response.
    Hangs,
    /// Every response is an error whose text holds a secret.
    Fails,
    /// As Azure.
    NoRangesFromTheEnd,
    /// The third part of an upload fails.
    PartFails,
    /// Responses are longer than what was asked for.
    SendsMore,
}

/// A bucket in memory with a fault that can be changed.
#[derive(Debug)]
pub(super) struct Faulty {
    inner: InMemory,
    fault: std::sync::Mutex<Fault>,
    pub(super) requests: AtomicUsize,
    aborted: Arc<AtomicUsize>,
}

impl Faulty {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            fault: Fault::None.into(),
            requests: AtomicUsize::new(0),
            aborted: Arc::default(),
        })
    }

    pub(super) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    async fn request(&self) -> Result<()> {
        self.requests.fetch_add(1, Relaxed);
        match self.fault() {
            Fault::Hangs => std::future::pending().await,
            Fault::Fails => Err(failed()),
            _ => Ok(()),
        }
    }

    async fn names(&self) -> Vec<String> {
        self.inner.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap()
    }
}

fn failed() -> Error {
    Error::Generic { store: "S3", source: "status code: 503 Service Unavailable: canary-secret".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, name: &Path, content: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.request().await?;
        self.inner.put_opts(name, content, options).await
    }

    async fn put_multipart_opts(
        &self,
        name: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.request().await?;
        let inner = self.inner.put_multipart_opts(name, options).await?;
        let parts_until_failure = (self.fault() == Fault::PartFails).then_some(2);
        Ok(Box::new(FaultyUpload { inner, parts_until_failure, aborted: Arc::clone(&self.aborted) }))
    }

    async fn get_opts(&self, name: &Path, mut options: GetOptions) -> Result<GetResult> {
        self.request().await?;
        let fault = self.fault();
        match &options.range {
            Some(GetRange::Suffix(_)) if fault == Fault::NoRangesFromTheEnd => {
                return Err(Error::NotSupported { source: "suffix".into() });
            }
            Some(_) if fault == Fault::SendsMore => options.range = None,
            _ => {}
        }
        self.inner.get_opts(name, options).await
    }

    async fn get_ranges(&self, name: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(name, ranges).await
    }

    fn delete_stream(&self, names: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.fault() {
            Fault::Hangs => stream::pending().boxed(),
            _ => self.inner.delete_stream(names),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    parts_until_failure: Option<usize>,
    aborted: Arc<AtomicUsize>,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match &mut self.parts_until_failure {
            Some(0) => Box::pin(async { Err(failed()) }),
            Some(parts) => {
                *parts -= 1;
                self.inner.put_part(data)
            }
            None => self.inner.put_part(data),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.aborted.fetch_add(1, Relaxed);
        self.inner.abort().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_hangs_costs_one_bounded_wait() {
    let bucket = Faulty::new();
    let (_spool, store) = in_bucket(Arc::clone(&bucket) as _, Duration::from_secs(1));
    let data = sample(1, 100);
    keep(&store, &data).await;
    let kept = store.get(&digest(&data)).await.unwrap();
    bucket.set(Fault::Hangs);
    let (start, before) = (Instant::now(), bucket.requests.load(Relaxed));
    let seconds = |time: Duration| time.as_secs_f64().round();
    for _ in 0..100 {
        assert!(store.get(&digest(&data)).await.is_none());
        assert_eq!(kept.piece(0).await, Err(PieceError::Failed));
    }
    assert_eq!(seconds(start.elapsed()), 1.0);
    assert_eq!(bucket.requests.load(Relaxed) - before, 1);

    bucket.set(Fault::None);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(read(&store.get(&digest(&data)).await.unwrap()).await.unwrap(), data);
}

#[tokio::test]
async fn a_bucket_that_fails_counts_as_absent_and_its_text_is_not_shown() {
    let bucket = Faulty::new();
    let (_spool, store) = in_bucket(Arc::clone(&bucket) as _, TIMEOUT);
    store.check().await.unwrap();
    assert_eq!(bucket.names().await, [""; 0], "a check leaves nothing");
    bucket.set(Fault::Fails);
    assert!(store.get(&digest(b"x")).await.is_none());
    let problem = store.check().await.unwrap_err();
    assert_eq!(problem, "cache.store.url: cannot write an object: it answered with the status 503");
}

#[tokio::test]
async fn a_bucket_without_ranges_from_the_end_works() {
    let bucket = Faulty::new();
    bucket.set(Fault::NoRangesFromTheEnd);
    let (_spool, store) = in_bucket(Arc::clone(&bucket) as _, TIMEOUT);
    let data = sample(1, 2 * MIB + 1);
    assert!(store.get(&digest(&data)).await.is_none());
    keep(&store, &data).await;
    assert_eq!(read(&store.get(&digest(&data)).await.unwrap()).await.unwrap(), data);
}

#[tokio::test]
async fn a_failed_upload_leaves_no_object_and_no_parts() {
    let bucket = Faulty::new();
    bucket.set(Fault::PartFails);
    let (spool, store) = in_bucket(Arc::clone(&bucket) as _, TIMEOUT);
    let data = sample(1, 40 * MIB);
    let mut staging = store.begin(&digest(&data), None).await.unwrap();
    let reader = staging.reader();
    for piece in data.chunks(MIB) {
        staging.append(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    let error = staging.publish("").await.unwrap_err().to_string();
    assert_eq!(error, "the blob cannot be kept: it answered with the status 503");
    assert_eq!(bucket.names().await, [""; 0]);
    assert_eq!(bucket.aborted.load(Relaxed), 1);
    assert_eq!(reader.piece(39).await.unwrap(), data[39 * MIB..], "readers are not concerned");
    assert!(store.begin(&digest(&data), None).await.is_none(), "the next blobs are not tried at once");
    assert_eq!(files_below(spool.path()), 0, "spooled files have no name");
}

#[tokio::test]
async fn a_damaged_object_is_deleted() {
    let bucket = Faulty::new();
    let (_spool, store) = in_bucket(Arc::clone(&bucket) as _, TIMEOUT);
    let (one, other) = (sample(1, MIB), sample(2, MIB));
    let hex = digest(&one).as_str().replace("sha256:", "");
    let name = Path::from(format!("some/prefix/v1/sha256/{}/{hex}", hex.get(..2).unwrap()));
    for change in ["bit", "cut", "other", "empty"] {
        keep(&store, &one).await;
        keep(&store, &other).await;
        assert!(bucket.names().await.contains(&name.to_string()));
        let mut object = bucket.inner.get(&name).await.unwrap().bytes().await.unwrap().to_vec();
        match change {
            "bit" => *object.get_mut(1000).unwrap() ^= 4,
            "cut" => object.truncate(MIB),
            "empty" => object = vec![0; 20],
            _ => {
                let other =
                    bucket.names().await.into_iter().find(|other| *other != name.to_string()).unwrap();
                object = bucket.inner.get(&other.into()).await.unwrap().bytes().await.unwrap().into();
            }
        }
        bucket.inner.put(&name, object.into()).await.unwrap();
        match store.get(&digest(&one)).await {
            Some(kept) => assert_eq!((kept.piece(0).await, change), (Err(PieceError::Damaged), "bit")),
            None => assert_ne!(change, "bit"),
        }
        assert_eq!(bucket.names().await.len(), 1, "{change}: only the other blob is left");
    }
}

#[tokio::test]
async fn no_more_is_read_than_was_asked_for() {
    let bucket = Faulty::new();
    let (_spool, store) = in_bucket(Arc::clone(&bucket) as _, TIMEOUT);
    let data = sample(1, 3 * MIB);
    keep(&store, &data).await;
    let kept = store.get(&digest(&data)).await.unwrap();
    bucket.set(Fault::SendsMore);
    assert_eq!(kept.piece(1).await, Err(PieceError::Damaged));
}

#[tokio::test]
async fn the_names_of_objects_have_the_prefix_once() {
    for (prefix, expected) in [("", "v1/sha256/"), ("a", "a/v1/sha256/"), ("/a/b/", "a/b/v1/sha256/")] {
        let bucket = Bucket::new(Arc::new(InMemory::new()), prefix, TIMEOUT);
        let name = bucket.name(&digest(b"")).to_string();
        assert!(name.starts_with(expected), "{name}");
    }
}
