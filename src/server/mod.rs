//! The listener: connections, their limits, TLS, health and graceful shutdown.
//!
//! It is built on hyper, because tonic's server does not limit the handshake, the send buffer or the drain, and spins
//! when file descriptors run out. It serves any [`Routes`] and knows nothing of registries.
//!
//! The life of a connection: `accept` accepts it, `admission` counts it, `connection` runs the TLS handshake (`tls`),
//! reads the HTTP/2 preface (`preface`) and serves HTTP/2 over `frame_guard` and `cork` until it sends GOAWAY. `shutdown`
//! ends the calls that still run after the grace period.
//!
//! | file | what it does |
//! |---|---|
//! | `accept`, `admission` | accept connections, within the limits for all peers and for each |
//! | `connection`, `tls`, `preface` | serve one connection from accept to close |
//! | `call_memory` | what a call is estimated to take |
//! | `frame_guard`, `frames`, `frame_budget` | limit what a peer's HTTP/2 frames may cost |
//! | `arriving_request` | limits the time in which a request's message arrives |
//! | `cork`, `write_stall` | combine writes into few system calls, and close connections whose peer does not read |
//! | `stream_executor` | runs the streams of a connection, each with its watchdog |
//! | `unknown_callers` | closes a connection on which only unknown callers call |
//! | `content_type` | HTTP 415 for requests that are not gRPC |
//! | `shutdown` | ends calls that outlive the grace period |
//! | `status` | the status of a call that the listener ends |
//! | `health`, `reflection`, `ops` | the services for probes and tools |
//! | `settings`, `peer` | the listener's settings; the peer of a connection |
//!
//! This module reads neither signals nor the environment: the caller passes in the listeners and the shutdown future.

mod accept;
mod admission;
mod arriving_request;
mod call_memory;
mod connection;
mod content_type;
mod cork;
mod frame_budget;
mod frame_guard;
mod frames;
mod health;
mod ops;
mod peer;
mod preface;
mod reflection;
mod settings;
mod shutdown;
mod status;
mod stream_executor;
pub mod tls;
mod unknown_callers;
mod write_stall;

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tracing::{info, warn};

use crate::memory::MemoryBudget;

use self::{accept::RefusalLog, admission::Admission, connection::Connections};
pub use self::{
    health::Readiness, ops::OpsPage, peer::Peer, reflection::add_reflection, settings::Settings,
    shutdown::Shutdown, stream_executor::Watchdog, unknown_callers::UnknownCallers,
};

/// Time for the remaining calls and connections to end, once the drain's grace period is over.
const FORCED_CLOSE_TIMEOUT: Duration = Duration::from_millis(600);

/// A gRPC server that is ready to run.
#[derive(Debug)]
pub struct Server {
    /// Limits and times.
    pub settings: Settings,
    /// The memory that calls may hold. Each request carries the [`MemoryAccount`](crate::memory::MemoryAccount) of its peer as
    /// an extension.
    pub memory: MemoryBudget,
    /// The services, health and reflection among them. Each request carries [`Peer`], [`Shutdown`] and [`UnknownCallers`] as extensions.
    pub routes: Routes,
    /// Where callers connect.
    pub listener: TcpListener,
    /// TLS. Without it, callers speak HTTP/2 in clear text with prior knowledge.
    pub tls: Option<tls::Files>,
    /// The listener of `/livez` and `/readyz`, and of `ops_pages`.
    pub ops: Option<TcpListener>,
    /// Further pages of the ops listener.
    pub ops_pages: Vec<OpsPage>,
    /// Flips when the drain begins. Its health service should be among the routes.
    pub readiness: Readiness,
}

impl Server {
    /// Serves until `shutdown`, then drains: not ready, a pause for load balancers to notice, no new connections, GOAWAY
    /// on the open ones, the grace for running calls, UNAVAILABLE for the rest. Returns when all connections have ended,
    /// at the latest a second after the grace. Dropping the future closes everything at once.
    ///
    /// # Errors
    ///
    /// If the TLS files cannot be used at the start. A running server does not fail.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), tls::Error> {
        // Ends every task started here, also when this future is dropped.
        let end = CancellationToken::new();
        let _end = end.clone().drop_guard();
        let background = TaskTracker::new();

        let mut tls = None;
        if let Some(files) = self.tls {
            let (reloader, current) = tls::Reloader::start(files).await?;
            tls = Some(current);
            background.spawn(end.clone().run_until_cancelled_owned(reloader.run(self.settings.tls_poll)));
        }
        if let Some(listener) = self.ops {
            let ops = ops::serve(listener, self.readiness.clone(), self.ops_pages, end.clone());
            background.spawn(end.clone().run_until_cancelled_owned(ops));
        }

        let (drain, end_calls, open) =
            (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let admission = Admission::new(self.settings.max_connections, self.settings.max_connections_per_peer);
        let Settings { drain_pause, drain_grace, .. } = self.settings;
        let connections =
            Connections::new(self.settings, self.memory, self.routes, tls, drain.clone(), end_calls.clone());
        tokio::select! {
            never = take_connections(self.listener, connections, admission, &open, &end) => match never {},
            () = async {
                shutdown.await;
                info!("draining: not ready");
                self.readiness.drain().await;
                sleep(drain_pause).await;
            } => {}
        }

        info!(connections = open.len(), "draining: no new connections");
        drain.cancel();
        open.close();
        if timeout(drain_grace, open.wait()).await.is_err() {
            warn!(connections = open.len(), "draining: the grace is over, ending running calls");
            end_calls.cancel();
            if timeout(FORCED_CLOSE_TIMEOUT, open.wait()).await.is_err() {
                warn!(connections = open.len(), "draining: closing connections");
            }
        }
        Ok(())
    }
}

/// Accepts connections while it is polled, and serves each one in its own task. It owns the listener, so dropping the future
/// closes the listener.
async fn take_connections(
    listener: TcpListener,
    connections: Connections,
    admission: Arc<Admission>,
    open: &TaskTracker,
    end: &CancellationToken,
) -> Infallible {
    let connections = Arc::new(connections);
    let mut refusals = RefusalLog::default();
    loop {
        let (stream, address) = accept::accept(&listener).await;
        match admission.admit(address.ip()) {
            Ok(permit) => {
                let serving = Arc::clone(&connections).serve(stream, address);
                open.spawn(end.clone().run_until_cancelled_owned(async move {
                    serving.await;
                    drop(permit);
                }));
            }
            Err(refused) => refusals.record(address, refused),
        }
    }
}
