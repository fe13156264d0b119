"""Bounds that hold on any machine. Prints a line `ok <fact>` or `not ok <fact>` for each, and the tally."""

from peers import MIB

STALLED_KIB = 256
CUTS = 50
# 1 % of 1 GiB. A lost connection costs the bytes in flight, which do not depend on the size of the blob.
FETCHED_TWICE_BYTES = (1 << 30) // 100
CANCEL_MS = 100
# Of resident memory. The noise of an allocator is some hundred KiB.
LEFT_KIB = 2048
END_SECONDS = 1


class Facts:
    """Counts the facts that hold and those that do not."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, fact, holds, seen=""):
        self.passed, self.failed = self.passed + bool(holds), self.failed + (not holds)
        print(f"ok {fact}" if holds else f"not ok {fact}: {seen}", flush=True)

    def end(self):
        """Prints the tally; returns the exit code."""
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0


def stalls(facts, runs, _):
    for run in runs:
        streams = run["streams"]
        what = f"{streams} stalled streams on {run['connections']} connections, after {run['after_bytes'] // MIB} MiB"
        facts.check(f"{what}: all stay open", run["holding"] == streams and run["ends"] == {"open": streams}, run["ends"])
        most = run["peak_kib_each"]
        facts.check(f"{what}: at most {STALLED_KIB} KiB each", most <= STALLED_KIB, f"{most:.1f} KiB")


def cuts(facts, done, _):
    """The load generator checks that the bytes are identical, and fails when they are not."""
    met = (done["cuts"], done["resumes"])
    facts.check(f"a blob is byte-identical through {CUTS} lost connections", met == (CUTS, CUTS), f"{met} cuts and resumes")
    twice = done["fetched_bytes"] - done["size_bytes"]
    facts.check("at most 1 % of 1 GiB is fetched twice", 0 <= twice <= FETCHED_TWICE_BYTES, f"{twice} bytes")


def cancels(facts, done, count):
    ends = {name: done[name] for name in ("cancelled", "finished_before", "never_closed")}
    whole = {"cancelled": count, "finished_before": 0, "never_closed": 0}
    facts.check(f"{count} cancelled streams all close the registry's connection", ends == whole, ends)
    facts.check(f"99 % of the cancelled streams close it within {CANCEL_MS} ms", done["p99_ms"] <= CANCEL_MS, f"{done['p99_ms']:.2f} ms")
    before, after = done["after_a_tenth"], done["after_all"]
    more = {name: after[name] - before[name] for name in before}
    nothing = more["descriptors"] <= 0 and more["threads"] <= 0 and more["resident_kib"] <= LEFT_KIB
    facts.check("cancelled streams leak no descriptor, thread or memory", nothing, f"more than after a tenth of them: {more}")


def drain(facts, done, _):
    late = done["seconds"] - done["grace_seconds"]
    facts.check("SIGTERM ends the process with exit code 0", done["exit"] == 0, done["exit"])
    facts.check(f"the process ends within {END_SECONDS} s after the grace period", late <= END_SECONDS, f"{late:.3f} s after it")


BOUNDS = {"stalls": stalls, "cuts": cuts, "cancels": cancels, "drain": drain}


def judge(facts, part, result, cancel_count):
    """Checks the result of a part that has bounds."""
    if part in BOUNDS:
        BOUNDS[part](facts, result, cancel_count)
