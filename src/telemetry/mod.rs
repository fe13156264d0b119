//! Logs and traces.
//!
//! Logs go to standard error: for people on a terminal, as JSON elsewhere, with control characters escaped in both. Traces
//! are exported over OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` (or its `_TRACES_` form) is set, and not otherwise; a call's
//! trace continues from the W3C trace context in its metadata.

use std::{io::IsTerminal as _, time::Instant};

use opentelemetry::{global, propagation::Extractor, trace::TracerProvider as _};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tonic::{
    Code, Response, Status,
    metadata::{KeyRef, MetadataMap},
};
use tracing::{Instrument as _, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// The filter when none is given.
const DEFAULT_FILTER: &str = "info";

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be parsed.
    #[error("log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The exporter cannot be built.
    #[error("OTLP exporter: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// A subscriber is already installed.
    #[error("{0}")]
    Init(#[from] tracing_subscriber::util::TryInitError),
}

/// Keeps the exporter alive; [`finish`](Self::finish) exports the last spans.
#[derive(Debug)]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Starts logging, and exporting if `export`. `filter` is in the syntax of `tracing_subscriber::EnvFilter`.
    pub fn start(filter: Option<&str>, export: bool) -> Result<Self, TelemetryError> {
        let filter = EnvFilter::builder().parse(filter.unwrap_or(DEFAULT_FILTER))?;
        let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let logs = if std::io::stderr().is_terminal() {
            stderr.with_target(false).boxed()
        } else {
            stderr.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        };
        let registry = tracing_subscriber::registry().with(logs.with_filter(filter));
        if !export {
            registry.try_init()?;
            return Ok(Self(None));
        }
        global::set_text_map_propagator(TraceContextPropagator::new());
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build()?;
        let provider = SdkTracerProvider::builder()
            .with_resource(Resource::builder().with_service_name("rexd").build())
            .with_batch_exporter(exporter)
            .build();
        let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("rexd"));
        // Spans of this crate only: an exporter that traces its own requests never ends.
        let ours = EnvFilter::builder().parse("off,rexd=info")?;
        registry.with(spans.with_filter(ours)).try_init()?;
        Ok(Self(Some(provider)))
    }

    /// Exports the remaining spans. Blocks for a few seconds at most when the collector does not respond.
    pub fn finish(self) {
        if let Some(error) = self.0.and_then(|provider| provider.shutdown().err()) {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

/// Runs a call in its span, and logs how it ended.
pub async fn rpc<T>(
    method: &'static str,
    metadata: &MetadataMap,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Response<T>, Status> {
    let span = tracing::info_span!(
        "rpc",
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = "rex.registry.v1.RegistryService",
        rpc.method = method,
        caller = field::Empty,
        code = field::Empty,
    );
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Carrier(metadata)));
    // Without an exporter there is no trace to be part of.
    let _ = span.set_parent(parent);
    let began = Instant::now();
    async {
        let outcome = call.await;
        let code = outcome.as_ref().map_or_else(Status::code, |_| Code::Ok);
        Span::current().record("code", field::debug(code));
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &outcome {
            Ok(_) => tracing::info!(method, ?code, milliseconds, "responded"),
            Err(status) if is_service_failure(code) => {
                tracing::warn!(method, ?code, milliseconds, error = status.message(), "call failed");
            }
            Err(status) => {
                tracing::info!(method, ?code, milliseconds, error = status.message(), "call failed")
            }
        }
        outcome
    }
    .instrument(span)
    .await
}

/// Logs, in the span of its call, how a stream ended after its first message.
pub fn stream_failed(span: &Span, status: &Status) {
    let (code, error) = (status.code(), status.message());
    if is_service_failure(code) {
        tracing::warn!(parent: span, ?code, error, "stream failed");
    } else {
        tracing::info!(parent: span, ?code, error, "stream failed");
    }
}

/// Whether the service or its registry failed, rather than the caller: these codes are logged as warnings.
fn is_service_failure(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Internal | Code::DataLoss | Code::Unknown)
}

/// Records the caller in the span of the call, and so in its log.
pub fn caller(name: &str) {
    Span::current().record("caller", name);
}

struct Carrier<'a>(&'a MetadataMap);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        let ascii = |key| match key {
            KeyRef::Ascii(key) => Some(key.as_str()),
            KeyRef::Binary(_) => None,
        };
        self.0.keys().filter_map(ascii).collect()
    }
}
