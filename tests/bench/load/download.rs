//! Reads one blob once, as fast as it arrives: `{"bytes": …, "seconds": …}`.

use std::time::Instant;

use bytes::Bytes;
use rexd::oci::{Algorithm, Verifier};
use serde_json::json;

use crate::{
    Outcome, Target, Through,
    http2::{self, Body, Windows},
    message::{Content, Messages},
    script,
};

/// Reads a blob.
#[derive(clap::Args)]
pub(crate) struct Download {
    #[arg(long, value_enum)]
    through: Through,
    #[command(flatten)]
    target: Target,
    /// Assembles the blob and checks its digest. This is slower, so it is not for timing.
    #[arg(long)]
    verify: bool,
}

impl Download {
    pub(crate) async fn run(self) -> Outcome<()> {
        let Target { address, blob } = &self.target;
        let begin;
        let bytes = match self.through {
            Through::Http1 => {
                let url = format!("http://{address}/v2/{}/blobs/{}", blob.repository, blob.digest);
                let client = reqwest::Client::builder().no_proxy().build()?;
                begin = Instant::now();
                let response = client.get(url).send().await?.error_for_status()?;
                self.plain(Source::Http1(response)).await?
            }
            Through::Http2 => {
                let client = http2::connect(*address, Windows::WIDE).await?;
                begin = Instant::now();
                let body = http2::get_blob(&client, *address, blob).await?;
                self.plain(Source::Http2(body)).await?
            }
            Through::Grpc => {
                let client = http2::connect(*address, Windows::WIDE).await?;
                begin = Instant::now();
                let mut call = http2::stream_blob(&client, *address, blob, 0).await?;
                let bytes = if self.verify {
                    read_whole(&mut call.body, &blob.digest).await?.bytes
                } else {
                    count(&mut call.body).await?
                };
                match call.body.status().await? {
                    0 => bytes,
                    status => return Err(format!("status {status} after {bytes} bytes").into()),
                }
            }
        };
        let seconds = begin.elapsed().as_secs_f64();
        // A message has a few bytes besides those of the blob.
        if bytes < blob.size || (self.through != Through::Grpc && bytes > blob.size) {
            return Err(format!("received {bytes} bytes of {}", blob.size).into());
        }
        script::write_line(&json!({"bytes": bytes, "seconds": seconds}))
    }

    async fn plain(&self, mut source: Source) -> Outcome<u64> {
        let mut verifier = self.verify.then(|| Verifier::new(Algorithm::Sha256));
        let mut bytes = 0;
        while let Some(data) = source.data().await? {
            bytes += data.len() as u64;
            if let Some(verifier) = &mut verifier {
                verifier.update(&data);
            }
        }
        match verifier.map(|verifier| verifier.finish().to_string()) {
            Some(digest) if digest != self.target.blob.digest => {
                Err(format!("the digest is {digest}").into())
            }
            _ => Ok(bytes),
        }
    }
}

enum Source {
    Http1(reqwest::Response),
    Http2(Body),
}

impl Source {
    async fn data(&mut self) -> Outcome<Option<Bytes>> {
        match self {
            Self::Http1(response) => Ok(response.chunk().await?),
            Self::Http2(body) => body.data().await,
        }
    }
}

async fn count(body: &mut Body) -> Outcome<u64> {
    let mut bytes = 0;
    while let Some(data) = body.data().await? {
        bytes += data.len() as u64;
    }
    Ok(bytes)
}

/// A blob that was read completely and whose digest matched.
pub(crate) struct Whole {
    /// Bytes of the body, including the framing around the blob's bytes.
    pub(crate) bytes: u64,
    /// How often the service lost its connection to the registry.
    pub(crate) resumes: i32,
}

/// Reads every message and compares the digest of what they hold.
pub(crate) async fn read_whole(body: &mut Body, digest: &str) -> Outcome<Whole> {
    let (mut messages, mut content, mut bytes) = (Messages::default(), Content::new(), 0);
    while let Some(data) = body.data().await? {
        bytes += data.len() as u64;
        messages.push(&data);
        while let Some(frame) = messages.next()? {
            content.take(frame)?;
        }
    }
    let resumes = content.resumes;
    let computed = content.digest()?;
    if computed != digest {
        return Err(format!("the digest is {computed}").into());
    }
    Ok(Whole { bytes, resumes })
}
