//! Turns a blob into the messages of `StreamBlob`: the header, the chunks, and the trailer or the status that ends the
//! stream. [`BlobMessages`] holds the state that lives as long as the stream, such as its deadline. The permits live longer,
//! because every chunk refers to them: when a caller opens a wide window but does not read its socket, h2 takes as much of
//! the stream as the connection's send buffer holds. A small blob fits in completely, so its stream ends before its bytes
//! are sent.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::{Stream, stream};
use oci_spec::image::MediaType;
use tokio::sync::Mutex;
use tonic::Status;

use super::{
    admission::StreamPermit,
    caller_limits::CallPermit,
    deadline::Deadline,
    proto, status,
    wire::{Framed, chunk, message},
};
use crate::{
    error::RexError, memory::bytes_with_permit, reads::BlobRead, server::Shutdown, telemetry::CallRecord,
};

/// The stream type that the generated code requires. No message passes through it.
pub(super) type UnusedStream = stream::Empty<Result<proto::StreamBlobResponse, Status>>;

/// A blob's messages: the header, the chunks, the trailer.
#[derive(Debug)]
pub(super) struct BlobMessages {
    shared: Arc<Shared>,
    offset: u64,
    chunk_bytes: usize,
    deadline: Deadline,
    shutdown: Option<Shutdown>,
    record: CallRecord,
    next: Next,
    permits: Arc<(StreamPermit, CallPermit)>,
}

/// Shared by the stream and its watchdog. Both are polled in one task, so neither waits for the lock.
#[derive(Debug)]
pub(super) struct Shared {
    blob: Mutex<BlobRead>,
    /// An odd number while a message is being made, an even number while the stream waits for the caller's window.
    steps: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
enum Next {
    Header,
    Chunk,
    Nothing,
}

impl Shared {
    /// A counter that grows when a message is begun and when it is complete.
    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Whether the stream waits for the registry, not for the caller.
    pub(super) fn is_making_a_message(&self) -> bool {
        self.steps() % 2 == 1
    }

    /// The offset of the next byte; `None` while a message is being made.
    pub(super) fn position(&self) -> Option<u64> {
        self.blob.try_lock().ok().map(|blob| blob.position())
    }

    /// Gives the registry's connection back, unless a message is being made.
    pub(super) fn detach(&self) {
        if let Ok(mut blob) = self.blob.try_lock() {
            blob.detach();
        }
    }
}

impl BlobMessages {
    pub(super) fn new(
        blob: BlobRead,
        offset: u64,
        chunk_bytes: usize,
        permits: (StreamPermit, CallPermit),
        deadline: Deadline,
        shutdown: Option<Shutdown>,
        record: CallRecord,
    ) -> Self {
        let shared = Arc::new(Shared { blob: Mutex::new(blob), steps: AtomicU64::new(0) });
        let permits = Arc::new(permits);
        Self { shared, offset, chunk_bytes, deadline, shutdown, record, next: Next::Header, permits }
    }

    /// The state that the stream's watchdog needs.
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// The messages, up to the trailer or to the status that ends the stream, and with it the call.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Framed, Status>> {
        stream::try_unfold(self, |mut messages| async move {
            match messages.next_message().await {
                Ok(Some(framed)) => Ok(Some((framed, messages))),
                Ok(None) => {
                    messages.record.end_ok();
                    Ok(None)
                }
                Err(status) => {
                    if let Ok(blob) = messages.shared.blob.try_lock() {
                        messages.record.resumes(blob.resumes());
                    }
                    Err(messages.record.fail(status))
                }
            }
        })
    }

    /// The next message. It fails when the deadline passes or the service shuts down.
    async fn next_message(&mut self) -> Result<Option<Framed>, Status> {
        if self.shutdown.as_ref().is_some_and(Shutdown::has_begun) {
            return Err(Shutdown::status());
        }
        self.shared.steps.fetch_add(1, Ordering::Relaxed);
        let next = match self.deadline.instant() {
            Some(deadline) => tokio::time::timeout_at(deadline, self.next())
                .await
                .map_err(|_| status::deadline_exceeded())?,
            None => self.next().await,
        };
        self.shared.steps.fetch_add(1, Ordering::Relaxed);
        Ok(next.inspect_err(|error| tracing::debug!(?error, "the stream failed"))?)
    }

    async fn next(&mut self) -> Result<Option<Framed>, RexError> {
        let mut blob = self.shared.blob.lock().await;
        match self.next {
            Next::Header => {
                self.next = Next::Chunk;
                Ok(Some(message(proto::stream_blob_response::Frame::Header(header(&blob, self.offset)))))
            }
            Next::Chunk => {
                let offset = blob.position();
                if let Some(data) = blob.next(self.chunk_bytes).await? {
                    let (_, call) = &*self.permits;
                    call.pace(data.len()).await;
                    self.record.sent(data.len());
                    let data = bytes_with_permit(data, Arc::clone(&self.permits));
                    return Ok(Some(chunk(offset, data)));
                }
                self.next = Next::Nothing;
                self.record.resumes(blob.resumes());
                Ok(Some(message(proto::stream_blob_response::Frame::Trailer(trailer(&blob, self.offset)))))
            }
            Next::Nothing => Ok(None),
        }
    }
}

fn header(blob: &BlobRead, offset: u64) -> proto::BlobHeader {
    proto::BlobHeader {
        blob_descriptor: Some(proto::ContentDescriptor {
            media_type: MediaType::from(blob.media_type()).to_string(),
            digest: blob.digest().to_string(),
            size: signed(blob.size().unwrap_or_default()),
            ..proto::ContentDescriptor::default()
        }),
        offset: signed(offset),
        length: signed(blob.length().unwrap_or_default()),
        size_known: blob.size().is_some(),
    }
}

fn trailer(blob: &BlobRead, offset: u64) -> proto::BlobTrailer {
    proto::BlobTrailer {
        bytes_sent: signed(blob.position() - offset),
        digest_verified: blob.is_verified(),
        resumes: i32::try_from(blob.resumes()).unwrap_or(i32::MAX),
    }
}

/// A blob of more than 2^63 bytes does not exist.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
