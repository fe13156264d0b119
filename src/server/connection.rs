//! One connection from accept to its end: TLS, the preface, HTTP/2, going away, gone.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use futures_util::future::{self, Either};
use http::Request;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::RngExt;
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower_service::Service;
use tracing::debug;

use super::{
    Settings,
    beside::Streams,
    closing::Closing,
    content_type,
    cork::cork,
    guard::Guard,
    preface::{self, Opening},
    tls,
};

/// How long a connection lives on after its calls were told to end, so that they can say so to their callers.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(400);

/// Flow-control windows for what callers send: requests are a few hundred bytes, so HTTP/2's own first window is ample
/// for a stream (RFC 9113, section 6.9.2), and four of them for a connection bound what it can make us hold.
const STREAM_WINDOW_BYTES: u32 = 65_535;
const CONNECTION_WINDOW_BYTES: u32 = 4 * STREAM_WINDOW_BYTES;
/// Streams reset by the peer before they were accepted; more are a rapid reset attack (CVE-2023-44487). h2's default.
const MAX_PENDING_RESETS: usize = 20;
/// Streams which we reset for the peer's errors; more are an attack too (RUSTSEC-2024-0003). hyper's default is 1,024.
const MAX_ERROR_RESETS: usize = 128;

/// A request extension: who is calling.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address at the other end of the socket; a proxy's, if there is one between.
    pub address: SocketAddr,
    /// The verified client certificate (DER), when the listener requires one.
    pub identity: Option<CertificateDer<'static>>,
}

/// What all connections of the listener share.
pub(super) struct Connections {
    settings: Settings,
    routes: Routes,
    tls: Option<tls::Current>,
    drain: CancellationToken,
    closing: CancellationToken,
}

impl Connections {
    /// `drain` sends GOAWAY on all connections; `closing` ends the calls that still run, and then the connections.
    pub(super) fn new(
        settings: Settings,
        routes: Routes,
        tls: Option<tls::Current>,
        drain: CancellationToken,
        closing: CancellationToken,
    ) -> Self {
        Self { settings, routes: routes.prepare(), tls, drain, closing }
    }

    /// HTTP/2 with the listener's limits; `streams` spawns what runs on the connection.
    fn http(&self, streams: Streams) -> http2::Builder<Streams> {
        let settings = &self.settings;
        let mut http = http2::Builder::new(streams);
        http.timer(TokioTimer::new())
            .max_concurrent_streams(settings.max_concurrent_streams)
            .max_header_list_size(settings.max_header_list_bytes)
            .max_send_buf_size(settings.max_send_buffer_bytes as usize)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_ERROR_RESETS)
            .keep_alive_interval(settings.keep_alive_interval)
            .keep_alive_timeout(settings.keep_alive_timeout);
        http
    }

    /// Serves a connection to its end. One that is not yet speaking HTTP/2 when the drain begins has no call on it, and
    /// is dropped.
    pub(super) async fn serve(self: Arc<Self>, stream: TcpStream, address: SocketAddr) {
        // Answers are small frames; none may wait for the acknowledgement of another.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%address, %error, "connection ended early");
            return;
        }
        let Some(tls) = &self.tls else {
            return self.greet(stream, Peer { address, identity: None }).await;
        };
        let handshake = timeout(self.settings.handshake_timeout, tls.acceptor().accept(stream));
        match self.drain.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => {
                let identity = tls::client_certificate(&stream);
                self.greet(stream, Peer { address, identity }).await;
            }
            Some(Ok(Err(error))) => debug!(%address, %error, "TLS handshake failed"),
            Some(Err(_elapsed)) => debug!(%address, "TLS handshake took too long"),
            None => {}
        }
    }

    async fn greet<T>(&self, mut io: T, peer: Peer)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let address = peer.address;
        let by = Instant::now() + self.settings.preface_timeout;
        match self.drain.run_until_cancelled(timeout_at(by, preface::read(&mut io))).await {
            Some(Ok(Ok(Opening::Http2))) => self.http2(Guard::new(io, by), peer).await,
            Some(Ok(Ok(Opening::Other))) => debug!(%address, "not HTTP/2"),
            Some(Ok(Err(error))) => debug!(%address, %error, "connection ended early"),
            Some(Err(_elapsed)) => debug!(%address, "no HTTP/2 preface came"),
            None => {}
        }
    }

    /// HTTP/2 in three steps: until it must go away, until its calls must end, until it is closed.
    async fn http2<T>(&self, io: Guard<T>, peer: Peer)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let address = peer.address;
        let closing = self.closing.child_token();
        let routes = self.routes.clone();
        let extensions = (peer, Closing(closing.clone()));
        let streams = Streams::default();
        let http = self.http(streams.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (peer, closing) = extensions.clone();
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(closing.clone());
            request.extensions_mut().insert(streams.next());
            let response = if content_type::is_grpc(request.headers()) {
                // A router is always ready: there is no `poll_ready` to wait for.
                Either::Left(routes.clone().call(request))
            } else {
                Either::Right(future::ready(Ok(content_type::unsupported())))
            };
            closing.bound(response)
        });
        let (io, uncork) = cork(io, self.settings.write_stall);
        let mut connection = pin!(http.serve_connection(TokioIo::new(io), service));
        let ended = |result: Option<hyper::Result<()>>| match result {
            Some(Ok(())) => debug!(%address, "connection ended"),
            Some(Err(error)) => debug!(%address, %error, "connection ended"),
            None => debug!(%address, "connection closed: its peer does not read"),
        };

        tokio::select! {
            result = uncork.drive(connection.as_mut()) => return ended(result),
            () = sleep(jittered(self.settings.max_connection_age)) => {}
            () = self.drain.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            result = uncork.drive(connection.as_mut()) => return ended(result),
            () = sleep(self.settings.max_connection_age_grace) => closing.cancel(),
            () = closing.cancelled() => {}
        }
        match timeout(LAST_WORDS, uncork.drive(connection)).await {
            Ok(result) => ended(result),
            Err(_elapsed) => debug!(%address, "connection closed with calls on it"),
        }
    }
}

/// The time, ±10 %.
fn jittered(time: Duration) -> Duration {
    let share = rand::rng().random_range(0.9..=1.1);
    Duration::try_from_secs_f64(time.as_secs_f64() * share).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_spread_over_a_tenth_to_both_sides() {
        let age = Duration::from_secs(1000);
        let mut ages: Vec<_> = (0..100).map(|_| jittered(age)).collect();
        ages.sort();
        assert!(ages.iter().all(|age| (900..=1100).contains(&age.as_secs())), "{ages:?}");
        // That a hundred fall on one side of either bound has a chance of 1 in 10^15.
        assert!(ages.first() < Some(&Duration::from_secs(970)), "{ages:?}");
        assert!(ages.last() > Some(&Duration::from_secs(1030)), "{ages:?}");
    }
}
