//! Callers who cancel (RST_STREAM) once the first bytes are there: how long until the registry's connection closes?
//!
//! Every call asks for another offset, which the proxy before the registry finds again in `Range`; so each cancel has its
//! connection, and both times come from one clock.

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
    /// Address and port of the registry. The script says that of the service, which must know the registry by the name
    /// that this prints.
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
        script::tell(&json!({"proxy": self.blob.registry}))?;
        let service = script::line().await?.ok_or("no service")?.parse()?;

        // The script looks at the service after a tenth of them and after all: what grows with the first calls is no
        // leak, what grows with the others is.
        let warm = self.count / 10;
        let mut cancelled = self.cancel(service, 1..=warm).await?;
        script::tell(&json!({"cancelled": cancelled.len()}))?;
        script::line().await?;
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
        script::tell(&json!({
            "cancelled": cancelled.len(),
            "connections": connections.len(),
            "finished_before": finished,
            "never_closed": proxy.connection_log().open(),
            "milliseconds": milliseconds,
        }))?;
        Ok(())
    }

    /// Opens and cancels a stream at each of the offsets; tells when.
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
        call.body.withheld().await?.ok_or("the blob ended at once")?;
        call.stream.send_reset(Reason::CANCEL);
        cancelled.push((offset, Instant::now()));
    }
    Ok(cancelled)
}

/// The offset which a connection's request asked for.
fn offset(connection: &Connection) -> Option<u64> {
    let range = connection.request.as_ref()?.header("range")?;
    range.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
}
