//! Callers that stop reading: each opens a stream, reads a little, and then never opens the window again. With `--pace`,
//! it reads on slowly.
//!
//! Prints `{"holding": …}` once all of them have stopped, waits until the script sends a line or closes its end, and then
//! prints how each stream ended: `{"ends": {"open": 17, "status 14": 3}}`.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::client::SendRequest;
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    Blob, Outcome, Target,
    http2::{self, Body, Windows},
    script,
};

/// Opens streams and stops reading.
#[derive(clap::Args)]
pub(crate) struct Hold {
    #[command(flatten)]
    target: Target,
    #[arg(long)]
    streams: u32,
    #[arg(long)]
    connections: u32,
    /// Bytes that each stream reads, and opens its window for, before it stops.
    #[arg(long, default_value_t = 0)]
    after: usize,
    /// Does not stop, but reads a frame every so many milliseconds.
    #[arg(long)]
    pace: Option<u64>,
}

impl Hold {
    pub(crate) async fn run(self) -> Outcome<()> {
        let Target { address, blob } = self.target;
        let windows = Windows::first_for(self.streams.div_ceil(self.connections));
        let mut clients = Vec::new();
        for _ in 0..self.connections {
            clients.push(http2::connect(address, windows).await?);
        }
        let (standing, mut stood) = mpsc::unbounded_channel();
        let (finish, finished) = watch::channel(());
        let mut streams = JoinSet::new();
        for (_, client) in (0..self.streams).zip(clients.iter().cycle()) {
            let stream = Stream {
                address,
                blob: blob.clone(),
                after: self.after,
                pace: self.pace.map(Duration::from_millis),
                standing: standing.clone(),
                finished: finished.clone(),
            };
            streams.spawn(stream.run(client.clone()));
        }
        drop(standing);
        let mut holding = 0;
        while let Some(()) = stood.recv().await {
            holding += 1;
            if holding == self.streams {
                break;
            }
        }
        if holding < self.streams {
            // A stream that did not get this far has failed, and reports why.
            while let Some(ended) = streams.join_next().await {
                ended??;
            }
        }
        script::write_line(&json!({"holding": holding}))?;
        script::read_line().await?;
        finish.send_replace(());
        let mut ends = BTreeMap::<String, u32>::new();
        while let Some(ended) = streams.join_next().await {
            *ends.entry(ended??).or_default() += 1;
        }
        script::write_line(&json!({"ends": ends}))
    }
}

struct Stream {
    address: SocketAddr,
    blob: Blob,
    after: usize,
    pace: Option<Duration>,
    standing: mpsc::UnboundedSender<()>,
    finished: watch::Receiver<()>,
}

impl Stream {
    /// Returns how it ended.
    async fn run(mut self, client: SendRequest<Bytes>) -> Outcome<String> {
        let mut call = http2::stream_blob(&client, self.address, &self.blob, 0).await?;
        let mut read = 0;
        while read < self.after {
            read += call.body.data().await?.ok_or("the blob ended before the stream could hold")?.len();
        }
        if read == 0 {
            call.body.data_without_window_update().await?;
        }
        // The receiver is gone once a stream has failed.
        let _ = self.standing.send(());
        if let Some(pace) = self.pace {
            let reading = async {
                while let Ok(Some(_)) = call.body.data().await {
                    sleep(pace).await;
                }
            };
            tokio::select! {
                () = reading => {}
                _ = self.finished.changed() => {}
            }
        } else {
            self.finished.changed().await?;
        }
        Ok(timeout(Duration::from_secs(1), end(&mut call.body)).await.unwrap_or_else(|_| "open".to_owned()))
    }
}

/// Reads to the end without opening the window.
async fn end(body: &mut Body) -> String {
    loop {
        match body.data_without_window_update().await {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => {
                return match error.reason() {
                    Some(reason) => format!("reset {reason:?}"),
                    None => "connection lost".to_owned(),
                };
            }
        }
    }
    match body.status().await {
        Ok(status) => format!("status {status}"),
        Err(error) => error.to_string(),
    }
}
