// Uses the generated C++ stubs, so that compiling this file checks them.

#include <memory>
#include <string>

#include <grpcpp/grpcpp.h>

#include "rex/registry/v1/registry.grpc.pb.h"

namespace v1 = rex::registry::v1;

std::string manifest_digest(v1::RegistryService::Stub& stub, const std::string& repository, const std::string& reference) {
  grpc::ClientContext context;
  v1::GetManifestRequest request;
  request.set_repository(repository);
  request.set_reference(reference);
  v1::GetManifestResponse response;
  const grpc::Status status = stub.GetManifest(&context, request, &response);
  return status.ok() ? response.content_descriptor().digest() : std::string();
}

int64_t blob_size(v1::RegistryService::Stub& stub, const std::string& repository, const std::string& digest) {
  grpc::ClientContext context;
  v1::StreamBlobRequest request;
  request.set_repository(repository);
  request.set_digest(digest);
  v1::StreamBlobResponse response;
  const std::unique_ptr<grpc::ClientReader<v1::StreamBlobResponse>> reader = stub.StreamBlob(&context, request);
  return reader->Read(&response) ? response.header().blob_descriptor().size() : -1;
}
