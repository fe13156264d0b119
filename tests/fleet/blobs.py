"""What reading blobs costs the registry: with a bucket for three replicas, with a directory for one, and in memory."""

import pathlib
import time

from readers import Reader, read, read_blobs
from registry import MIB
from replicas import Fleet

REPOSITORY = "org/app"
MOST = 1.1
"""The share of a blob that the registry may send for a cold read by everybody."""


def check(facts, options):
    with Fleet(options) as fleet:
        for part in (_bucket, _directory, _bounded, _memory):
            part(facts, fleet, options)
            fleet.stop()


class Read:
    """Readings with what the registry has sent meanwhile."""

    def __init__(self, fleet, readings):
        fleet.registry.reset()
        self.readings = readings()
        self.counts = fleet.registry.counts()
        self.sent, self.good = self.counts.blob_bytes, self.readings.good

    def __str__(self):
        return f"{self.sent / MIB:.1f} MiB; {self.counts}; {self.readings}"


READS = 4
"""A store that does not reply within a second is not used for the next one, and a busy machine can make it so slow. What was not
kept for that reason is kept at the next read."""


def until_kept(fleet, readings):
    """Reads until nothing comes from the registry, a few times at most."""
    for _ in range(READS):
        reading = Read(fleet, readings)
        if not reading.sent or not reading.good:
            break
        time.sleep(1)
    return reading


def _everybody(facts, fleet, where, size, callers):
    """Cold, then again."""
    blob = fleet.registry.blob(size, REPOSITORY)
    everybody = lambda: read_blobs(fleet.replicas, REPOSITORY, [blob], callers)
    what = f"{callers} readers of {size // MIB} MiB over {len(fleet.replicas)} replicas with a {where}"
    cold = Read(fleet, everybody)
    facts.check(f"{what}: all get the right bytes", cold.good, cold.readings)
    facts.check(f"{what}: at most {MOST} of it from the registry", size <= cold.sent <= MOST * size, cold)
    again = until_kept(fleet, everybody)
    facts.check(f"{what}, again: all get the right bytes", again.good, again.readings)
    facts.check(f"{what}, again: nothing from the registry", not again.sent and not again.counts.of("GET blobs"), again)
    return blob


def _ranges(facts, fleet, where, blob):
    """Ranges of what is kept, across the borders of its pieces."""
    ranges = [(0, 1), (MIB - 1, 2), (MIB, MIB), (3 * MIB + 17, 2 * MIB), (blob.size - 5, 0)]
    got = Read(
        fleet,
        lambda: read([Reader(fleet.replicas[0], REPOSITORY, blob, offset, limit) for offset, limit in ranges]),
    )
    facts.check(f"ranges of a blob in a {where}: the right bytes, none from the registry", got.good and not got.sent, got)


def _bucket(facts, fleet, options):
    fleet.start(3, {"store": fleet.start_bucket(), "shared": fleet.start_engine()})
    blob = _everybody(facts, fleet, "bucket", options.blob_mib * MIB, options.callers)
    _ranges(facts, fleet, "bucket", blob)
    fleet.restart(fleet.replicas[0])
    restarted = until_kept(fleet, lambda: read_blobs(fleet.replicas[:1], REPOSITORY, [blob]))
    holds = restarted.good and not restarted.sent
    facts.check("a replica that was restarted reads the blob from the bucket", holds, restarted)


def _directory(facts, fleet, options):
    size, store = min(64, options.blob_mib) * MIB, fleet.folder("store")
    (replica,) = fleet.start(cache={"store": {"url": f"file://{store}"}})
    blob = _everybody(facts, fleet, "directory", size, options.callers)
    _ranges(facts, fleet, "directory", blob)
    fleet.restart(replica)
    restarted = Read(fleet, lambda: read_blobs(fleet.replicas, REPOSITORY, [blob]))
    facts.check("the directory outlasts a restart", restarted.good and not restarted.sent, restarted)
    for path in [path for path in store.rglob("*") if path.is_file()]:
        path.unlink()
    emptied = Read(fleet, lambda: read_blobs(fleet.replicas, REPOSITORY, [blob], 20))
    facts.check("the directory emptied while the replica serves: the right bytes", emptied.good, emptied)
    again = Read(fleet, lambda: read_blobs(fleet.replicas, REPOSITORY, [blob]))
    facts.check("the blob is kept again", again.good and not again.sent, again)
    part = fleet.registry.blob(size, REPOSITORY)
    begun = Read(fleet, lambda: read([Reader(fleet.replicas[0], REPOSITORY, part, 5 * MIB + 3, 7)]))
    facts.check("a range of a blob that is not kept", begun.good and begun.sent <= MOST * size, begun)


def _bounded(facts, fleet, _):
    """More content than `max_bytes`: the least recently used goes."""
    size, count, most = 8 * MIB, 20, 64 * MIB
    store = fleet.folder("bounded")
    fleet.start(cache={"store": {"url": f"file://{store}", "max_bytes": most}})
    blobs = [fleet.registry.blob(size, REPOSITORY) for _ in range(count)]
    first = Read(fleet, lambda: read_blobs(fleet.replicas, REPOSITORY, blobs[:1]))
    for blob in blobs[1:]:
        read_blobs(fleet.replicas, REPOSITORY, [blob])
        first = read_blobs(fleet.replicas, REPOSITORY, blobs[:1])  # used all the time
    used = disk_bytes(store)
    what = f"{count} blobs of {size // MIB} MiB, `max_bytes` of {most // MIB} MiB"
    facts.check(f"{what}: no more in the directory", used <= most, f"{used / MIB:.1f} MiB; {first}")
    facts.check(f"{what}: something is kept", used >= size, f"{used / MIB:.1f} MiB")
    kept = Read(fleet, lambda: read_blobs(fleet.replicas, REPOSITORY, blobs[:1]))
    facts.check(f"{what}: the blob in use stays", kept.good and not kept.sent, kept)
    gone = Read(fleet, lambda: read_blobs(fleet.replicas, REPOSITORY, blobs))
    facts.check(f"{what}: all are read right", gone.good, gone)


def _memory(facts, fleet, options):
    """Without a content store: blobs up to 1 MiB are in memory."""
    fleet.start(cache={})
    small = fleet.registry.blob(MIB // 2, REPOSITORY)
    what = f"{options.callers} readers of 512 KiB without a store"
    cold = Read(fleet, lambda: read_blobs(fleet.replicas, REPOSITORY, [small], options.callers))
    facts.check(f"{what}: once from the registry", cold.good and cold.sent == small.size, cold)
    again = Read(fleet, lambda: read_blobs(fleet.replicas, REPOSITORY, [small], options.callers))
    facts.check(f"{what}, again: nothing from the registry", again.good and not again.sent, again)
    large = fleet.registry.blob(4 * MIB, REPOSITORY)
    whole = Read(fleet, lambda: read_blobs(fleet.replicas, REPOSITORY, [large], 3))
    facts.check("a blob over 1 MiB without a store: each reader gets it", whole.good, whole)


def disk_bytes(folder):
    """Bytes of the files; one may go while it is counted."""
    total = 0
    for path in pathlib.Path(folder).rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            pass
    return total
