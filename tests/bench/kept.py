"""What the service has kept: blobs in a local directory, compared with nginx; manifests in memory, compared with a bare server.

A blob that is kept was verified when it was written, and is checked again on every read. nginx proxies to the registry without
temporary files, and checks nothing.
"""

import hashlib
import itertools
import json
import shutil
import time

from peers import MIB, Echo, Load, Nginx, Service, load
from report import Table

NGINX = "nginx, no temporary files"
KEPT = "rexd, kept in a directory, checked"

SLOW_PACE = 16
"""Milliseconds for a frame of 16 KiB: 1 MiB/s."""

LAYERS = 8
"""As many as a usual image has."""


def directory_store(bench, name):
    """An empty directory, and the section `cache` of a service that keeps blobs there."""
    directory = bench.directory / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    return directory, {"store": {"url": f"file://{directory}", "max_bytes": 4 * bench.size}}


def kept(bench):
    """Throughput and processor time of a blob that is kept; a reader at full speed beside a slow one."""
    blob, gib = bench.blob(bench.size), bench.size / (1 << 30)
    speed, cost = Table("MiB/s"), Table("CPU s/GiB")
    directory, cache = directory_store(bench, "kept")
    with (
        Nginx(bench.directory, bench.registry.address) as nginx,
        Service(bench.binary, bench.directory, [bench.registry.address], cache=cache) as service,
    ):
        paths = [
            (NGINX, "http2", nginx.bare_address, nginx.process),
            (KEPT, "grpc", service.address, service.process),
        ]
        for _, through, address, _ in paths:  # keeps the blob, and warms the page cache
            load(bench.load, "download", through=through, address=address, verify=True, **blob)
        held = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        for number in range(bench.rounds):
            for name, through, address, process in paths[:: 1 if number % 2 else -1]:
                before = process.cpu_seconds()
                done = load(bench.load, "download", through=through, address=address, **blob)
                speed.add(name, bench.size / MIB / done["seconds"])
                time.sleep(0.1)  # for work after the last byte
                cost.add(name, (process.cpu_seconds() - before) / gib)
    cost.ratio(KEPT, NGINX, "at most 0.7")
    speed.ratio(KEPT, NGINX, "at least 1.2")
    speed.print(f"Throughput of a kept blob, {bench.size // MIB} MiB")
    cost.print("Processor time of the measured process, user and system")
    values = {"size_bytes": bench.size, "kept_bytes": held, "throughput": speed.values(), "cpu": cost.values()}
    return {**values, "followers": followers(bench, blob)}


def followers(bench, blob):
    """A reader at full speed of a blob that is not kept yet: alone, and beside one that began before it and reads 1 MiB/s."""
    table = Table("MiB/s")
    for number, beside in itertools.product(range(bench.rounds), (False, True)):
        _, cache = directory_store(bench, f"follow-{number}-{beside}")
        with Service(bench.binary, bench.directory, [bench.registry.address], cache=cache) as service:
            target = {"address": service.address, **blob}
            if not beside:
                done = load(bench.load, "download", through="grpc", **target)
            else:
                with Load(bench.load, "hold", streams=1, connections=1, pace=SLOW_PACE, **target) as slow:
                    slow.read_line()  # it has begun
                    done = load(bench.load, "download", through="grpc", **target)
                    slow.write_line("enough")
                    slow.read_line()
        table.add("beside a reader at 1 MiB/s" if beside else "alone", bench.size / MIB / done["seconds"])
    table.ratio("beside a reader at 1 MiB/s", "alone", "at least 0.95")
    table.print("A reader at full speed while the blob is fetched and kept")
    return table.values()


def manifest(bench):
    """Pushes a manifest with some layers; returns its digest."""
    repository = "bench/manifest"
    part = lambda kind, size: {
        "mediaType": f"application/vnd.oci.image.{kind}",
        "digest": bench.registry.push(repository, size),
        "size": size,
    }
    config, layer = part("config.v1+json", 500), part("layer.v1.tar+gzip", 1000)
    media_type = "application/vnd.oci.image.manifest.v1+json"
    document = {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": LAYERS * [layer]}
    body = json.dumps(document).encode()
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    bench.registry.put_manifest(repository, digest, media_type, body)
    return {"repository": repository, "reference": digest}


def memory(bench):
    """`GetManifest` of a manifest that is in memory, from 64 callers on one connection; the bare server sends the same bytes."""
    what, rate = manifest(bench), Table("calls/s")
    with Service(bench.binary, bench.directory, [bench.registry.address]) as service:
        with Echo(bench.echo, like=f"http://{service.address}", **what) as echo:
            servers = [("tonic, bare", echo.address), ("rexd, from memory", service.address)]
            for number in range(bench.rounds):
                for name, address in servers[:: 1 if number % 2 else -1]:
                    done = load(bench.load, "unary", address=address, **what)
                    rate.add(name, done["calls"] / done["seconds"])
    rate.ratio("rexd, from memory", "tonic, bare", "at least 0.8")
    rate.print("GetManifest, 64 callers on one connection")
    return rate.values()
