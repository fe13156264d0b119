//! One connection from accept to close: TLS handshake, HTTP/2 preface, HTTP/2, GOAWAY.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use futures_util::future::{self, Either, TryFutureExt as _};
use http::Request;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::RngExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::Routes};
use tower_service::Service;
use tracing::debug;

use super::{
    admission::peer_of,
    arriving_request::ArrivingRequest,
    call_memory::{self, MessageMemory, ReservedBody},
    content_type,
    cork::cork,
    frame_guard::FrameGuard,
    peer::Peer,
    preface::{self, Protocol},
    reflection,
    settings::Settings,
    shutdown::Shutdown,
    stream_executor::StreamExecutor,
    tls,
    unknown_callers::UnknownCallers,
};
use crate::memory::{MemoryAccount, MemoryBudget};

/// How long a connection stays open after its calls must end, so that their statuses reach the callers.
pub(super) const STATUS_FLUSH_TIMEOUT: Duration = Duration::from_millis(400);

/// Flow-control windows for requests. A request is a few hundred bytes, so HTTP/2's initial window is enough for a stream
/// (RFC 9113, section 6.9.2). Four of them for a connection bound the memory that a peer can make the service hold.
const STREAM_WINDOW_BYTES: u32 = 65_535;
const CONNECTION_WINDOW_BYTES: u32 = 4 * STREAM_WINDOW_BYTES;
/// Streams that the peer reset before they were accepted. More are a rapid reset attack (CVE-2023-44487). h2's default.
const MAX_PENDING_RESETS: usize = 20;
/// Streams that were reset because of the peer's errors. More are an attack too (RUSTSEC-2024-0003). hyper's default is 1,024.
const MAX_ERROR_RESETS: usize = 128;

/// The state that all connections of the listener share.
pub(super) struct Connections {
    settings: Settings,
    memory: MemoryBudget,
    routes: Routes,
    tls: Option<tls::Current>,
    drain: CancellationToken,
    end_calls: CancellationToken,
}

impl Connections {
    /// `drain` makes all connections send GOAWAY; `end_calls` ends running calls, and then the connections.
    pub(super) fn new(
        settings: Settings,
        memory: MemoryBudget,
        routes: Routes,
        tls: Option<tls::Current>,
        drain: CancellationToken,
        end_calls: CancellationToken,
    ) -> Self {
        Self { settings, memory, routes: routes.prepare(), tls, drain, end_calls }
    }

    /// HTTP/2 with the listener's limits; `executor` spawns what runs on the connection.
    fn http2_builder(&self, executor: StreamExecutor) -> http2::Builder<StreamExecutor> {
        let settings = &self.settings;
        let mut http = http2::Builder::new(executor);
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

    /// Serves a connection until it ends. When the drain begins before HTTP/2 does, the connection has no call on it and
    /// is dropped.
    pub(super) async fn serve(self: Arc<Self>, stream: TcpStream, address: SocketAddr) {
        let memory = self.memory.peer_account(peer_of(address.ip()));
        let Ok(_reservation) = memory.reserve(call_memory::CONNECTION_BYTES) else {
            debug!(%address, "connection closed: its peer holds all of its memory");
            return;
        };
        // Responses are small frames; Nagle's algorithm would delay them until earlier ones are acknowledged.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%address, %error, "connection ended early");
            return;
        }
        let Some(tls) = &self.tls else {
            return self.read_preface(stream, Peer { address, identity: None }, memory).await;
        };
        let handshake = timeout(self.settings.handshake_timeout, tls.acceptor().accept(stream));
        match self.drain.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => {
                let identity = tls::client_certificate(&stream);
                self.read_preface(stream, Peer { address, identity }, memory).await;
            }
            Some(Ok(Err(error))) => debug!(%address, %error, "TLS handshake failed"),
            Some(Err(_elapsed)) => debug!(%address, "TLS handshake took too long"),
            None => {}
        }
    }

    async fn read_preface<T>(&self, mut io: T, peer: Peer, memory: MemoryAccount)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let address = peer.address;
        let by = Instant::now() + self.settings.preface_timeout;
        match self.drain.run_until_cancelled(timeout_at(by, preface::read(&mut io))).await {
            Some(Ok(Ok(Protocol::Http2))) => {
                self.serve_http2(FrameGuard::new(io, by, self.settings.request_timeout), peer, memory).await
            }
            Some(Ok(Ok(Protocol::Other))) => debug!(%address, "not HTTP/2"),
            Some(Ok(Err(error))) => debug!(%address, %error, "connection ended early"),
            Some(Err(_elapsed)) => debug!(%address, "no HTTP/2 preface came"),
            None => {}
        }
    }

    /// Serves HTTP/2 in three steps: until GOAWAY is due, until running calls must end, until the connection closes.
    async fn serve_http2<T>(&self, io: FrameGuard<T>, peer: Peer, memory: MemoryAccount)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let address = peer.address;
        let end_calls = self.end_calls.child_token();
        let routes = self.routes.clone();
        let unknown_callers = UnknownCallers::default();
        let extensions = (peer, Shutdown::new(end_calls.clone()), unknown_callers.clone(), memory);
        let (executor, request_timeout) = (StreamExecutor::default(), self.settings.request_timeout);
        let http = self.http2_builder(executor.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (peer, shutdown, unknown_callers, memory) = extensions.clone();
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(shutdown.clone());
            request.extensions_mut().insert(unknown_callers);
            request.extensions_mut().insert(memory.clone());
            request.extensions_mut().insert(executor.next_watchdog());
            let (response, reservation) = if !content_type::is_grpc(request.headers()) {
                (Either::Right(future::ready(Ok(content_type::unsupported()))), None)
            } else {
                match memory.reserve(call_memory::of_request(request.headers())) {
                    Err(refused) => {
                        (Either::Right(future::ready(Ok(Status::from(refused).into_http()))), None)
                    }
                    Ok(reservation) => {
                        let request = arriving(request, address, request_timeout, memory);
                        // A router is always ready: there is no `poll_ready` to wait for.
                        (Either::Left(routes.clone().call(request)), Some(reservation))
                    }
                }
            };
            let response = shutdown.end_on_shutdown(response);
            response.map_ok(|response| response.map(|body| ReservedBody::new(body, reservation)))
        });
        let (io, uncork) = cork(io, self.settings.write_stall);
        let mut connection = pin!(http.serve_connection(TokioIo::new(io), service));
        let ended = |result: Option<hyper::Result<()>>| match result {
            Some(Ok(())) => debug!(%address, "connection ended"),
            Some(Err(error)) => debug!(%address, %error, "connection ended"),
            None => debug!(%address, "connection closed: its peer reads nothing"),
        };

        tokio::select! {
            result = uncork.drive(connection.as_mut()) => return ended(result),
            () = sleep(jittered(self.settings.max_connection_age)) => {}
            () = self.drain.cancelled() => {}
            () = unknown_callers.limit_reached() => debug!(%address, "too many requests of unknown callers"),
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            result = uncork.drive(connection.as_mut()) => return ended(result),
            () = sleep(self.settings.max_connection_age_grace) => end_calls.cancel(),
            () = end_calls.cancelled() => {}
        }
        match timeout(STATUS_FLUSH_TIMEOUT, uncork.drive(connection)).await {
            Ok(result) => ended(result),
            Err(_elapsed) => debug!(%address, "connection closed while calls were running"),
        }
    }
}

/// Limits the time in which the request's message, or each message of a stream, arrives, and counts the memory of a message that
/// is collected.
fn arriving(
    request: Request<Incoming>,
    peer: SocketAddr,
    timeout: Duration,
    memory: MemoryAccount,
) -> Request<tonic::body::Body> {
    let (parts, body) = request.into_parts();
    let body = if reflection::is_reflection(parts.uri.path()) {
        // Its messages are decoded as they come; their size is limited.
        tonic::body::Body::new(ArrivingRequest::with_messages(body, peer, timeout))
    } else {
        let request = ArrivingRequest::with_one_message(body, peer, timeout);
        tonic::body::Body::new(request.counted(MessageMemory::new(memory)))
    };
    Request::from_parts(parts, body)
}

/// A random time within ±10 % of `time`.
fn jittered(time: Duration) -> Duration {
    let share = rand::rng().random_range(0.9..=1.1);
    Duration::try_from_secs_f64(time.as_secs_f64() * share).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_ages_vary_by_ten_percent_in_both_directions() {
        let age = Duration::from_secs(1000);
        let mut ages: Vec<_> = (0..100).map(|_| jittered(age)).collect();
        ages.sort();
        assert!(ages.iter().all(|age| (900..=1100).contains(&age.as_secs())), "{ages:?}");
        // All hundred fall on one side of a bound with a probability of 1 in 10^15.
        assert!(ages.first() < Some(&Duration::from_secs(970)), "{ages:?}");
        assert!(ages.last() > Some(&Duration::from_secs(1030)), "{ages:?}");
    }
}
