"""The engine stopped, frozen, flushed, out of memory, or replaced by one that responds with garbage: callers do not notice."""

import socket
import time

from callers import Callers
from engine import Engine
from false_engines import GARBAGE, GarbageEngine, SlowRelay
from replicas import Fleet

REPOSITORY = "org/app"
REPLICAS = 3
DELAY = 0.05
"""Seconds of a response of the registry."""

MORE_ONCE_MS = 60
"""The goal: so much more for the first calls, then as before."""
MARGIN_MS = 500
"""For a busy machine."""
RECOVERY_SECONDS = 15
SLOW_SECONDS = 0.2


def check(facts, options):
    with Fleet(options) as fleet:
        fleet.registry.set(delay=DELAY)
        cache = {"tags": "1h", "absent": "1h", "shared": fleet.start_engine()}
        fleet.start(REPLICAS, cache)
        with Callers(fleet.replicas, options.callers) as callers:
            faults = Faults(facts, fleet, callers)
            faults.warm_up()
            faults.flushed()
            faults.frozen()
            faults.out_of_memory()
            faults.damaged()
            for kind in GARBAGE:
                faults.replaced(kind)
            faults.slow()
            faults.stopped()
        fleet.stop()
        _absent_at_the_start(facts, fleet, options, cache)


class Faults:
    def __init__(self, facts, fleet, callers):
        self.facts, self.fleet, self.callers, self.number = facts, fleet, callers, 0

    def new_tag(self):
        """A tag that no replica has read."""
        self.number += 1
        return f"v{self.number}", self.fleet.registry.image(REPOSITORY, f"v{self.number}")

    def cold(self):
        """All callers read a new tag. Returns the burst, what it cost, and whether all got the right content."""
        tag, digest = self.new_tag()
        self.fleet.registry.reset()
        burst = self.callers.manifest(REPOSITORY, tag)
        return burst, self.fleet.registry.counts(), not burst.failed() and burst.digests() == {digest}

    def warm_up(self):
        for _ in range(3):
            burst, _, _ = self.cold()
        self.before = burst.p99_ms()

    def during(self, fault):
        """Three bursts with the fault; the first is the one that may find out."""
        bursts = [self.cold() for _ in range(3)]
        right = all(right for _, _, right in bursts)
        failed = sum(burst.failed() for burst, _, _ in bursts)
        self.facts.check(f"{fault}: 0 failed calls", right, f"{failed} failed; {bursts[0][0].codes()}")
        most = max(counts.of("GET manifests") for _, counts, _ in bursts)
        self.facts.check(f"{fault}: at most a GET for each replica", most <= REPLICAS, f"{most} GETs")
        first, *later = [burst.p99_ms() for burst, _, _ in bursts]
        figure = f"p99 {self.before:.0f} ms before, {first:.0f} ms, then {', '.join(f'{value:.0f}' for value in later)} ms"
        self.facts.check(f"{fault}: calls do not wait for it", first <= self.before + MORE_ONCE_MS + MARGIN_MS, figure)
        self.facts.check(f"{fault}: later calls are as before", max(later) <= self.before + MARGIN_MS, figure)

    def recovers(self, fault):
        """The replicas share again: a new tag costs one GET."""
        end, counts = time.monotonic() + RECOVERY_SECONDS, None
        while time.monotonic() < end:
            _, counts, right = self.cold()
            if right and counts.of("GET manifests") == 1:
                break
            time.sleep(0.5)
        shared = counts.of("GET manifests") == 1
        self.facts.check(f"{fault}, then over: the replicas share again", shared, counts)
        self.warm_up()

    def flushed(self):
        self.fleet.engine.run("FLUSHALL")
        self.during("engine flushed")
        self.recovers("engine flushed")

    def frozen(self):
        self.fleet.engine.freeze()
        self.during("engine frozen")
        self.fleet.engine.resume()
        self.recovers("engine frozen")

    def out_of_memory(self):
        """Refuses every write: `OOM command not allowed when used memory > 'maxmemory'`."""
        self.fleet.engine.run("CONFIG", "SET", "maxmemory", "1")
        self.during("engine out of memory")
        self.fleet.engine.run("CONFIG", "SET", "maxmemory", "0")
        self.recovers("engine out of memory")

    def damaged(self):
        """Other bytes in the entries: what replicas that have nothing in memory make of them."""
        self._poisoned("a flipped bit in each entry", self.fleet.engine.damage, ("digest", "tag"))
        # Nothing but a signature could tell the entries of two tags apart.
        self._poisoned("the value of another key in each entry", self.fleet.engine.exchange, ("digest",))

    def _poisoned(self, fault, poison, kinds):
        tags = [self.new_tag() for _ in range(20)]
        for tag, digest in tags:
            self.callers.manifest(REPOSITORY, tag)
            self.callers.manifest(REPOSITORY, digest)
        changed = poison()
        self.facts.check(f"engine with {fault}: there are entries", changed, f"{changed} entries changed")
        for kind in kinds:
            for replica in list(self.fleet.replicas):
                self.fleet.restart(replica)
            wrong = failed = 0
            with Callers(self.fleet.replicas, len(self.callers.stubs)) as callers:
                for tag, digest in tags:
                    burst = callers.manifest(REPOSITORY, digest if kind == "digest" else tag)
                    content = self.fleet.registry.content(digest)
                    wrong += sum(outcome.response.content != content for outcome in burst.outcomes if outcome.response)
                    failed += burst.failed()
            what = f"engine with {fault}, read by {kind}"
            self.facts.check(f"{what}: 0 wrong bytes, 0 failed calls", not wrong + failed, f"{wrong} wrong, {failed} failed")
        self.fleet.engine.run("FLUSHALL")

    def replaced(self, kind):
        """Another process has the engine's port."""
        fault, port = f"engine that responds with {kind}", self.fleet.engine.port
        self.fleet.engine.__exit__()
        with GarbageEngine(port, kind):
            self.during(fault)
        self.start_again(port)
        self.recovers(fault)

    def slow(self):
        """Each response takes four times as long as a replica may wait for it."""
        fault, port = f"engine that takes {1000 * SLOW_SECONDS:.0f} ms", self.fleet.engine.port
        self.fleet.engine.__exit__()
        with Engine(self.fleet.directory) as behind, SlowRelay(port, behind.port, SLOW_SECONDS):
            self.during(fault)
        self.start_again(port)
        self.recovers(fault)

    def stopped(self):
        port = self.fleet.engine.port
        self.fleet.engine.__exit__()
        self.during("engine stopped")
        self.start_again(port)
        self.recovers("engine stopped")

    def start_again(self, port):
        self.fleet.engine = self.fleet.stack.enter_context(Engine(self.fleet.directory, port))


def _absent_at_the_start(facts, fleet, options, cache):
    """A port that does not respond, and one where nothing listens."""
    fleet.engine.__exit__()
    with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:
        for name, url in (
            ("nothing listens", fleet.engine.url),
            ("the engine does not respond", f"redis://127.0.0.1:{silent.getsockname()[1]}"),
        ):
            fleet.start(REPLICAS, {**cache, "shared": {"url": url}})
            with Callers(fleet.replicas, options.callers) as callers:
                digest = fleet.registry.image(REPOSITORY, "at-the-start")
                burst = callers.manifest(REPOSITORY, "at-the-start")
                right = not burst.failed() and burst.digests() == {digest}
                facts.check(f"{name} at the start: 0 failed calls", right, f"{burst.codes()}, p99 {burst.p99_ms():.0f} ms")
            fleet.stop()
