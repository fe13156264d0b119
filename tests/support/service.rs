//! The service under test: the real handlers behind the real listener, in front of registries of the test's own.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use rexd::{
    callers::Callers,
    client::{Client, HttpSettings, Limits, Settings},
    grpc::{Registries, StreamLimits, proto, proto::registry_service_client::RegistryServiceClient},
    memory::{MemoryBudget, MemoryLimits},
    oci::Registry,
    policy::Policy,
    reads::{self, Reads},
    server::{self, Readiness, Server, add_reflection},
};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{
    service::Routes,
    transport::{Channel, Endpoint},
};

/// A running service; ends when dropped.
pub struct Service {
    pub address: SocketAddr,
    pub task: JoinHandle<()>,
    _stop: DropGuard,
}

/// What a test may choose.
pub struct Options {
    pub callers: Callers,
    pub allow_unlisted: bool,
    pub limits: Limits,
    pub streams: StreamLimits,
    /// By default, nothing is kept.
    pub reads: reads::Settings,
    pub store: Option<reads::store::ContentStore>,
    pub server: server::Settings,
    pub tls: Option<server::tls::Files>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            callers: Callers::anybody(),
            allow_unlisted: false,
            limits: Limits { manifest_bytes: 4 << 20, list_page_bytes: 4 << 20, max_pages: 100 },
            streams: StreamLimits {
                max_streams: 1000,
                memory: memory_of(256 << 20),
                write_stall: Duration::from_secs(60),
            },
            reads: reads::Settings::default(),
            store: None,
            server: server::Settings {
                drain_pause: Duration::from_millis(1),
                drain_grace: Duration::from_secs(5),
                ..server::Settings::default()
            },
            tls: None,
        }
    }
}

impl Service {
    /// A service in front of one registry, called `name`, at `address`.
    pub async fn in_front_of(name: &str, address: SocketAddr) -> Self {
        Self::start(vec![settings(name, address)], Options::default()).await
    }

    /// A service in front of some registries; the first one is the default.
    pub async fn start(registries: Vec<Settings>, options: Options) -> Self {
        let names: Vec<Registry> = registries.iter().map(|settings| settings.registry.clone()).collect();
        let allow_unlisted = options.allow_unlisted;
        let template = registries[0].clone();
        let unlisted = move |registry: &Registry| {
            let url = Settings::default_url(registry).ok()?;
            let settings = Settings { registry: registry.clone(), url, ..template.clone() };
            let settings = with_http(settings, |http| http.listed = false);
            allow_unlisted.then_some(settings)
        };
        let client = Client::new(registries, Box::new(unlisted), options.limits).unwrap();
        let policy = Policy::new(Some(names[0].clone()), HashSet::from_iter(names), allow_unlisted);
        let memory = options.streams.memory.clone();
        let reads = Reads::new(client, options.reads, options.store, None);
        let registries = Registries::new(reads, options.callers, policy, options.streams);
        let (readiness, health) = Readiness::new().await;
        let routes = Routes::new(registries.into_server()).add_service(health);
        let routes = add_reflection(routes, proto::DESCRIPTORS).unwrap();
        let listener = super::listen().await;
        let address = listener.local_addr().unwrap();
        let server = Server {
            settings: options.server,
            memory,
            routes,
            listener,
            tls: options.tls,
            ops: None,
            ops_pages: Vec::new(),
            readiness,
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move { server.run(stopped).await.unwrap() });
        Self { address, task, _stop: stop.drop_guard() }
    }

    /// A client on a connection of its own.
    pub async fn client(&self) -> RegistryServiceClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        RegistryServiceClient::new(endpoint.connect().await.unwrap())
    }
}

/// A memory budget of this many bytes. Each peer and each caller may use all of it.
pub fn memory_of(bytes: usize) -> MemoryBudget {
    MemoryBudget::new(MemoryLimits { total: bytes, per_peer: bytes, per_caller: bytes })
}

/// A listed registry without credentials, over plain HTTP.
pub fn settings(name: &str, address: SocketAddr) -> Settings {
    Settings {
        registry: name.parse().unwrap(),
        url: format!("http://{address}").parse().unwrap(),
        credentials: Vec::new(),
        page_parameters: Vec::new(),
        http: HttpSettings {
            listed: true,
            ca_file: None,
            client_certificate: None,
            proxy: None,
            http1_only: false,
            headers: http::HeaderMap::new(),
            token_realms: Vec::new(),
            trusted_origins: Vec::new(),
            max_concurrent_requests: 1000,
            max_concurrent_blobs: 1000,
            connect_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            auth_body_bytes: 64 << 10,
            fleet: None,
        },
    }
}

/// The settings, with changes to how the registry is reached.
pub fn with_http(mut settings: Settings, change: impl FnOnce(&mut HttpSettings)) -> Settings {
    change(&mut settings.http);
    settings
}
