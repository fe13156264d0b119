//! A blob that is being written, and its readers.

use std::{io, path::PathBuf, sync::Arc};

use bytes::Bytes;

use super::{
    backend::{Backend, Place},
    directory::Directory,
    disk::{Disk, is_full},
    failure::Failure,
    footer::{Damage, MAX_PIECES, PIECE_BYTES},
    kept::{KeptBlob, PieceError, Source},
    staged_file::StagedFile,
};
use crate::oci::Digest;

/// Why a blob was not kept. Its readers are not concerned: they read what was appended.
#[derive(Debug, thiserror::Error)]
#[error("the blob cannot be kept: {0}")]
pub struct NotKept(String);

/// A blob that is being written. Dropping it discards it; nothing of it can be found before it is published.
#[derive(Debug)]
pub struct Staging {
    backend: Arc<Backend>,
    file: Arc<StagedFile>,
    /// In a bucket's spool directory, files have no name.
    path: Option<StagingPath>,
    /// A write failed or was cancelled. Nobody knows what it wrote.
    broken: bool,
}

impl Staging {
    pub(super) async fn begin(backend: &Arc<Backend>, digest: &Digest) -> io::Result<Self> {
        let directory = Arc::clone(backend.staging());
        let disk = directory.disk.clone();
        let has_name = matches!(backend.place, Place::Directory(_));
        let digest = digest.clone();
        let (file, path) = disk
            .run(move || {
                let (file, path) = directory.create_staging()?;
                let path = StagingPath { path, disk: directory.disk.clone() };
                Ok((Arc::new(StagedFile::new(file, &directory, &digest)), has_name.then_some(path)))
            })
            .await?;
        Ok(Self { backend: Arc::clone(backend), file, path, broken: false })
    }

    /// Appends the next piece: 1 MiB; less only if it is the last.
    ///
    /// # Errors
    /// The piece cannot be written: no room, a disk that fails or hangs. Then no other piece can be appended.
    pub async fn append(&mut self, piece: Bytes) -> io::Result<()> {
        self.check(&piece)?;
        self.broken = true;
        let file = Arc::clone(&self.file);
        let disk = &self.backend.staging().disk;
        match disk.run(move || file.append(&piece)).await {
            Ok(true) => {
                self.broken = false;
                Ok(())
            }
            Ok(false) => {
                Err(io::Error::other("other blobs that are being written take all space of the store"))
            }
            Err(error) => {
                self.backend.writing.fails(&describe(&error));
                Err(error)
            }
        }
    }

    fn check(&self, piece: &Bytes) -> io::Result<()> {
        let size = self.file.written().size;
        let invalid = |problem| Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        if self.broken {
            Err(io::Error::other("an earlier piece was not written"))
        } else if piece.is_empty() || piece.len() > PIECE_BYTES {
            invalid("a piece has between 1 byte and 1 MiB")
        } else if !size.is_multiple_of(PIECE_BYTES as u64) {
            invalid("a piece follows a shorter one")
        } else if size + piece.len() as u64 > MAX_PIECES * PIECE_BYTES as u64 {
            invalid("the blob is too large to be kept")
        } else {
            Ok(())
        }
    }

    /// A reader of the pieces that are already written.
    #[must_use]
    pub fn reader(&self) -> StagingReader {
        StagingReader(Arc::clone(&self.file))
    }

    /// Makes the blob one that can be found. To be called only after its digest matched. For a bucket this takes as long as the
    /// upload, which continues if this future is dropped.
    ///
    /// # Errors
    /// The blob is not kept.
    pub async fn publish(self, media_type: &str) -> Result<KeptBlob, NotKept> {
        if self.broken {
            return Err(NotKept("a piece was not written".to_owned()));
        }
        let Self { backend, file, path, .. } = self;
        let mut footer = file.written().clone();
        footer.media_type = media_type.to_owned();
        let Some(end) = footer.encode() else {
            return Err(NotKept("its media type is too long".to_owned()));
        };
        let published = match &backend.place {
            Place::Directory(directory) => {
                publish_file(directory, Arc::clone(&file), path, end, footer.digest.clone()).await
            }
            Place::Bucket { bucket, .. } => {
                let (bucket, file, footer) = (Arc::clone(bucket), Arc::clone(&file), footer.clone());
                let upload = tokio::spawn(async move { bucket.upload(&footer, &file).await });
                upload.await.unwrap_or_else(|error| Err(Failure::Failed(error.to_string())))
            }
        };
        match published {
            Ok(()) => {
                backend.writing.works();
                Ok(KeptBlob::new(backend, footer, Source::Staged(file)))
            }
            Err(failure) => {
                if let Failure::Failed(problem) = &failure {
                    backend.writing.fails(problem);
                }
                Err(NotKept(failure.to_string()))
            }
        }
    }
}

async fn publish_file(
    directory: &Arc<Directory>,
    file: Arc<StagedFile>,
    path: Option<StagingPath>,
    end: Vec<u8>,
    digest: Digest,
) -> Result<(), Failure> {
    let files = Arc::clone(directory);
    let publish = move || {
        let Some(path) = path else { return Err(io::ErrorKind::NotFound.into()) };
        let size = file.written().size;
        file.write(size, &end)?;
        // From here on the index counts it.
        file.space.release();
        files.publish(&path.path, &digest, size + end.len() as u64)
    };
    directory.disk.run(publish).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Damage("somebody deleted it while it was written").into(),
        _ => error.into(),
    })
}

fn describe(error: &io::Error) -> String {
    if is_full(error) {
        "the disk is full".to_owned()
    } else {
        Failure::from(io::Error::from(error.kind())).to_string()
    }
}

/// Reads pieces of a blob that is being written, at its own pace. It stays valid after the blob was published or discarded. Its
/// clones read the same blob.
#[derive(Debug, Clone)]
pub struct StagingReader(Arc<StagedFile>);

impl StagingReader {
    /// How many pieces are written.
    #[must_use]
    pub fn pieces(&self) -> u64 {
        self.0.written().checksums.len() as u64
    }

    /// How many bytes are written.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.written().size
    }

    /// Piece `index`, verified against the checksum that was made when it was appended.
    ///
    /// # Errors
    /// [`PieceError::Damaged`] if it is not what was appended, [`PieceError::Failed`] if it is not written yet or cannot be
    /// read.
    pub async fn piece(&self, index: u64) -> Result<Bytes, PieceError> {
        self.0.piece(index).await.map_err(|failure| match failure {
            Failure::Damaged(_) => PieceError::Damaged,
            Failure::Failed(_) => PieceError::Failed,
        })
    }
}

/// The name of a staging file. Dropping it removes the file, unless it was renamed.
#[derive(Debug)]
struct StagingPath {
    path: PathBuf,
    disk: Disk,
}

impl Drop for StagingPath {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        self.disk.run_later(move || drop(std::fs::remove_file(path)));
    }
}
