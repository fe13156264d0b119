//! Calls `grpc.health.v1.Health/Check` as often as possible, from many callers on one connection:
//! `{"calls": …, "seconds": …}`.
//!
//! Its response needs no registry, and every server's has two bytes. So the rate is that of the server's own path, and
//! comparable with any other server's.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::SendRequest;
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
}

impl Unary {
    pub(crate) async fn run(self) -> Outcome<()> {
        let client = http2::connect(self.address, Windows::WIDE).await?;
        let begin = Instant::now();
        let end = begin + Duration::from_secs_f64(self.seconds);
        let mut callers = JoinSet::new();
        for _ in 0..self.callers {
            callers.spawn(call_until(client.clone(), self.address, end));
        }
        let mut calls = 0;
        while let Some(done) = callers.join_next().await {
            calls += done??;
        }
        script::write_line(&json!({"calls": calls, "seconds": begin.elapsed().as_secs_f64()}))
    }
}

async fn call_until(client: SendRequest<Bytes>, address: SocketAddr, end: Instant) -> Outcome<u64> {
    let message = http2::framed(&HealthCheckRequest::default());
    let mut calls = 0;
    while Instant::now() < end {
        let mut call = http2::call(&client, address, "/grpc.health.v1.Health/Check", message.clone()).await?;
        while call.body.data().await?.is_some() {}
        match call.body.status().await? {
            0 => calls += 1,
            status => return Err(format!("status {status}").into()),
        }
    }
    Ok(calls)
}
