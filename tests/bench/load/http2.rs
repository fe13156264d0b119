//! The HTTP/2 client (RFC 9113) for everything that is compared: connections, blob requests, and bodies. A body is read
//! in one of two ways: the window is opened again at once, or never.

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{Builder, SendRequest},
};
use http::Request;
use prost::Message;
use rexd::grpc::proto::StreamBlobRequest;
use tokio::net::TcpStream;

use crate::{Blob, Outcome};

/// The flow-control windows in bytes: of one stream, and of a connection.
#[derive(Clone, Copy)]
pub(crate) struct Windows {
    pub(crate) stream: u32,
    pub(crate) connection: u32,
}

impl Windows {
    /// 1 MiB a stream, 4 MiB a connection: on loopback, the window is then never the limit.
    pub(crate) const WIDE: Self = Self { stream: 1 << 20, connection: 4 << 20 };

    /// HTTP/2's initial window (RFC 9113, section 6.9.2), and that much for each stream of a connection.
    pub(crate) fn first_for(streams: u32) -> Self {
        let stream = 65_535;
        Self { stream, connection: stream * streams }
    }
}

/// A connection in clear text. The largest frame is left at 16 KiB, as most clients do.
pub(crate) async fn connect(address: SocketAddr, windows: Windows) -> Outcome<SendRequest<Bytes>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (client, connection) = Builder::new()
        .enable_push(false)
        .initial_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .handshake(stream)
        .await?;
    // The end of the connection is an error on each of its streams.
    tokio::spawn(connection);
    Ok(client)
}

/// A call whose response headers have arrived.
pub(crate) struct Call {
    pub(crate) body: Body,
    /// Kept, so that the stream can be reset.
    pub(crate) stream: SendStream<Bytes>,
}

/// `GET` of a blob, as registries know it (end-2).
pub(crate) async fn get_blob(client: &SendRequest<Bytes>, address: SocketAddr, blob: &Blob) -> Outcome<Body> {
    let uri = format!("http://{address}/v2/{}/blobs/{}", blob.repository, blob.digest);
    let mut client = client.clone().ready().await?;
    let (response, _) = client.send_request(Request::get(uri).body(())?, true)?;
    let response = response.await?;
    if response.status() != 200 {
        return Err(format!("the response is {}", response.status()).into());
    }
    Ok(Body { stream: response.into_body() })
}

/// Calls `StreamBlob` for a blob, from an offset on.
pub(crate) async fn stream_blob(
    client: &SendRequest<Bytes>,
    address: SocketAddr,
    blob: &Blob,
    offset: i64,
) -> Outcome<Call> {
    let request = StreamBlobRequest {
        registry: blob.registry.clone(),
        repository: blob.repository.clone(),
        digest: blob.digest.clone(),
        offset,
        ..StreamBlobRequest::default()
    };
    let path = "/rex.registry.v1.RegistryService/StreamBlob";
    call(client, address, path, framed(&request)).await
}

/// A gRPC call (gRPC "PROTOCOL-HTTP2") with one message.
pub(crate) async fn call(
    client: &SendRequest<Bytes>,
    address: SocketAddr,
    path: &str,
    message: Bytes,
) -> Outcome<Call> {
    let request = Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let mut client = client.clone().ready().await?;
    let (response, mut stream) = client.send_request(request, false)?;
    stream.send_data(message, true)?;
    let response = response.await?;
    if let Some(status) = response.headers().get("grpc-status")
        && status != "0"
    {
        let message = response.headers().get("grpc-message");
        return Err(format!("status {status:?}, {message:?}").into());
    }
    Ok(Call { body: Body { stream: response.into_body() }, stream })
}

/// A message with gRPC's prefix of five bytes.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let bytes = message.encode_to_vec();
    let mut framed = BytesMut::with_capacity(5 + bytes.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    framed.put_slice(&bytes);
    framed.freeze()
}

/// The body of a response.
pub(crate) struct Body {
    stream: RecvStream,
}

impl Body {
    /// The next bytes. The window is opened for as many more.
    pub(crate) async fn data(&mut self) -> Outcome<Option<Bytes>> {
        let data = self.data_without_window_update().await?;
        if let Some(data) = &data {
            self.stream.flow_control().release_capacity(data.len())?;
        }
        Ok(data)
    }

    /// The next bytes. The window is not opened again, so the peer does not learn that they were read.
    pub(crate) async fn data_without_window_update(&mut self) -> Result<Option<Bytes>, h2::Error> {
        self.stream.data().await.transpose()
    }

    /// The status in the trailers, after the last byte.
    pub(crate) async fn status(&mut self) -> Outcome<i32> {
        let trailers = self.stream.trailers().await?.ok_or("no trailers")?;
        let status = trailers.get("grpc-status").ok_or("no grpc-status")?;
        Ok(status.to_str()?.parse()?)
    }
}
