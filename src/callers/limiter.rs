//! Enforces what a caller may use: [`CallerLimits`], over all of its calls.
//!
//! Calls over `max_calls`, `max_streams` or `requests_per_second` are refused, not queued: a caller that waits in this
//! service would use its memory. `bytes_per_second` is different: it delays the chunks of streams, because a stream that
//! failed would have to be read again.

use std::{
    num::NonZeroU64,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};

use super::token_bucket::TokenBucket;
use crate::{
    error::{CallerLimit, RexError},
    policy::{Caller, CallerLimits},
};

/// When to retry after a limit on calls at once. When one of them ends is not known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a call does, as far as limits distinguish it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// It has one response.
    Unary,
    /// It streams a blob.
    Stream,
}

/// The limits of one caller, and what its calls use of them.
#[derive(Debug)]
pub struct CallerLimiter {
    caller: Caller,
    calls: Option<Arc<Semaphore>>,
    streams: Option<Arc<Semaphore>>,
    requests: Option<Mutex<TokenBucket>>,
    blob_bytes: Option<Mutex<TokenBucket>>,
}

/// Admits one call. It counts until this is dropped.
#[derive(Debug)]
pub struct CallerPermit {
    limiter: Arc<CallerLimiter>,
    _call: Option<OwnedSemaphorePermit>,
    _stream: Option<OwnedSemaphorePermit>,
}

impl CallerLimiter {
    /// Enforces the caller's limits. `None` if it has none.
    pub(super) fn of(caller: &Caller) -> Option<Arc<Self>> {
        let limits = caller.limits();
        if *limits == CallerLimits::default() {
            return None;
        }
        let semaphore = |count: Option<NonZeroU64>| {
            let permits = usize::try_from(count?.get()).unwrap_or(usize::MAX);
            Some(Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))))
        };
        let bucket = |rate: Option<NonZeroU64>| Some(Mutex::new(TokenBucket::new(rate?, Instant::now())));
        Some(Arc::new(Self {
            calls: semaphore(limits.max_calls),
            streams: semaphore(limits.max_streams),
            requests: bucket(limits.requests_per_second),
            blob_bytes: bucket(limits.bytes_per_second),
            caller: caller.clone(),
        }))
    }

    /// Admits a call. A call that is refused uses nothing.
    ///
    /// # Errors
    ///
    /// [`RexError::CallerLimited`], which names the limit.
    pub fn admit(self: &Arc<Self>, kind: CallKind) -> Result<CallerPermit, RexError> {
        let call = self.acquire(self.calls.as_ref(), CallerLimit::MaxCalls)?;
        let stream = match kind {
            CallKind::Unary => None,
            CallKind::Stream => self.acquire(self.streams.as_ref(), CallerLimit::MaxStreams)?,
        };
        // Last: a token cannot be dropped like a permit.
        if let Some(requests) = &self.requests {
            lock(requests)
                .try_take(Instant::now())
                .map_err(|wait| self.limited(CallerLimit::RequestsPerSecond, wait))?;
        }
        Ok(CallerPermit { limiter: Arc::clone(self), _call: call, _stream: stream })
    }

    fn acquire(
        &self,
        semaphore: Option<&Arc<Semaphore>>,
        limit: CallerLimit,
    ) -> Result<Option<OwnedSemaphorePermit>, RexError> {
        let permit = semaphore.map(|semaphore| Arc::clone(semaphore).try_acquire_owned()).transpose();
        permit.map_err(|_| self.limited(limit, RETRY_AFTER))
    }

    fn limited(&self, limit: CallerLimit, retry_after: Duration) -> RexError {
        let limits = self.caller.limits();
        let value = match limit {
            CallerLimit::MaxCalls => limits.max_calls,
            CallerLimit::MaxStreams => limits.max_streams,
            CallerLimit::RequestsPerSecond => limits.requests_per_second,
        };
        RexError::CallerLimited {
            caller: self.caller.name().to_owned(),
            limit,
            value: value.map(NonZeroU64::get).unwrap_or_default(),
            retry_after,
        }
    }
}

impl CallerPermit {
    /// The largest chunk of a stream: `bytes`, or less for a caller with a low rate, so that no chunk takes more than a
    /// second of the rate.
    #[must_use]
    pub fn chunk_bytes(&self, bytes: usize) -> usize {
        let rate = self.limiter.caller.limits().bytes_per_second;
        rate.map_or(bytes, |rate| bytes.min(usize::try_from(rate.get()).unwrap_or(usize::MAX)))
    }

    /// Waits until this many bytes of a blob may be sent. The streams of the caller take turns, because each of them waits
    /// for one chunk at a time. Cancel safe: the bytes of a future that is dropped are not counted.
    pub async fn pace(&self, bytes: usize) {
        let Some(bucket) = &self.limiter.blob_bytes else { return };
        let wait = lock(bucket).take(bytes, Instant::now());
        if wait.is_zero() {
            return;
        }
        let mut reserved = Reserved { bucket, bytes };
        sleep(wait).await;
        reserved.bytes = 0;
    }
}

/// Bytes that were taken from the bucket and not sent yet. Returned when dropped.
struct Reserved<'a> {
    bucket: &'a Mutex<TokenBucket>,
    bytes: usize,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            lock(self.bucket).give_back(self.bytes);
        }
    }
}

fn lock(bucket: &Mutex<TokenBucket>) -> MutexGuard<'_, TokenBucket> {
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "limiter_tests.rs"]
mod tests;
