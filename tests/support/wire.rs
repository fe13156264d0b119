//! HTTP/1.1 messages as bytes: just enough parsing (RFC 9112) to see requests and to corrupt responses. Written by hand,
//! because a library would refuse to send the broken messages that the tests need.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The maximum size of a head, and of a request body.
const MAX_BYTES: usize = 1024 * 1024;

/// The first line of a message and its header fields, in order.
#[derive(Clone, Debug)]
pub struct Head {
    pub start_line: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The value of the first field of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    pub fn remove(&mut self, name: &str) {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }

    /// Replaces every field of that name by one.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.into()));
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start_line);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

/// A request with its body.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    pub head: Head,
    pub body: Vec<u8>,
}

impl Request {
    /// As [`Head::header`].
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }
}

/// Reads one head, and the part of the body that arrived with it. `None` if the peer closed before the first byte.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(Head, Vec<u8>)>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Ok(Some((parse_head(&bytes)?, body)));
        }
        if bytes.len() > MAX_BYTES {
            return Err(malformed("the head is too long"));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return if bytes.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
}

/// Reads one request with its body. `None` if the peer closed without one.
pub async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Request>> {
    let Some((head, mut body)) = read_head(stream).await? else {
        return Ok(None);
    };
    let mut words = head.start_line.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(malformed("no request line"));
    };
    let (method, target) = (method.to_owned(), target.to_owned());
    let length = match head.header("content-length") {
        Some(length) => length.parse().map_err(|_| malformed("Content-Length is not a number"))?,
        None => 0,
    };
    if length > MAX_BYTES {
        return Err(malformed("the body is too long"));
    }
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(Request { method, target, head, body }))
}

fn parse_head(bytes: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("the head is not UTF-8"))?;
    let mut lines = text.trim_end().split("\r\n");
    let start_line = lines.next().unwrap_or_default().to_owned();
    let headers = lines
        .map(|line| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned())))
        .collect::<Option<_>>()
        .ok_or_else(|| malformed("a header line without a colon"))?;
    Ok(Head { start_line, headers })
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
