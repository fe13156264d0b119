//! Uses the generated Rust stubs, so that compiling this crate checks them.

use tonic::{Status, transport::Channel};

/// The API's generated code.
pub mod registry {
    tonic::include_proto!("rex.registry.v1");
}

use registry::{
    GetManifestRequest, StreamBlobRequest, registry_service_client::RegistryServiceClient, stream_blob_response::Frame,
};

/// The digest of a manifest.
pub async fn manifest_digest(
    client: &mut RegistryServiceClient<Channel>,
    request: GetManifestRequest,
) -> Result<Option<String>, Status> {
    let response = client.get_manifest(request).await?.into_inner();
    Ok(response.content_descriptor.map(|descriptor| descriptor.digest))
}

/// The size of a blob, when the registry announced it.
pub async fn blob_size(
    client: &mut RegistryServiceClient<Channel>,
    request: StreamBlobRequest,
) -> Result<Option<i64>, Status> {
    let mut messages = client.stream_blob(request).await?.into_inner();
    match messages.message().await?.and_then(|message| message.frame) {
        Some(Frame::Header(header)) if header.size_known => Ok(header.blob_descriptor.map(|blob| blob.size)),
        _ => Ok(None),
    }
}
