//! The W3C trace context in the metadata of a call.

use opentelemetry::propagation::Extractor;
use tonic::metadata::{KeyRef, MetadataMap};

/// Reads the trace context.
pub(super) struct Carrier<'a>(pub(super) &'a MetadataMap);

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
