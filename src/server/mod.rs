//! The listener: connections, their limits, TLS, health, and an end in good order.
//!
//! tonic's own server does not bound the handshake, the send buffer or the drain, and spins when descriptors run out; this
//! one is built on hyper for that. It knows nothing of registries: whatever [`Routes`] there are, it serves.
//!
//! A connection's way: `accept` takes it -> `admission` counts it -> `connection` has `tls` and `preface` open it, puts
//! `guard` under it, and runs HTTP/2 until it must go away -> `closing` ends the calls that are left.
//!
//! Nothing here touches signals or the environment; listeners and the wish to stop are passed in.

mod accept;
mod admission;
mod beside;
mod closing;
mod connection;
mod content_type;
mod cork;
mod frames;
mod guard;
mod health;
mod ops;
mod preface;
mod reflection;
mod settings;
pub mod tls;
mod write_stall;

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tracing::{info, warn};

use self::{accept::Refusals, admission::Admission, connection::Connections};
pub use self::{
    beside::Beside, closing::Closing, connection::Peer, health::Readiness, reflection::add_reflection,
    settings::Settings,
};

/// After the drain's grace, running calls and then their connections end within this time.
const HARD_END: Duration = Duration::from_millis(600);

/// A gRPC server that is ready to run.
#[derive(Debug)]
pub struct Server {
    /// Limits and times.
    pub settings: Settings,
    /// The services, health and reflection among them. Each request carries [`Peer`] and [`Closing`] as extensions.
    pub routes: Routes,
    /// Where callers connect.
    pub listener: TcpListener,
    /// TLS; without, callers speak HTTP/2 in clear text with prior knowledge.
    pub tls: Option<tls::Files>,
    /// Where `/livez` and `/readyz` are asked for.
    pub ops: Option<TcpListener>,
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
    /// When the TLS files cannot be used at the start. Once it serves, nothing makes it fail.
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
            let answering = ops::serve(listener, self.readiness.clone(), end.clone());
            background.spawn(end.clone().run_until_cancelled_owned(answering));
        }

        let (drain, closing, open) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let admission = Admission::new(self.settings.max_connections, self.settings.max_connections_per_peer);
        let Settings { drain_pause, drain_grace, .. } = self.settings;
        let connections = Connections::new(self.settings, self.routes, tls, drain.clone(), closing.clone());
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
            closing.cancel();
            if timeout(HARD_END, open.wait()).await.is_err() {
                warn!(connections = open.len(), "draining: closing connections");
            }
        }
        Ok(())
    }
}

/// Serves each connection in a task of its own, for as long as it is polled; owns the listener, so that it closes when
/// this is dropped.
async fn take_connections(
    listener: TcpListener,
    connections: Connections,
    admission: Arc<Admission>,
    open: &TaskTracker,
    end: &CancellationToken,
) -> Infallible {
    let connections = Arc::new(connections);
    let mut refusals = Refusals::default();
    loop {
        let (stream, address) = accept::accept(&listener).await;
        match admission.admit(address.ip()) {
            Ok(ticket) => {
                let serving = Arc::clone(&connections).serve(stream, address);
                open.spawn(end.clone().run_until_cancelled_owned(async move {
                    serving.await;
                    drop(ticket);
                }));
            }
            Err(refused) => refusals.note(address, refused),
        }
    }
}
