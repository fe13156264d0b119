//! The metadata that says where a response came from, and how old it is.

use tonic::{Response, metadata::MetadataValue};

use crate::{
    reads::{Answer, Source},
    telemetry::CallRecord,
};

/// The response that was read.
pub(super) fn response<A>(read: Answer<A>, record: &CallRecord) -> Response<A> {
    let source = Answer { value: (), source: read.source, age: read.age };
    add(Response::new(read.value), &source, record)
}

/// Adds `rexd-cache` and `rexd-age` (seconds) to a response, and notes the source in the record of the call.
pub(super) fn add<A>(
    mut response: Response<A>,
    read: &Answer<impl Sized>,
    record: &CallRecord,
) -> Response<A> {
    let source = match read.source {
        Source::Hit => "hit",
        Source::Revalidated => "revalidated",
        Source::Stale => "stale",
        Source::Miss => "miss",
    };
    record.cache(source);
    let metadata = response.metadata_mut();
    metadata.insert("rexd-cache", MetadataValue::from_static(source));
    metadata.insert("rexd-age", MetadataValue::from(read.age.as_secs()));
    response
}
