"""A caller of rexd in Python: grpcio, with the code that grpcio-tools generates from the one proto.

    pip install -r requirements.txt
    python -m grpc_tools.protoc -I ../../../proto --python_out . --grpc_python_out . rex/registry/v1/registry.proto
    python client.py --target dns:///127.0.0.1:50051 --registry registry.test
"""

import argparse
import hashlib
import json
import math
import pathlib
import time

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from rex.registry.v1 import registry_pb2 as pb
from rex.registry.v1 import registry_pb2_grpc

CALL_SECONDS = 5
ATTEMPT_SECONDS = 30
# A download fails after this many attempts in a row that receive no data.
FRUITLESS_ATTEMPTS = 3

SERVICE_CONFIG = {
    # gRPC connections are long-lived. Without round_robin, all calls go to the first replica in the DNS response.
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "rex.registry.v1.RegistryService"}],
            # All calls are read-only and safe to retry. gRPC does not retry a stream that has begun; download() resumes it.
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}

OPTIONS = [
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    # The content of a manifest alone can reach gRPC's default limit of 4 MiB; the response has other fields too.
    ("grpc.max_receive_message_length", 8 << 20),
    # A stream receives at most one flow-control window per round trip: the default, 64 KiB, gives 3 MB/s at 20 ms. This
    # sets the initial window; the probe lets it grow with the bandwidth.
    ("grpc.http2.lookahead_bytes", 4 << 20),
    ("grpc.http2.bdp_probe", 1),
]


def details(error):
    """The ErrorInfo and the RetryInfo of a failed call, or None where the status has none."""
    found = {"ErrorInfo": None, "RetryInfo": None}
    status = rpc_status.from_call(error)
    for packed in status.details if status else []:
        name = packed.TypeName().rpartition(".")[2]
        if name in found:
            found[name] = getattr(error_details_pb2, name)()
            packed.Unpack(found[name])
    return found["ErrorInfo"], found["RetryInfo"]


def wait_seconds(retry_info):
    delay = retry_info.retry_delay
    return delay.seconds + delay.nanos / 1e9


def ping(stub, registry):
    return stub.Ping(pb.PingRequest(registry=registry), timeout=CALL_SECONDS)


def tags(stub, registry, repository):
    """All tags, and the number of pages."""
    found, pages, token = [], 0, ""
    while True:
        request = pb.ListTagsRequest(registry=registry, repository=repository, page_size=100, page_token=token)
        page = stub.ListTags(request, timeout=CALL_SECONDS)
        found.extend(page.tags)
        pages += 1
        token = page.next_page_token
        if not token:
            return found, pages


def manifest(stub, registry, repository, reference, platform):
    request = pb.GetManifestRequest(
        registry=registry, repository=repository, reference=reference, platform=platform
    )
    return stub.GetManifest(request, timeout=CALL_SECONDS)


def download(stub, registry, repository, digest, path, attempt_seconds=ATTEMPT_SECONDS):
    """Downloads a blob to `path`, which is created only after the digest matches. Returns the codes it resumed after."""
    part = path.with_name(path.name + ".part")
    hashed, resumed_after, fruitless, received = hashlib.new(digest.partition(":")[0]), [], 0, 0
    try:
        with open(part, "wb") as file:
            while True:
                began = received
                request = pb.StreamBlobRequest(
                    registry=registry, repository=repository, digest=digest, offset=received
                )
                try:
                    complete = False
                    for message in stub.StreamBlob(request, timeout=attempt_seconds):
                        if message.WhichOneof("frame") == "chunk":
                            file.write(message.chunk.data)
                            hashed.update(message.chunk.data)
                            received += len(message.chunk.data)
                        complete = message.HasField("trailer")
                    if not complete:
                        raise ValueError("the stream ended without a trailer")
                    break
                except grpc.RpcError as error:
                    fruitless = 0 if received > began else fruitless + 1
                    again = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
                    if error.code() not in again or fruitless == FRUITLESS_ATTEMPTS:
                        raise
                    resumed_after.append(error.code().name)
                    _, retry_info = details(error)
                    time.sleep(wait_seconds(retry_info) if retry_info else 0.1)
        # The service verifies only blobs that are read as a whole; a resumed one has to be verified here.
        if hashed.hexdigest() != digest.partition(":")[2]:
            raise ValueError(f"{path} does not match {digest}")
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    return sorted(set(resumed_after)), received


def show(event, **facts):
    print(json.dumps({"event": event, **facts}, sort_keys=True, separators=(",", ":")), flush=True)


def show_manifest(response):
    layers = [{"digest": layer.digest, "size": layer.size} for layer in response.image_manifest.layers]
    show("manifest", digest=response.content_descriptor.digest, index=response.index.digest, layers=layers)


def react(call):
    """Makes a call. If it fails, prints the error and the reaction, and retries if the status has a RetryInfo."""
    try:
        return call()
    except grpc.RpcError as error:
        code, (info, retry_info) = error.code().name, details(error)
        reaction = "gave up"
        if code == "DATA_LOSS":
            reaction = "discarded file"
        elif retry_info:
            reaction = f"retry after {math.ceil(wait_seconds(retry_info))} s"
        show("failure", code=code, reason=info.reason if info else "", reaction=reaction)
        if not retry_info:
            return None
        time.sleep(math.ceil(wait_seconds(retry_info)))
        return call()


def main():
    parser = argparse.ArgumentParser(description="Calls every RPC of rexd that a puller of images needs.")
    parser.add_argument("--target", default="dns:///127.0.0.1:50051")
    parser.add_argument("--registry", default="registry.test")
    parser.add_argument("--directory", type=pathlib.Path, default=".", help="where blobs are written")
    args = parser.parse_args()
    registry, directory = args.registry, pathlib.Path(args.directory)
    with grpc.insecure_channel(args.target, options=OPTIONS) as channel:
        stub = registry_pb2_grpc.RegistryServiceStub(channel)

        response = ping(stub, registry)
        scheme = pb.AuthScheme.Name(response.auth_scheme)
        show("ping", api_version=response.api_version, auth_scheme=scheme, registry=response.registry)

        found, pages = tags(stub, registry, "team/app")
        show("tags", pages=pages, tags=found)

        response = manifest(stub, registry, "team/app", "v1", "linux/arm64")
        show_manifest(response)
        show_manifest(manifest(stub, registry, "team/flaky", "v1", "linux/amd64"))

        digest = response.image_manifest.layers[0].digest
        for repository, seconds in (("team/app", ATTEMPT_SECONDS), ("team/stall", 2)):
            path = directory / f"{repository.replace('/', '-')}.blob"
            resumed_after, size = download(stub, registry, repository, digest, path, seconds)
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            show("blob", bytes=size, repository=repository, resumed_after=resumed_after, sha256=sha256)

        react(lambda: manifest(stub, registry, "team/app", "absent", ""))
        react(lambda: manifest(stub, registry, "team/private", "v1", ""))
        react(lambda: download(stub, registry, "team/corrupt", digest, directory / "team-corrupt.blob"))
        show_manifest(react(lambda: manifest(stub, registry, "team/limited", "v1", "linux/amd64")))


if __name__ == "__main__":
    main()
