//! Blobs: OCI Distribution Specification, "Pulling blobs", with ranges (RFC 9110 section 14).
//!
//! A [`Blob`] is polled: it reads from the registry when the next piece is requested, and dropping it ends the request. It
//! keeps two promises:
//!
//! - **No wrong byte.** It hashes a whole blob piece by piece, and returns the last piece only when the digest matches.
//! - **A lost connection costs the caller nothing.** It requests the rest with a closed range and continues the hash. It
//!   asks the registry again, because a presigned storage URL may have expired.

use std::sync::Arc;

use bytes::Bytes;
use tracing::Span;

use super::{Client, Target};
use crate::{
    auth::Scope,
    error::{At, RexError},
    http::{Body, CallContext},
    oci::{Digest, Verifier},
    upstream::Upstream,
};

mod attempts;
mod head;
mod open;
mod receive;

use attempts::Attempts;
pub use head::BlobHead;

/// A range of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlobRange {
    /// The first byte.
    pub offset: u64,
    /// The maximum number of bytes; `None` means to the end.
    pub limit: Option<u64>,
}

/// A blob that is being read.
#[derive(Debug)]
pub struct Blob {
    upstream: Arc<Upstream>,
    target: Target,
    scope: Scope,
    digest: Digest,
    call: Arc<CallContext>,
    /// The span in which the blob was opened. Requests that resume the read belong to it, whoever polls the blob then.
    span: Span,
    media_type: String,
    size: Option<u64>,
    range: BlobRange,
    /// The exclusive end of the bytes to return; `None` while the size is not known.
    end: Option<u64>,
    /// The offset of the next byte to return.
    position: u64,
    source: Source,
    /// Bytes that were received and not returned. They begin at `position`.
    pending: Bytes,
    /// Bytes after `pending` that are held back because they may be the end.
    held: Bytes,
    /// Hashes what is returned. `None` for a part of a blob, which has no digest.
    verifier: Option<Verifier>,
    resumes: u32,
    attempts: Attempts,
    /// Whether the registry has shown that it serves ranges.
    ranges: bool,
    /// Whether a registry that ignores ranges has already sent the beginning again.
    repeated: bool,
}

/// Where the next bytes come from.
#[derive(Debug)]
enum Source {
    /// An open connection, how many of its bytes come before `position`, and how many are left of its `Content-Range`.
    Open { body: Box<Body>, skip: u64, range_left: Option<u64> },
    /// The connection was lost or closed. The next read requests the rest.
    Detached,
    /// The registry has sent everything.
    Finished,
}

impl Client {
    /// Opens a blob and waits for the head of the registry's response (end-2).
    pub async fn blob(
        &self,
        target: &Target,
        digest: &Digest,
        range: BlobRange,
        call: Arc<CallContext>,
    ) -> Result<Blob, RexError> {
        let mut blob = self.unopened_blob(target, digest, range, call).await?;
        blob.verifier = None;
        blob.open().await?;
        // While neither the size nor the end is known, a limit may lie beyond the end of the blob.
        let may_be_whole = range.offset == 0
            && range.limit.is_none_or(|limit| match blob.size {
                Some(size) => limit >= size,
                None => blob.end.is_none(),
            });
        if may_be_whole {
            blob.verifier = Some(Verifier::new(digest.algorithm()));
        }
        Ok(blob)
    }

    /// A blob that is opened when it is read for the first time.
    pub async fn unopened_blob(
        &self,
        target: &Target,
        digest: &Digest,
        range: BlobRange,
        call: Arc<CallContext>,
    ) -> Result<Blob, RexError> {
        let upstream = self.upstream(&target.registry).await?;
        Ok(Blob::unopened(upstream, target.clone(), digest.clone(), range, call))
    }
}

impl Blob {
    fn unopened(
        upstream: Arc<Upstream>,
        target: Target,
        digest: Digest,
        range: BlobRange,
        call: Arc<CallContext>,
    ) -> Self {
        let is_whole = range == BlobRange::default();
        Self {
            upstream,
            scope: Scope::Pull(target.repository.clone()),
            target,
            verifier: is_whole.then(|| Verifier::new(digest.algorithm())),
            digest,
            call,
            span: Span::current(),
            media_type: String::new(),
            size: None,
            range,
            end: None,
            position: range.offset,
            source: Source::Detached,
            pending: Bytes::new(),
            held: Bytes::new(),
            resumes: 0,
            attempts: Attempts::default(),
            ranges: false,
            repeated: false,
        }
    }

    /// A read of the same blob that has not begun.
    #[must_use]
    pub fn again(&self, range: BlobRange, call: Arc<CallContext>) -> Self {
        let upstream = Arc::clone(&self.upstream);
        Self::unopened(upstream, self.target.clone(), self.digest.clone(), range, call)
    }

    /// Another read of what this one has not returned yet, on a connection of its own. It goes on with the hash.
    #[must_use]
    pub fn rest(&self, call: Arc<CallContext>) -> Self {
        Self {
            media_type: self.media_type.clone(),
            size: self.size,
            end: self.end,
            position: self.position,
            verifier: self.verifier.clone(),
            ranges: self.ranges,
            ..self.again(self.range, call)
        }
    }

    /// The call that the read is for.
    #[must_use]
    pub fn call(&self) -> Arc<CallContext> {
        Arc::clone(&self.call)
    }

    /// The same read, for this call alone.
    #[must_use]
    pub fn for_call(self, call: Arc<CallContext>) -> Self {
        Self { call, ..self }
    }

    /// The requested digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The registry's `Content-Type`.
    #[must_use]
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The size of the whole blob in bytes, if the registry sent it.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// How many bytes will be returned, if that is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.end.map(|end| end.saturating_sub(self.range.offset))
    }

    /// The offset of the next piece.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether the blob's digest is checked. At the end of [`next`](Self::next) this means that it matched.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.verifier.is_some()
    }

    /// How often the read resumed after a lost connection.
    #[must_use]
    pub fn resumes(&self) -> u32 {
        self.resumes
    }

    /// Closes the connection and drops every byte that was not returned; the next read requests them again. For readers that
    /// have stopped reading, so that they hold neither memory nor a registry's connection. Does nothing if the registry has
    /// not shown that it serves ranges, because it would send the beginning again.
    pub fn detach(&mut self) {
        if self.ranges {
            self.close();
        }
    }

    fn close(&mut self) {
        if let Source::Open { .. } = self.source {
            self.source = Source::Detached;
            self.pending = Bytes::new();
            self.held = Bytes::new();
        }
    }

    /// The next piece, of at most `max` bytes; `None` at the end. Cancel safe: no piece is lost.
    pub async fn next(&mut self, max: usize) -> Result<Option<Bytes>, RexError> {
        loop {
            if self.read_end().is_some_and(|end| self.position >= end) {
                return self.finish().map(|()| None);
            }
            if !self.pending.is_empty() {
                return self.take_piece(max).map(Some);
            }
            if let Source::Finished = self.source {
                self.finish_without_size();
                continue;
            }
            self.receive().await?;
        }
    }

    /// Makes the held bytes the rest of the blob: the registry has sent everything, and only now the size is known.
    fn finish_without_size(&mut self) {
        self.pending = std::mem::take(&mut self.held);
        let size = self.position.saturating_add(self.pending.len() as u64);
        let end = self.requested_end().map_or(size, |end| end.min(size));
        if end < size {
            // The limit was before the end, so this is a part.
            self.verifier = None;
        }
        self.end = Some(end);
    }

    fn take_piece(&mut self, max: usize) -> Result<Bytes, RexError> {
        let left = self.read_end().map_or(u64::MAX, |end| end - self.position);
        let length = self.pending.len().min(max.max(1)).min(usize::try_from(left).unwrap_or(usize::MAX));
        // A copy: a slice would keep all of hyper's read buffer, up to 400 KiB, for as long as the caller does not read. The
        // bytes are in the processor's cache for the hash anyway.
        let piece = Bytes::copy_from_slice(&self.pending.split_to(length));
        self.position += length as u64;
        self.attempts.returned(self.position);
        if let Some(verifier) = &mut self.verifier {
            verifier.update(&piece);
        }
        if self.end == Some(self.position) {
            self.finish()?;
        }
        Ok(piece)
    }

    /// Ends the read, and compares the digest of a whole blob.
    fn finish(&mut self) -> Result<(), RexError> {
        self.source = Source::Finished;
        if self.end.is_none() {
            // The read stopped at its limit before the size was known, so this was a part.
            self.verifier = None;
        }
        let Some(verifier) = &self.verifier else {
            return Ok(());
        };
        let computed = verifier.clone().finish();
        if computed == self.digest {
            return Ok(());
        }
        let problem =
            format!("received {} bytes for {}, and their digest is {computed}", verifier.seen(), self.digest);
        Err(RexError::Integrity { at: self.at(), problem })
    }

    /// The exclusive end of the read, if it is known.
    fn read_end(&self) -> Option<u64> {
        self.end.or_else(|| self.requested_end())
    }

    /// The exclusive end of the caller's limit.
    fn requested_end(&self) -> Option<u64> {
        self.range.limit.map(|limit| self.range.offset.saturating_add(limit))
    }

    fn at(&self) -> At {
        self.upstream.at(Some(&self.target.repository))
    }

    fn invalid(&self, problem: String) -> RexError {
        RexError::Validation { at: self.at(), problem }
    }
}
