//! A blob that is being fetched once, for all who read it.
//!
//! No task pumps it. Whoever needs bytes that are not there yet polls the next step: a shared future that fetches a chunk. So the
//! fastest reader sets the pace, nobody waits for a slow one, and when the last reader leaves, the request ends.
//!
//! Complete pieces go to the content store, where slower readers find them. Without a store, the blob is small and stays in
//! memory. [`Blob`] returns the last chunk only when the digest matches, so no reader ever has a complete blob that is corrupt.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::{
    client::{Blob, BlobRange, CallContext},
    error::RexError,
    memory::Reservation,
    oci::Digest,
    reads::{
        fleet::LeaseGuard,
        store::{PIECE_BYTES, Staging, StagingReader},
    },
};

/// The bytes of a step, as many as a caller's chunk has by default.
const CHUNK_BYTES: usize = 64 * 1024;

/// Bytes that stay in memory although they are in the store, for readers that are just behind.
const WINDOW_BYTES: u64 = PIECE_BYTES as u64;

/// The memory of a fill with a store: the piece that is received, the one that is written, and the window.
pub(super) const FILL_BYTES: usize = 3 * PIECE_BYTES;

/// A connection that brought nothing for this long is given back when a reader stalls.
const IDLE: Duration = Duration::from_secs(2);

/// What is done with a complete blob that was kept in memory.
pub(super) type Keep = Box<dyn FnOnce(Bytes) -> BoxFuture<'static, ()> + Send>;

/// A future that makes the next bytes available.
pub(super) type Step = Shared<BoxFuture<'static, ()>>;

/// A blob that is being fetched.
pub(in crate::reads) struct Fill {
    digest: Digest,
    media_type: String,
    size: u64,
    opened: Instant,
    call: Arc<CallContext>,
    state: Mutex<State>,
    _memory: Reservation,
}

struct State {
    /// The bytes in memory, which follow each other.
    chunks: VecDeque<Bytes>,
    /// The offset of the first one.
    begin: u64,
    /// The end of the last one.
    received: u64,
    staged: Option<StagingReader>,
    outcome: Outcome,
    step: Option<Step>,
    /// What fetches the next chunk; `None` while a step has it.
    source: Option<Source>,
    moved: Instant,
    resumes: u32,
    /// Makes other reads of the blob.
    origin: Blob,
}

enum Outcome {
    Running,
    Complete,
    Failed(RexError),
    /// The bytes after those that were received are not kept. Each reader fetches them itself, as this read would have.
    Ended(Box<Blob>),
}

/// Where the bytes of a fill come from, and where they go.
pub(super) struct Source {
    pub(super) blob: Blob,
    /// Where pieces go; `None` for a small blob that stays in memory.
    pub(super) staging: Option<Staging>,
    pub(super) keep: Option<Keep>,
    /// Keeps the other replicas waiting until the blob is in the store, or will not be.
    pub(super) lease: Option<LeaseGuard>,
}

/// What a reader finds at its position.
pub(super) enum Found {
    /// Bytes in memory that begin there.
    Chunk(Bytes),
    /// A piece in the store has them.
    Staged(StagingReader),
    /// They are not there yet. This step brings more.
    Pending(Step),
    /// The rest has to be fetched, with this read that has not begun.
    Ended(Box<Blob>),
    /// The blob ends there.
    End,
    /// They will not come.
    Failed(RexError),
}

impl fmt::Debug for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fill").field("digest", &self.digest).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Fill {
    /// Fetches a blob of this size that has been opened as a whole.
    pub(super) fn new(source: Source, size: u64, memory: Reservation, call: Arc<CallContext>) -> Arc<Self> {
        let (now, blob) = (Instant::now(), &source.blob);
        let (digest, media_type) = (blob.digest().clone(), blob.media_type().to_owned());
        let state = State {
            chunks: VecDeque::new(),
            begin: 0,
            received: 0,
            staged: source.staging.as_ref().map(Staging::reader),
            outcome: Outcome::Running,
            step: None,
            moved: now,
            resumes: 0,
            origin: blob.again(BlobRange::default(), Arc::clone(&call)),
            source: Some(source),
        };
        let state = Mutex::new(state);
        Arc::new(Self { digest, media_type, size, opened: now, call, state, _memory: memory })
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

    /// When the registry sent the head of its response.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// Lets a call wait for this fill too.
    pub(super) fn join(&self, call: &CallContext) {
        self.call.join(call);
    }

    /// A read of the blob that has not begun.
    pub(super) fn again(&self, range: BlobRange, call: Arc<CallContext>) -> Blob {
        self.lock().origin.again(range, call)
    }

    /// How often the read resumed after a lost connection.
    pub(super) fn resumes(&self) -> u32 {
        self.lock().resumes
    }

    /// Whether a read from this offset can follow, so that it gets its first bytes without waiting for those before them.
    pub(super) fn serves(&self, offset: u64) -> bool {
        let state = self.lock();
        offset <= state.received && matches!(state.outcome, Outcome::Running | Outcome::Complete)
    }

    /// What there is at a position below the size. A blob may end before the size that its registry announced.
    pub(super) fn at(self: &Arc<Self>, position: u64) -> Found {
        let mut state = self.lock();
        if let Some(chunk) = state.chunk(position) {
            return Found::Chunk(chunk);
        }
        if position < state.received
            && let Some(staged) = &state.staged
        {
            return Found::Staged(staged.clone());
        }
        match &state.outcome {
            Outcome::Failed(error) => return Found::Failed(error.clone()),
            Outcome::Ended(rest) => return Found::Ended(Box::new(rest.rest(Arc::clone(&self.call)))),
            Outcome::Complete => return Found::End,
            Outcome::Running => {}
        }
        if let Some(source) = state.source.take() {
            let step = step(Arc::downgrade(self), source);
            state.step = Some(step.in_current_span().boxed().shared());
        }
        match &state.step {
            Some(step) => Found::Pending(step.clone()),
            None => Found::End,
        }
    }

    /// Gives the registry's connection back if nobody has needed it for a while.
    pub(super) fn detach_if_idle(&self) {
        let mut state = self.lock();
        if state.moved.elapsed() >= IDLE
            && let Some(source) = &mut state.source
        {
            source.blob.detach();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn chunk(&self, position: u64) -> Option<Bytes> {
        let mut before = position.checked_sub(self.begin)?;
        for chunk in &self.chunks {
            match usize::try_from(before) {
                Ok(skip) if skip < chunk.len() => return Some(chunk.slice(skip..)),
                _ => before -= chunk.len() as u64,
            }
        }
        None
    }

    fn stored(&self) -> u64 {
        self.staged.as_ref().map(StagingReader::size).unwrap_or_default()
    }

    /// The bytes that are not in the store yet.
    fn unstored(&self) -> Bytes {
        let mut skip = usize::try_from(self.stored() - self.begin).unwrap_or(usize::MAX);
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        for chunk in &self.chunks {
            let from = skip.min(chunk.len());
            skip -= from;
            piece.extend_from_slice(chunk.get(from..).unwrap_or_default());
        }
        piece.freeze()
    }

    /// The piece that is to be written, if one is complete.
    fn complete_piece(&self) -> Option<Bytes> {
        let is_complete = self.staged.is_some() && self.received - self.stored() >= PIECE_BYTES as u64;
        is_complete.then(|| self.unstored())
    }

    fn push(&mut self, chunk: Bytes) {
        self.received += chunk.len() as u64;
        self.chunks.push_back(chunk);
        let keep_from = self.stored().saturating_sub(WINDOW_BYTES);
        while let Some(first) = self.chunks.front()
            && self.begin + first.len() as u64 <= keep_from
        {
            self.begin += first.len() as u64;
            self.chunks.pop_front();
        }
    }
}

/// Fetches a chunk, and meanwhile writes the piece that is complete.
async fn step(fill: Weak<Fill>, mut source: Source) {
    let Some((piece, received, size)) = fill.upgrade().map(|fill| {
        let state = fill.lock();
        (state.complete_piece(), state.received, fill.size)
    }) else {
        return;
    };
    // Chunks end where pieces end.
    let left_of_piece = PIECE_BYTES - usize::try_from(received % PIECE_BYTES as u64).unwrap_or_default();
    let append = async {
        match (&mut source.staging, piece) {
            (Some(staging), Some(piece)) => staging.append(piece).await.is_ok(),
            _ => true,
        }
    };
    let (is_kept, next) = tokio::join!(append, source.blob.next(left_of_piece.min(CHUNK_BYTES)));
    let Some(fill) = fill.upgrade() else { return };
    let outcome = match next {
        Ok(Some(chunk)) => {
            let end = received + chunk.len() as u64;
            fill.lock().push(chunk);
            if end == size {
                source.complete(&fill, is_kept).await;
                Outcome::Complete
            } else if is_kept {
                Outcome::Running
            } else {
                Outcome::Ended(Box::new(source.blob.rest(Arc::clone(&fill.call))))
            }
        }
        // The blob has no bytes, or fewer than its registry announced and yet the digest.
        Ok(None) => {
            source.complete(&fill, is_kept).await;
            Outcome::Complete
        }
        Err(error) => Outcome::Failed(error),
    };
    let mut state = fill.lock();
    (state.moved, state.resumes) = (Instant::now(), source.blob.resumes());
    if let Outcome::Running = outcome {
        state.source = Some(source);
    }
    state.outcome = outcome;
}

impl Source {
    /// Keeps the blob, whose digest has matched.
    async fn complete(&mut self, fill: &Arc<Fill>, is_kept: bool) {
        if let Some(keep) = self.keep.take() {
            let mut content = BytesMut::new();
            fill.lock().chunks.iter().for_each(|chunk| content.extend_from_slice(chunk));
            keep(content.freeze()).await;
        }
        let Some(mut staging) = self.staging.take().filter(|_| is_kept) else { return };
        let last = fill.lock().unstored();
        if !last.is_empty() && staging.append(last).await.is_err() {
            return;
        }
        // An upload to a bucket takes a while, and its readers do not wait for it. Until it is complete, the fill serves new readers.
        let (fill, lease) = (Arc::clone(fill), self.lease.take());
        tokio::spawn(async move {
            let _until_published = lease;
            if let Err(error) = staging.publish(&fill.media_type).await {
                tracing::debug!(digest = %fill.digest, %error, "the blob is not kept");
            }
        });
    }
}
