//! The caller of `tests/bench/compare`: one HTTP/2 client for every path that is compared.
//!
//! The proxy and the service are read by the same `h2` client with the same windows and the same largest frame, and the
//! client does nothing with the bytes but count them, so that a difference between two figures is a difference between
//! the two processes in the middle. A separate run checks that the bytes are right (`--verify`).
//!
//! | command | what it does |
//! |---|---|
//! | `download` | reads a blob once, as fast as it comes |
//! | `first-byte` | reads a small blob many times, one after the other |
//! | `unary` | calls `grpc.health.v1.Health/Check` or `GetManifest` from many callers on one connection |
//! | `hold` | opens streams and stops reading, or reads slowly |
//! | `cuts` | reads a blob through a proxy that breaks the registry's connection again and again |
//! | `cancels` | cancels streams and notes when the registry's connections close |
//!
//! Each prints lines of JSON, and is meant to be started by the script.

use std::{error::Error, net::SocketAddr, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use tokio::time::timeout;

mod cancels;
mod cuts;
mod download;
mod first_byte;
mod hold;
mod http2;
mod message;
mod script;
mod unary;

#[path = "../../support/mod.rs"]
mod support;

/// A command that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Download(download::Download),
    FirstByte(first_byte::FirstByte),
    Unary(unary::Unary),
    Hold(hold::Hold),
    Cuts(cuts::Cuts),
    Cancels(cancels::Cancels),
}

/// How a blob is read.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Through {
    /// `GET /v2/…/blobs/…` over HTTP/1.1: the registry itself, for reference.
    Http1,
    /// The same over HTTP/2: the proxy.
    Http2,
    /// `StreamBlob`: the service.
    Grpc,
}

/// The server, and the blob to read from it.
#[derive(Clone, clap::Args)]
struct Target {
    /// Address and port of the registry, the proxy or the service.
    #[arg(long)]
    address: SocketAddr,
    #[command(flatten)]
    blob: Blob,
}

/// A blob of a registry.
#[derive(Clone, clap::Args)]
struct Blob {
    /// The registry's name in the service's configuration.
    #[arg(long, default_value = "")]
    registry: String,
    #[arg(long)]
    repository: String,
    #[arg(long)]
    digest: String,
    /// The blob's size in bytes.
    #[arg(long)]
    size: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = timeout(PATIENCE, async {
        match Arguments::parse().command {
            Command::Download(download) => download.run().await,
            Command::FirstByte(first_byte) => first_byte.run().await,
            Command::Unary(unary) => unary.run().await,
            Command::Hold(hold) => hold.run().await,
            Command::Cuts(cuts) => cuts.run().await,
            Command::Cancels(cancels) => cancels.run().await,
        }
    });
    match outcome.await.unwrap_or_else(|_| Err(format!("not done after {PATIENCE:?}").into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}
