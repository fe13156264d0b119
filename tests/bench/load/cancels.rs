//! Callers cancel (RST_STREAM) after the first bytes: how long does the registry's connection stay open?
//!
//! Every call requests another offset. The proxy in front of the registry reads it from `Range`, so each cancellation is
//! matched with its connection, and both times come from one clock.

use std::{
    collections::HashMap,
    net::SocketAddr,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use h2::Reason;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    Blob, Outcome,
    http2::{self, Windows},
    script,
    support::{connection_log::Connection, fault::FaultProxy},
};

/// After this long a connection that is still open counts as never closed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Cancels streams.
#[derive(clap::Args)]
pub(crate) struct Cancels {
    /// Address and port of the registry. This process prints the name of the registry; the script starts a service for
    /// that name, and sends the service's address.
    #[arg(long)]
    upstream: SocketAddr,
    #[command(flatten)]
    blob: Blob,
    #[arg(long, default_value_t = 10_000)]
    count: u64,
    /// Streams at the same time, each on a connection of its own.
    #[arg(long, default_value_t = 4)]
    callers: usize,
}

impl Cancels {
    pub(crate) async fn run(mut self) -> Outcome<()> {
        let proxy = FaultProxy::start(self.upstream);
        self.blob.registry = proxy.address().to_string();
        script::write_line(&json!({"proxy": self.blob.registry}))?;
        let service = script::read_line().await?.ok_or("no service")?.parse()?;

        // The script measures the service's memory after a tenth of the calls and after all. Growth during the first
        // calls is no leak; later growth is one.
        let warm = self.count / 10;
        let mut cancelled = self.cancel(service, 1..=warm).await?;
        script::write_line(&json!({"cancelled": cancelled.len()}))?;
        script::read_line().await?;
        cancelled.extend(self.cancel(service, warm + 1..=self.count).await?);
        let begin = Instant::now();
        while proxy.connection_log().open() > 0 && begin.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }

        let connections = proxy.connection_log().connections();
        let (mut milliseconds, mut finished) = (Vec::new(), 0);
        for connection in &connections {
            let Some(offset) = offset(connection) else {
                continue;
            };
            match (cancelled.get(&offset), connection.closed) {
                // Nothing was left to abort.
                _ if connection.body_sent + offset >= self.blob.size => finished += 1,
                (Some(at), Some((closed, _))) => {
                    milliseconds.push(closed.saturating_duration_since(*at).as_secs_f64() * 1e3);
                }
                _ => {}
            }
        }
        script::write_line(&json!({
            "cancelled": cancelled.len(),
            "connections": connections.len(),
            "finished_before": finished,
            "never_closed": proxy.connection_log().open(),
            "milliseconds": milliseconds,
        }))?;
        Ok(())
    }

    /// Opens and cancels a stream at each of the offsets, and returns when.
    async fn cancel(
        &self,
        service: SocketAddr,
        offsets: RangeInclusive<u64>,
    ) -> Outcome<HashMap<u64, Instant>> {
        let mut callers = JoinSet::new();
        for caller in 0..self.callers {
            let offsets = offsets.clone().skip(caller).step_by(self.callers);
            callers.spawn(cancel_each(service, self.blob.clone(), offsets));
        }
        let mut cancelled = HashMap::new();
        while let Some(done) = callers.join_next().await {
            cancelled.extend(done??);
        }
        Ok(cancelled)
    }
}

async fn cancel_each(
    service: SocketAddr,
    blob: Blob,
    offsets: impl Iterator<Item = u64>,
) -> Outcome<Vec<(u64, Instant)>> {
    let client = http2::connect(service, Windows::WIDE).await?;
    let mut cancelled = Vec::new();
    for offset in offsets {
        let mut call = http2::stream_blob(&client, service, &blob, i64::try_from(offset)?).await?;
        call.body.data_without_window_update().await?.ok_or("the blob ended at once")?;
        call.stream.send_reset(Reason::CANCEL);
        cancelled.push((offset, Instant::now()));
    }
    Ok(cancelled)
}

/// The offset in a connection's request.
fn offset(connection: &Connection) -> Option<u64> {
    let range = connection.request.as_ref()?.header("range")?;
    range.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
}
