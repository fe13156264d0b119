//! What a caller received of a stream. Reading it checks what holds for every stream, however it ends: one header, which
//! is first; contiguous chunks from the header's offset on; nothing after the trailer.

use bytes::Bytes;
use rexd::grpc::proto::{
    BlobChunk, BlobHeader, BlobTrailer, StreamBlobRequest, StreamBlobResponse,
    registry_service_client::RegistryServiceClient, stream_blob_response::Frame,
};
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::support::status::Failure;

/// A stream, read to its end.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) header: BlobHeader,
    pub(crate) data: Vec<u8>,
    /// The sizes of the chunks, in order.
    pub(crate) chunks: Vec<usize>,
    pub(crate) trailer: Option<BlobTrailer>,
    /// The status in place of a trailer.
    pub(crate) error: Option<Status>,
}

impl Received {
    /// Opens a stream and reads it. An error is that of a stream without a header.
    pub(crate) async fn read(
        client: &mut RegistryServiceClient<Channel>,
        request: StreamBlobRequest,
    ) -> Result<Self, Status> {
        let offset = request.offset;
        let mut stream = soon(client.stream_blob(request)).await?.into_inner();
        let received = Self::rest(begin(&mut stream).await, stream).await;
        assert_eq!(received.header.offset, offset);
        Ok(received)
    }

    async fn rest(header: BlobHeader, mut stream: Streaming<StreamBlobResponse>) -> Self {
        let mut received = Self { header, data: Vec::new(), chunks: Vec::new(), trailer: None, error: None };
        loop {
            match soon(stream.message()).await {
                Ok(Some(message)) => received.take(message),
                Ok(None) => break,
                Err(status) => {
                    received.error = Some(status);
                    break;
                }
            }
        }
        assert!(
            received.trailer.is_some() != received.error.is_some(),
            "a trailer or an error: {:?}",
            received.error
        );
        received
    }

    fn take(&mut self, message: StreamBlobResponse) {
        assert!(self.trailer.is_none(), "a message after the trailer: {message:?}");
        match message.frame {
            Some(Frame::Chunk(BlobChunk { offset, data })) => {
                let expected = self.header.offset + self.data.len() as i64;
                assert_eq!(offset, expected, "chunks are contiguous, and their offsets those of the blob");
                assert!(!data.is_empty(), "a chunk without bytes");
                self.chunks.push(data.len());
                self.data.extend_from_slice(&data);
            }
            Some(Frame::Trailer(trailer)) => {
                assert_eq!(trailer.bytes_sent, self.data.len() as i64);
                self.trailer = Some(trailer);
            }
            other => panic!("an unexpected message in the stream: {other:?}"),
        }
    }

    /// The trailer of a stream that must be exactly this part of a blob.
    pub(crate) fn complete(&self, expected: &[u8]) -> BlobTrailer {
        assert!(self.error.is_none(), "{:?}", self.error);
        assert_eq!(self.data.len(), expected.len());
        assert!(self.data == expected, "wrong bytes");
        self.trailer.unwrap()
    }

    /// The failure that ended a stream early. The bytes before it must be right, and fewer than all of `blob`.
    pub(crate) fn broken(self, blob: &[u8], code: Code, reason: &str) -> Failure {
        let from = self.header.offset as usize;
        assert!(blob[from..].starts_with(&self.data), "wrong bytes before the error");
        assert!(self.data.len() < blob.len() - from, "a complete blob and an error");
        let status = self.error.unwrap_or_else(|| panic!("no error after {} bytes", self.data.len()));
        Failure::expect(status, code, reason, "a broken stream")
    }
}

/// Reads the first message, which is the header.
pub(crate) async fn begin(stream: &mut Streaming<StreamBlobResponse>) -> BlobHeader {
    match next(stream).await {
        Frame::Header(header) => header,
        other => panic!("not a header: {other:?}"),
    }
}

/// Reads one chunk.
pub(crate) async fn chunk(stream: &mut Streaming<StreamBlobResponse>) -> Bytes {
    match next(stream).await {
        Frame::Chunk(chunk) => chunk.data,
        other => panic!("not a chunk: {other:?}"),
    }
}

async fn next(stream: &mut Streaming<StreamBlobResponse>) -> Frame {
    soon(stream.message()).await.unwrap().unwrap().frame.unwrap()
}

/// Waits for at most the patience of these tests.
async fn soon<T>(coming: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(crate::PATIENCE, coming).await;
    waited.unwrap_or_else(|_| panic!("nothing arrived within {:?}", crate::PATIENCE))
}
