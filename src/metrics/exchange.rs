//! Requests to registries, their storage and token services.

use std::{sync::LazyLock, time::Instant};

use opentelemetry::{
    KeyValue, StringValue,
    metrics::{Counter, Histogram, UpDownCounter},
};

use super::{SECONDS, meter, registry};

/// The instruments. The names of the first two are those of the semantic conventions for HTTP.
struct Instruments {
    duration: Histogram<f64>,
    running: UpDownCounter<i64>,
    bytes: Counter<u64>,
    retries: Counter<u64>,
    retries_refused: Counter<u64>,
    pauses: Counter<u64>,
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = meter();
    let counter = |name: &'static str, unit: &'static str, text: &'static str| {
        meter.u64_counter(name).with_unit(unit).with_description(text).build()
    };
    Instruments {
        duration: meter
            .f64_histogram("http.client.request.duration")
            .with_unit("s")
            .with_description("Time from a request to the head of its response")
            .with_boundaries(SECONDS.to_vec())
            .build(),
        running: meter
            .i64_up_down_counter("http.client.active_requests")
            .with_unit("{request}")
            .with_description("Requests that wait for the head of their response")
            .build(),
        bytes: counter("rexd.registry.received", "By", "Bytes of bodies that were received from registries"),
        retries: counter("rexd.registry.retries", "{request}", "Requests that were sent again"),
        retries_refused: counter(
            "rexd.registry.retries_refused",
            "{request}",
            "Requests that the retry budget did not allow to send again",
        ),
        pauses: counter("rexd.registry.pauses", "{pause}", "Pauses that registries requested with 429"),
    }
});

/// A request that waits for the head of its response.
#[derive(Debug)]
pub struct Exchange {
    method: KeyValue,
    server: KeyValue,
    began: Instant,
}

impl Exchange {
    /// A request is sent. The attribute's value is the registry that it is sent for, not the host.
    #[must_use]
    pub fn begin(registry_name: &str, method: &http::Method) -> Self {
        let method = match *method {
            http::Method::GET => "GET",
            http::Method::HEAD => "HEAD",
            http::Method::POST => "POST",
            _ => "_OTHER",
        };
        let method = KeyValue::new("http.request.method", method);
        let server = KeyValue::new("rexd.registry", registry(Some(registry_name)));
        INSTRUMENTS.running.add(1, &[method.clone(), server.clone()]);
        Self { method, server, began: Instant::now() }
    }

    /// The head of the response has arrived. A status that no specification names counts as the first of its class, so that a
    /// registry cannot make up series.
    pub fn responded(self, status: http::StatusCode) {
        let is_known = status.canonical_reason().is_some();
        let status = if is_known { status.as_u16() } else { status.as_u16() / 100 * 100 };
        self.record(KeyValue::new("http.response.status_code", i64::from(status)));
    }

    /// There is no response. `problem` is what failed, one of a few.
    pub fn failed(self, problem: &'static str) {
        let problem = KeyValue::new("error.type", StringValue::from(problem));
        self.record(problem);
    }

    fn record(&self, outcome: KeyValue) {
        let attributes = [self.method.clone(), self.server.clone(), outcome];
        INSTRUMENTS.duration.record(self.began.elapsed().as_secs_f64(), &attributes);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        INSTRUMENTS.running.add(-1, &[self.method.clone(), self.server.clone()]);
    }
}

fn place(registry_name: &str) -> [KeyValue; 1] {
    [KeyValue::new("rexd.registry", registry(Some(registry_name)))]
}

/// Counts the bytes of a body, and records them when it is dropped: a body has many chunks.
#[derive(Debug)]
pub struct Received {
    registry: [KeyValue; 1],
    bytes: u64,
}

impl Received {
    /// A body of which nothing was received yet.
    #[must_use]
    pub fn new(registry_name: &str) -> Self {
        Self { registry: place(registry_name), bytes: 0 }
    }

    /// More of it was received.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        INSTRUMENTS.bytes.add(self.bytes, &self.registry);
    }
}

/// A request is sent again.
pub fn retried(registry_name: &str) {
    INSTRUMENTS.retries.add(1, &place(registry_name));
}

/// A request is not sent again, because of the retry budget.
pub fn retry_refused(registry_name: &str) {
    INSTRUMENTS.retries_refused.add(1, &place(registry_name));
}

/// A registry requests a pause.
pub fn paused(registry_name: &str) {
    INSTRUMENTS.pauses.add(1, &place(registry_name));
}
