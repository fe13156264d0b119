//! Blobs: OCI Distribution Specification, "Pulling blobs", with ranges (RFC 9110 section 14).
//!
//! A [`Blob`] is polled: it reads from the registry when it is asked for the next piece, and dropping it ends the request.
//! Two promises are kept here:
//!
//! - **No wrong byte.** A whole blob is hashed piece by piece as it is handed out, and the piece that would complete it is
//!   handed out only when the digest matches.
//! - **A cut costs nothing.** When the connection breaks, the rest is asked for with a closed range, through the registry
//!   again – a presigned storage URL may be stale by now – and the hash goes on.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{Client, Target};
use crate::{
    error::{At, RexError},
    oci::{Digest, Verifier},
    transport::{Body, Scope, Upstream, pause_before_try},
};

mod open;

/// Attempts in a row that bring no byte before a cut becomes the caller's error.
const MAX_FRUITLESS: u32 = 3;

/// What is held back while the size is not known: enough that a blob without its end is of no use to anyone.
const HELD_BACK: usize = 16 * 1024;

/// Which part of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlobRange {
    /// The first byte.
    pub offset: u64,
    /// The most bytes; `None` is to the end.
    pub limit: Option<u64>,
}

/// A blob on its way.
#[derive(Debug)]
pub struct Blob {
    upstream: Arc<Upstream>,
    target: Target,
    scope: Scope,
    digest: Digest,
    deadline: Option<Instant>,
    media_type: String,
    size: Option<u64>,
    range: BlobRange,
    /// The end of what will be handed out, exclusive; `None` while the size is not known.
    end: Option<u64>,
    /// The next byte to hand out.
    position: u64,
    source: Source,
    /// Bytes that came and were not handed out; they begin at `position`.
    pending: Bytes,
    /// Bytes after `pending`, held back because the end may be near.
    held: Bytes,
    /// Hashes what is handed out; `None` for a part of a blob, which no digest is of.
    verifier: Option<Verifier>,
    resumes: u32,
    fruitless: u32,
    /// Whether the registry has shown that it serves ranges.
    ranges: bool,
    /// Whether a registry that ignores ranges has already sent the beginning once more.
    repeated: bool,
}

/// Where the next bytes come from.
#[derive(Debug)]
enum Source {
    /// The connection, and how many of its bytes come before the position.
    Open { body: Box<Body>, skip: u64 },
    /// The connection was lost, or given back; the next read asks for the rest.
    Detached,
    /// The registry has sent everything.
    Finished,
}

impl Client {
    /// Opens a blob and waits for the registry's answer (end-2).
    pub async fn blob(
        &self,
        target: &Target,
        digest: &Digest,
        range: BlobRange,
        deadline: Option<Instant>,
    ) -> Result<Blob, RexError> {
        let mut blob = Blob {
            upstream: self.upstream(&target.registry)?,
            target: target.clone(),
            scope: Scope::Pull(target.repository.clone()),
            digest: digest.clone(),
            deadline,
            media_type: String::new(),
            size: None,
            range,
            end: None,
            position: range.offset,
            source: Source::Detached,
            pending: Bytes::new(),
            held: Bytes::new(),
            verifier: None,
            resumes: 0,
            fruitless: 0,
            ranges: false,
            repeated: false,
        };
        blob.open().await?;
        let whole =
            range.offset == 0 && range.limit.is_none_or(|limit| blob.size.is_some_and(|size| limit >= size));
        if whole {
            blob.verifier = Some(Verifier::new(digest.algorithm()));
        }
        Ok(blob)
    }
}

impl Blob {
    /// The digest that was asked for.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The registry's `Content-Type`.
    #[must_use]
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The size of the whole blob in bytes, where the registry told it.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// How many bytes will be handed out, where it is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.end.map(|end| end.saturating_sub(self.range.offset))
    }

    /// Where the next piece begins.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether the end of [`next`](Self::next) means that the digest matched.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.verifier.is_some()
    }

    /// How many lost connections were made good.
    #[must_use]
    pub fn resumes(&self) -> u32 {
        self.resumes
    }

    /// Gives the connection back, and every byte that was not handed out: the next read asks for them again. For readers
    /// who stand still, so that they hold neither memory nor a registry's connection. A registry that has not shown that it
    /// serves ranges is kept waiting instead: it would send the beginning again.
    pub fn detach(&mut self) {
        if self.ranges {
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        if let Source::Open { .. } = self.source {
            self.source = Source::Detached;
            self.pending = Bytes::new();
            self.held = Bytes::new();
        }
    }

    /// The next piece, of at most `max` bytes; `None` at the end. Cancel safe: a piece is handed out or kept.
    pub async fn next(&mut self, max: usize) -> Result<Option<Bytes>, RexError> {
        loop {
            if self.stop().is_some_and(|stop| self.position >= stop) {
                return self.finish().map(|()| None);
            }
            if !self.pending.is_empty() {
                return self.hand_out(max).map(Some);
            }
            if let Source::Finished = self.source {
                // Only now is the size known.
                self.pending = std::mem::take(&mut self.held);
                self.end = Some(self.position.saturating_add(self.pending.len() as u64));
                continue;
            }
            self.receive().await?;
        }
    }

    fn hand_out(&mut self, max: usize) -> Result<Bytes, RexError> {
        let left = self.stop().map_or(u64::MAX, |stop| stop - self.position);
        let length = self.pending.len().min(max.max(1)).min(usize::try_from(left).unwrap_or(usize::MAX));
        // A copy: a slice would keep the whole buffer it was read into, 400 KiB of hyper's, for as long as it waits for a
        // caller who does not read. It is in the cache for the hash anyway.
        let piece = Bytes::copy_from_slice(&self.pending.split_to(length));
        self.position += length as u64;
        // Bytes that were only held back are no progress: they are asked for again.
        self.fruitless = 0;
        if let Some(verifier) = &mut self.verifier {
            verifier.update(&piece);
        }
        if self.end == Some(self.position) {
            self.finish()?;
        }
        Ok(piece)
    }

    /// Compares the digest, once everything has been hashed.
    fn finish(&mut self) -> Result<(), RexError> {
        self.source = Source::Finished;
        let Some(verifier) = &self.verifier else {
            return Ok(());
        };
        let computed = verifier.clone().finish();
        if computed == self.digest {
            return Ok(());
        }
        let problem =
            format!("{} bytes came for {}, and their digest is {computed}", verifier.seen(), self.digest);
        Err(RexError::Integrity { at: self.at(), problem })
    }

    /// Waits for bytes, for the end, or for a connection that can give them.
    async fn receive(&mut self) -> Result<(), RexError> {
        let Source::Open { body, skip } = &mut self.source else {
            return match self.open().await {
                // What the registry says about when to ask again, the request's own retries have judged.
                Err(error @ RexError::Server { retry_after: Some(_), .. }) => Err(error),
                Err(error) if is_cut(&error) => self.cut(error).await,
                outcome => outcome,
            };
        };
        match body.next().await {
            Ok(Some(mut chunk)) => {
                let skipped = chunk.len().min(usize::try_from(*skip).unwrap_or(usize::MAX));
                *skip -= skipped as u64;
                bytes::Buf::advance(&mut chunk, skipped);
                if !chunk.is_empty() {
                    self.take(chunk);
                }
                Ok(())
            }
            Ok(None) => {
                let short = *skip;
                let arrived = self.position + (self.pending.len() + self.held.len()) as u64;
                match self.end {
                    Some(end) if arrived < end => {
                        let problem = "the body ended early".to_owned();
                        self.cut(RexError::Network { at: self.at(), problem, cause: None }).await
                    }
                    None if short > 0 => {
                        let (offset, size) = (self.position, Some(self.position - short));
                        Err(RexError::Range { at: self.at(), offset, size })
                    }
                    _ => {
                        self.source = Source::Finished;
                        Ok(())
                    }
                }
            }
            Err(error) if is_cut(&error) => self.cut(error).await,
            Err(error) => Err(error),
        }
    }

    /// Takes a chunk of the registry's; while the size is not known, its end is held back.
    fn take(&mut self, mut chunk: Bytes) {
        if self.end.is_some() {
            self.pending = chunk;
            return;
        }
        let tail = chunk.split_off(chunk.len() - chunk.len().min(HELD_BACK));
        // A copy, so that the end of a chunk does not keep all of it in memory.
        let before = std::mem::replace(&mut self.held, Bytes::copy_from_slice(&tail));
        let mut pending = BytesMut::with_capacity(before.len() + chunk.len());
        pending.extend_from_slice(&before);
        pending.extend_from_slice(&chunk);
        self.pending = pending.freeze();
    }

    /// Notes a lost connection; an error when too many in a row have brought nothing.
    async fn cut(&mut self, error: RexError) -> Result<(), RexError> {
        self.let_go();
        self.fruitless += 1;
        if self.fruitless > MAX_FRUITLESS {
            return Err(error);
        }
        self.resumes += 1;
        tracing::debug!(%error, position = self.position, "the blob's connection was lost; asking for the rest");
        if self.fruitless > 1 {
            pause_before_try(self.fruitless).await;
        }
        Ok(())
    }

    /// Where handing out stops, as far as that is known.
    fn stop(&self) -> Option<u64> {
        self.end.or_else(|| self.wanted())
    }

    /// The end that the caller's limit asks for.
    fn wanted(&self) -> Option<u64> {
        self.range.limit.map(|limit| self.range.offset.saturating_add(limit))
    }

    fn at(&self) -> At {
        self.upstream.at(Some(&self.target.repository))
    }

    fn invalid(&self, problem: String) -> RexError {
        RexError::Validation { at: self.at(), problem }
    }
}

/// Whether an error is a lost connection, after which the rest can be asked for.
fn is_cut(error: &RexError) -> bool {
    matches!(error, RexError::Network { .. } | RexError::Timeout { .. } | RexError::Server { .. })
}
