//! A kept blob, read piece by piece.

use std::{fs::File, sync::Arc};

use bytes::Bytes;

use super::{
    backend::{Backend, Place},
    disk,
    failure::Failure,
    footer::{self, Damage, Footer},
    pieces::{PieceHash, Verified},
    staged_file::StagedFile,
};
use crate::oci::Digest;

/// Why a piece is not returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    /// It is not what was kept. The blob was deleted from the store.
    #[error("the kept blob is damaged")]
    Damaged,
    /// The store failed, hangs or failed a moment ago; or the blob has no such piece.
    #[error("the content store failed")]
    Failed,
}

/// A blob in the store. Its clones are the same blob; it stays readable while the store deletes it, if it is in a directory.
#[derive(Debug, Clone)]
pub struct KeptBlob(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    backend: Arc<Backend>,
    footer: Arc<Footer>,
    source: Source,
}

#[derive(Debug)]
pub(super) enum Source {
    File(Arc<File>),
    Staged(Arc<StagedFile>),
    /// An object of the bucket, with the hashes of its pieces if this replica has verified them.
    Object(Option<Arc<Verified>>),
}

impl Source {
    /// Whether the size is known, and is not this one.
    pub(super) fn has_another_size(&self, size: u64) -> bool {
        matches!(self, Self::Object(Some(verified)) if verified.size != size)
    }
}

/// The hashes of the pieces of a blob, made while it is read as a whole.
#[derive(Debug, Clone, Default)]
pub struct PieceHashes(Vec<PieceHash>);

impl KeptBlob {
    pub(super) fn new(backend: Arc<Backend>, footer: Footer, source: Source) -> Self {
        Self(Arc::new(Kept { backend, footer: Arc::new(footer), source }))
    }

    /// The digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.0.footer.digest
    }

    /// The size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.footer.size
    }

    /// The media type that the registry gave.
    #[must_use]
    pub fn media_type(&self) -> &str {
        &self.0.footer.media_type
    }

    /// The number of pieces: none of an empty blob.
    #[must_use]
    pub fn pieces(&self) -> u64 {
        footer::pieces(self.size())
    }

    /// Whether each piece is known to be the blob's. If not, others than this service may have written it: the checksums find
    /// accidents, but only the digest of all bytes finds intent.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        !matches!(self.0.source, Source::Object(None))
    }

    /// Keeps the hashes of all pieces, because the digest of the blob matched. Later readers can verify each piece by itself.
    pub async fn keep_verified(&self, PieceHashes(hashes): PieceHashes) {
        if let Place::Bucket { pieces, .. } = &self.0.backend.place {
            pieces.keep_verified(self.digest(), Verified { size: self.size(), hashes }).await;
        }
    }

    /// Piece `index`, verified: 1 MiB of the data, less only if it is the last.
    ///
    /// # Errors
    /// [`PieceError`]. Then the blob is to be read from its registry.
    pub async fn piece(&self, index: u64) -> Result<Bytes, PieceError> {
        self.hashed_piece(index, &mut PieceHashes::default()).await
    }

    /// The same, and adds the hash of an object's piece to `hashes` if it is the next one. One that is read again must have the
    /// same hash.
    ///
    /// # Errors
    /// As [`Self::piece`].
    pub async fn hashed_piece(&self, index: u64, hashes: &mut PieceHashes) -> Result<Bytes, PieceError> {
        let Kept { backend, .. } = &*self.0;
        if index >= self.pieces() || !backend.reading.admits() {
            return Err(PieceError::Failed);
        }
        match self.read(index, hashes).await {
            Ok(piece) => {
                backend.reading.works();
                Ok(piece)
            }
            Err(Failure::Damaged(damage)) => {
                backend.drop_damaged(self.digest(), damage).await;
                Err(PieceError::Damaged)
            }
            Err(Failure::Failed(problem)) => {
                backend.reading.fails(&problem);
                Err(PieceError::Failed)
            }
        }
    }

    /// Deletes the blob: it is not what its digest says.
    pub async fn discard(&self) {
        self.0.backend.drop_damaged(self.digest(), Damage("it has another digest")).await;
    }

    async fn read(&self, index: u64, hashes: &mut PieceHashes) -> Result<Bytes, Failure> {
        let Kept { backend, footer, source } = &*self.0;
        match (source, &backend.place) {
            (Source::Staged(staged), _) => staged.piece(index).await,
            (Source::File(file), _) => {
                let (file, footer) = (Arc::clone(file), Arc::clone(footer));
                backend.staging().disk.run(move || Ok(read_verified(&file, &footer, index))).await?
            }
            (Source::Object(verified), Place::Bucket { bucket, pieces, .. }) => {
                let digest = &footer.digest;
                let piece = pieces.get(digest, index, bucket.piece(footer, index)).await?;
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                if verified.as_ref().is_some_and(|verified| verified.hashes.get(index) != Some(&piece.hash)) {
                    return Err(Damage("a piece is not the blob's").into());
                }
                if hashes.0.len() == index {
                    hashes.0.push(piece.hash);
                }
                match hashes.0.get(index) {
                    Some(hash) if *hash != piece.hash => Err(Damage("a piece has changed").into()),
                    Some(_) | None => Ok(piece.content),
                }
            }
            (Source::Object(_), Place::Directory(_)) => Err(Damage("there is no such object").into()),
        }
    }
}

fn read_verified(file: &File, footer: &Footer, index: u64) -> Result<Bytes, Failure> {
    let (offset, length) = footer.piece(index).ok_or(Damage("there is no such piece"))?;
    let piece = disk::read(file, offset, length)?;
    if footer.matches(index, &piece) {
        Ok(piece)
    } else {
        Err(Damage("the checksum of a piece does not match").into())
    }
}
