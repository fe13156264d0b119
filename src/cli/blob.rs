//! `rexd blob`: saves a blob to a file or writes it to standard output, with a progress bar on a terminal.

use std::{
    fs::File,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, ValueHint};
use indicatif::{ProgressBar, ProgressStyle};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status, transport::Channel};

use super::{
    connection::{ServerArgs, status_failure},
    failure::Failure,
    image::Image,
    part_file::{PartFile, failure, part_of, rename},
};
use crate::{
    grpc::proto::{
        StreamBlobRequest, registry_service_client::RegistryServiceClient, stream_blob_response::Frame,
    },
    oci::{Digest, ParseError},
};

#[derive(Debug, Args)]
pub(super) struct BlobArgs {
    /// The blob, for example ghcr.io/org/app@sha256:…
    blob: String,
    /// The file to save it to; `-` is standard output. The file appears when it is complete: until then, FILE.part holds
    /// the bytes, and a run that was interrupted is resumed from it
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: PathBuf,
    /// Start at this byte of the blob
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    offset: i64,
    /// Read at most this many bytes; 0 reads to the end
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    limit: i64,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn blob(args: BlobArgs) -> Result<(), Failure> {
    let Image { registry, repository, reference } = Image::parse(&args.blob)?;
    let digest = reference.ok_or_else(|| {
        Failure::Usage(format!("{:?} has no digest; write registry/repository@sha256:…", args.blob))
    })?;
    let (offset, limit) = (args.offset, args.limit);
    let request = StreamBlobRequest { registry, repository, digest, offset, limit, max_chunk_bytes: 0 };
    let download = Download { client: args.server.connect().await?, server: &args.server, request };
    if args.output == Path::new("-") {
        let mut out = std::io::stdout();
        download
            .receive(offset, |bytes| out.write_all(bytes).map_err(Failure::failed))
            .await
            .map_err(StreamError::into_failure)?;
        out.flush().map_err(Failure::failed)
    } else if (offset, limit) == (0, 0) {
        download.whole(&args.output).await
    } else {
        download.range(&args.output).await
    }
}

/// A download of a blob from the service to a file.
struct Download<'a> {
    client: RegistryServiceClient<Channel>,
    server: &'a ServerArgs,
    request: StreamBlobRequest,
}

/// Why a stream ended early.
enum StreamError {
    /// The service ended it.
    Status(Status),
    /// Anything else.
    Failure(Failure),
}

impl StreamError {
    fn into_failure(self) -> Failure {
        match self {
            Self::Status(status) => status_failure(status),
            Self::Failure(failure) => failure,
        }
    }
}

impl Download<'_> {
    /// Downloads the whole blob, beginning with what an interrupted run left in `FILE.part`.
    async fn whole(self, name: &Path) -> Result<(), Failure> {
        let digest: Digest = self.request.digest.parse().map_err(|ParseError(problem)| {
            Failure::Usage(format!("the digest {:?} {problem}", self.request.digest))
        })?;
        let mut part = PartFile::open(name, &digest)?;
        let resumed_at = part.len();
        if resumed_at > 0 {
            eprintln!("resuming at byte {resumed_at}: found {}", part_of(name).display());
            let offset = i64::try_from(resumed_at).map_err(Failure::failed)?;
            match self.receive(offset, |bytes| part.write(bytes)).await {
                Ok(()) if part.matches() => return part.finish(),
                Ok(()) => eprintln!("the resumed file does not match the digest; downloading it again"),
                Err(StreamError::Status(status)) if status.code() == Code::OutOfRange => {
                    eprintln!("the part is larger than the blob; downloading it again");
                }
                Err(error) => return Err(error.into_failure()),
            }
            part.restart()?;
        }
        self.receive(0, |bytes| part.write(bytes)).await.map_err(StreamError::into_failure)?;
        if !part.matches() {
            part.restart()?;
            return Err(Failure::Failed("the received bytes do not match the digest".to_owned()));
        }
        part.finish()
    }

    /// Downloads a range of the blob. A range has no digest, so it cannot be resumed.
    async fn range(self, name: &Path) -> Result<(), Failure> {
        let part = part_of(name);
        let mut file = File::create(&part).map_err(|error| failure(&part, &error))?;
        let write = |bytes: &[u8]| file.write_all(bytes).map_err(|error| failure(&part, &error));
        self.receive(self.request.offset, write).await.map_err(StreamError::into_failure)?;
        drop(file);
        rename(&part, name)
    }

    /// Passes the bytes from `offset` to `write`, with a progress bar on a terminal.
    async fn receive(
        &self,
        offset: i64,
        mut write: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), StreamError> {
        let request = StreamBlobRequest { offset, ..self.request.clone() };
        let request = self.server.request(request).map_err(StreamError::Failure)?;
        let frames = self.client.clone().stream_blob(request).await.map_err(StreamError::Status)?;
        let mut frames = frames.into_inner();
        let progress =
            if std::io::stderr().is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() };
        progress.set_style(style());
        let mut complete = false;
        while let Some(message) = frames.next().await {
            match message.map_err(StreamError::Status)?.frame {
                Some(Frame::Header(header)) if header.size_known => {
                    progress.set_length(u64::try_from(header.length).unwrap_or_default());
                }
                Some(Frame::Chunk(chunk)) => {
                    write(&chunk.data).map_err(StreamError::Failure)?;
                    progress.inc(chunk.data.len() as u64);
                }
                Some(Frame::Trailer(_)) => complete = true,
                Some(Frame::Header(_)) | None => {}
            }
        }
        progress.finish_and_clear();
        if complete {
            return Ok(());
        }
        let problem = "the stream ended without a trailer: the blob is incomplete; run the command again";
        Err(StreamError::Failure(Failure::Failed(problem.to_owned())))
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
