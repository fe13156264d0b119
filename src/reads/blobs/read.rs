//! A blob as its caller reads it, wherever the bytes come from.

use bytes::Bytes;

use super::{follower::Follower, kept::KeptRead};
use crate::{client::Blob, error::RexError, oci::Digest};

/// A blob that is being read.
#[derive(Debug)]
pub struct BlobRead(From);

#[derive(Debug)]
enum From {
    /// Alone, from the registry.
    Registry(Box<Blob>),
    /// Together with others, from the registry.
    Fill(Follower),
    /// From memory or from the store.
    Kept(Box<KeptRead>),
}

impl BlobRead {
    pub(super) fn registry(blob: Blob) -> Self {
        Self(From::Registry(Box::new(blob)))
    }

    pub(super) fn fill(follower: Follower) -> Self {
        Self(From::Fill(follower))
    }

    pub(super) fn kept(read: KeptRead) -> Self {
        Self(From::Kept(Box::new(read)))
    }

    /// The requested digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        match &self.0 {
            From::Registry(blob) => blob.digest(),
            From::Fill(follower) => follower.fill().digest(),
            From::Kept(read) => read.digest(),
        }
    }

    /// The registry's `Content-Type`.
    #[must_use]
    pub fn media_type(&self) -> &str {
        match &self.0 {
            From::Registry(blob) => blob.media_type(),
            From::Fill(follower) => follower.fill().media_type(),
            From::Kept(read) => read.media_type(),
        }
    }

    /// The size of the whole blob in bytes, if it is known.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        match &self.0 {
            From::Registry(blob) => blob.size(),
            From::Fill(follower) => Some(follower.fill().size()),
            From::Kept(read) => Some(read.size()),
        }
    }

    /// How many bytes will be returned, if that is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match &self.0 {
            From::Registry(blob) => blob.length(),
            From::Fill(follower) => Some(follower.end() - follower.offset()),
            From::Kept(read) => Some(read.end() - read.offset()),
        }
    }

    /// The offset of the next piece.
    #[must_use]
    pub fn position(&self) -> u64 {
        match &self.0 {
            From::Registry(blob) => blob.position(),
            From::Fill(follower) => follower.position(),
            From::Kept(read) => read.position(),
        }
    }

    /// Whether the whole blob is read, so that its digest is checked. At the end of [`next`](Self::next) this means that it matched.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        match &self.0 {
            From::Registry(blob) => blob.is_verified(),
            From::Fill(follower) => follower.is_whole(),
            From::Kept(read) => read.offset() == 0 && read.end() == read.size(),
        }
    }

    /// How often the read resumed after a lost connection.
    #[must_use]
    pub fn resumes(&self) -> u32 {
        match &self.0 {
            From::Registry(blob) => blob.resumes(),
            From::Fill(follower) => follower.resumes(),
            From::Kept(read) => read.resumes(),
        }
    }

    /// Gives up what a reader that has stopped reading does not need: memory, and the registry's connection.
    pub fn detach(&mut self) {
        match &mut self.0 {
            From::Registry(blob) => blob.detach(),
            From::Fill(follower) => follower.detach(),
            From::Kept(read) => read.detach(),
        }
    }

    /// Reads the first piece if the blob is kept. `false` if the store does not have it, so that the blob has to be fetched.
    pub(super) async fn begin(&mut self) -> bool {
        match &mut self.0 {
            From::Registry(_) | From::Fill(_) => true,
            From::Kept(read) => read.begin().await,
        }
    }

    /// The next piece, of at most `max` bytes; `None` at the end. Cancel safe: no piece is lost.
    pub async fn next(&mut self, max: usize) -> Result<Option<Bytes>, RexError> {
        match &mut self.0 {
            From::Registry(blob) => blob.next(max).await,
            From::Fill(follower) => follower.next(max).await,
            From::Kept(read) => read.next(max).await,
        }
    }
}
