//! What `tests/bench/compare` holds the service's unary calls against: tonic with its own server, nothing before it and
//! nothing around it, answering `grpc.health.v1.Health/Check`. Prints the port it listens on.

use tokio::net::TcpListener;
use tonic::transport::{Server, server::TcpIncoming};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    let (_, health) = tonic_health::server::health_reporter();
    Server::builder()
        .add_service(health)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}
