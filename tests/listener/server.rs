//! A server under test: health, reflection, and a service whose calls last as long as a test wants.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use rexd::{
    memory::{MemoryBudget, MemoryLimits},
    server::{Peer, Readiness, Server, Settings, add_reflection, tls},
};
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, server::NamedService, service::Routes};

use crate::ops::get;

/// Longer than any test waits.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

/// A frame of the body that `/test.TestService/Read` responds with.
pub(crate) const READ_FRAME_BYTES: usize = 64 * 1024;

/// A server in a task of this process.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) readiness: Readiness,
    /// Calls of [`TestService`] whose future or stream has not been dropped.
    pub(crate) calls: Arc<AtomicUsize>,
    pub(crate) stop: CancellationToken,
    pub(crate) done: JoinHandle<Result<(), tls::Error>>,
}

/// Limits that no test reaches unless it sets them.
pub(crate) fn settings() -> Settings {
    Settings {
        max_connections: 1000,
        max_connections_per_peer: 1000,
        drain_pause: Duration::ZERO,
        drain_grace: Duration::from_millis(300),
        tls_poll: Duration::from_millis(20),
        ..Settings::default()
    }
}

/// More memory than the calls of a test hold.
pub(crate) fn memory_budget() -> MemoryBudget {
    MemoryBudget::new(MemoryLimits { total: 1 << 30, per_peer: 1 << 30, per_caller: 1 << 30 })
}

/// Starts a server without TLS.
pub(crate) async fn start(settings: Settings) -> Running {
    start_with_tls(settings, None).await
}

/// Starts a server.
pub(crate) async fn start_with_tls(settings: Settings, tls: Option<tls::Files>) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ops_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, ops) = (listener.local_addr().unwrap(), ops_listener.local_addr().unwrap());
    let (readiness, health) = Readiness::new().await;
    let calls = Arc::<AtomicUsize>::default();
    let routes =
        add_reflection(Routes::new(health), &[]).unwrap().add_service(TestService(Arc::clone(&calls)));
    let server = Server {
        settings,
        memory: memory_budget(),
        routes,
        listener,
        tls,
        ops: Some(ops_listener),
        ops_pages: Vec::new(),
        readiness: readiness.clone(),
    };
    let stop = CancellationToken::new();
    let done = tokio::spawn(server.run(stop.clone().cancelled_owned()));
    // The ops port responds once the TLS files have been read; only then may a test change them.
    get(ops, "/livez").await;
    Running { address, ops, readiness, calls, stop, done }
}

/// `/test.TestService/Hold` responds after the milliseconds in the header `x-ms`; `/test.TestService/Stream` responds
/// immediately with a stream that never has a message; `/test.TestService/Read` responds with as many bytes as the header
/// `x-bytes` says. The response's `x-peer` and `x-identity` describe the caller.
#[derive(Clone)]
struct TestService(Arc<AtomicUsize>);

impl NamedService for TestService {
    const NAME: &'static str = "test.TestService";
}

/// A call that runs.
struct Call(Arc<AtomicUsize>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl tower_service::Service<Request<Body>> for TestService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.fetch_add(1, Ordering::SeqCst);
        let call = Call(Arc::clone(&self.0));
        Box::pin(async move {
            let peer = request.extensions().get::<Peer>().unwrap().clone();
            let mut response = if request.uri().path().ends_with("/Stream") {
                let stream = tokio_stream::StreamExt::map(tokio_stream::pending(), move |frame| {
                    let _held = &call;
                    frame
                });
                let body = StreamBody::new(stream).map_err(|never: Infallible| -> Status { match never {} });
                Response::new(Body::new(body))
            } else if request.uri().path().ends_with("/Read") {
                drop(call);
                let bytes: usize = request.headers()["x-bytes"].to_str().unwrap().parse().unwrap();
                let frames =
                    std::iter::repeat_n(Bytes::from_static(&[0; READ_FRAME_BYTES]), bytes / READ_FRAME_BYTES)
                        .map(|data| Ok::<_, Status>(Frame::data(data)));
                Response::new(Body::new(StreamBody::new(tokio_stream::iter(frames))))
            } else {
                let ms = request.headers().get("x-ms").map_or("0", |ms| ms.to_str().unwrap());
                sleep(Duration::from_millis(ms.parse().unwrap())).await;
                drop(call);
                Status::ok("").into_http()
            };
            let headers = response.headers_mut();
            headers.insert("x-peer", peer.address.to_string().parse().unwrap());
            headers.insert("x-identity", peer.identity.is_some().to_string().parse().unwrap());
            Ok(response)
        })
    }
}
