//! The metrics: read by Prometheus, and sent over OTLP.

use opentelemetry::global;
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
};
use prometheus::{Encoder as _, Registry, TEXT_FORMAT, TextEncoder};

use super::error::TelemetryError;

/// The metrics as a page that Prometheus reads. Its clones are the same page.
#[derive(Debug, Clone)]
pub struct MetricsPage(Registry);

impl MetricsPage {
    /// The media type of the page.
    pub const MEDIA_TYPE: &'static str = TEXT_FORMAT;

    /// The page now.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut page = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.0.gather(), &mut page) {
            tracing::warn!(%error, "the metrics cannot be written");
        }
        page
    }
}

/// Starts to measure. To be called before anything is recorded.
pub(super) fn start(
    export: bool,
    resource: Resource,
) -> Result<(SdkMeterProvider, MetricsPage), TelemetryError> {
    let registry = Registry::new();
    let page = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build()?;
    let mut provider = SdkMeterProvider::builder().with_resource(resource).with_reader(page);
    if export {
        let exporter = opentelemetry_otlp::MetricExporter::builder().with_tonic().build()?;
        provider = provider.with_reader(PeriodicReader::builder(exporter).build());
    }
    let provider = provider.build();
    global::set_meter_provider(provider.clone());
    Ok((provider, MetricsPage(registry)))
}
