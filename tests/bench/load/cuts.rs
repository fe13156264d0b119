//! A blob whose registry loses its connection many times, at random offsets: does the caller get every byte exactly once?
//!
//! Half of the cuts are orderly ends, half are resets. The fetched bytes are those that the proxy wrote to its sockets. A
//! reset discards some of them – at most 128 KiB, twice the proxy's send buffer – but they count as fetched, so the figure
//! is an upper bound.

use std::net::SocketAddr;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;

use crate::{
    Blob, Outcome,
    download::read_whole,
    http2::{self, Windows},
    script,
    support::fault::{Fault, FaultProxy, When},
};

/// Reads a blob whose connection breaks.
#[derive(clap::Args)]
pub(crate) struct Cuts {
    /// Address and port of the registry. This process prints the name of the registry; the script starts a service for
    /// that name, and sends the service's address.
    #[arg(long)]
    upstream: SocketAddr,
    #[command(flatten)]
    blob: Blob,
    #[arg(long, default_value_t = 50)]
    cuts: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Cuts {
    pub(crate) async fn run(mut self) -> Outcome<()> {
        let proxy = FaultProxy::start(self.upstream);
        self.blob.registry = proxy.address().to_string();
        let mut random = StdRng::seed_from_u64(self.seed);
        for (request, gap) in self.gaps(&mut random).into_iter().enumerate() {
            let fault = if random.random() { Fault::CutAfter(gap) } else { Fault::ResetAfter(gap) };
            proxy.inject(When::nth(request + 1, "/blobs/"), fault);
        }
        script::write_line(&json!({"proxy": self.blob.registry}))?;
        let service = script::read_line().await?.ok_or("no service")?.parse()?;

        let client = http2::connect(service, Windows::WIDE).await?;
        let mut call = http2::stream_blob(&client, service, &self.blob, 0).await?;
        let whole = read_whole(&mut call.body, &self.blob.digest).await?;
        let status = call.body.status().await?;
        if status != 0 {
            return Err(format!("status {status}").into());
        }
        let fetched: u64 =
            proxy.connection_log().connections().iter().map(|connection| connection.body_sent).sum();
        script::write_line(&json!({
            "cuts": proxy.connection_log().faults(),
            "resumes": whole.resumes,
            "fetched_bytes": fetched,
            "fetched_twice": (fetched as f64 - self.blob.size as f64) / self.blob.size as f64,
        }))
    }

    /// The number of bytes from each cut to the next; the cuts are at random offsets of the blob.
    fn gaps(&self, random: &mut StdRng) -> Vec<u64> {
        let mut places: Vec<u64> = (0..self.cuts).map(|_| random.random_range(1..self.blob.size)).collect();
        places.sort_unstable();
        let mut before = 0;
        let gap = |place: u64| place - std::mem::replace(&mut before, place);
        places.into_iter().map(gap).collect()
    }
}
