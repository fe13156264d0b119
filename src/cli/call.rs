//! The unary commands: ping, catalog, tags, manifest – for people, `helm test` and exec probes.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueHint};
use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt as _;

use super::{Failure, image::Image, print, write_out};
use crate::grpc::proto::{
    self, AuthScheme, GetManifestRequest, ListCatalogRequest, ListTagsRequest, PingRequest,
    registry_service_client::RegistryServiceClient,
};

/// A tag's reference when none is written, as for every Docker user.
const DEFAULT_TAG: &str = "latest";

/// Where the server is.
#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// The server's address; https:// for TLS
    #[arg(long, env = "REXD_SERVER", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    server: String,
    /// Certificates to trust beside the system's, PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Option<PathBuf>,
    /// The certificate to show to a server that requires one, PEM
    #[arg(long, value_name = "FILE", requires = "key", value_hint = ValueHint::FilePath)]
    cert: Option<PathBuf>,
    /// The certificate's key, PEM
    #[arg(long, value_name = "FILE", requires = "cert", value_hint = ValueHint::FilePath)]
    key: Option<PathBuf>,
    /// A file with the token that tells the server who calls; of several lines, the first is sent
    #[arg(long, env = "REXD_TOKEN_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    token_file: Option<PathBuf>,
    /// Give up after this long, for example 30s; without it, streams may take as long as they need
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

#[derive(Debug, Args)]
pub(super) struct PingArgs {
    /// The registry, for example ghcr.io; empty for the server's default
    #[arg(default_value = "")]
    registry: String,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(super) struct CatalogArgs {
    /// The registry, for example registry.internal:5000; empty for the server's default
    #[arg(default_value = "")]
    registry: String,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(super) struct TagsArgs {
    /// The repository, for example ghcr.io/org/app
    repository: String,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(super) struct ManifestArgs {
    /// The image, for example ghcr.io/org/app:v1
    image: String,
    /// Pick an index's entry, for example linux/arm64
    #[arg(long, default_value = "", hide_default_value = true)]
    platform: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn ping(args: PingArgs) -> Result<(), Failure> {
    let mut client = args.server.connect().await?;
    let answer =
        client.ping(args.server.request(PingRequest { registry: args.registry })?).await.map_err(said)?;
    let answer = answer.into_inner();
    let scheme = match answer.auth_scheme() {
        AuthScheme::Unspecified => "unknown",
        AuthScheme::None => "none",
        AuthScheme::Basic => "basic",
        AuthScheme::Bearer => "bearer",
    };
    let latency = answer.latency.and_then(|latency| Duration::try_from(latency).ok()).unwrap_or_default();
    print(&format!("{} answers: auth {scheme}, {:.1} ms\n", answer.registry, latency.as_secs_f64() * 1000.0))
}

pub(super) async fn catalog(args: CatalogArgs) -> Result<(), Failure> {
    let mut client = args.server.connect().await?;
    let mut page_token = String::new();
    loop {
        let request = ListCatalogRequest { registry: args.registry.clone(), page_size: 1000, page_token };
        let page = client.list_catalog(args.server.request(request)?).await.map_err(said)?.into_inner();
        print(&lines(&page.repositories))?;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

pub(super) async fn tags(args: TagsArgs) -> Result<(), Failure> {
    let Image { registry, repository, .. } = Image::parse(&args.repository)?;
    let mut client = args.server.connect().await?;
    let mut page_token = String::new();
    loop {
        let (registry, repository) = (registry.clone(), repository.clone());
        let request = ListTagsRequest { registry, repository, page_size: 1000, page_token };
        let page = client.list_tags(args.server.request(request)?).await.map_err(said)?.into_inner();
        print(&lines(&page.tags))?;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

pub(super) async fn manifest(args: ManifestArgs) -> Result<(), Failure> {
    let Image { registry, repository, reference } = Image::parse(&args.image)?;
    let request = GetManifestRequest {
        registry,
        repository,
        reference: reference.unwrap_or_else(|| DEFAULT_TAG.to_owned()),
        accept_media_types: Vec::new(),
        platform: args.platform,
    };
    let mut client = args.server.connect().await?;
    let manifest = client.get_manifest(args.server.request(request)?).await.map_err(said)?.into_inner();
    if let Some(proto::Descriptor { media_type, digest, size, .. }) = &manifest.content_descriptor {
        eprintln!("{media_type} {digest} {size} bytes");
    }
    write_out(&manifest.content)
}

impl ServerArgs {
    /// Connects, so that an address where nobody listens is said before anything else.
    pub(super) async fn connect(&self) -> Result<RegistryServiceClient<Channel>, Failure> {
        let usage = |error: tonic::transport::Error| {
            Failure::Usage(format!("--server {}: {}", self.server, root(&error)))
        };
        let mut endpoint = Endpoint::from_shared(self.server.clone()).map_err(usage)?;
        if self.token_file.is_some() && sends_in_clear_text(endpoint.uri()) {
            eprintln!("warning: the token goes to {} in clear text; https:// would not", self.server);
        }
        if self.server.starts_with("https://") {
            endpoint = endpoint.tls_config(self.tls()?).map_err(usage)?;
        }
        // Windows for fast downloads: 64 KiB at 20 ms would be 3 MB/s.
        let endpoint = endpoint.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
        let channel = endpoint.connect_timeout(Duration::from_secs(10)).connect().await;
        let channel = channel.map_err(|error| {
            Failure::Failed(format!("no connection to {}: {}", self.server, root(&error)))
        })?;
        Ok(RegistryServiceClient::new(channel).max_decoding_message_size(16 << 20))
    }

    fn tls(&self) -> Result<ClientTlsConfig, Failure> {
        let read = |file: &PathBuf| {
            std::fs::read(file).map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))
        };
        let mut tls = ClientTlsConfig::new().with_native_roots();
        if let Some(ca) = &self.ca {
            tls = tls.ca_certificate(Certificate::from_pem(read(ca)?));
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        Ok(tls)
    }

    /// A request with the deadline and the token.
    pub(super) fn request<T>(&self, message: T) -> Result<Request<T>, Failure> {
        let mut request = Request::new(message);
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        if let Some(file) = &self.token_file {
            let wrong =
                |problem: String| Failure::Usage(format!("--token-file {}: {problem}", file.display()));
            let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
            let token = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
            let token = token.ok_or_else(|| wrong("holds no token".to_owned()))?;
            let mut value = AsciiMetadataValue::try_from(format!("Bearer {token}"))
                .map_err(|_| wrong("its first line is no token".to_owned()))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// Whether what is sent can be read on the way.
fn sends_in_clear_text(server: &http::Uri) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    server.scheme_str() != Some("https") && !is_loopback
}

/// A status as a person reads it: the code, the stable reason, the message.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn said(status: Status) -> Failure {
    let reason =
        status.get_details_error_info().map(|info| format!(" ({})", info.reason)).unwrap_or_default();
    Failure::Failed(format!("{:?}{reason}: {}", status.code(), status.message()))
}

fn root(error: &dyn std::error::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn lines(names: &[String]) -> String {
    names.iter().map(|name| format!("{name}\n")).collect()
}
