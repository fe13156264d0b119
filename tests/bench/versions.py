"""Compares two builds of the service in one run: what a change costs.

Both run for the whole measurement. They take turns, and each ratio is taken within a round: the machine's speed drifts, and
both builds of a round see the same machine.
"""

import time

from peers import MIB, Service, load
from report import Table

TRANSFERS = 4
"""Transfers of a turn: enough that their processor time is far more than a tick of its clock."""


def versions(bench):
    """Throughput and processor time of transfers, rate and processor time of unary calls: this build divided by the other."""
    blob = bench.blob(bench.size)
    registry = bench.registry.address
    gib = TRANSFERS * blob["size"] / (1 << 30)
    speed, cost = Table("MiB/s"), Table("CPU s/GiB")
    rate, unary_cost = Table("calls/s"), Table("CPU µs/call")
    for directory in ("this", "other"):
        (bench.directory / directory).mkdir()
    with (
        Service(bench.binary, bench.directory / "this", [registry], limits={}) as this,
        Service(bench.against, bench.directory / "other", [registry], limits={}) as other,
    ):
        builds = [("this build", this), ("the other build", other)]
        for _, service in builds:
            load(bench.load, "download", through="grpc", address=service.address, registry=registry, verify=True, **blob)
        for number in range(bench.rounds):
            turn = builds[:: -1 if number % 2 else 1]
            for name, service in turn:
                before, seconds = service.process.cpu_seconds(), 0
                for _ in range(TRANSFERS):
                    done = load(
                        bench.load, "download", through="grpc", address=service.address, registry=registry, **blob
                    )
                    seconds += done["seconds"]
                time.sleep(0.1)  # for work after the last byte
                cost.add(name, (service.process.cpu_seconds() - before) / gib)
                speed.add(name, TRANSFERS * blob["size"] / MIB / seconds)
            for name, service in turn:
                before = service.process.cpu_seconds()
                done = load(bench.load, "unary", address=service.address)
                unary_cost.add(name, (service.process.cpu_seconds() - before) * 1e6 / done["calls"])
                rate.add(name, done["calls"] / done["seconds"])
    for table in (speed, cost, rate, unary_cost):
        table.ratio("this build", "the other build", "")
    speed.print(f"Throughput, {TRANSFERS} times {blob['size'] // MIB} MiB")
    cost.print("Processor time of transfers")
    rate.print("Unary calls, 64 callers on one connection")
    unary_cost.print("Processor time of unary calls")
    return {
        "throughput": speed.values(),
        "cpu": cost.values(),
        "unary": rate.values(),
        "unary_cpu": unary_cost.values(),
    }
