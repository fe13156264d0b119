//! A caller that reads exactly as much as a test requests. The window of its HTTP/2 connection is never the limit.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::{
    RecvStream,
    client::{Builder, SendRequest},
};
use http::{Request, Response};
use prost::Message;
use rexd::grpc::proto::{GetManifestRequest, ListCatalogRequest, ListTagsRequest, StreamBlobRequest};
use tokio::{net::TcpStream, time::timeout};
use tonic::Status;

use crate::PATIENCE;

/// The initial window of a stream, HTTP/2's default.
pub(crate) const WINDOW_BYTES: usize = 65_535;

pub(crate) struct Caller(SendRequest<Bytes>);

/// A response of which only the headers have been read.
#[derive(Debug)]
pub(crate) struct UnreadResponse(RecvStream);

impl Caller {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::connect_with_window(address, WINDOW_BYTES).await
    }

    /// A caller whose streams begin with a window of this size.
    pub(crate) async fn connect_with_window(address: SocketAddr, bytes: usize) -> Self {
        let io = TcpStream::connect(address).await.unwrap();
        let mut builder = Builder::new();
        builder.initial_connection_window_size(1 << 30).initial_window_size(u32::try_from(bytes).unwrap());
        let (send, connection) = builder.handshake(io).await.unwrap();
        tokio::spawn(connection);
        Self(send)
    }

    /// Requests a manifest of `org/app`.
    pub(crate) async fn manifest(&self, reference: &str, timeout: &str) -> Result<UnreadResponse, Status> {
        let request = GetManifestRequest {
            repository: "org/app".to_owned(),
            reference: reference.to_owned(),
            ..GetManifestRequest::default()
        };
        self.call("GetManifest", request, timeout).await
    }

    pub(crate) async fn tags(&self) -> Result<UnreadResponse, Status> {
        let request = ListTagsRequest {
            repository: "org/app".to_owned(),
            page_size: 1000,
            ..ListTagsRequest::default()
        };
        self.call("ListTags", request, "60S").await
    }

    pub(crate) async fn catalog(&self) -> Result<UnreadResponse, Status> {
        let request = ListCatalogRequest { page_size: 1000, ..ListCatalogRequest::default() };
        self.call("ListCatalog", request, "60S").await
    }

    pub(crate) async fn blob(&self, request: StreamBlobRequest) -> Result<UnreadResponse, Status> {
        self.call("StreamBlob", request, "60S").await
    }

    async fn call(&self, rpc: &str, message: impl Message, deadline: &str) -> Result<UnreadResponse, Status> {
        let request = Request::post(format!("http://rexd.test/rex.registry.v1.RegistryService/{rpc}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", deadline)
            .body(())
            .unwrap();
        let mut send = self.0.clone().ready().await.unwrap();
        let (response, mut body) = send.send_request(request, false).unwrap();
        let message = message.encode_to_vec();
        let head = u32::try_from(message.len()).unwrap().to_be_bytes();
        body.send_data([&[0], &head[..], &message].concat().into(), true).unwrap();
        let response: Response<RecvStream> = timeout(PATIENCE, response).await.unwrap().unwrap();
        match Status::from_header_map(response.headers()) {
            Some(status) => Err(status),
            None => Ok(UnreadResponse(response.into_body())),
        }
    }
}

impl UnreadResponse {
    /// Reads this many bytes, or to the end, without opening the window.
    pub(crate) async fn read(&mut self, bytes: usize) -> Result<Vec<u8>, h2::Error> {
        let mut read = Vec::new();
        while read.len() < bytes
            && let Some(data) = timeout(PATIENCE, self.0.data()).await.expect("bytes, or an end")
        {
            read.extend_from_slice(&data?);
        }
        Ok(read)
    }

    /// Opens the window for this many bytes.
    pub(crate) fn open_window(&mut self, bytes: usize) {
        self.0.flow_control().release_capacity(bytes).unwrap();
    }

    /// Reads a message to the end, a window at a time, with a pause before each.
    pub(crate) async fn read_slowly(mut self, pause: Duration) -> Vec<u8> {
        let mut read = self.read(WINDOW_BYTES).await.unwrap();
        let length = 5 + u32::from_be_bytes(read[1..5].try_into().unwrap()) as usize;
        while read.len() < length {
            tokio::time::sleep(pause).await;
            self.open_window(WINDOW_BYTES);
            read.extend(self.read(WINDOW_BYTES.min(length - read.len())).await.unwrap());
        }
        let trailers = timeout(PATIENCE, self.0.trailers()).await.unwrap().unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        read.split_off(5)
    }

    /// Waits for the reset; the window may still let some bytes through before it.
    pub(crate) async fn ends_by_reset(mut self) {
        let error = self.read(usize::MAX).await.expect_err("the stream is reset");
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "{error}");
    }
}
