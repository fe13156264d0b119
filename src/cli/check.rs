//! `rexd check-config`: checks the configuration, and with `--connect` pings each registry and tries the content store and the
//! engine of a fleet.

use clap::Args;
use tokio::time::Instant;

use super::{config_args::ConfigArgs, failure::Failure, memory_limits, output::print, wiring};
use crate::{
    client::{AuthScheme, CallContext, PingResponse, Share},
    config::Config,
};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Also ping each configured registry, write to the store and the engine of `cache`, and report which step fails
    #[arg(long)]
    connect: bool,
}

/// A registry that does not respond within this time is reported as unreachable.
const PING_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(45);

pub(super) async fn check(args: CheckArgs) -> Result<(), Failure> {
    let config = wiring::load(&args.config)?.config;
    let engine = wiring::engine(&config)?;
    let client = wiring::client(&config, engine.as_ref())?;
    wiring::callers(&config)?;
    if !args.connect {
        return print("the configuration is valid\n");
    }
    let memory = memory_limits::choose(&config.limits).budget().account();
    let (mut tried, mut failures) = (config.registries.len(), 0);
    for (name, entry) in &config.registries {
        let registry = wiring::name_of(name)?;
        let url = entry.url.as_ref().map(|url| url.as_url().to_string());
        let tls = if url.as_deref().is_some_and(|url| url.starts_with("http://")) { "no TLS" } else { "TLS" };
        let call =
            CallContext::new(Some(Instant::now() + PING_TIMEOUT), Share::of("check-config"), memory.clone());
        let ping = client.ping(&registry, &call);
        let line = match tokio::time::timeout(PING_TIMEOUT, ping).await {
            Ok(Ok(pong)) => format!("ok      {registry}: name, {tls}, {}", describe(&pong)),
            Ok(Err(error)) => {
                failures += 1;
                format!("failed  {error}{}", hint(&error))
            }
            Err(_) => {
                failures += 1;
                format!("failed  {registry}: no response within {PING_TIMEOUT:?}")
            }
        };
        print(&format!("{line}\n"))?;
    }
    let store = match &config.cache.store.url {
        Some(url) => Some((format!("cache.store, {}", String::from(url.clone())), try_store(&config).await)),
        None => None,
    };
    let engine = match (&engine, &config.cache.shared) {
        (Some(engine), Some(shared)) => {
            let problem = |problem| format!("cache.shared.url: {problem}");
            Some((format!("cache.shared, {}", shared.url), engine.check().await.map_err(problem)))
        }
        _ => None,
    };
    for (name, outcome) in [store, engine].into_iter().flatten() {
        tried += 1;
        match outcome {
            Ok(()) => print(&format!("ok      {name}: written, read and removed\n"))?,
            Err(problem) => {
                failures += 1;
                print(&format!("failed  {problem}\n"))?;
            }
        }
    }
    if failures > 0 {
        return Err(Failure::Failed(format!("{failures} of {tried} connections failed")));
    }
    Ok(())
}

/// Opens the content store and tries it.
async fn try_store(config: &Config) -> Result<(), String> {
    match wiring::store(config) {
        Ok(Some(store)) => store.check().await,
        Ok(None) => Ok(()),
        Err(Failure::Failed(problem) | Failure::Usage(problem)) => Err(problem),
    }
}

fn describe(pong: &PingResponse) -> String {
    let sign_in = match (pong.scheme, pong.signed_in) {
        (AuthScheme::None, _) => "no sign-in required",
        (AuthScheme::Basic, true) => "signed in with a password",
        (AuthScheme::Bearer, true) => "signed in with a token",
        (AuthScheme::Basic | AuthScheme::Bearer, false) => {
            "not signed in: the registry requires a sign-in, and no configured credential is for the whole registry"
        }
    };
    format!("{sign_in}, {:.0} ms", pong.latency.as_secs_f64() * 1000.0)
}

/// What the operator can check or change.
fn hint(error: &crate::RexError) -> &'static str {
    use crate::RexError as E;
    match error {
        E::Network { problem, .. } if problem.starts_with("TLS failed: received fatal alert") => {
            "; the registry may require a client certificate: set client_cert_file and client_key_file"
        }
        E::Network { problem, .. } if problem.starts_with("TLS") => {
            "; if the registry has a private certificate authority, set ca_file"
        }
        // The alert can be lost: a registry that closes before it has read the request resets the connection.
        E::Network { problem, .. } if problem.starts_with("the connection broke") => {
            "; check the url, the network and the proxy; a registry that requires a client certificate (client_cert_file \
             and client_key_file) may also close the connection"
        }
        E::Network { .. } => "; check the url, the network and the proxy",
        E::Timeout { .. } => "; check the url and the network, or raise the registry's timeouts",
        E::Authentication { .. } => "; check the registry's credentials",
        E::Validation { .. } => "; check that the url is that of a registry, including its path prefix",
        E::InvalidArgument { .. }
        | E::CallerUnknown { .. }
        | E::CallerNotAllowed { .. }
        | E::CallerLimited { .. }
        | E::RegistryNotAllowed { .. }
        | E::NotFound { .. }
        | E::RateLimit { .. }
        | E::Server { .. }
        | E::Unsupported { .. }
        | E::Range { .. }
        | E::Integrity { .. }
        | E::TooLarge { .. }
        | E::Overloaded { .. } => "",
    }
}
