//! Server reflection, so that grpcurl and its like need no `.proto`: v1, and v1alpha for tools that know only that.

use tonic::service::Routes;
use tonic_reflection::server::{Builder, Error};

/// Adds both reflection services to `routes`; they describe `descriptor_set` (an encoded `google.protobuf.FileDescriptorSet`
/// with its imports), the health service and themselves.
///
/// # Errors
///
/// When `descriptor_set` is none.
pub fn add_reflection(routes: Routes, descriptor_set: &[u8]) -> Result<Routes, Error> {
    let builder = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(descriptor_set)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that tools can show the details of a failure, which no service's own descriptors name.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}
