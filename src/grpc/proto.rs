//! The API's generated code and its descriptors.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    reason = "generated; the proto holds the documentation"
)]
#![allow(clippy::large_enum_variant, reason = "generated")]

tonic::include_proto!("rex.registry.v1");

/// The descriptors of the API, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/registry_descriptor.bin"));
