//! A listener that nothing may connect to. It sends nothing and records what it receives.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{io::AsyncReadExt as _, net::TcpListener};
use tokio_util::task::AbortOnDropHandle;

/// A listener that nothing may connect to; ends when dropped.
pub(crate) struct ForbiddenListener {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    _accepting: AbortOnDropHandle<()>,
}

impl ForbiddenListener {
    pub(crate) async fn start() -> Self {
        Self::on(IpAddr::V4(Ipv4Addr::LOCALHOST)).await
    }

    pub(crate) async fn on(address: IpAddr) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let (address, received) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let connections: Arc<Mutex<Vec<Vec<u8>>>> = Arc::clone(&received);
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let connections = Arc::clone(&connections);
                let number = {
                    let mut connections = connections.lock().unwrap();
                    connections.push(Vec::new());
                    connections.len() - 1
                };
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    while let Ok(read @ 1..) = client.read(&mut bytes).await {
                        connections.lock().unwrap()[number].extend(&bytes[..read]);
                    }
                });
            }
        });
        Self { address, received, _accepting: AbortOnDropHandle::new(accepting) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Fails if there was a connection, even one without a byte.
    #[track_caller]
    pub(crate) fn assert_no_connection(&self) {
        let received = self.received.lock().unwrap();
        let texts: Vec<_> = received.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
        assert!(received.is_empty(), "there was a connection: {texts:?}");
    }
}

#[tokio::test]
async fn a_forbidden_listener_records_a_connection() {
    let forbidden = ForbiddenListener::start().await;
    forbidden.assert_no_connection();
    let connection = tokio::net::TcpStream::connect(forbidden.address).await.unwrap();
    while forbidden.received.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(connection);
}
