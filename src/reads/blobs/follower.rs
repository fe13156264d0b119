//! One reader of a blob that is being fetched for several.

use std::sync::Arc;

use bytes::Bytes;

use super::fill::{Fill, Found};
use crate::{
    client::{Blob, BlobRange, CallContext},
    error::RexError,
    oci::{Digest, Verifier},
    reads::store::PIECE_BYTES,
};

/// A reader at its own pace.
#[derive(Debug)]
pub(super) struct Follower {
    fill: Arc<Fill>,
    call: Arc<CallContext>,
    offset: u64,
    position: u64,
    /// The exclusive end of the read.
    end: u64,
    is_whole: bool,
    /// The piece of the store that is being read.
    piece: Option<(u64, Bytes)>,
    /// Fetches the rest alone.
    rest: Option<Box<Blob>>,
}

impl Follower {
    /// Reads from `offset`, which is not past the end, up to `end`.
    pub(super) fn new(fill: Arc<Fill>, offset: u64, end: u64, call: Arc<CallContext>) -> Self {
        fill.join(&call);
        let is_whole = offset == 0 && end == fill.size();
        Self { fill, call, offset, position: offset, end, is_whole, piece: None, rest: None }
    }

    pub(super) fn fill(&self) -> &Fill {
        &self.fill
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether the whole blob is read.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn resumes(&self) -> u32 {
        self.fill.resumes() + self.rest.as_ref().map(|rest| rest.resumes()).unwrap_or_default()
    }

    pub(super) fn detach(&mut self) {
        match &mut self.rest {
            Some(rest) => rest.detach(),
            None => self.fill.detach_if_idle(),
        }
        self.piece = None;
    }

    /// The next piece, of at most `max` bytes; `None` at the end. Cancel safe: no piece is lost.
    pub(super) async fn next(&mut self, max: usize) -> Result<Option<Bytes>, RexError> {
        loop {
            let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
            let most = left.min(max.max(1));
            // Only the end of the fetch tells whether a blob that is announced as empty is.
            if left == 0 && self.end > 0 {
                return Ok(None);
            }
            if let Some(rest) = &mut self.rest {
                let piece = rest.next(most).await?;
                self.position += piece.as_ref().map(Bytes::len).unwrap_or_default() as u64;
                return Ok(piece);
            }
            match self.fill.at(self.position) {
                Found::Chunk(mut chunk) => {
                    self.piece = None;
                    return Ok(Some(self.take(chunk.split_to(most.min(chunk.len())))));
                }
                Found::Staged(staged) => {
                    let index = self.position / PIECE_BYTES as u64;
                    let piece = match self.piece.take_if(|(held, _)| *held == index) {
                        Some((_, piece)) => Ok(piece),
                        None => staged.piece(index).await,
                    };
                    let Ok(piece) = piece else {
                        self.rest = Some(Box::new(self.begin_again().await?));
                        continue;
                    };
                    let from = usize::try_from(self.position % PIECE_BYTES as u64).unwrap_or_default();
                    let bytes = piece.slice(from..piece.len().min(from.saturating_add(most)));
                    self.piece = Some((index, piece));
                    return Ok(Some(self.take(bytes)));
                }
                Found::Pending(step) => step.await,
                Found::Ended(rest) => self.rest = Some(Box::new(rest.for_call(Arc::clone(&self.call)))),
                Found::End => return Ok(None),
                Found::Failed(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, bytes: Bytes) -> Bytes {
        self.position += bytes.len() as u64;
        bytes
    }

    /// Another read of the whole blob, up to the position. The bytes before it are fetched again, because the digest is of all
    /// of them.
    async fn begin_again(&self) -> Result<Blob, RexError> {
        let blob = self.fill.again(BlobRange::default(), Arc::clone(&self.call));
        Ok(skip(blob, self.position).await?.0)
    }
}

/// Reads up to a position. Returns the digest of what was read, too.
pub(super) async fn skip(mut blob: Blob, position: u64) -> Result<(Blob, Digest), RexError> {
    let mut skipped = Verifier::new(blob.digest().algorithm());
    while blob.position() < position {
        let left = usize::try_from(position - blob.position()).unwrap_or(usize::MAX);
        let Some(bytes) = blob.next(left.min(PIECE_BYTES)).await? else { break };
        skipped.update(&bytes);
    }
    Ok((blob, skipped.finish()))
}
