//! Logs and traces.
//!
//! Logs go to standard error: for people on a terminal, as JSON elsewhere, with control characters escaped in both. Traces
//! are exported over OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` (or its `_TRACES_` form) is set, and not otherwise; a call's
//! trace continues from the W3C trace context in its metadata.
//!
//! | file | what it does |
//! |---|---|
//! | `call` | one call: its span, and the line at its end |
//! | `request_id` | the id that callers and operators know a call by |

use std::io::IsTerminal as _;

use opentelemetry::{global, propagation::Extractor, trace::TracerProvider as _};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tonic::metadata::{KeyRef, MetadataMap};
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

mod call;
mod request_id;

pub use call::CallRecord;

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
