//! Blobs: from memory, from the content store, from a read that is under way, or from the registry.
//!
//! | file | what it does |
//! |---|---|
//! | `fill`, `fills` | a blob that is being fetched once, for all who read it, and all of them |
//! | `follower` | one reader of it |
//! | `kept` | a reader of a blob that is kept |
//! | `access` | what this replica and the others know about a blob |
//! | `read` | a blob as its caller reads it |

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use self::{
    fill::{FILL_BYTES, Fill, Source as FillSource},
    follower::Follower,
    kept::{KeptRead, Place},
};
use super::{
    Reads,
    answer::{Answer, Source},
    documents::{BlobState, ManifestView},
    flight::Join,
    freshness::{Freshness, is_no_response},
    keys::BlobKey,
    shared::Turn,
    store::PIECE_BYTES,
};
use crate::{
    client::{BlobHead, BlobRange, CallContext, Target},
    error::RexError,
    oci::Digest,
};

mod access;
mod fill;
mod fills;
mod follower;
mod kept;
mod read;

pub(super) use fills::{Fills, Opened};
pub use read::BlobRead;

/// A blob up to this size is kept in memory, and is fetched once for all who ask at the same time even without a store.
const SMALL_BYTES: u64 = PIECE_BYTES as u64;

impl<V: ManifestView> Reads<V> {
    /// Opens a blob.
    pub async fn blob(
        &self,
        target: &Target,
        digest: &Digest,
        range: BlobRange,
        call: CallContext,
    ) -> Result<Answer<BlobRead>, RexError> {
        let credential = self.0.client.credential(&target.registry, Some(&target.repository)).await;
        let key = Arc::new(BlobKey { target: target.clone(), digest: digest.clone(), credential });
        let call = Arc::new(call);
        let state = self.0.documents.blob_state(&key).await;
        if let Some((BlobState::Absent(error), asked)) = &state
            && self.0.settings.absent(None).allows(asked.elapsed())
        {
            return Err((**error).clone());
        }
        if let Some(answer) = self.kept_blob(&key, state.as_ref(), range, &call).await {
            return answer;
        }
        let access_check = self.0.settings.access_check;
        if let Some(fill) = self.0.fills.get(&key)
            && fill.opened().elapsed() <= access_check
            && fill.serves(range.offset)
        {
            return Ok(Answer::new(follow(&key, fill, range, call)?, Source::Miss));
        }
        let is_large =
            matches!(state, Some((BlobState::Present { size: Some(size), .. }, _)) if size > SMALL_BYTES);
        if range != BlobRange::default() || (is_large && self.0.store.is_none()) {
            return self.alone(&key, range, call).await;
        }
        self.together(&key, range, call).await
    }

    /// Opens a blob for this call alone.
    async fn alone(
        &self,
        key: &Arc<BlobKey>,
        range: BlobRange,
        call: Arc<CallContext>,
    ) -> Result<Answer<BlobRead>, RexError> {
        let blob = self.0.client.blob(&key.target, &key.digest, range, call).await?;
        Ok(Answer::new(BlobRead::registry(blob), Source::Miss))
    }

    /// Opens a whole blob for all who ask now.
    async fn together(
        &self,
        key: &Arc<BlobKey>,
        range: BlobRange,
        call: Arc<CallContext>,
    ) -> Result<Answer<BlobRead>, RexError> {
        let open = |call: Arc<CallContext>| {
            let (reads, key) = (self.clone(), Arc::clone(key));
            async move { reads.open(&key, call).await }.boxed()
        };
        let refusal = || self.0.client.pause(&key.target.registry, Some(&key.target.repository));
        let (opened, joined) = self.0.opens.join(key, Join::Any, &call, refusal, open).await;
        match opened? {
            Opened::Shared(fill) => Ok(Answer::new(follow(key, fill, range, call)?, Source::Miss)),
            Opened::Stored => match self.kept_blob(key, None, range, &call).await {
                Some(answer) => answer,
                None => self.alone(key, range, call).await,
            },
            Opened::Alone(_) if joined => self.alone(key, range, call).await,
            Opened::Alone(blob) => {
                let blob = blob.lock().unwrap_or_else(PoisonError::into_inner).take();
                match blob {
                    Some(blob) => Ok(Answer::new(BlobRead::registry(blob.for_call(call)), Source::Miss)),
                    None => self.alone(key, range, call).await,
                }
            }
        }
    }

    async fn open(&self, key: &Arc<BlobKey>, call: Arc<CallContext>) -> Result<Opened, RexError> {
        if let Some(absent) = self.shared_absence(key).await {
            return Err(absent);
        }
        let lease = match self.fill_turn(key, &call).await {
            Turn::Taken(()) => return Ok(Opened::Stored),
            Turn::Own(lease) => lease,
        };
        let (documents, asked) = (&self.0.documents, Instant::now());
        let BlobKey { target, digest, .. } = &**key;
        let opened = self.0.client.blob(target, digest, BlobRange::default(), Arc::clone(&call)).await;
        let blob = match opened {
            Ok(blob) => blob,
            Err(error) => {
                self.forget_access(key, &error, asked).await;
                return Err(error);
            }
        };
        let state = BlobState::Present { media_type: blob.media_type().into(), size: blob.size() };
        self.keep_access(key, state, asked).await;
        let alone = |blob| Opened::Alone(Arc::new(Mutex::new(Some(blob))));
        let Some(size) = blob.size() else { return Ok(alone(blob)) };
        let staging = match &self.0.store {
            Some(store) => store.begin(&key.stored_name(), Some(size)).await,
            None => None,
        };
        let is_small = size <= SMALL_BYTES;
        let memory = if is_small { usize::try_from(size).unwrap_or(FILL_BYTES) } else { FILL_BYTES };
        let Ok(memory) = call.reserve(memory) else { return Ok(alone(blob)) };
        if staging.is_none() && !is_small {
            return Ok(alone(blob));
        }
        let keep: Option<fill::Keep> = is_small.then(|| {
            let (documents, key) = (documents.clone(), Arc::clone(key));
            let keep = move |content| {
                async move { documents.keep_blob(&key.target.registry, &key.digest, content).await }.boxed()
            };
            Box::new(keep) as fill::Keep
        });
        let fill = Fill::new(FillSource { blob, staging, keep, lease }, size, memory, call);
        self.0.fills.insert(key, &fill);
        Ok(Opened::Shared(fill))
    }

    /// The blob as it is kept, once the registry has said that it may be read. `None` if it is not kept, or if only a GET can tell.
    async fn kept_blob(
        &self,
        key: &Arc<BlobKey>,
        state: Option<&(BlobState, Instant)>,
        range: BlobRange,
        call: &Arc<CallContext>,
    ) -> Option<Result<Answer<BlobRead>, RexError>> {
        let mut answer = self.found_blob(key, state, range, call).await?;
        // What the store cannot give is fetched for all who read it, and kept again.
        if let Ok(answer) = &mut answer
            && !answer.value.begin().await
        {
            return None;
        }
        Some(answer)
    }

    async fn found_blob(
        &self,
        key: &Arc<BlobKey>,
        state: Option<&(BlobState, Instant)>,
        range: BlobRange,
        call: &Arc<CallContext>,
    ) -> Option<Result<Answer<BlobRead>, RexError>> {
        let settings = &self.0.settings;
        let place = self.place(key, range, call).await?;
        let place_size = place.size();
        let stale_if_error = settings.stale_if_error(&key.target.registry);
        let freshness = Freshness::new(None, settings.access_check, settings.access_check, stale_if_error);
        let shared = match state {
            Some((_, asked)) if freshness.allows(asked.elapsed()) => None,
            _ => self.shared_access(key).await,
        };
        let known = match shared.as_ref().or(state) {
            Some((BlobState::Present { media_type, .. }, asked)) => Some((media_type, asked.elapsed())),
            _ => None,
        };
        let answer = |media_type: &str, source, age| {
            let value = kept(key, media_type, place, range)?;
            Ok(Answer { value, source, age })
        };
        if let Some((media_type, age)) = known.filter(|(_, age)| freshness.allows(*age)) {
            return Some(answer(media_type, Source::Hit, age));
        }
        match self.access(key, call).await {
            Ok(head) => {
                let BlobHead { media_type, size } = head?;
                if size.is_some_and(|size| size != place_size) {
                    return None;
                }
                let media_type = media_type.as_deref().or(known.map(|(media_type, _)| &**media_type));
                Some(answer(media_type.unwrap_or(OCTETS), Source::Revalidated, std::time::Duration::ZERO))
            }
            Err(error) if is_no_response(&error) => {
                let stale = known.filter(|(_, age)| freshness.allows_if_error(*age));
                Some(match stale {
                    Some((media_type, age)) => answer(media_type, Source::Stale, age),
                    None => Err(error),
                })
            }
            Err(error @ RexError::Overloaded { .. }) => Some(Err(error)),
            // The response to a HEAD has no body that would say why.
            Err(_) => None,
        }
    }

    /// Where the blob is kept.
    async fn place(&self, key: &Arc<BlobKey>, range: BlobRange, call: &Arc<CallContext>) -> Option<Place> {
        let BlobKey { target, digest, .. } = &**key;
        if let Some(content) = self.0.documents.blob(&target.registry, digest).await {
            return Some(Place::Memory(content));
        }
        let kept = self.0.store.as_ref()?.get(&key.stored_name()).await?;
        if !kept.is_verified() && range != BlobRange::default() {
            // Others can write a bucket, and only the digest of the whole blob shows what is in it.
            return None;
        }
        let whole = BlobRange::default();
        let upstream = self.0.client.unopened_blob(target, digest, whole, Arc::clone(call)).await.ok()?;
        Some(Place::Store { kept, upstream: Box::new(upstream) })
    }
}

/// The media type of a blob whose registry does not say one.
const OCTETS: &str = "application/octet-stream";

/// A read of a blob that is being fetched.
fn follow(
    key: &BlobKey,
    fill: Arc<Fill>,
    range: BlobRange,
    call: Arc<CallContext>,
) -> Result<BlobRead, RexError> {
    let (offset, end) = bounds(key, range, fill.size())?;
    Ok(BlobRead::fill(Follower::new(fill, offset, end, call)))
}

/// A read of a blob that is kept.
fn kept(key: &BlobKey, media_type: &str, place: Place, range: BlobRange) -> Result<BlobRead, RexError> {
    let bounds = bounds(key, range, place.size())?;
    let digest = key.digest.clone();
    Ok(BlobRead::kept(KeptRead::new(key.at(), digest, media_type.to_owned(), place, bounds)))
}

/// The first byte and the exclusive end of a range.
fn bounds(key: &BlobKey, range: BlobRange, size: u64) -> Result<(u64, u64), RexError> {
    let BlobRange { offset, limit } = range;
    if offset > size {
        return Err(RexError::Range { at: key.at(), offset, size: Some(size) });
    }
    Ok((offset, limit.map_or(size, |limit| offset.saturating_add(limit).min(size))))
}
