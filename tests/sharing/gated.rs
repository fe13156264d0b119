//! A registry that completes a response only when the test lets it.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    PATIENCE,
    support::{self, wire},
};

const BODY: &str = r#"{"tags":["v1"]}"#;
const HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\nConnection: close\r\n\r\n";

pub(crate) struct GatedRegistry {
    pub(crate) address: SocketAddr,
    /// The targets of all requests so far, in order.
    requests: watch::Receiver<Vec<String>>,
    gate: Arc<Semaphore>,
    _accepting: AbortOnDropHandle<()>,
}

impl GatedRegistry {
    pub(crate) async fn start() -> Self {
        let listener = support::listen().await;
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Semaphore::new(0));
        let (log, requests) = watch::channel(Vec::new());
        let (log, opened) = (Arc::new(log), Arc::clone(&gate));
        let accepting = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(serve(client, Arc::clone(&log), Arc::clone(&opened)));
            }
        }));
        Self { address, requests, gate, _accepting: accepting }
    }

    /// Completes this many responses.
    pub(crate) fn complete(&self, count: usize) {
        self.gate.add_permits(count);
    }

    /// Waits for this many requests, and returns the targets of all so far.
    pub(crate) async fn requests(&self, count: usize) -> Vec<String> {
        let mut requests = self.requests.clone();
        let enough = tokio::time::timeout(PATIENCE, requests.wait_for(|all| all.len() >= count)).await;
        enough.unwrap().unwrap().clone()
    }
}

async fn serve(mut client: TcpStream, log: Arc<watch::Sender<Vec<String>>>, gate: Arc<Semaphore>) {
    let Ok(Some(request)) = wire::read_request(&mut client).await else { return };
    log.send_modify(|all| all.push(request.target));
    // The client may be gone, here and below.
    let _ = client.write_all(HEAD.as_bytes()).await;
    gate.acquire().await.unwrap().forget();
    let _ = client.write_all(BODY.as_bytes()).await;
    let _ = client.shutdown().await;
}
