"""Callers with grpcio, each with a connection of its own; all of them make their call at once."""

import asyncio
import itertools
import time

import grpc

from rex.registry.v1 import registry_pb2 as pb
from rex.registry.v1 import registry_pb2_grpc

from replicas import NAME
from report import percentile

LOOP = asyncio.new_event_loop()
"""Runs while a test waits for calls."""

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

    def __init__(self, code, seconds, response, metadata):
        self.code, self.seconds, self.response, self.metadata = code, seconds, response, metadata

    @classmethod
    async def of(cls, call):
        """Waits for the call."""
        began, response = time.monotonic(), None
        try:
            response = await call
        except grpc.aio.AioRpcError:
            pass  # its code says so
        seconds = time.monotonic() - began
        return cls(await call.code(), seconds, response, dict(await call.initial_metadata() or ()))

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
        self.addresses = [replicas[number % len(replicas)].address for number in range(count)]
        self.metadata = [("authorization", f"Bearer {token}")] if token else None
        LOOP.run_until_complete(self._connect())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        LOOP.run_until_complete(self._close())

    async def _connect(self):
        self.channels = [grpc.aio.insecure_channel(address, options=OPTIONS) for address in self.addresses]
        self.stubs = [registry_pb2_grpc.RegistryServiceStub(channel) for channel in self.channels]
        await asyncio.wait_for(asyncio.gather(*(channel.channel_ready() for channel in self.channels)), SECONDS)

    async def _close(self):
        await asyncio.gather(*(channel.close() for channel in self.channels))

    def start(self, method, request, number=0):
        """Begins a caller's call; its outcome comes from `wait`."""

        async def begin():
            call = getattr(self.stubs[number], method)(request, timeout=SECONDS, metadata=self.metadata)
            return LOOP.create_task(Outcome.of(call))

        return LOOP.run_until_complete(begin())

    @staticmethod
    def wait(running, seconds=None):
        """Waits for a call that was begun, or for some seconds, in which it goes on."""
        return LOOP.run_until_complete(asyncio.sleep(seconds) if seconds else running)

    def _burst(self, method, requests):
        """The requests are made in turn by the callers, all at once."""
        stubs = itertools.cycle(self.stubs)

        async def burst():
            begin = lambda stub, request: getattr(stub, method)(request, timeout=SECONDS, metadata=self.metadata)
            return await asyncio.gather(*(Outcome.of(begin(stub, request)) for stub, request in zip(stubs, requests)))

        return Burst(LOOP.run_until_complete(burst()))

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
