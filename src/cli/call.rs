//! The unary commands ping, catalog, tags and manifest, for people, `helm test` and exec probes.

use std::time::Duration;

use clap::Args;
use prost_types::Duration as ProtoDuration;

use super::{
    connection::{ServerArgs, status_failure},
    failure::Failure,
    image::Image,
    output::{print, write_out},
};
use crate::grpc::proto::{
    AuthScheme, ContentDescriptor, GetManifestRequest, ListCatalogRequest, ListTagsRequest, PingRequest,
};

/// The reference of an image without a tag, as in Docker.
const DEFAULT_TAG: &str = "latest";

#[derive(Debug, Args)]
pub(super) struct PingArgs {
    /// The registry, for example ghcr.io; leave it out for the service's default
    #[arg(default_value = "")]
    registry: String,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(super) struct CatalogArgs {
    /// The registry, for example registry.internal:5000; leave it out for the service's default
    #[arg(default_value = "")]
    registry: String,
    #[command(flatten)]
    age: AgeArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(super) struct TagsArgs {
    /// The repository, for example ghcr.io/org/app
    repository: String,
    #[command(flatten)]
    age: AgeArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(super) struct ManifestArgs {
    /// The image, for example ghcr.io/org/app:v1
    image: String,
    /// For an index, print the manifest of this platform, for example linux/arm64
    #[arg(long, default_value = "", hide_default_value = true)]
    platform: String,
    #[command(flatten)]
    age: AgeArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// How old the response may be.
#[derive(Debug, Args)]
pub(super) struct AgeArgs {
    /// How old the response may be, for example 30s or 5m; 0s asks the registry now. Without it, the service decides
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    max_age: Option<Duration>,
}

impl AgeArgs {
    fn max_age(&self) -> Option<ProtoDuration> {
        // Years that do not fit are as good as no limit.
        self.max_age.and_then(|age| ProtoDuration::try_from(age).ok())
    }
}

pub(super) async fn ping(args: PingArgs) -> Result<(), Failure> {
    let mut client = args.server.connect().await?;
    let response = client
        .ping(args.server.request(PingRequest { registry: args.registry })?)
        .await
        .map_err(status_failure)?;
    let response = response.into_inner();
    let scheme = match response.auth_scheme() {
        AuthScheme::Unspecified => "unknown",
        AuthScheme::None => "none",
        AuthScheme::Basic => "basic",
        AuthScheme::Bearer => "bearer",
    };
    let latency = response.latency.and_then(|latency| Duration::try_from(latency).ok()).unwrap_or_default();
    print(&format!(
        "{} answers: auth {scheme}, {:.1} ms\n",
        response.registry,
        latency.as_secs_f64() * 1000.0
    ))
}

pub(super) async fn catalog(args: CatalogArgs) -> Result<(), Failure> {
    let mut client = args.server.connect().await?;
    let mut page_token = String::new();
    loop {
        let (registry, max_age) = (args.registry.clone(), args.age.max_age());
        let request = ListCatalogRequest { registry, page_size: 1000, page_token, max_age };
        let page =
            client.list_catalog(args.server.request(request)?).await.map_err(status_failure)?.into_inner();
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
        let max_age = args.age.max_age();
        let request = ListTagsRequest { registry, repository, page_size: 1000, page_token, max_age };
        let page =
            client.list_tags(args.server.request(request)?).await.map_err(status_failure)?.into_inner();
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
        max_age: args.age.max_age(),
    };
    let mut client = args.server.connect().await?;
    let manifest =
        client.get_manifest(args.server.request(request)?).await.map_err(status_failure)?.into_inner();
    if let Some(ContentDescriptor { media_type, digest, size, .. }) = &manifest.content_descriptor {
        eprintln!("{media_type} {digest} {size} bytes");
    }
    write_out(&manifest.content)
}

fn lines(names: &[String]) -> String {
    names.iter().map(|name| format!("{name}\n")).collect()
}
