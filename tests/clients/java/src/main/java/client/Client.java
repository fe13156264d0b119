package client;

import io.grpc.Channel;
import java.util.Iterator;
import rex.registry.v1.BlobHeader;
import rex.registry.v1.GetManifestRequest;
import rex.registry.v1.GetManifestResponse;
import rex.registry.v1.RegistryServiceGrpc;
import rex.registry.v1.StreamBlobRequest;
import rex.registry.v1.StreamBlobResponse;

/** Uses the generated Java stubs, so that compiling this file checks them. */
final class Client {
  private Client() {}

  static String manifestDigest(Channel channel, String repository, String reference) {
    GetManifestRequest request =
        GetManifestRequest.newBuilder().setRepository(repository).setReference(reference).build();
    GetManifestResponse response = RegistryServiceGrpc.newBlockingStub(channel).getManifest(request);
    return response.getContentDescriptor().getDigest();
  }

  static long blobSize(Channel channel, String repository, String digest) {
    StreamBlobRequest request =
        StreamBlobRequest.newBuilder().setRepository(repository).setDigest(digest).build();
    Iterator<StreamBlobResponse> messages = RegistryServiceGrpc.newBlockingStub(channel).streamBlob(request);
    BlobHeader header = messages.next().getHeader();
    return header.getBlobDescriptor().getSize();
  }
}
