//! Bytes of a blob -> messages of `StreamBlob`, as they go on the wire.
//!
//! `data` is the last field of `BlobChunk`, and `chunk` the only field of its message: a message is a short prefix and then
//! the untouched bytes. So a chunk is never copied; prefix and bytes go to HTTP/2 as they are, and any stock client
//! decodes them. The permit, the deadline and the numbers of a stream live here, because they live as long as it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{Stream, stream};
use oci_spec::image::MediaType;
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tonic::Status;

use super::{deadline::Deadline, proto, status};
use crate::{client::Blob, error::RexError, server::Closing};

/// The stream type that the generated code wants; no message ever passes through it.
pub(super) type NoStream = stream::Empty<Result<proto::StreamBlobResponse, Status>>;

/// A message, framed for gRPC, in two parts: what was made, and what came from the registry.
#[derive(Debug)]
pub(super) struct Framed {
    pub(super) prefix: Bytes,
    pub(super) data: Bytes,
}

/// A blob's messages: the header, the chunks, the trailer.
#[derive(Debug)]
pub(super) struct BlobFrames {
    shared: Arc<Shared>,
    offset: u64,
    chunk_bytes: usize,
    deadline: Deadline,
    closing: Option<Closing>,
    next: Next,
    _permit: OwnedSemaphorePermit,
}

/// What the stream and the watch beside it share; both are polled in one task, so nobody ever waits for the other.
#[derive(Debug)]
pub(super) struct Shared {
    blob: Mutex<Blob>,
    /// Odd while a message is being made, even while the caller's window is waited for.
    turns: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
enum Next {
    Header,
    Chunk,
    Nothing,
}

impl Shared {
    /// More with every message, and once more while one is being made.
    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Whether the registry is waited for, and not the caller.
    pub(super) fn is_making_a_message(&self) -> bool {
        self.turns() % 2 == 1
    }

    /// Gives the registry's connection back, unless a message is being made.
    pub(super) fn detach(&self) {
        if let Ok(mut blob) = self.blob.try_lock() {
            blob.detach();
        }
    }
}

impl BlobFrames {
    pub(super) fn new(
        blob: Blob,
        offset: u64,
        chunk_bytes: usize,
        permit: OwnedSemaphorePermit,
        deadline: Deadline,
        closing: Option<Closing>,
    ) -> Self {
        let shared = Arc::new(Shared { blob: Mutex::new(blob), turns: AtomicU64::new(0) });
        Self { shared, offset, chunk_bytes, deadline, closing, next: Next::Header, _permit: permit }
    }

    /// For the watch beside the stream.
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// The messages, up to the trailer or to the status that ends them.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Framed, Status>> {
        stream::try_unfold(self, |mut frames| async move {
            if frames.closing.as_ref().is_some_and(|closing| closing.0.is_cancelled()) {
                return Err(Closing::status());
            }
            frames.shared.turns.fetch_add(1, Ordering::Relaxed);
            let next = match frames.deadline.instant() {
                Some(deadline) => tokio::time::timeout_at(deadline, frames.next())
                    .await
                    .map_err(|_| status::deadline_exceeded())?,
                None => frames.next().await,
            };
            frames.shared.turns.fetch_add(1, Ordering::Relaxed);
            Ok(next?.map(|framed| (framed, frames)))
        })
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
                    return Ok(Some(chunk(offset, data)));
                }
                self.next = Next::Nothing;
                Ok(Some(message(proto::stream_blob_response::Frame::Trailer(trailer(&blob, self.offset)))))
            }
            Next::Nothing => Ok(None),
        }
    }
}

fn header(blob: &Blob, offset: u64) -> proto::BlobHeader {
    proto::BlobHeader {
        descriptor: Some(proto::Descriptor {
            media_type: MediaType::from(blob.media_type()).to_string(),
            digest: blob.digest().to_string(),
            size: signed(blob.size().unwrap_or_default()),
            ..proto::Descriptor::default()
        }),
        offset: signed(offset),
        length: signed(blob.length().unwrap_or_default()),
        size_known: blob.size().is_some(),
    }
}

fn trailer(blob: &Blob, offset: u64) -> proto::BlobTrailer {
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

/// The five bytes before a message (gRPC "PROTOCOL-HTTP2", Length-Prefixed-Message): not compressed, and its length.
fn put_message_head(buffer: &mut BytesMut, length: usize) {
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// A message without bytes of the registry's.
fn message(frame: proto::stream_blob_response::Frame) -> Framed {
    let message = proto::StreamBlobResponse { frame: Some(frame) }.encode_to_vec();
    let mut prefix = BytesMut::with_capacity(5 + message.len());
    put_message_head(&mut prefix, message.len());
    prefix.put_slice(&message);
    Framed { prefix: prefix.freeze(), data: Bytes::new() }
}

/// The field numbers of the proto, which are part of the API.
const CHUNK_FIELD: u32 = 2;
const OFFSET_FIELD: u32 = 1;
const DATA_FIELD: u32 = 2;

/// A chunk: the message's head, `chunk` with its length, `offset`, `data` with its length – and then the bytes themselves.
fn chunk(offset: u64, data: Bytes) -> Framed {
    let offset_length = if offset == 0 { 0 } else { key_len(OFFSET_FIELD) + encoded_len_varint(offset) };
    let data_head =
        if data.is_empty() { 0 } else { key_len(DATA_FIELD) + encoded_len_varint(data.len() as u64) };
    let chunk_length = offset_length + data_head + data.len();
    let message_length = key_len(CHUNK_FIELD) + encoded_len_varint(chunk_length as u64) + chunk_length;
    let mut prefix = BytesMut::with_capacity(5 + message_length - data.len());
    put_message_head(&mut prefix, message_length);
    encode_key(CHUNK_FIELD, WireType::LengthDelimited, &mut prefix);
    encode_varint(chunk_length as u64, &mut prefix);
    // Fields with their default value are not written.
    if offset > 0 {
        encode_key(OFFSET_FIELD, WireType::Varint, &mut prefix);
        encode_varint(offset, &mut prefix);
    }
    if !data.is_empty() {
        encode_key(DATA_FIELD, WireType::LengthDelimited, &mut prefix);
        encode_varint(data.len() as u64, &mut prefix);
    }
    Framed { prefix: prefix.freeze(), data }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Prefix and bytes are what prost would have written.
        #[test]
        fn a_chunk_is_prosts_own_encoding(offset in prop_oneof![Just(0u64), 0..=i64::MAX as u64], size in prop_oneof![0..70_000usize, Just(1 << 20)]) {
            let data = Bytes::from(vec![7; size]);
            let chunk_message = proto::BlobChunk { offset: signed(offset), data: data.clone() };
            let expected = message(proto::stream_blob_response::Frame::Chunk(chunk_message)).prefix;
            let framed = chunk(offset, data);
            prop_assert_eq!([framed.prefix, framed.data].concat(), expected);
        }
    }
}
