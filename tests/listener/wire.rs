//! HTTP/2 frames as bytes, for what no client library would send.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::caller::PATIENCE;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A received frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code at `offset` of a RST_STREAM (0) or GOAWAY (4).
    pub(crate) fn code(&self) -> u32 {
        let offset = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[offset..offset + 4].try_into().unwrap())
    }
}

/// A frame to send.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literals without indexing (RFC 7541, section 6.2.2).
pub(crate) fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        assert!(name.len() < 127 && value.len() < 127, "one length byte");
        block.extend([0, name.len() as u8]);
        block.extend(name.as_bytes());
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    }
    block
}

/// The header block of a call.
pub(crate) fn call(path: &str) -> Vec<u8> {
    headers(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "rexd.test"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("x-ms", "3600000"),
    ])
}

/// A connection after the exchange of preface and SETTINGS.
pub(crate) async fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    while next(&mut stream).await.unwrap().kind != SETTINGS {}
    stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await.unwrap();
    stream
}

/// The next frame; an error at the end of the connection.
pub(crate) async fn next(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Frame> {
    let reading = async {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Ok(Frame { kind: head[3], stream, payload })
    };
    timeout(PATIENCE, reading).await.expect("a frame or the end")
}

/// The next frame of a kind.
pub(crate) async fn next_of(stream: &mut (impl AsyncReadExt + Unpin), kind: u8) -> io::Result<Frame> {
    loop {
        let frame = next(stream).await?;
        if frame.kind == kind {
            return Ok(frame);
        }
    }
}

/// Whether the peer closes the connection, with or without a reset, within `time`.
pub(crate) async fn closes_within(stream: &mut (impl AsyncReadExt + Unpin), time: Duration) -> bool {
    let mut buffer = [0; 4096];
    let reading = async { while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
    timeout(time, reading).await.is_ok()
}
