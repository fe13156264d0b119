//! The listener of the sample registry: HTTP/1.1 on a socket that the caller bound.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use super::{routes, sample::Sample};

/// The most connections at a time; further ones wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 512;

/// The pause after a failed `accept`, which usually means that there are no free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running sample registry. Dropping it closes the listener and all connections.
#[derive(Debug)]
pub struct DemoRegistry {
    address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl DemoRegistry {
    /// Serves `sample` on `listener` in a new task until the returned value is dropped.
    ///
    /// It speaks plain HTTP/1.1 without authentication, so the listener should be on a loopback address.
    ///
    /// # Errors
    ///
    /// If the listener does not know its address.
    ///
    /// # Panics
    ///
    /// If called outside a Tokio runtime.
    pub fn start(listener: TcpListener, sample: Arc<Sample>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, sample)));
        Ok(Self { address, _accepting: accepting })
    }

    /// The address on which it listens. As a registry's name, this is `127.0.0.1:<port>`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Accepts connections forever. This future owns the connections' tasks, so they end when it is dropped.
async fn accept(listener: TcpListener, sample: Arc<Sample>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&sample)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, sample: Arc<Sample>) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = routes::respond(&sample, &request).unwrap_or_else(|_| internal_server_error());
        std::future::ready(Ok::<_, Infallible>(response))
    });
    // The timer arms hyper's limit of 30 seconds for the head of a request. Errors of a
    // connection are ignored: the client closed it, or did not speak HTTP.
    let _ =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// The response if headers cannot be written. This cannot happen with the sample's names and digests.
fn internal_server_error() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
