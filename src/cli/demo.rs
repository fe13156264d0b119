//! `rexd demo`: runs the sample registry and the service in front of it, calls the five RPCs through a real client, and
//! keeps serving, so that the printed commands can be tried.

use std::{io::Write as _, net::SocketAddr, sync::Arc, time::Instant};

use clap::Args;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tonic::{
    Response,
    transport::{Channel, Endpoint},
};

use super::{
    connection::status_failure,
    failure::Failure,
    memory_limits,
    output::print,
    serve::{assemble, stop_signal},
    wiring,
};
use crate::{
    config::{Config, Flags, Sources},
    demo::{APP, DemoRegistry, MANY, Sample},
    grpc::proto::{
        ContentDescriptor, GetManifestRequest, GetManifestResponse, ListCatalogRequest, ListTagsRequest,
        PingRequest, StreamBlobRequest, get_manifest_response::Manifest,
        registry_service_client::RegistryServiceClient, stream_blob_response::Frame,
    },
};

/// The sample registry's name in requests; its real address is a free port.
const REGISTRY: &str = "demo.local";

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Address of the service; if it is in use, a free port is chosen
    #[arg(long, default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Exit after the five RPCs
    #[arg(long)]
    once: bool,
}

pub(super) async fn demo(args: DemoArgs) -> Result<(), Failure> {
    let sample = Arc::new(Sample::generate().map_err(Failure::failed)?);
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Failure::failed)?;
    let registry = DemoRegistry::start(listener, sample).map_err(Failure::failed)?;
    let config = config(registry.address())?;
    let (listener, moved) = match TcpListener::bind(args.listen).await {
        Ok(listener) => (listener, false),
        Err(_) => {
            let free = SocketAddr::new(args.listen.ip(), 0);
            (TcpListener::bind(free).await.map_err(Failure::failed)?, true)
        }
    };
    let address = listener.local_addr().map_err(Failure::failed)?;
    let memory = memory_limits::choose(&config.limits).budget();
    let registries = wiring::registries(&config, memory.clone())?;
    let server = assemble(&config, registries, memory, listener, None).await?;
    let stop = stop_signal()?;
    let (finish, finished) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async move {
        tokio::select! {
            () = stop => {}
            _ = finished => {}
        }
    }));
    if moved {
        print(&format!("{} is in use; this demo listens on {address}\n", args.listen))?;
    }
    print(&format!("A sample registry, called {REGISTRY}, and rexd in front of it on {address}.\n"))?;
    Tour { address, client: connect(address).await? }.all().await?;
    if args.once {
        let _ = finish.send(());
    } else {
        print("\nServing until Ctrl-C.\n")?;
        std::io::stdout().flush().map_err(Failure::failed)?;
        // Kept, so that dropping it does not end the service.
        let ended = serving.await.map_err(Failure::failed)?;
        drop(finish);
        return ended.map_err(Failure::failed);
    }
    serving.await.map_err(Failure::failed)?.map_err(Failure::failed)
}

/// The configuration of the demo, checked like any other.
fn config(registry: SocketAddr) -> Result<Config, Failure> {
    let environment = [
        ("REXD_REGISTRIES".to_owned(), format!("{{{REGISTRY}: {{url: \"http://{registry}\"}}}}")),
        // A demo has no load balancer that needs time to react.
        ("REXD_LIMITS__DRAIN_PAUSE".to_owned(), "1ms".to_owned()),
        ("REXD_LIMITS__DRAIN_GRACE".to_owned(), "5s".to_owned()),
    ];
    let flags = Flags { default_registry: Some(REGISTRY.to_owned()), ..Flags::default() };
    let loaded = Config::load(Sources { file: None, environment, flags });
    loaded.map(|loaded| loaded.config).map_err(|errors| Failure::Usage(errors.to_string()))
}

async fn connect(address: SocketAddr) -> Result<RegistryServiceClient<Channel>, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(Failure::failed)?;
    Ok(RegistryServiceClient::new(endpoint.connect().await.map_err(Failure::failed)?))
}

/// Calls the five RPCs; shows each as a command to paste, with the result.
struct Tour {
    address: SocketAddr,
    client: RegistryServiceClient<Channel>,
}

impl Tour {
    async fn all(mut self) -> Result<(), Failure> {
        self.ping().await?;
        self.catalog().await?;
        self.tags().await?;
        let layer = self.manifests().await?;
        self.manifest_again().await?;
        self.blob(layer).await
    }

    async fn ping(&mut self) -> Result<(), Failure> {
        let request = PingRequest { registry: REGISTRY.to_owned() };
        self.show("Ping", &format!(r#"{{"registry":"{REGISTRY}"}}"#))?;
        let response = self.client.ping(request).await.map_err(status_failure)?.into_inner();
        print(&format!(
            "  {} responds with API {:?} and requires no sign-in\n",
            response.registry, response.api_version
        ))
    }

    async fn catalog(&mut self) -> Result<(), Failure> {
        let request = ListCatalogRequest { registry: REGISTRY.to_owned(), ..ListCatalogRequest::default() };
        self.show("ListCatalog", &format!(r#"{{"registry":"{REGISTRY}"}}"#))?;
        let response = self.client.list_catalog(request).await.map_err(status_failure)?.into_inner();
        print(&format!(
            "  {} repositories: {}\n",
            response.repositories.len(),
            response.repositories.join(", ")
        ))
    }

    async fn tags(&mut self) -> Result<(), Failure> {
        self.show(
            "ListTags",
            &format!(r#"{{"registry":"{REGISTRY}","repository":"{MANY}","page_size":100}}"#),
        )?;
        let (mut page_token, mut pages, mut tags) = (String::new(), 0, Vec::new());
        loop {
            let (registry, repository) = (REGISTRY.to_owned(), MANY.to_owned());
            let request = ListTagsRequest { registry, repository, page_size: 100, page_token, max_age: None };
            let page = self.client.list_tags(request).await.map_err(status_failure)?.into_inner();
            pages += 1;
            tags.extend(page.tags);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let (first, last) =
            (tags.first().cloned().unwrap_or_default(), tags.last().cloned().unwrap_or_default());
        print(&format!("  {} tags on {pages} pages, {first} to {last}\n", tags.len()))
    }

    /// Returns the largest layer of the arm64 image.
    async fn manifests(&mut self) -> Result<ContentDescriptor, Failure> {
        self.show(
            "GetManifest",
            &format!(r#"{{"registry":"{REGISTRY}","repository":"{APP}","reference":"v1"}}"#),
        )?;
        let index = self.manifest("", None).await?.into_inner();
        if let Some(Manifest::ImageIndex(view)) = &index.manifest {
            print(&format!("  an index for {} platforms\n", view.manifests.len()))?;
            for entry in &view.manifests {
                let platform = entry.platform.clone().unwrap_or_default();
                let variant = if platform.variant.is_empty() {
                    String::new()
                } else {
                    format!("/{}", platform.variant)
                };
                print(&format!(
                    "    {}/{}{variant}  {}\n",
                    platform.os, platform.architecture, entry.digest
                ))?;
            }
        }
        let picked = format!(
            r#"{{"registry":"{REGISTRY}","repository":"{APP}","reference":"v1","platform":"linux/arm64"}}"#
        );
        self.show("GetManifest", &picked)?;
        let image = self.manifest("linux/arm64", None).await?.into_inner();
        let Some(Manifest::ImageManifest(view)) = image.manifest else {
            return Err(Failure::Failed("the sample's index has no image for linux/arm64".to_owned()));
        };
        print(&format!("  an image of {} layers\n", view.layers.len()))?;
        for layer in &view.layers {
            print(&format!("    {}  {} bytes\n", layer.digest, layer.size))?;
        }
        let largest = view.layers.into_iter().max_by_key(|layer| layer.size);
        largest.ok_or_else(|| Failure::Failed("the sample's image has no layers".to_owned()))
    }

    /// Reads the same manifest once more, and says what that cost.
    async fn manifest_again(&mut self) -> Result<(), Failure> {
        let again =
            format!(r#"{{"registry":"{REGISTRY}","repository":"{APP}","reference":"v1","max_age":"60s"}}"#);
        self.show("GetManifest", &again)?;
        let answer = self.manifest("", Some(60)).await?;
        let text =
            |key: &str| answer.metadata().get(key).and_then(|value| value.to_str().ok()).unwrap_or("?");
        let (source, age) = (text("rexd-cache"), text("rexd-age"));
        let how = if source == "hit" { "without the registry" } else { "from the registry" };
        print(&format!("  the same index, {how} (rexd-cache: {source}, rexd-age: {age})\n"))
    }

    async fn manifest(
        &mut self,
        platform: &str,
        max_age: Option<i64>,
    ) -> Result<Response<GetManifestResponse>, Failure> {
        let request = GetManifestRequest {
            registry: REGISTRY.to_owned(),
            repository: APP.to_owned(),
            reference: "v1".to_owned(),
            platform: platform.to_owned(),
            max_age: max_age.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            ..GetManifestRequest::default()
        };
        self.client.get_manifest(request).await.map_err(status_failure)
    }

    async fn blob(&mut self, layer: ContentDescriptor) -> Result<(), Failure> {
        let digest = layer.digest;
        // The command to paste prints only the first bytes, not the whole blob.
        let pasted =
            format!(r#"{{"registry":"{REGISTRY}","repository":"{APP}","digest":"{digest}","limit":64}}"#);
        self.show("StreamBlob", &pasted)?;
        let request = StreamBlobRequest {
            registry: REGISTRY.to_owned(),
            repository: APP.to_owned(),
            digest,
            ..StreamBlobRequest::default()
        };
        let began = Instant::now();
        let mut frames = self.client.stream_blob(request).await.map_err(status_failure)?.into_inner();
        let mut chunks = 0;
        while let Some(message) = frames.next().await {
            match message.map_err(status_failure)?.frame {
                Some(Frame::Chunk(_)) => chunks += 1,
                Some(Frame::Trailer(trailer)) => {
                    let verified =
                        if trailer.digest_verified { "its digest verified" } else { "not verified" };
                    let milliseconds = began.elapsed().as_millis();
                    print(&format!(
                        "  (without the limit) {} bytes in {chunks} chunks and {milliseconds} ms, {verified}\n",
                        trailer.bytes_sent
                    ))?;
                }
                Some(Frame::Header(_)) | None => {}
            }
        }
        Ok(())
    }

    fn show(&self, method: &str, json: &str) -> Result<(), Failure> {
        print(&format!(
            "\ngrpcurl -plaintext -d '{json}' {} rex.registry.v1.RegistryService/{method}\n",
            self.address
        ))
    }
}
