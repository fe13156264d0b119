//! The commands; wiring only. Exit codes: 0 done, 1 failed, 2 usage or configuration.
//!
//! | file | what it does |
//! |---|---|
//! | `serve`, `demo` | run the service; `demo` with a sample registry behind it |
//! | `call`, `blob`, `part_file` | call a running service; `blob` resumes a download from its part file |
//! | `check` | checks and prints the configuration |
//! | `config_args`, `wiring` | turn arguments into a configuration, and the configuration into the parts it configures |
//! | `memory_limits` | the memory that calls may hold, from the configuration or the cgroup |
//! | `content_store`, `shared_engine` | the settings of the content store, and of the engine that replicas share |
//! | `connection`, `image` | the service to call, and a target as an image reference |
//! | `output`, `failure` | what a command prints, and its exit code |

use std::{io::IsTerminal as _, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};

use self::{
    config_args::ConfigArgs,
    failure::Failure,
    output::{print, write_out},
};
use crate::{
    config::LogFormat,
    telemetry::{Exports, Logs, Telemetry},
};

mod blob;
mod call;
mod check;
mod config_args;
mod connection;
mod content_store;
mod demo;
mod failure;
mod image;
mod memory_limits;
mod output;
mod part_file;
mod serve;
mod shared_engine;
mod wiring;

/// What `build.rs` has listed.
const LICENSES: &str = include_str!(concat!(env!("OUT_DIR"), "/licenses.txt"));

/// A gRPC service in front of container registries.
#[derive(Debug, Parser)]
#[command(name = "rexd", version, about, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Log filter in the syntax of tracing's EnvFilter, for example info or rexd=debug
    #[arg(long, global = true, env = "REXD_LOG", value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service
    Serve(ConfigArgs),
    /// Run the service in front of a sample registry, call each RPC, and keep serving
    Demo(demo::DemoArgs),
    /// Check that a registry responds and accepts the sign-in
    Ping(call::PingArgs),
    /// List the repositories of a registry, one per line
    Catalog(call::CatalogArgs),
    /// List the tags of a repository, one per line
    Tags(call::TagsArgs),
    /// Print the exact bytes of a manifest
    Manifest(call::ManifestArgs),
    /// Save a blob, or a part of it
    Blob(blob::BlobArgs),
    /// Check the configuration and report every error, with file, line and key
    CheckConfig(check::CheckArgs),
    /// Print the configuration in effect, without secrets, and where each value comes from
    PrintConfig(ConfigArgs),
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    /// Print the crates that the binary is made of, with version and licence, one per line
    Licenses,
    /// Print the version
    Version,
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // One crypto provider for the whole process, before the first handshake. A second install would return an error.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(message)) => complain(&message, 1),
        Err(Failure::Usage(message)) => complain(&message, 2),
    }
}

fn complain(message: &str, code: u8) -> ExitCode {
    eprintln!("rexd: {message}");
    ExitCode::from(code)
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Schema => print(&format!("{:#}\n", crate::config::schema())),
        Command::Licenses => print(LICENSES),
        Command::Version => print(&format!("rexd {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(Failure::failed)?;
            write_out(&page)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rexd", &mut script);
            write_out(&script)
        }
        Command::PrintConfig(args) => print(&wiring::load(&args)?.render()),
        command => {
            let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
            runtime.block_on(run_async(command, cli.log.as_deref()))
        }
    }
}

async fn run_async(command: Command, filter: Option<&str>) -> Result<(), Failure> {
    // The configuration says how the service logs. Commands print their own messages; the log is for users that request it.
    let serve = match &command {
        Command::Serve(args) => Some(wiring::load(args)?),
        _ => None,
    };
    let config = serve.as_ref().map(|loaded| loaded.config.log.clone());
    let is_service = config.is_some();
    let log = config.unwrap_or_default();
    let logs = Logs {
        filter: filter.unwrap_or(if is_service { &log.filter } else { "warn" }),
        json: match log.format {
            LogFormat::Auto => !std::io::stderr().is_terminal(),
            LogFormat::Text => false,
            LogFormat::Json => true,
        },
        slow_call: log.slow_call,
    };
    let exports =
        Exports { traces: is_service && exports("TRACES"), metrics: is_service && exports("METRICS") };
    let telemetry = Telemetry::start(logs, exports).map_err(|error| Failure::Usage(error.to_string()))?;
    let outcome = match command {
        Command::Serve(_) => match serve {
            Some(loaded) => serve::serve(loaded, telemetry.page()).await,
            None => Ok(()),
        },
        Command::Demo(args) => demo::demo(args).await,
        Command::Ping(args) => call::ping(args).await,
        Command::Catalog(args) => call::catalog(args).await,
        Command::Tags(args) => call::tags(args).await,
        Command::Manifest(args) => call::manifest(args).await,
        Command::Blob(args) => blob::blob(args).await,
        Command::CheckConfig(args) => check::check(args).await,
        Command::PrintConfig(_)
        | Command::Schema
        | Command::Completions { .. }
        | Command::Man
        | Command::Licenses
        | Command::Version => Ok(()),
    };
    // Sending the exporter's last batch blocks, so it has a thread of its own.
    let finished = tokio::task::spawn_blocking(move || telemetry.finish()).await;
    outcome.and(finished.map_err(Failure::failed))
}

/// Whether OpenTelemetry's standard environment variables name an endpoint for `TRACES` or `METRICS`. Without one, nothing is exported.
fn exports(signal: &str) -> bool {
    ["OTEL_EXPORTER_OTLP_ENDPOINT", &format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}
