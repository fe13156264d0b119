//! One reader of a blob that is kept, in memory or in the store.

use bytes::Bytes;

use super::follower::skip;
use crate::{
    client::{Blob, BlobRange},
    error::{At, RexError},
    oci::{Digest, Verifier},
    reads::store::{KeptBlob, PIECE_BYTES, PieceHashes},
};

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Place {
    /// In memory.
    Memory(Bytes),
    /// In the store. The blob has not been opened; it fetches what the store no longer has.
    Store { kept: KeptBlob, upstream: Box<Blob> },
}

impl Place {
    /// The size of the blob.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Memory(content) => content.len() as u64,
            Self::Store { kept, .. } => kept.size(),
        }
    }
}

/// What the digest says after a piece of a store that others can write.
enum Hashed {
    /// It is not known yet.
    Unfinished,
    /// All bytes are the blob's.
    Genuine,
    /// They are not.
    Other,
}

/// A reader.
#[derive(Debug)]
pub(super) struct KeptRead {
    at: At,
    digest: Digest,
    media_type: String,
    place: Place,
    size: u64,
    offset: u64,
    position: u64,
    end: u64,
    /// The piece of the store that is being read.
    piece: Option<(u64, Bytes)>,
    /// Hashes a whole blob of a store that others can write: they could have put other bytes under the digest.
    verifier: Option<Verifier>,
    /// The hashes of its pieces, which are kept if the digest matches.
    hashes: PieceHashes,
    /// The digest of the bytes that were returned, if the store turned out to have other bytes under the digest.
    returned: Option<Digest>,
    /// Fetches the rest.
    rest: Option<Box<Blob>>,
}

impl KeptRead {
    /// Reads from `offset`, which is not past the end, up to `end`.
    pub(super) fn new(
        at: At,
        digest: Digest,
        media_type: String,
        place: Place,
        (offset, end): (u64, u64),
    ) -> Self {
        let size = place.size();
        let is_verified = match &place {
            Place::Memory(_) => true,
            Place::Store { kept, .. } => kept.is_verified(),
        };
        let verifier =
            (!is_verified && offset == 0 && end == size).then(|| Verifier::new(digest.algorithm()));
        Self {
            at,
            digest,
            media_type,
            place,
            size,
            offset,
            position: offset,
            end,
            piece: None,
            verifier,
            hashes: PieceHashes::default(),
            returned: None,
            rest: None,
        }
    }

    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(super) fn media_type(&self) -> &str {
        &self.media_type
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn resumes(&self) -> u32 {
        self.rest.as_ref().map(|rest| rest.resumes()).unwrap_or_default()
    }

    pub(super) fn detach(&mut self) {
        self.piece = None;
        if let Some(rest) = &mut self.rest {
            rest.detach();
        }
    }

    /// Reads the first piece. `false` if the store does not have it.
    pub(super) async fn begin(&mut self) -> bool {
        // Of no bytes: the piece stays for the first read.
        self.position == self.end || self.kept(0).await.is_some()
    }

    /// The next piece, of at most `max` bytes; `None` at the end. Cancel safe: no piece is lost.
    pub(super) async fn next(&mut self, max: usize) -> Result<Option<Bytes>, RexError> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let most = left.min(max.max(1));
        if left == 0 {
            return Ok(None);
        }
        if self.rest.is_none() {
            if let Some(bytes) = self.kept(most).await {
                self.position += bytes.len() as u64;
                return Ok(Some(bytes));
            }
            self.rest = Some(Box::new(self.upstream().await?));
        }
        let Some(rest) = &mut self.rest else { return Ok(None) };
        let piece = rest.next(most).await?;
        self.position += piece.as_ref().map(Bytes::len).unwrap_or_default() as u64;
        Ok(piece)
    }

    /// The bytes at the position. `None` if the store does not have them any more, or if they are not the blob's.
    async fn kept(&mut self, most: usize) -> Option<Bytes> {
        let kept = match &self.place {
            Place::Memory(content) => {
                let from = usize::try_from(self.position).ok()?;
                return Some(content.slice(from..content.len().min(from.saturating_add(most))));
            }
            Place::Store { kept, .. } => kept.clone(),
        };
        let index = self.position / PIECE_BYTES as u64;
        let piece = match self.piece.take_if(|(held, _)| *held == index) {
            Some((_, piece)) => piece,
            None => {
                let piece = match &self.verifier {
                    Some(_) => kept.hashed_piece(index, &mut self.hashes).await,
                    None => kept.piece(index).await,
                };
                let piece = piece.ok()?;
                match self.hash(index, &piece) {
                    Hashed::Unfinished => {}
                    Hashed::Genuine => kept.keep_verified(self.hashes.clone()).await,
                    Hashed::Other => {
                        tracing::warn!(digest = %self.digest, "the store has other bytes under this digest; they are deleted");
                        kept.discard().await;
                        return None;
                    }
                }
                piece
            }
        };
        let from = usize::try_from(self.position % PIECE_BYTES as u64).unwrap_or_default();
        let bytes = piece.slice(from..piece.len().min(from.saturating_add(most)));
        self.piece = Some((index, piece));
        Some(bytes)
    }

    /// Hashes a piece. If it is the last one and the digest does not match, nobody gets it.
    fn hash(&mut self, index: u64, piece: &Bytes) -> Hashed {
        // A piece that was dropped while its reader stalled is read again.
        let is_next = |verifier: &&mut Verifier| verifier.seen() == index * PIECE_BYTES as u64;
        let Some(verifier) = self.verifier.as_mut().filter(is_next) else { return Hashed::Unfinished };
        let before = verifier.clone();
        verifier.update(piece);
        if verifier.seen() < self.size {
            return Hashed::Unfinished;
        }
        if verifier.clone().finish() == self.digest {
            return Hashed::Genuine;
        }
        self.returned = Some(before.finish());
        Hashed::Other
    }

    /// A read of the registry from the position on. A whole blob is fetched again up to there, because the digest is of all bytes.
    async fn upstream(&self) -> Result<Blob, RexError> {
        let Place::Store { upstream, .. } = &self.place else {
            return Err(self.corrupt("it is not in memory any more"));
        };
        if self.offset > 0 || self.end < self.size {
            let range = BlobRange { offset: self.position, limit: Some(self.end - self.position) };
            return Ok(upstream.again(range, upstream.call()));
        }
        let blob = upstream.again(BlobRange::default(), upstream.call());
        let (blob, skipped) = skip(blob, self.position).await?;
        if self.returned.as_ref().is_some_and(|returned| *returned != skipped) {
            return Err(self.corrupt("the store had other bytes under this digest"));
        }
        Ok(blob)
    }

    fn corrupt(&self, problem: &str) -> RexError {
        RexError::Integrity { at: self.at.clone(), problem: format!("{}: {problem}", self.digest) }
    }
}
