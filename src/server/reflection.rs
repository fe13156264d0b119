//! Server reflection, so that tools such as grpcurl need no `.proto` file: v1, and v1alpha for older tools.

use tonic::service::Routes;
use tonic_reflection::server::{Builder, Error};

/// A request is the name of a file or symbol. tonic's default is 4 MiB, and the services' callers need no token.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// Adds both reflection services to `routes`; they describe `descriptor_set` (an encoded `google.protobuf.FileDescriptorSet`
/// with its imports), the health service and themselves.
///
/// # Errors
///
/// If `descriptor_set` is not a valid `FileDescriptorSet`.
pub fn add_reflection(routes: Routes, descriptor_set: &[u8]) -> Result<Routes, Error> {
    let builder = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(descriptor_set)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // Tools need these to show the details of a failure. The service's own descriptors do not include them.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = builder().build_v1()?.max_decoding_message_size(MAX_REQUEST_BYTES);
    let v1alpha = builder().build_v1alpha()?.max_decoding_message_size(MAX_REQUEST_BYTES);
    Ok(routes.add_service(v1).add_service(v1alpha))
}

/// Whether a path names a method of either reflection service. Their calls have many messages, and tools keep them open.
pub(super) fn is_reflection(path: &str) -> bool {
    path.starts_with("/grpc.reflection.")
}
