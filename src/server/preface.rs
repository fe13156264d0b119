//! Reads the first bytes of a connection (RFC 9113, section 3.4) before HTTP/2 begins, so that a peer that sends nothing, or
//! speaks HTTP/1.1, costs only a socket for some seconds.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink};

/// The bytes that every HTTP/2 client sends first.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The response to HTTP/1.1. It tells users of curl or a browser what this port is for.
const NOT_HTTP1: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain\r\n\
    content-length: 38\r\n\
    connection: close\r\n\
    \r\n\
    this port speaks gRPC, that is HTTP/2\n";
/// The most bytes that are read and dropped of a request that is not HTTP/2. Closing a socket with unread bytes resets the
/// connection, and the peer would lose the response.
const DISCARDED_BYTES: u64 = 16 * 1024;

/// The protocol that the peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/2. The whole preface has been read from the connection.
    Http2,
    /// Another protocol. A response was sent, and the connection can be dropped.
    Other,
}

/// Reads to the end of the preface, or to the first byte that differs from it. The function has no time limit: its caller
/// sets one.
pub(super) async fn read<T: AsyncRead + AsyncWrite + Unpin>(io: &mut T) -> io::Result<Protocol> {
    let mut expected = PREFACE.as_slice();
    let mut buffer = [0; PREFACE.len()];
    while !expected.is_empty() {
        let (free, _) = buffer.split_at_mut(expected.len());
        let read = io.read(free).await?;
        let (got, _) = free.split_at(read);
        if got.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(rest) = expected.strip_prefix(got) else {
            if got.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
                io.write_all(NOT_HTTP1).await?;
            }
            io.shutdown().await?;
            copy(&mut io.take(DISCARDED_BYTES), &mut sink()).await?;
            return Ok(Protocol::Other);
        };
        expected = rest;
    }
    Ok(Protocol::Http2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_preface_is_known_in_pieces() -> io::Result<()> {
        let (mut client, mut server) = tokio::io::duplex(64);
        let writing = tokio::spawn(async move {
            for byte in PREFACE {
                client.write_all(&[*byte]).await?;
                tokio::task::yield_now().await;
            }
            client.write_all(b"next").await?;
            Ok::<_, io::Error>(client)
        });
        assert_eq!(read(&mut server).await?, Protocol::Http2);
        let mut next = [0; 4];
        server.read_exact(&mut next).await?;
        assert_eq!(&next, b"next", "nothing after the preface is taken");
        drop(writing.await);
        Ok(())
    }

    #[tokio::test]
    async fn the_http_1_response_has_the_length_it_states() {
        let response = String::from_utf8_lossy(NOT_HTTP1);
        let body = response.split_once("\r\n\r\n").map(|(_, body)| body.len());
        assert_eq!(body, Some(38));
    }
}
