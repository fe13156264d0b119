//! Calls and their streams.

use std::{sync::LazyLock, time::Duration};

use opentelemetry::{
    KeyValue, StringValue,
    metrics::{Counter, Histogram, UpDownCounter},
};

use super::{SECONDS, meter, registry};

/// The instruments. Their names, where there is one, are those of the semantic conventions for RPC.
struct Instruments {
    duration: Histogram<f64>,
    first_byte: Histogram<f64>,
    running: UpDownCounter<i64>,
    bytes: Counter<u64>,
    cache: Counter<u64>,
    resumes: Counter<u64>,
    slow: Counter<u64>,
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = meter();
    let seconds = |name: &'static str, text: &'static str| {
        meter
            .f64_histogram(name)
            .with_unit("s")
            .with_description(text)
            .with_boundaries(SECONDS.to_vec())
            .build()
    };
    let counter = |name: &'static str, unit: &'static str, text: &'static str| {
        meter.u64_counter(name).with_unit(unit).with_description(text).build()
    };
    Instruments {
        duration: seconds(
            "rpc.server.call.duration",
            "Time of calls from their headers to their last message",
        ),
        first_byte: seconds(
            "rexd.call.time_to_first_byte",
            "Time from the headers of a call to its first byte",
        ),
        running: meter
            .i64_up_down_counter("rexd.calls.running")
            .with_unit("{call}")
            .with_description("Calls that are running, streams included")
            .build(),
        bytes: counter("rexd.call.sent", "By", "Bytes of responses; of blobs, bytes of their content"),
        cache: counter("rexd.cache.responses", "{response}", "Responses by where they came from"),
        resumes: counter("rexd.blob.resumes", "{resume}", "Reads of blobs that were resumed"),
        slow: counter("rexd.calls.slow", "{call}", "Calls that had no response for long"),
    }
});

/// A call that is running. It counts until it is dropped.
#[derive(Debug)]
pub struct RunningCall(&'static str);

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The registry, if the request named one.
    pub registry: Option<&'a str>,
    /// The name of the gRPC code.
    pub code: &'static str,
    /// The reason, if the call failed.
    pub reason: Option<&'a str>,
    /// Time to the end.
    pub duration: Duration,
    /// Time to the first byte.
    pub first_byte: Option<Duration>,
    /// Bytes of the response.
    pub bytes: u64,
    /// Where the response came from.
    pub cache: Option<&'static str>,
    /// How often the read of a blob was resumed.
    pub resumes: u32,
}

impl RunningCall {
    /// A call of this RPC begins.
    #[must_use]
    pub fn begin(method: &'static str) -> Self {
        let method = full_name(method);
        INSTRUMENTS.running.add(1, &[KeyValue::new("rpc.method", method)]);
        Self(method)
    }

    /// The call has had no response for long.
    pub fn is_slow(&self) {
        INSTRUMENTS.slow.add(1, &[KeyValue::new("rpc.method", self.0)]);
    }

    /// The call ends.
    pub fn end(&self, end: End<'_>) {
        let instruments = &*INSTRUMENTS;
        let registry = KeyValue::new("rexd.registry", registry(end.registry));
        let method = KeyValue::new("rpc.method", self.0);
        let code = KeyValue::new("rpc.response.status_code", end.code);
        let system = KeyValue::new("rpc.system.name", "grpc");
        let seconds = end.duration.as_secs_f64();
        match end.reason {
            None => instruments.duration.record(seconds, &[system, method.clone(), code, registry.clone()]),
            Some(reason) => {
                // The service's own reasons are few.
                let reason = KeyValue::new("error.type", StringValue::from(reason.to_owned()));
                instruments
                    .duration
                    .record(seconds, &[system, method.clone(), code, registry.clone(), reason]);
            }
        }
        let place = [method.clone(), registry];
        if let Some(first_byte) = end.first_byte {
            instruments.first_byte.record(first_byte.as_secs_f64(), &place);
        }
        instruments.bytes.add(end.bytes, &place);
        if end.resumes > 0 {
            instruments.resumes.add(end.resumes.into(), &place);
        }
        if let Some(source) = end.cache {
            let [method, registry] = place;
            instruments.cache.add(1, &[method, registry, KeyValue::new("source", source)]);
        }
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        INSTRUMENTS.running.add(-1, &[KeyValue::new("rpc.method", self.0)]);
    }
}

/// The name of an RPC with its service, as the semantic conventions want it.
fn full_name(method: &'static str) -> &'static str {
    match method {
        "Ping" => "rex.registry.v1.RegistryService/Ping",
        "ListCatalog" => "rex.registry.v1.RegistryService/ListCatalog",
        "ListTags" => "rex.registry.v1.RegistryService/ListTags",
        "GetManifest" => "rex.registry.v1.RegistryService/GetManifest",
        "StreamBlob" => "rex.registry.v1.RegistryService/StreamBlob",
        _ => "_OTHER",
    }
}
