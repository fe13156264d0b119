//! The ops endpoints for the kubelet's probes: plain HTTP/1.1 without TLS, on a separate listener.
//!
//! | path | response |
//! |---|---|
//! | `/livez` | 200 while the process runs, also during the drain, which a restart by the kubelet would cut short |
//! | `/readyz` | 200, or 503 `draining` once shutdown began; never depends on a registry |
//! | others | the pages that the process has added, such as `/metrics` |

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

/// A page of the ops endpoints.
#[derive(Clone)]
pub struct OpsPage {
    /// Its path.
    pub path: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// Makes the page, at each request.
    pub render: Arc<dyn Fn() -> Vec<u8> + Send + Sync>,
}

impl std::fmt::Debug for OpsPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpsPage").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What the endpoints respond with.
#[derive(Debug)]
struct Pages {
    readiness: Readiness,
    others: Vec<OpsPage>,
}

/// Serves `listener` until `end`.
pub(super) async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    others: Vec<OpsPage>,
    end: CancellationToken,
) -> Infallible {
    let pages = Arc::new(Pages { readiness, others });
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
        let (http, pages) = (http.clone(), Arc::clone(&pages));
        let connection = async move {
            let _permit = permit;
            if let Ok(Err(error)) = timeout(CONNECTION_TIMEOUT, serve_connection(&http, stream, pages)).await
            {
                debug!(%address, %error, "ops connection failed");
            }
        };
        tasks.spawn(end.clone().run_until_cancelled_owned(connection));
    }
}

async fn serve_connection(http: &http1::Builder, stream: TcpStream, pages: Arc<Pages>) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = pages.respond(request.method(), request.uri().path());
        async { Ok::<_, Infallible>(response) }
    });
    http.serve_connection(TokioIo::new(stream), service).await
}

impl Pages {
    /// hyper omits the body in a response to HEAD.
    fn respond(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let text = |status, text: &'static str| respond(status, "text/plain", text.into());
        let other = self.others.iter().find(|page| page.path == path);
        if !matches!(path, "/livez" | "/readyz") && other.is_none() {
            return text(StatusCode::NOT_FOUND, "not found\n");
        }
        if method != Method::GET && method != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match other {
            Some(page) => respond(StatusCode::OK, page.media_type, (page.render)().into()),
            None if path == "/readyz" && self.readiness.is_draining() => {
                text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
            }
            None => text(StatusCode::OK, "ok\n"),
        }
    }
}

fn respond(status: StatusCode, media_type: &'static str, content: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
