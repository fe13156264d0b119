"""Callers with grpcio, each with a connection of its own; all of them make their call at once."""

import threading
import time

import grpc

from rex.registry.v1 import registry_pb2 as pb
from rex.registry.v1 import registry_pb2_grpc

from replicas import NAME
from report import percentile

SECONDS = 60
"""The deadline of a call."""

OPTIONS = [
    # A connection for each channel: channels to the same address share one otherwise.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 8 << 20),
    # A failed call counts as failed.
    ("grpc.enable_retries", 0),
]


class Outcome:
    """How a call ended: its code, its seconds, its response, and what its metadata says."""

    def __init__(self, call, began, ended):
        self.seconds, self.code, self.response = ended - began, call.code(), None
        self.message = call.details()
        self.metadata = dict(call.initial_metadata() or ())
        if self.code == grpc.StatusCode.OK:
            self.response = call.result()

    @property
    def cache(self):
        """`hit`, `revalidated`, `miss` or `stale`; None when the service does not say."""
        return self.metadata.get("rexd-cache")


class Burst:
    """The outcomes of calls that were made at once."""

    def __init__(self, outcomes):
        self.outcomes = outcomes

    def failed(self, code=grpc.StatusCode.OK):
        """How many calls ended with another code."""
        return sum(outcome.code != code for outcome in self.outcomes)

    def digests(self):
        return {outcome.response.content_descriptor.digest for outcome in self.outcomes if outcome.response}

    def caches(self):
        return {outcome.cache for outcome in self.outcomes}

    def p99_ms(self):
        return 1000 * percentile([outcome.seconds for outcome in self.outcomes], 0.99)

    def codes(self):
        """Each code with the number of calls: for a failed fact."""
        names = [outcome.code.name for outcome in self.outcomes]
        return ", ".join(f"{names.count(name)} {name}" for name in sorted(set(names)))


class Callers:
    """Callers with open connections, in turn to one of the replicas."""

    def __init__(self, replicas, count, token=None):
        addresses = [replicas[number % len(replicas)].address for number in range(count)]
        self.channels = [grpc.insecure_channel(address, options=OPTIONS) for address in addresses]
        self.stubs = [registry_pb2_grpc.RegistryServiceStub(channel) for channel in self.channels]
        self.metadata = [("authorization", f"Bearer {token}")] if token else None
        for channel in self.channels:
            grpc.channel_ready_future(channel).result(SECONDS)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for channel in self.channels:
            channel.close()

    def _burst(self, method, requests):
        """The requests are made in turn by the callers; each call's end is noted when it happens."""
        calls, ends, over = [], {}, threading.Semaphore(0)

        def ended(number):
            ends[number] = time.monotonic()
            over.release()

        for number, request in enumerate(requests):
            stub = self.stubs[number % len(self.stubs)]
            began = time.monotonic()
            call = getattr(stub, method).future(request, timeout=SECONDS, metadata=self.metadata)
            calls.append((call, began))
            call.add_done_callback(lambda _, number=number: ended(number))
        for _ in calls:
            over.acquire()
        return Burst([Outcome(call, began, ends[number]) for number, (call, began) in enumerate(calls)])

    def each(self, method, request):
        """Every caller makes the same call."""
        return self._burst(method, [request] * len(self.stubs))

    def manifest(self, repository, reference, **more):
        request = pb.GetManifestRequest(registry=NAME, repository=repository, reference=reference, **more)
        return self.each("GetManifest", request)

    def manifests(self, repository, references):
        """One call for each reference, in turn by the callers."""
        request = lambda reference: pb.GetManifestRequest(registry=NAME, repository=repository, reference=reference)
        return self._burst("GetManifest", [request(reference) for reference in references])

    def tags(self, repository, **more):
        return self.each("ListTags", pb.ListTagsRequest(registry=NAME, repository=repository, **more))

    def catalog(self):
        return self.each("ListCatalog", pb.ListCatalogRequest(registry=NAME))

    def ping(self):
        return self.each("Ping", pb.PingRequest(registry=NAME))


def blob_code(replica, repository, digest, token=None, **more):
    """The code with which a call of StreamBlob ends, and the bytes that it got."""
    metadata = [("authorization", f"Bearer {token}")] if token else None
    got = []
    with grpc.insecure_channel(replica.address, options=OPTIONS) as channel:
        request = pb.StreamBlobRequest(registry=NAME, repository=repository, digest=digest, **more)
        call = registry_pb2_grpc.RegistryServiceStub(channel).StreamBlob(request, timeout=SECONDS, metadata=metadata)
        try:
            for message in call:
                got.append(message.chunk.data)
        except grpc.RpcError as error:
            return error.code(), b"".join(got)
    return grpc.StatusCode.OK, b"".join(got)
