//! The content store: verified blobs in a directory or a bucket.
//!
//! Each has a name of the form of a digest, which the store only compares. A blob is written to a staging file while its own
//! digest is computed, and published only after that matched: by a rename, or by completing an upload. A crash leaves nothing that can be read. Each piece of 1 MiB that is read is compared
//! with a checksum that was made when it was written (`footer` describes the format); a blob that differs is deleted and read
//! from its registry again.
//!
//! The store is never why a call fails. Every access has a time limit, and a store that failed counts as absent for a while.
//!
//! | file | what it does |
//! |---|---|
//! | `settings` | where blobs are kept |
//! | `footer` | the format of a kept blob, and its checksums |
//! | `directory`, `index`, `disk` | files, their eviction by last use, and access to them off the runtime's threads |
//! | `bucket`, `connect` | objects of a bucket, and its client |
//! | `backend`, `health`, `failure` | the directory or the bucket, whether it works, and why not |
//! | `staged_file`, `staging` | a blob that is being written |
//! | `kept`, `pieces` | a kept blob that is read, and what its readers share if it is in a bucket |

mod backend;
mod bucket;
mod connect;
mod directory;
mod disk;
mod failure;
mod footer;
mod health;
mod index;
mod kept;
mod pieces;
mod settings;
mod staged_file;
mod staging;

use std::{path::Path, sync::Arc};

use tokio::sync::SetOnce;

use self::{
    backend::{Backend, Place},
    bucket::Bucket,
    directory::Directory,
    disk::Disk,
    failure::Failure,
    footer::Damage,
    kept::Source,
    pieces::Pieces,
};
pub use self::{
    footer::PIECE_BYTES,
    kept::{KeptBlob, PieceError, PieceHashes},
    settings::{BucketSettings, CredentialFiles, Location, Provider, Settings},
    staging::{NotKept, Staging, StagingReader},
};
use crate::oci::Digest;

/// The content store. Its clones are the same store.
#[derive(Debug, Clone)]
pub struct ContentStore {
    backend: Arc<Backend>,
    scanned: Arc<SetOnce<()>>,
}

impl ContentStore {
    /// Opens the store. A directory's index is made in the background; until then, eviction does not know all blobs.
    ///
    /// # Errors
    /// A sentence that names the key: the directory cannot be written, or the settings of the bucket are not valid.
    pub fn open(settings: &Settings) -> Result<Self, String> {
        let disk = Disk::new(settings.timeout);
        let open = |key: &str, path: &Path| {
            Directory::open(path, settings.max_bytes, disk).map(Arc::new).map_err(|error| {
                format!("{key}: the directory {} cannot be written: {error}", path.display())
            })
        };
        let place = match &settings.location {
            Location::Directory(path) => Place::Directory(open("cache.store.url", path)?),
            Location::Bucket(bucket) => {
                let store = connect::connect(bucket, settings.timeout)?;
                let temporary = || std::env::temp_dir().join("rexd-spool");
                let spool_dir = bucket.spool_dir.clone().unwrap_or_else(temporary);
                Place::Bucket {
                    bucket: Arc::new(Bucket::new(store, &bucket.prefix, settings.timeout)),
                    pieces: Pieces::new(),
                    spool: open("cache.store.spool_dir", &spool_dir)?,
                }
            }
        };
        Self::new(place)
    }

    fn new(place: Place) -> Result<Self, String> {
        let store = Self { backend: Arc::new(Backend::new(place)), scanned: Arc::new(SetOnce::new()) };
        let (directory, scanned) = (Arc::clone(store.backend.staging()), Arc::clone(&store.scanned));
        // Not a thread of the runtime's: a runtime waits for its threads at its end.
        std::thread::Builder::new()
            .name("store-scan".to_owned())
            .spawn(move || {
                directory.scan();
                drop(scanned.set(()));
            })
            .map_err(|error| format!("cache.store: no thread can be started: {error}"))?;
        Ok(store)
    }

    /// Writes, reads and deletes something.
    ///
    /// # Errors
    /// What does not work, as a sentence.
    pub async fn check(&self) -> Result<(), String> {
        let staging = Arc::clone(self.backend.staging());
        let say = |failure: Failure| format!("cache.store.url: {failure}");
        self.backend.staging().disk.run(move || staging.probe()).await.map_err(|error| say(error.into()))?;
        match &self.backend.place {
            Place::Directory(_) => Ok(()),
            Place::Bucket { bucket, .. } => bucket.probe().await.map_err(say),
        }
    }

    /// Whether other replicas have the same store.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.backend.place, Place::Bucket { .. })
    }

    /// The blob of this name. `None` if it is absent or damaged, or if the store fails.
    pub async fn get(&self, digest: &Digest) -> Option<KeptBlob> {
        let backend = &self.backend;
        if !backend.reading.admits() {
            return None;
        }
        match backend.find(digest).await {
            Ok(found) => {
                backend.reading.works();
                let (file, footer) = found?;
                let source = match (file, &backend.place) {
                    (Some(file), _) => Source::File(Arc::new(file)),
                    (None, Place::Bucket { pieces, .. }) => Source::Object(pieces.verified(digest).await),
                    (None, Place::Directory(_)) => return None,
                };
                if source.has_another_size(footer.size) {
                    backend.drop_damaged(digest, Damage("it has another size than the blob")).await;
                    return None;
                }
                Some(KeptBlob::new(Arc::clone(backend), footer, source))
            }
            Err(Failure::Damaged(damage)) => {
                backend.drop_damaged(digest, damage).await;
                None
            }
            Err(Failure::Failed(problem)) => {
                backend.reading.fails(&problem);
                None
            }
        }
    }

    /// Begins to write a blob. `None` if the store cannot take it: it fails, its disk is full, or the blob is too large.
    pub async fn begin(&self, digest: &Digest, size: Option<u64>) -> Option<Staging> {
        let backend = &self.backend;
        let fits = size.is_none_or(|size| {
            footer::pieces(size) <= footer::MAX_PIECES && backend.staging().could_hold(size)
        });
        if !fits || !backend.writing.admits() {
            return None;
        }
        match Staging::begin(backend, digest).await {
            Ok(staging) => Some(staging),
            Err(error) => {
                backend.writing.fails(&Failure::from(error).to_string());
                None
            }
        }
    }

    /// Waits until the index of a directory is made.
    pub async fn scanned(&self) {
        self.scanned.wait().await;
    }
}

#[cfg(test)]
mod tests;
