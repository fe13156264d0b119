//! `rexd blob`: a blob to a file or to standard output, with a progress bar for people.

use std::{
    fs::File,
    io::{IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use clap::{Args, ValueHint};
use indicatif::{ProgressBar, ProgressStyle};
use tokio_stream::StreamExt as _;

use super::{
    connection::{ServerArgs, status_failure},
    failure::Failure,
    image::Image,
};
use crate::grpc::proto::{StreamBlobRequest, stream_blob_response::Frame};

#[derive(Debug, Args)]
pub(super) struct BlobArgs {
    /// The blob, for example ghcr.io/org/app@sha256:…
    blob: String,
    /// Where to save it; `-` is standard output. A file appears only when it is complete
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: PathBuf,
    /// The first byte
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    offset: i64,
    /// The most bytes; 0 is to the end
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    limit: i64,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn blob(args: BlobArgs) -> Result<(), Failure> {
    let Image { registry, repository, reference } = Image::parse(&args.blob)?;
    let digest = reference
        .ok_or_else(|| Failure::Usage("a blob is named by its digest: repository@sha256:…".to_owned()))?;
    let (offset, limit) = (args.offset, args.limit);
    let request = StreamBlobRequest { registry, repository, digest, offset, limit, max_chunk_bytes: 0 };
    let mut client = args.server.connect().await?;
    let mut frames =
        client.stream_blob(args.server.request(request)?).await.map_err(status_failure)?.into_inner();
    let mut sink = Sink::open(&args.output)?;
    let progress =
        if std::io::stderr().is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() };
    progress.set_style(style());
    let mut complete = false;
    while let Some(message) = frames.next().await {
        match message.map_err(status_failure)?.frame {
            Some(Frame::Header(header)) if header.size_known => {
                progress.set_length(u64::try_from(header.length).unwrap_or_default());
            }
            Some(Frame::Chunk(chunk)) => {
                sink.write(&chunk.data)?;
                progress.inc(chunk.data.len() as u64);
            }
            Some(Frame::Trailer(_)) => complete = true,
            Some(Frame::Header(_)) | None => {}
        }
    }
    progress.finish_and_clear();
    if !complete {
        return Err(Failure::Failed(
            "the stream ended before its trailer: the blob is incomplete".to_owned(),
        ));
    }
    sink.finish()
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Where the bytes go. A file is written beside its name and moved there at the end.
enum Sink<'a> {
    Out(std::io::Stdout),
    File { file: File, part: PathBuf, name: &'a Path },
}

impl<'a> Sink<'a> {
    fn open(name: &'a Path) -> Result<Self, Failure> {
        if name == Path::new("-") {
            return Ok(Self::Out(std::io::stdout()));
        }
        let mut part = name.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file =
            File::create(&part).map_err(|error| Failure::Failed(format!("{}: {error}", part.display())))?;
        Ok(Self::File { file, part, name })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Out(out) => out.write_all(bytes).map_err(Failure::failed),
            Self::File { file, part, .. } => {
                file.write_all(bytes).map_err(|error| Failure::Failed(format!("{}: {error}", part.display())))
            }
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Out(mut out) => out.flush().map_err(Failure::failed),
            Self::File { file, part, name } => {
                drop(file);
                std::fs::rename(&part, name)
                    .map_err(|error| Failure::Failed(format!("{}: {error}", name.display())))
            }
        }
    }
}
