//! The environment of the service in tests: sample content, a proxy that injects faults, and a registry that sends
//! scripted responses. A test binary includes it with `mod support;`.
#![allow(dead_code, reason = "each test binary uses a part")]
#![expect(unreachable_pub, reason = "what a test binary has is reachable from nowhere else")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

pub mod call;
pub mod calls;
pub mod connection_log;
pub mod fault;
mod relay;
pub mod scripted;
pub mod service;
pub mod status;
pub mod token_server;
pub mod wire;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use rexd::demo::{DemoRegistry, Sample};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

/// The content of `rexd demo`, made once for all tests of a binary.
pub fn sample() -> Arc<Sample> {
    static SAMPLE: LazyLock<Arc<Sample>> =
        LazyLock::new(|| Arc::new(Sample::generate().expect("sample content can be made")));
    Arc::clone(&SAMPLE)
}

/// Serves [`sample`] on a free port of 127.0.0.1.
pub async fn demo_registry() -> DemoRegistry {
    DemoRegistry::start(listen().await, sample()).expect("a bound listener has an address")
}

/// A listener on a free port of 127.0.0.1.
pub async fn listen() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port on 127.0.0.1")
}

/// Serves each connection of a listener in a task of its own. Dropping the handle ends all of them.
fn serve_each<F>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> AbortOnDropHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let Ok((client, _)) = listener.accept().await else {
                // A test may use up the descriptors on purpose; accepting continues when some are free again.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            while connections.try_join_next().is_some() {}
            connections.spawn(serve(client));
        }
    }))
}
