//! The ops endpoints for the kubelet's probes: plain HTTP/1.1 without TLS, on a separate listener.
//!
//! | path | response |
//! |---|---|
//! | `/livez` | 200 while the process runs, also during the drain, which a restart by the kubelet would cut short |
//! | `/readyz` | 200, or 503 `draining` once shutdown began; never depends on a registry |

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use super::{accept::accept, health::Readiness};

/// The most open connections. Further ones wait in the kernel's queue for at most [`CONNECTION_TIMEOUT`]: a late response
/// to a probe is better than a refused probe.
const MAX_CONNECTIONS: usize = 64;
/// The time limit for a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit for a whole connection, which carries one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a request's head. 8 KiB is the smallest value that hyper accepts.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// Serves `listener` until `end`.
pub(super) async fn serve(listener: TcpListener, readiness: Readiness, end: CancellationToken) -> Infallible {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(false);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tasks = TaskTracker::new();
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await;
        let (stream, address) = accept(&listener).await;
        let (http, readiness) = (http.clone(), readiness.clone());
        let connection = async move {
            let _permit = permit;
            if let Ok(Err(error)) =
                timeout(CONNECTION_TIMEOUT, serve_connection(&http, stream, readiness)).await
            {
                debug!(%address, %error, "ops connection failed");
            }
        };
        tasks.spawn(end.clone().run_until_cancelled_owned(connection));
    }
}

async fn serve_connection(
    http: &http1::Builder,
    stream: TcpStream,
    readiness: Readiness,
) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &readiness);
        async { Ok::<_, Infallible>(response) }
    });
    http.serve_connection(TokioIo::new(stream), service).await
}

/// hyper omits the body in a response to HEAD.
fn respond(method: &Method, path: &str, readiness: &Readiness) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/livez" | "/readyz" if method != Method::GET && method != Method::HEAD => {
            (StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n")
        }
        "/livez" => (StatusCode::OK, "ok\n"),
        "/readyz" if readiness.is_draining() => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        "/readyz" => (StatusCode::OK, "ok\n"),
        _ => (StatusCode::NOT_FOUND, "not found\n"),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
