//! The time from the request to the first byte of the blob, on an open connection: `{"milliseconds": [ … ]}`.
//!
//! The blob is small and is read to its end, so that every path keeps its connections. This is the harder case for the
//! service, which holds the only chunk back until it has been hashed.

use std::time::Instant;

use rexd::grpc::proto::stream_blob_response::Frame;
use serde_json::json;

use crate::{
    Outcome, Target, Through,
    http2::{self, Windows},
    message::Messages,
    script,
};

/// Reads that are not counted: they open the connections on both sides of the measured process.
const WARM_UP: usize = 10;

/// Reads a small blob many times.
#[derive(clap::Args)]
pub(crate) struct FirstByte {
    #[arg(long, value_enum)]
    through: Through,
    #[command(flatten)]
    target: Target,
    #[arg(long, default_value_t = 200)]
    repeats: usize,
}

impl FirstByte {
    pub(crate) async fn run(self) -> Outcome<()> {
        let Target { address, blob } = &self.target;
        let url = format!("http://{address}/v2/{}/blobs/{}", blob.repository, blob.digest);
        let http1 = reqwest::Client::builder().no_proxy().build()?;
        let http2 = match self.through {
            Through::Http1 => None,
            Through::Http2 | Through::Grpc => Some(http2::connect(*address, Windows::WIDE).await?),
        };
        let mut milliseconds = Vec::new();
        for _ in 0..WARM_UP + self.repeats {
            let begin = Instant::now();
            let first = match (&http2, self.through) {
                (Some(client), Through::Grpc) => {
                    let mut call = http2::stream_blob(client, *address, blob, 0).await?;
                    let mut messages = Messages::default();
                    let mut first = None;
                    while let Some(data) = call.body.data().await? {
                        messages.push(&data);
                        while let Some(frame) = messages.next()? {
                            if let Frame::Chunk(_) = frame {
                                first.get_or_insert_with(|| begin.elapsed());
                            }
                        }
                    }
                    first
                }
                (Some(client), _) => {
                    let mut body = http2::get_blob(client, *address, blob).await?;
                    let mut first = None;
                    while body.data().await?.is_some() {
                        first.get_or_insert_with(|| begin.elapsed());
                    }
                    first
                }
                (None, _) => {
                    let mut response = http1.get(&url).send().await?.error_for_status()?;
                    let mut first = None;
                    while response.chunk().await?.is_some() {
                        first.get_or_insert_with(|| begin.elapsed());
                    }
                    first
                }
            };
            milliseconds.push(first.ok_or("an empty blob")?.as_secs_f64() * 1e3);
        }
        milliseconds.drain(..WARM_UP);
        script::write_line(&json!({"milliseconds": milliseconds}))
    }
}
