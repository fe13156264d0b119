//! Decodes the messages of `StreamBlob` and checks their order.

use bytes::{Buf as _, Bytes, BytesMut};
use prost::Message as _;
use rexd::{
    grpc::proto::{StreamBlobResponse, stream_blob_response::Frame},
    oci::{Algorithm, Verifier},
};

use crate::Outcome;

/// Splits the body into messages.
#[derive(Default)]
pub(crate) struct Messages {
    buffer: BytesMut,
}

impl Messages {
    pub(crate) fn push(&mut self, data: &Bytes) {
        self.buffer.extend_from_slice(data);
    }

    /// The next message, if all of it has arrived.
    pub(crate) fn next(&mut self) -> Outcome<Option<Frame>> {
        let Some(head) = self.buffer.first_chunk::<5>() else {
            return Ok(None);
        };
        let [0, length @ ..] = *head else {
            return Err("a compressed message".into());
        };
        let length = u32::from_be_bytes(length) as usize;
        if self.buffer.len() < 5 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        let message = StreamBlobResponse::decode(self.buffer.split_to(length).freeze())?;
        Ok(Some(message.frame.ok_or("a message without a frame")?))
    }
}

/// Assembles a blob from its header, contiguous chunks and trailer.
pub(crate) struct Content {
    verifier: Verifier,
    header: bool,
    trailer: bool,
    pub(crate) resumes: i32,
}

impl Content {
    pub(crate) fn new() -> Self {
        Self { verifier: Verifier::new(Algorithm::Sha256), header: false, trailer: false, resumes: 0 }
    }

    pub(crate) fn take(&mut self, frame: Frame) -> Outcome<()> {
        match frame {
            Frame::Header(_) if !self.header => self.header = true,
            Frame::Chunk(chunk) if self.header && !self.trailer => {
                if u64::try_from(chunk.offset) != Ok(self.verifier.seen()) {
                    return Err(format!(
                        "a chunk at offset {}, after {} bytes",
                        chunk.offset,
                        self.verifier.seen()
                    )
                    .into());
                }
                self.verifier.update(&chunk.data);
            }
            Frame::Trailer(trailer) if self.header && !self.trailer => {
                self.trailer = true;
                self.resumes = trailer.resumes;
            }
            _ => return Err("a frame out of order".into()),
        }
        Ok(())
    }

    /// The digest of the blob, once it is complete.
    pub(crate) fn digest(self) -> Outcome<String> {
        if !self.trailer {
            return Err("the stream ended without a trailer".into());
        }
        Ok(self.verifier.finish().to_string())
    }
}
