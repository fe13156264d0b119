"""Resources that the service holds and releases: stalled readers, lost connections, cancelled calls, the drain."""

import contextlib
import signal
import socket
import subprocess
import time

from peers import MANY_BLOBS, MIB, Load, Service, load
from report import percentile

SETTLING = 5
"""Seconds until memory that was only needed to open the streams is returned to the system."""

GRACE = 3
"""Seconds for running calls in the measured drain; the default is 30."""


def stalls(bench):
    """Memory for a caller that opened a stream and does not read it."""
    print("\nStalled streams, KiB of resident memory over idle for each (at most 256)")
    runs = [
        _stall(bench, streams, connections, after)
        for streams, connections in ((200, 200), (1000, 10))
        for after in (0, 4 * MIB)
    ]
    return runs


def _stall(bench, streams, connections, after):
    blob = bench.blob(bench.size)
    registry = bench.registry.address
    with Service(bench.binary, bench.directory, [registry], MANY_BLOBS) as service:
        # The first call allocates memory that stays, and that is not for a stalled stream.
        load(bench.load, "download", through="grpc", address=service.address, registry=registry, **bench.blob(MIB))
        time.sleep(1)
        idle = service.process.resident_kib()
        with Load(
            bench.load,
            "hold",
            address=service.address,
            registry=registry,
            streams=streams,
            connections=connections,
            after=after,
            **blob,
        ) as held:
            holding = held.read_line()["holding"]
            time.sleep(SETTLING)
            samples = []
            for _ in range(2 * max(1, bench.stall_seconds - SETTLING)):
                samples.append(service.process.resident_kib())
                time.sleep(0.5)
            held.write_line("enough")
            ends = held.read_line()["ends"]
        time.sleep(3)
        left = service.process.held()
    each = {
        "streams": streams,
        "connections": connections,
        "after_bytes": after,
        "holding": holding,
        "ends": ends,
        "idle_kib": idle,
        "peak_kib_each": (max(samples) - idle) / streams,
        "end_kib_each": (samples[-1] - idle) / streams,
        "afterwards": left,
    }
    print(
        f"  {streams:>5} on {connections:>3} connections, after {after // MIB} MiB:"
        f" {each['peak_kib_each']:7.1f} at most, {each['end_kib_each']:7.1f} after {bench.stall_seconds} s;"
        f" idle {idle}, afterwards {left['resident_kib']}; ends {ends}",
        flush=True,
    )
    return each


def cuts(bench):
    """A blob through 50 lost connections, each at another offset."""
    blob = bench.blob(bench.size)
    with Load(bench.load, "cuts", upstream=bench.registry.address, seed=bench.seed, **blob) as cutting:
        with Service(bench.binary, bench.directory, [cutting.read_line()["proxy"]]) as service:
            cutting.write_line(service.address)
            done = cutting.read_line()
    print(
        f"\nLost connections: {done['cuts']} in {bench.size // MIB} MiB (seed {bench.seed}), byte-identical,"
        f" {done['resumes']} resumes, {100 * done['fetched_twice']:.3f} % fetched twice"
        " (at most 1 % of 1 GiB)",
        flush=True,
    )
    return {"seed": bench.seed, "size_bytes": bench.size, **done}


def cancels(bench):
    """10,000 calls that are cancelled once bytes have arrived."""
    blob = bench.blob(bench.size)
    with Load(bench.load, "cancels", upstream=bench.registry.address, count=bench.cancels, **blob) as cancelling:
        with Service(bench.binary, bench.directory, [cancelling.read_line()["proxy"]]) as service:
            cancelling.write_line(service.address)
            cancelling.read_line()
            time.sleep(3)
            before = service.process.held()
            cancelling.write_line("go on")
            done = cancelling.read_line()
            cancelling.popen.wait()
            time.sleep(3)
            after = service.process.held()
    delays = done.pop("milliseconds")
    for share in (0.5, 0.99, 1.0):
        done[f"p{share * 100:g}_ms"] = percentile(delays, share)
    print(
        f"\nCancelled streams: {done['cancelled']}; the registry's connection closed within"
        f" {done['p50_ms']:.2f} ms median, {done['p99_ms']:.2f} p99 (at most 100), {done['p100_ms']:.2f} at most;"
        f" {done['never_closed']} never, {done['finished_before']} had ended before"
        f"\n  after a tenth of them  {before}\n  after all              {after}",
        flush=True,
    )
    return {**done, "after_a_tenth": before, "after_all": after}


def drain(bench):
    """SIGTERM with running calls, stalled calls, and sockets that never sent a byte."""
    blob = bench.blob(bench.size)
    registry = bench.registry.address
    limits = {"drain_grace": f"{GRACE}s", "handshake_timeout": "60s"}
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(Service(bench.binary, bench.directory, [registry], **limits))
        callers = {"address": service.address, "registry": registry, **blob}
        # 16 KiB every 20 ms: none of them ends within the grace period.
        running = Load(bench.load, "hold", streams=100, connections=10, pace=20, **callers)
        stalled = Load(bench.load, "hold", streams=20, connections=20, **callers)
        for callers in (running, stalled):
            stack.enter_context(callers).read_line()
        host, port = service.address.split(":")
        for _ in range(5):
            stack.enter_context(socket.create_connection((host, int(port))))
        time.sleep(0.5)
        begin = time.monotonic()
        service.popen.send_signal(signal.SIGTERM)
        try:
            code = service.popen.wait(GRACE + 30)
        except subprocess.TimeoutExpired:
            code = None
        seconds = time.monotonic() - begin
        ends = {}
        for name, callers in (("running", running), ("stalled", stalled)):
            callers.write_line("enough")
            ends[name] = callers.read_line()["ends"]
    print(
        f"\nDrain with 100 running and 20 stalled streams and 5 silent sockets: exit {code},"
        f" {seconds - GRACE:.2f} s after the grace of {GRACE} s (at most 1)\n  ends {ends}",
        flush=True,
    )
    return {"exit": code, "grace_seconds": GRACE, "seconds": seconds, "ends": ends}
