//! Builds the parts of the service from the configuration. The layers below do not know [`Config`].

use std::collections::HashSet;

use super::{config_args::ConfigArgs, content_store, failure::Failure, shared_engine};
use crate::{
    callers::{Callers, Identity},
    client::{self, Client, ClientCertificate, CredentialSource, HttpSettings, Limits, Proxy, Settings},
    config::{
        CallerIdentity, Config, Credentials, Flags, HttpVersion, Loaded, Registry as RegistryConfig, Sources,
    },
    grpc::{Registries, StreamLimits},
    memory::MemoryBudget,
    metrics,
    oci::Registry,
    policy::{Caller, CallerLimits, Policy},
    reads::{
        self, Reads,
        fleet::{Engine, EngineCounts},
        store::ContentStore,
    },
    server,
};

/// Loads the configuration from file, environment and flags.
pub(super) fn load(args: &ConfigArgs) -> Result<Loaded, Failure> {
    let flags = Flags {
        listen: args.listen.clone(),
        ops_listen: args.ops_listen.clone(),
        default_registry: None,
        allow_unlisted: args.allow_unlisted.then_some(true),
    };
    // Variables that are not UTF-8 cannot be variables of the service.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let environment: Vec<_> = environment.collect();
    Config::load(Sources { file: args.config.clone(), environment, flags })
        .map_err(|errors| Failure::Usage(format!("the configuration is invalid:\n{errors}")))
}

/// The gRPC service. An error names every registry that cannot be set up.
pub(super) fn registries(config: &Config, memory: MemoryBudget) -> Result<Registries, Failure> {
    let engine = engine(config)?;
    if let Some(engine) = &engine {
        engine.start();
        let (counted, watched) = (engine.clone(), engine.clone());
        let operations = move || {
            let EngineCounts { done, waited, failed, skipped, refused } = counted.counts();
            [
                ("done", done),
                ("waited", waited),
                ("failed", failed),
                ("skipped", skipped),
                ("refused", refused),
            ]
        };
        metrics::observe_engine(operations, move || watched.is_away());
    }
    let client = client(config, engine.as_ref())?;
    let listed = config.registries.keys().map(|name| name_of(name)).collect::<Result<HashSet<_>, _>>()?;
    let default_registry = config.default_registry.as_deref().map(name_of).transpose()?;
    let policy = Policy::new(default_registry, listed, config.allow_unlisted);
    let limits = StreamLimits {
        max_streams: config.limits.max_streams,
        memory,
        write_stall: config.limits.write_stall_timeout,
    };
    let reads = Reads::new(client, reads_settings(config)?, store(config)?, engine);
    Ok(Registries::new(reads, callers(config)?, policy, limits))
}

/// The engine that the replicas share, if there is one.
pub(super) fn engine(config: &Config) -> Result<Option<Engine>, Failure> {
    config.cache.shared.as_ref().map(shared_engine::engine).transpose().map_err(Failure::Usage)
}

/// The content store, if there is one.
pub(super) fn store(config: &Config) -> Result<Option<ContentStore>, Failure> {
    let settings = content_store::settings(&config.cache.store);
    settings.map(|settings| ContentStore::open(&settings)).transpose().map_err(Failure::Usage)
}

/// What is kept of what was read.
fn reads_settings(config: &Config) -> Result<reads::Settings, Failure> {
    let stale_if_error = |(name, registry): (&String, &RegistryConfig)| -> Result<_, Failure> {
        Ok((name_of(name)?, registry.stale_if_error))
    };
    let cache = &config.cache;
    Ok(reads::Settings {
        memory_bytes: cache.memory_bytes,
        tags: cache.tags,
        lists: cache.lists,
        absent: cache.absent,
        access_check: cache.access_check,
        stale_if_error: config.registries.iter().map(stale_if_error).collect::<Result<_, _>>()?,
    })
}

/// The callers. An error names every caller whose tokens cannot be read.
pub(super) fn callers(config: &Config) -> Result<Callers, Failure> {
    let Some(callers) = &config.callers else { return Ok(Callers::anybody()) };
    let callers = callers.iter().map(|(name, caller)| {
        let identity = match &caller.identity {
            CallerIdentity::TokenFile(file) => Identity::TokenFile(file.clone()),
            CallerIdentity::CertificateNames(names) => Identity::CertificateNames(names.clone()),
            CallerIdentity::Anonymous => Identity::Anonymous,
        };
        let grants = caller.allow.iter().map(|grant| {
            grant
                .parse()
                .map_err(|problem| Failure::Usage(format!("callers.{name}.allow: {grant:?} {problem}")))
        });
        let grants = grants.collect::<Result<_, _>>()?;
        let limits = CallerLimits {
            max_streams: caller.limits.max_streams.map(Into::into),
            max_calls: caller.limits.max_calls.map(Into::into),
            requests_per_second: caller.limits.requests_per_second.map(Into::into),
            bytes_per_second: caller.limits.bytes_per_second,
        };
        Ok((Caller::new(name, grants).with_limits(limits), identity))
    });
    Callers::known(callers.collect::<Result<Vec<_>, Failure>>()?)
        .map_err(|problems| Failure::Usage(format!("the callers cannot be set up:\n{}", problems.join("\n"))))
}

/// A client of every configured registry. The replicas that have the same engine share the pauses and the budgets of these
/// registries, and not those of unlisted ones, whose number has no bound.
pub(super) fn client(config: &Config, engine: Option<&Engine>) -> Result<Client, Failure> {
    let settings = config.registries.iter().map(|(name, registry)| {
        let name = name_of(name)?;
        let mut settings = settings(config, &name, registry, true)?;
        let limits = shared_engine::limits(registry.fleet);
        settings.http.fleet = engine.map(|engine| engine.registry(name.as_str(), limits));
        Ok(settings)
    });
    let settings = settings.collect::<Result<Vec<_>, _>>()?;
    let template = config.clone();
    let unlisted = move |registry: &Registry| {
        let allowed = template.allow_unlisted;
        allowed.then(|| settings_of_unlisted(&template, registry)).flatten()
    };
    let limits = Limits {
        manifest_bytes: config.limits.manifest_bytes,
        list_page_bytes: config.limits.list_page_bytes,
        max_pages: config.limits.max_pages,
    };
    Client::new(settings, Box::new(unlisted), limits).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Failure::Usage(format!("the registries cannot be set up:\n{}", lines.join("\n")))
    })
}

/// Parses the name of a registry in the configuration.
pub(super) fn name_of(name: &str) -> Result<Registry, Failure> {
    name.parse().map_err(|problem| Failure::Usage(format!("registries: {name:?} {problem}")))
}

fn settings_of_unlisted(config: &Config, registry: &Registry) -> Option<Settings> {
    settings(config, registry, &RegistryConfig::default(), false).ok()
}

fn settings(
    config: &Config,
    registry: &Registry,
    entry: &RegistryConfig,
    listed: bool,
) -> Result<Settings, Failure> {
    let url = match &entry.url {
        Some(url) => url.as_url().clone(),
        None => Settings::default_url(registry)
            .map_err(|error| Failure::Usage(format!("registries.{registry}: {error}")))?,
    };
    let own = entry.credentials.iter().flat_map(sources);
    // An unlisted registry was named by a caller, not by the operator: it gets no credentials.
    let shared = config
        .docker_configs
        .iter()
        .filter(|_| listed)
        .map(|file| CredentialSource::DockerConfig { file: file.clone() });
    let origins = |origins: &[crate::config::WebOrigin]| -> Result<Vec<client::Origin>, Failure> {
        let parse = |origin: &crate::config::WebOrigin| origin.as_origin().ascii_serialization().parse();
        origins
            .iter()
            .map(parse)
            .collect::<Result<_, _>>()
            .map_err(|problem| Failure::Usage(format!("registries.{registry}: an origin {problem}")))
    };
    let proxy = entry.proxy.as_ref().map(|proxy| {
        let url = proxy.as_origin().ascii_serialization();
        let url =
            url.parse().map_err(|error| Failure::Usage(format!("registries.{registry}.proxy: {error}")))?;
        let credentials = entry.proxy_username.clone().zip(entry.proxy_password_file.clone());
        Ok(Proxy { url, credentials })
    });
    Ok(Settings {
        registry: registry.clone(),
        url,
        credentials: own.chain(shared).collect(),
        page_parameters: entry.page_parameters.clone(),
        http: HttpSettings {
            listed,
            ca_file: entry.ca_file.clone(),
            client_certificate: entry
                .client_cert_file
                .clone()
                .zip(entry.client_key_file.clone())
                .map(|(cert_file, key_file)| ClientCertificate { cert_file, key_file }),
            proxy: proxy.transpose()?,
            http1_only: entry.http == HttpVersion::Http11,
            headers: entry
                .headers
                .iter()
                .filter_map(|(name, value)| {
                    Some((name.parse::<http::HeaderName>().ok()?, value.expose().clone()))
                })
                .collect(),
            token_realms: origins(&entry.token_realms)?,
            trusted_origins: origins(&entry.trusted_origins)?,
            max_concurrent_requests: entry.max_concurrent_requests,
            max_concurrent_blobs: entry.max_concurrent_blobs,
            connect_timeout: entry.connect_timeout,
            header_timeout: entry.header_timeout,
            idle_timeout: entry.idle_timeout,
            body_timeout: entry.body_timeout,
            auth_body_bytes: config.limits.auth_body_bytes,
            fleet: None,
        },
    })
}

fn sources(credentials: &Credentials) -> Vec<CredentialSource> {
    match credentials {
        Credentials::DockerConfig(files) => {
            files.iter().map(|file| CredentialSource::DockerConfig { file: file.clone() }).collect()
        }
        Credentials::Password { username, password_file } => {
            vec![CredentialSource::Password {
                username: username.clone(),
                password_file: password_file.clone(),
            }]
        }
        Credentials::Token { token_file } => vec![CredentialSource::Token { token_file: token_file.clone() }],
    }
}

/// The listener's settings.
pub(super) fn server_settings(config: &Config) -> server::Settings {
    let limits = &config.limits;
    server::Settings {
        write_stall: config.limits.write_stall_timeout,
        max_connections: limits.max_connections,
        max_connections_per_peer: limits.max_connections_per_peer,
        handshake_timeout: limits.handshake_timeout,
        preface_timeout: limits.handshake_timeout,
        request_timeout: limits.request_timeout,
        max_concurrent_streams: limits.max_concurrent_streams,
        max_header_list_bytes: limits.max_header_list_bytes,
        max_send_buffer_bytes: u32::try_from(limits.send_buffer_bytes).unwrap_or(u32::MAX),
        max_connection_age: limits.connection_age,
        max_connection_age_grace: limits.connection_age_grace,
        drain_pause: limits.drain_pause,
        drain_grace: limits.drain_grace,
        ..server::Settings::default()
    }
}
