//! Logs, traces and metrics.
//!
//! Logs go to standard error, as text or as JSON, with control characters escaped in both. Traces
//! are exported over OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` (or its `_TRACES_` form) is set, and not otherwise; a call's
//! trace continues from the W3C trace context in its metadata.
//!
//! | file | what it does |
//! |---|---|
//! | `call` | one call: its span, and the line at its end |
//! | `metrics_page` | the metrics for Prometheus, and over OTLP |
//! | `carrier` | the trace context in the metadata of a call |
//! | `error` | why telemetry cannot start |
//! | `request_id` | the id that callers and operators know a call by |

use std::time::Duration;

use opentelemetry::{global, trace::TracerProvider as _};
use opentelemetry_sdk::{
    Resource, metrics::SdkMeterProvider, propagation::TraceContextPropagator, trace::SdkTracerProvider,
};
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

mod call;
mod carrier;
mod error;
mod metrics_page;
mod request_id;

pub use call::CallRecord;
pub use error::TelemetryError;
pub use metrics_page::MetricsPage;

/// What is logged, and how.
#[derive(Debug, Clone, Copy)]
pub struct Logs<'a> {
    /// In the syntax of `tracing_subscriber::EnvFilter`.
    pub filter: &'a str,
    /// Whether lines are JSON objects, or text for people.
    pub json: bool,
    /// The time without a response after which a call is logged while it runs.
    pub slow_call: Duration,
}

/// What is sent over OTLP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exports {
    /// Spans.
    pub traces: bool,
    /// Metrics, every `OTEL_METRIC_EXPORT_INTERVAL`.
    pub metrics: bool,
}

/// Keeps the exporters alive; [`finish`](Self::finish) exports the last spans and metrics.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: SdkMeterProvider,
    page: MetricsPage,
}

impl Telemetry {
    /// Starts logging, measuring, and what `exports` says.
    pub fn start(logs: Logs<'_>, exports: Exports) -> Result<Self, TelemetryError> {
        call::set_slow_call(logs.slow_call);
        let filter = EnvFilter::builder().parse(logs.filter)?;
        let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let logs = if logs.json {
            stderr.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        } else {
            stderr.with_target(false).boxed()
        };
        let (metrics, page) = metrics_page::start(exports.metrics, resource())?;
        let registry = tracing_subscriber::registry().with(logs.with_filter(filter));
        if !exports.traces {
            registry.try_init()?;
            return Ok(Self { traces: None, metrics, page });
        }
        global::set_text_map_propagator(TraceContextPropagator::new());
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build()?;
        let provider =
            SdkTracerProvider::builder().with_resource(resource()).with_batch_exporter(exporter).build();
        let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("rexd"));
        // Spans of this crate only: an exporter that traces its own requests never ends.
        let ours = EnvFilter::builder().parse("off,rexd=info")?;
        registry.with(spans.with_filter(ours)).try_init()?;
        Ok(Self { traces: Some(provider), metrics, page })
    }

    /// The metrics, in Prometheus' text format.
    #[must_use]
    pub fn page(&self) -> MetricsPage {
        self.page.clone()
    }

    /// Exports the remaining spans and metrics. Blocks for a few seconds at most when the collector does not respond.
    pub fn finish(self) {
        if let Some(error) = self.traces.and_then(|provider| provider.shutdown().err()) {
            tracing::warn!(%error, "the last spans were not exported");
        }
        if let Err(error) = self.metrics.shutdown() {
            tracing::warn!(%error, "the last metrics were not exported");
        }
    }
}

fn resource() -> Resource {
    Resource::builder().with_service_name("rexd").build()
}
