//! Relays one response through the fault proxy: it sends the request to the registry, changes the head and the body of the
//! response, and notices at once when the client is gone.

use std::{io, net::SocketAddr, ops::ControlFlow, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{
    connection_log::{ClosedBy, Entry},
    fault::Fault,
    wire::{self, Head, Request},
};

/// Bytes of a body that are read at once. Few, as the proxy must not buffer what a client does not read.
const RELAYED_AT_ONCE: usize = 64 * 1024;

/// Relays the response to `request`, with `faults`, until it is complete or the client is gone.
pub(super) async fn relay_response(
    client: TcpStream,
    upstream: SocketAddr,
    request: Request,
    faults: Vec<Fault>,
    entry: &Entry,
) -> ClosedBy {
    let (gone, mut out) = client.into_split();
    let sent = tokio::select! {
        // First, so that a client that is gone counts as gone even when writing to it failed too.
        biased;
        () = until_gone(gone) => return ClosedBy::Client,
        sent = send(&mut out, upstream, request, &faults, entry) => sent,
    };
    match sent {
        Ok(End::Reset) => {
            // SO_LINGER of zero makes close() a reset; the other half was dropped with the select.
            let _ = out.as_ref().set_zero_linger();
            out.forget();
        }
        Ok(End::Complete) | Err(_) => {
            let _ = out.shutdown().await;
        }
    }
    ClosedBy::Proxy
}

enum End {
    Complete,
    Reset,
}

/// Ends when the client closed or reset its side. A client that waits for a response sends nothing more.
async fn until_gone(mut client: OwnedReadHalf) {
    let mut buffer = [0; 1024];
    while matches!(client.read(&mut buffer).await, Ok(1..)) {}
}

async fn send(
    client: &mut OwnedWriteHalf,
    upstream: SocketAddr,
    mut request: Request,
    faults: &[Fault],
    entry: &Entry,
) -> io::Result<End> {
    if let Some(raw) = faults.iter().find_map(|fault| match fault {
        Fault::Replace(raw) => Some(raw),
        _ => None,
    }) {
        client.write_all(raw).await?;
        return Ok(End::Complete);
    }
    if faults.iter().any(|fault| matches!(fault, Fault::IgnoreRange)) {
        request.head.remove("range");
    }
    let mut registry = send_request(upstream, request).await?;
    let Some((mut head, first)) = wire::read_head(&mut registry).await? else {
        return Ok(End::Complete);
    };
    apply_to_head(&mut head, faults).await;
    client.write_all(&head.encode()).await?;
    let mut body = Body { client, entry, faults, position: 0 };
    let mut chunk = first;
    // `read_buf` reads as much as the buffer has room for.
    chunk.reserve(RELAYED_AT_ONCE);
    loop {
        if let ControlFlow::Break(end) = body.send(&mut chunk).await? {
            return Ok(end);
        }
        chunk.clear();
        if registry.read_buf(&mut chunk).await? == 0 {
            return Ok(End::Complete);
        }
    }
}

async fn send_request(upstream: SocketAddr, mut request: Request) -> io::Result<TcpStream> {
    // The registry closes at the end of the response, however its body is framed.
    request.head.set("connection", "close");
    let mut registry = TcpStream::connect(upstream).await?;
    registry.write_all(&request.head.encode()).await?;
    registry.write_all(&request.body).await?;
    Ok(registry)
}

async fn apply_to_head(head: &mut Head, faults: &[Fault]) {
    head.set("connection", "close");
    for fault in faults {
        match fault {
            Fault::SetHeader(name, value) => head.set(name, value),
            Fault::DropHeader(name) => head.remove(name),
            Fault::AnnounceLength(length) => head.set("content-length", length.to_string()),
            Fault::DelayHead(pause) => tokio::time::sleep(*pause).await,
            _ => {}
        }
    }
}

/// The body as it is sent to the client.
struct Body<'a> {
    client: &'a mut OwnedWriteHalf,
    entry: &'a Entry,
    faults: &'a [Fault],
    /// How many bytes have been sent.
    position: u64,
}

/// The faults at an offset of the body.
enum Event {
    Stall(Duration),
    End(End),
}

impl Body<'_> {
    /// Sends one chunk of the body, with the faults at its offsets.
    async fn send(&mut self, chunk: &mut [u8]) -> io::Result<ControlFlow<End>> {
        self.flip(chunk);
        let mut rest: &[u8] = chunk;
        for (offset, event) in self.events(chunk.len() as u64) {
            let (before, after) = rest.split_at((offset - self.position) as usize);
            self.write(before).await?;
            rest = after;
            match event {
                Event::Stall(pause) => tokio::time::sleep(pause).await,
                Event::End(end) => return Ok(ControlFlow::Break(end)),
            }
        }
        self.write(rest).await?;
        Ok(ControlFlow::Continue(()))
    }

    fn flip(&self, chunk: &mut [u8]) {
        for fault in self.faults {
            if let Fault::FlipBit { offset, bit } = fault
                && let Some(index) = offset.checked_sub(self.position)
                && let Some(byte) = chunk.get_mut(index as usize)
            {
                *byte ^= 1 << bit;
            }
        }
    }

    /// The faults within the next `length` bytes, in order of offset. An offset at the boundary of two chunks belongs to
    /// the second one, so that no fault is applied twice.
    fn events(&self, length: u64) -> Vec<(u64, Event)> {
        let mut events: Vec<(u64, Event)> = self
            .faults
            .iter()
            .filter_map(|fault| match fault {
                Fault::CutAfter(offset) | Fault::AnnounceLength(offset) => {
                    Some((*offset, Event::End(End::Complete)))
                }
                Fault::ResetAfter(offset) => Some((*offset, Event::End(End::Reset))),
                Fault::StallAfter { bytes, pause } => Some((*bytes, Event::Stall(*pause))),
                _ => None,
            })
            .filter(|(offset, _)| (self.position..self.position + length).contains(offset))
            .collect();
        events.sort_by_key(|(offset, _)| *offset);
        events
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let written = self.client.write(left).await?;
            left = &left[written..];
            self.position += written as u64;
            self.entry.update(|connection| connection.body_sent += written as u64);
        }
        Ok(())
    }
}
