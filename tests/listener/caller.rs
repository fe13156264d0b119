//! A well-behaved caller, over any byte stream.

use std::{net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

/// No test waits longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The server status in a health response.
pub(crate) const SERVING: u8 = 1;
pub(crate) const NOT_SERVING: u8 = 2;

/// An HTTP/2 connection to the server.
pub(crate) struct Caller {
    send: SendRequest<Bytes>,
    /// Completes when the connection ends.
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

/// The end of a call.
#[derive(Debug)]
pub(crate) struct Response {
    /// The `grpc-status`.
    pub(crate) code: i32,
    pub(crate) message: String,
    pub(crate) headers: HeaderMap,
    /// The headers, where the response has no other.
    pub(crate) trailers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Caller {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, h2::Error> {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    pub(crate) async fn over<T>(io: T) -> Result<Self, h2::Error>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (send, connection) = h2::client::handshake(io).await?;
        Ok(Self { send, connection: tokio::spawn(connection) })
    }

    /// Sends a request with one message, and does not wait for the response.
    pub(crate) async fn begin(
        &mut self,
        path: &str,
        header: (&'static str, &str),
        message: &[u8],
    ) -> Result<ResponseFuture, h2::Error> {
        let request = Request::post(format!("http://rexd.test{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header(header.0, header.1);
        self.send_request(request.body(()).unwrap(), message).await
    }

    /// Sends a request with one message.
    pub(crate) async fn send_request(
        &mut self,
        request: Request<()>,
        message: &[u8],
    ) -> Result<ResponseFuture, h2::Error> {
        let mut send = timeout(PATIENCE, self.send.clone().ready()).await.expect("a free stream")?;
        let (response, mut body) = send.send_request(request, false)?;
        let mut framed = BytesMut::from(&[0, 0, 0, 0, message.len() as u8][..]);
        framed.extend_from_slice(message);
        body.send_data(framed.freeze(), true)?;
        Ok(response)
    }

    /// Sends the headers of a request. The test sends its message.
    pub(crate) async fn send_headers(
        &mut self,
        path: &str,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let request = Request::post(format!("http://rexd.test{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let mut send = timeout(PATIENCE, self.send.clone().ready()).await.expect("a free stream")?;
        send.send_request(request.body(()).unwrap(), false)
    }

    /// A call of the test's own service.
    pub(crate) async fn work(&mut self, method: &str, ms: u64) -> Result<ResponseFuture, h2::Error> {
        self.begin(&format!("/test.TestService/{method}"), ("x-ms", &ms.to_string()), &[]).await
    }

    /// The server's health.
    pub(crate) async fn health(&mut self) -> Result<u8, h2::Error> {
        let response = end(self.begin("/grpc.health.v1.Health/Check", ("x-ms", "0"), &[]).await?).await?;
        assert_eq!(response.code, 0, "{response:?}");
        Ok(*response.body.last().unwrap())
    }
}

/// Waits for the end of a call.
pub(crate) async fn end(response: ResponseFuture) -> Result<Response, h2::Error> {
    let reading = async {
        let (parts, mut stream) = response.await?.into_parts();
        let mut body = BytesMut::new();
        while let Some(data) = stream.data().await {
            let data = data?;
            stream.flow_control().release_capacity(data.len())?;
            body.extend_from_slice(&data);
        }
        let trailers = stream.trailers().await?.unwrap_or_else(|| parts.headers.clone());
        let text = |name| trailers.get(name).map_or("", |value| value.to_str().unwrap());
        let code = text("grpc-status").parse().unwrap_or(-1);
        let message = text("grpc-message").to_owned();
        Ok(Response { code, message, headers: parts.headers, trailers, body: body.freeze() })
    };
    timeout(PATIENCE, reading).await.expect("the call ends")
}
