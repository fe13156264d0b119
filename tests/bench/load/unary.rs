//! Makes a unary call as often as possible, from many callers on one connection: `{"calls": …, "seconds": …}`.
//!
//! The call is `grpc.health.v1.Health/Check`. Its response needs no registry, and every server's has two bytes. So the rate is
//! that of the server's own path, and comparable with any other server's. With `--repository`, it is `GetManifest`.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::SendRequest;
use rexd::grpc::proto::GetManifestRequest;
use serde_json::json;
use tokio::task::JoinSet;
use tonic_health::pb::HealthCheckRequest;

use crate::{
    Outcome,
    http2::{self, Windows},
    script,
};

/// Calls as fast as the responses arrive.
#[derive(clap::Args)]
pub(crate) struct Unary {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long, default_value_t = 64)]
    callers: usize,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The repository of the manifest to ask for, at the service's default registry.
    #[arg(long, requires = "reference")]
    repository: Option<String>,
    /// The manifest's tag or digest.
    #[arg(long)]
    reference: Option<String>,
}

impl Unary {
    pub(crate) async fn run(self) -> Outcome<()> {
        let client = http2::connect(self.address, Windows::WIDE).await?;
        let (path, message) = match (self.repository, self.reference) {
            (Some(repository), Some(reference)) => {
                let request = GetManifestRequest { repository, reference, ..GetManifestRequest::default() };
                ("/rex.registry.v1.RegistryService/GetManifest", http2::framed(&request))
            }
            _ => ("/grpc.health.v1.Health/Check", http2::framed(&HealthCheckRequest::default())),
        };
        let begin = Instant::now();
        let end = begin + Duration::from_secs_f64(self.seconds);
        let mut callers = JoinSet::new();
        for _ in 0..self.callers {
            callers.spawn(call_until(client.clone(), self.address, path, message.clone(), end));
        }
        let mut calls = 0;
        while let Some(done) = callers.join_next().await {
            calls += done??;
        }
        script::write_line(&json!({"calls": calls, "seconds": begin.elapsed().as_secs_f64()}))
    }
}

async fn call_until(
    client: SendRequest<Bytes>,
    address: SocketAddr,
    path: &'static str,
    message: Bytes,
    end: Instant,
) -> Outcome<u64> {
    let mut calls = 0;
    while Instant::now() < end {
        let mut call = http2::call(&client, address, path, message.clone()).await?;
        while call.body.data().await?.is_some() {}
        match call.body.status().await? {
            0 => calls += 1,
            status => return Err(format!("status {status}").into()),
        }
    }
    Ok(calls)
}
