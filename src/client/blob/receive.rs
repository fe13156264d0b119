//! Receives the bytes of a blob, and resumes when the connection is lost.

use bytes::{Bytes, BytesMut};
use tracing::Instrument as _;

use super::{Blob, Source, attempts::is_lost_connection};
use crate::{error::RexError, http::wait_before_try};

/// A read may resume this often, and once more for each [`BYTES_PER_RESUME`] that it has returned. So a registry that sends
/// one byte a connection does not cause one request a byte.
const FREE_RESUMES: u64 = 32;
const BYTES_PER_RESUME: u64 = 64 * 1024;

/// While the size is not known, this many bytes are held back, so that the end of a corrupt blob is never returned.
const HELD_BACK: usize = 16 * 1024;

impl Blob {
    /// Waits for bytes, for the end, or for a new connection.
    pub(super) async fn receive(&mut self) -> Result<(), RexError> {
        let Source::Open { body, skip, range_left } = &mut self.source else {
            let span = self.span.clone();
            return match self.open().instrument(span).await {
                // The retries of the request itself have already respected `Retry-After`.
                Err(error @ RexError::Server { retry_after: Some(_), .. }) => Err(error),
                Err(error) if is_lost_connection(&error) => self.resume_later(error).await,
                outcome => outcome,
            };
        };
        match body.next().await {
            Ok(Some(chunk)) if range_left.is_some_and(|left| left < chunk.len() as u64) => {
                self.close();
                Err(self.invalid("the body is longer than its Content-Range".to_owned()))
            }
            Ok(Some(mut chunk)) => {
                if let Some(left) = range_left {
                    *left -= chunk.len() as u64;
                }
                let skipped = chunk.len().min(usize::try_from(*skip).unwrap_or(usize::MAX));
                *skip -= skipped as u64;
                bytes::Buf::advance(&mut chunk, skipped);
                if !chunk.is_empty() {
                    self.accept(chunk);
                }
                Ok(())
            }
            Ok(None) => {
                let short = *skip;
                let arrived = self.position + (self.pending.len() + self.held.len()) as u64;
                match self.end {
                    Some(end) if arrived < end => {
                        let problem = "the body ended early".to_owned();
                        self.resume_later(RexError::Network { at: self.at(), problem, cause: None }).await
                    }
                    None if short > 0 => Err(self.ends_before_position(self.at(), self.position - short)),
                    _ => {
                        self.source = Source::Finished;
                        Ok(())
                    }
                }
            }
            Err(error) if is_lost_connection(&error) => self.resume_later(error).await,
            Err(error) => Err(error),
        }
    }

    /// Accepts a chunk. While the size is not known, its end is held back.
    fn accept(&mut self, mut chunk: Bytes) {
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

    /// Notes a lost connection. It is an error when too many attempts in a row brought no byte, or when all attempts together
    /// brought too few.
    async fn resume_later(&mut self, error: RexError) -> Result<(), RexError> {
        self.close();
        let tries = self.attempts.lost(&error, self.position);
        let earned = (self.position - self.range.offset) / BYTES_PER_RESUME;
        let Some(tries) = tries.filter(|_| u64::from(self.resumes) < FREE_RESUMES + earned) else {
            return Err(error);
        };
        self.resumes += 1;
        tracing::debug!(parent: &self.span, %error, position = self.position, "lost the connection of a blob; requesting the rest");
        if tries > 1 {
            wait_before_try(tries).await;
        }
        Ok(())
    }
}
