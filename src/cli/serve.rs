//! `rexd serve`: the configuration, the parts of the service, and the signals that end it.

use std::{convert::Infallible, sync::Arc};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tonic::service::Routes;

use super::{failure::Failure, memory_limits, wiring};
use crate::{
    config::{CallerIdentity, Config, Loaded, Tls},
    grpc::{Registries, proto},
    memory::MemoryBudget,
    metrics,
    server::{OpsPage, Readiness, Server, add_reflection, tls},
    telemetry::MetricsPage,
};

/// The ops port's pages.
const INDEX: &str = "\
/livez     whether the process runs
/readyz    whether the service accepts calls
/metrics   what it counts and measures, for Prometheus
/configz   the configuration in effect, without secrets, and where each value comes from
";

pub(super) async fn serve(loaded: Loaded, metrics: MetricsPage) -> Result<(), Failure> {
    let (configz, config) = (loaded.render(), loaded.config);
    let memory = memory_limits::choose(&config.limits);
    metrics::name_registries(config.registries.keys().cloned());
    metrics::observe_process();
    let budget = memory.budget();
    let measured = budget.clone();
    metrics::observe_memory(move || measured.reserved(), memory.limits.total);
    // Before the listener: nobody connects to a service that cannot start.
    let registries = wiring::registries(&config, budget.clone())?;
    let listener = bind(config.listen, "listen").await?;
    let ops = match config.ops_listen {
        Some(address) => Some(bind(address, "ops_listen").await?),
        None => None,
    };
    let (stop, hangups) = (stop_signal()?, log_hangups()?);
    if sends_tokens_in_clear_text(&config) {
        tracing::warn!(
            "callers send their tokens in clear text: `tls` is not configured, and `listen` is not loopback"
        );
    }
    let address = listener.local_addr().map_err(Failure::failed)?;
    let ops_address = ops.as_ref().map(TcpListener::local_addr).transpose().map_err(Failure::failed)?;
    let mut server = assemble(&config, registries, budget, listener, ops).await?;
    server.ops_pages = ops_pages(metrics, configz);
    tracing::info!(
        listen = %address,
        ops_listen = ops_address.map(tracing::field::display),
        tls = config.tls.is_some(),
        callers = config.callers.as_ref().map(std::collections::BTreeMap::len),
        registries = config.registries.keys().cloned().collect::<Vec<_>>().join(" "),
        memory_bytes = memory.limits.total,
        memory_bytes_per_peer = memory.limits.per_peer,
        memory_bytes_per_caller = memory.limits.per_caller,
        memory_bytes_from = memory.source,
        "serving"
    );
    tokio::select! {
        result = server.run(stop) => result.map_err(|error| Failure::Usage(error.to_string()))?,
        never = hangups => match never {},
    }
    tracing::info!("stopped");
    Ok(())
}

/// The pages for people and for Prometheus. They hold no secret: the configuration is redacted.
fn ops_pages(metrics: MetricsPage, configz: String) -> Vec<OpsPage> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let index = format!("rexd {}\n\n{INDEX}", env!("CARGO_PKG_VERSION"));
    let page = |path, media_type, render: Arc<dyn Fn() -> Vec<u8> + Send + Sync>| OpsPage {
        path,
        media_type,
        render,
    };
    vec![
        page("/", TEXT, Arc::new(move || index.clone().into_bytes())),
        page("/metrics", MetricsPage::MEDIA_TYPE, Arc::new(move || metrics.render())),
        page("/configz", TEXT, Arc::new(move || configz.clone().into_bytes())),
    ]
}

/// The service with health and reflection, on a listener.
pub(super) async fn assemble(
    config: &Config,
    registries: Registries,
    memory: MemoryBudget,
    listener: TcpListener,
    ops: Option<TcpListener>,
) -> Result<Server, Failure> {
    let (readiness, health) = Readiness::new().await;
    let routes = Routes::new(registries.into_server()).add_service(health);
    let routes = add_reflection(routes, proto::DESCRIPTORS).map_err(Failure::failed)?;
    Ok(Server {
        settings: wiring::server_settings(config),
        memory,
        routes,
        listener,
        tls: config.tls.as_ref().map(tls_files),
        ops,
        ops_pages: Vec::new(),
        readiness,
    })
}

/// Whether tokens are sent in clear text. This is only a warning, because a mesh or an ingress may add TLS.
fn sends_tokens_in_clear_text(config: &Config) -> bool {
    let mut callers = config.callers.iter().flat_map(|callers| callers.values());
    let tokens = callers.any(|caller| matches!(caller.identity, CallerIdentity::TokenFile(_)));
    tokens && config.tls.is_none() && !config.listen.ip().is_loopback()
}

fn tls_files(tls: &Tls) -> tls::Files {
    tls::Files {
        certificate: tls.cert_file.clone(),
        key: tls.key_file.clone(),
        client_ca: tls.client_ca_file.clone(),
    }
}

pub(super) async fn bind(address: std::net::SocketAddr, key: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::Failed(format!("{key}: cannot listen on {address}: {error}")))
}

/// Logs every SIGHUP. Without a handler, the first one would kill the process.
fn log_hangups() -> Result<impl Future<Output = Infallible>, Failure> {
    let mut hangup = signal(SignalKind::hangup()).map_err(Failure::failed)?;
    Ok(async move {
        loop {
            match hangup.recv().await {
                Some(()) => tracing::warn!(
                    "SIGHUP is ignored: rexd does not reload its configuration yet; restart it to apply a change"
                ),
                None => std::future::pending().await,
            }
        }
    })
}

/// Completes with SIGTERM or SIGINT. The handlers are installed at once, so that a signal during the start is not lost.
pub(super) fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
