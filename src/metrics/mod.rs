//! What the process counts and measures, as instruments of OpenTelemetry. They are read by Prometheus on the ops port, and sent
//! over OTLP.
//!
//! The instruments belong to the process, as the log does: whatever happens in a layer is recorded there, and no layer has to
//! pass anything on. Without [`telemetry`](crate::telemetry) they record nothing.
//!
//! The values of attributes are bounded: RPCs, codes, reasons, and the registries that the configuration names. Every other
//! registry is `other`. No repository, digest, caller or peer is an attribute.
//!
//! | file | what it does |
//! |---|---|
//! | `call` | calls and their streams |
//! | `exchange` | requests to registries and token services |
//! | `process` | processor time, memory, descriptors |

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use opentelemetry::{StringValue, global, metrics::Meter};

mod call;
mod exchange;
mod process;

pub use call::{End, RunningCall};
pub use exchange::{Exchange, Received, paused, retried, retry_refused};
pub use process::observe_process;

/// Bounds of histograms of durations in seconds: those of the semantic conventions for RPC and HTTP.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

static REGISTRIES: OnceLock<HashMap<String, StringValue>> = OnceLock::new();

/// The registries that are attributes by name. Later calls change nothing.
pub fn name_registries(names: impl IntoIterator<Item = String>) {
    let values = |name: String| (name.clone(), StringValue::from(Arc::<str>::from(name)));
    // A process has one configuration.
    let _ = REGISTRIES.set(names.into_iter().map(values).collect());
}

/// The attribute's value for a registry.
fn registry(name: Option<&str>) -> StringValue {
    let listed = || REGISTRIES.get()?.get(name?).cloned();
    listed().unwrap_or_else(|| match name {
        Some(_) => StringValue::from("other"),
        None => StringValue::from("none"),
    })
}

fn meter() -> Meter {
    global::meter("rexd")
}

/// Observes the memory that is reserved for calls, in bytes, and the most there may be.
pub fn observe_memory(reserved: impl Fn() -> usize + Send + Sync + 'static, limit: usize) {
    let gauge = |name: &'static str, text: &'static str, value: Box<dyn Fn() -> usize + Send + Sync>| {
        meter()
            .u64_observable_gauge(name)
            .with_unit("By")
            .with_description(text)
            .with_callback(move |observer| observer.observe(value() as u64, &[]))
            .build();
    };
    gauge(
        "rexd.memory.reserved",
        "Memory that connections, calls and streams have reserved",
        Box::new(reserved),
    );
    gauge("rexd.memory.limit", "The most memory that they may reserve", Box::new(move || limit));
}

/// Observes what became of the operations of the shared engine, by outcome, and whether it is away.
pub fn observe_engine(
    operations: impl Fn() -> [(&'static str, u64); 5] + Send + Sync + 'static,
    is_away: impl Fn() -> bool + Send + Sync + 'static,
) {
    meter()
        .u64_observable_counter("rexd.engine.operations")
        .with_unit("{operation}")
        .with_description("Operations of the engine that replicas share, by outcome")
        .with_callback(move |observer| {
            for (outcome, count) in operations() {
                observer.observe(count, &[opentelemetry::KeyValue::new("outcome", outcome)]);
            }
        })
        .build();
    meter()
        .u64_observable_gauge("rexd.engine.away")
        .with_description("1 while the engine that replicas share is away")
        .with_callback(move |observer| observer.observe(is_away().into(), &[]))
        .build();
}
