"""Speed and cost of the service, compared with nginx and with a bare tonic server, in turns."""

import time

from peers import MIB, Echo, Nginx, Service, load
from report import Table

SMALL = 16 * 1024
"""Bytes of the blob for the first-byte measurement: one HTTP/2 frame."""


class Paths:
    """The paths to a blob: (name, how the load generator reads it, address, the measured process)."""

    def __init__(self, registry, nginx, service):
        self.all = [
            ("direct, HTTP/1.1", "http1", registry.address, None),
            ("nginx, HTTP/2", "http2", nginx.address, nginx.process),
            ("nginx, no temporary files", "http2", nginx.bare_address, nginx.process),
            ("rexd, gRPC, verified", "grpc", service.address, service.process),
        ]

    def turn(self, number):
        """All paths, beginning with another one each time, so that none is always the first."""
        first = number % len(self.all)
        return self.all[first:] + self.all[:first]


def transfer(bench):
    """Throughput, processor time a GiB, first byte, memory."""
    big = bench.blob(bench.size)
    small = bench.blob(SMALL)
    gib = big["size"] / (1 << 30)
    speed, cost, first = Table("MiB/s"), Table("CPU s/GiB"), Table("ms")
    with (
        Nginx(bench.directory, bench.registry.address) as nginx,
        Service(bench.binary, bench.directory, [bench.registry.address]) as service,
    ):
        paths = Paths(bench.registry, nginx, service)
        for _, through, address, _ in paths.all:  # also warms the page cache
            load(bench.load, "download", through=through, address=address, verify=True, **big)
        for number in range(bench.rounds):
            for name, through, address, process in paths.turn(number):
                before = process.cpu_seconds() if process else 0
                done = load(bench.load, "download", through=through, address=address, **big)
                speed.add(name, big["size"] / MIB / done["seconds"])
                if process:
                    time.sleep(0.1)  # for work after the last byte
                    cost.add(name, (process.cpu_seconds() - before) / gib)
        for number in range(bench.rounds):
            for name, through, address, _ in paths.turn(number):
                done = load(bench.load, "first-byte", through=through, address=address, **small)
                first.add(name, *done["milliseconds"])
        memory = {
            name: {"resident_kib": process.resident_kib(), "peak_kib": process.peak_kib()}
            for name, process in (("nginx", nginx.process), ("rexd", service.process))
        }

    rexd = "rexd, gRPC, verified"
    direct = "direct, HTTP/1.1"
    for proxy in ("nginx, HTTP/2", "nginx, no temporary files"):
        cost.ratio(rexd, proxy, "at most 1.0")
        speed.ratio(rexd, proxy, "at least 1.0")
    first.difference(rexd, direct, "median at most 1 ms")
    speed.print(f"Throughput, {bench.size // MIB} MiB")
    cost.print("Processor time of the measured process, user and system")
    first.print(f"First byte of {SMALL // 1024} KiB, open connection")
    print("\nMemory afterwards, KiB (nginx: all its processes)")
    for name, kib in memory.items():
        print(f"  {name:<34}{kib['resident_kib']:>10} resident, {kib['peak_kib']} at most")
    return {
        "size_bytes": bench.size,
        "throughput": speed.values(),
        "cpu": cost.values(),
        "first_byte": first.values(),
        "memory": memory,
    }


def unary(bench):
    """Health checks, which need no registry, from 64 callers on one connection."""
    rate = Table("calls/s")
    with (
        Echo(bench.echo) as echo,
        Service(bench.binary, bench.directory, [bench.registry.address]) as service,
    ):
        servers = [("tonic, bare", echo.address), ("rexd", service.address)]
        for number in range(bench.rounds):
            for name, address in servers[:: 1 if number % 2 else -1]:
                done = load(bench.load, "unary", address=address)
                rate.add(name, done["calls"] / done["seconds"])
    rate.ratio("rexd", "tonic, bare", "at least 0.8")
    rate.print("Unary calls, 64 callers on one connection")
    return rate.values()
