"""SIGKILL of a replica in the middle of 50 fills, and a start afterwards: nothing half written is ever read."""

from blobs import Read, disk_bytes, until_kept
from readers import Reader, read, read_blobs
from registry import MIB
from replicas import Fleet

REPOSITORY = "org/app"
COUNT = 50
SIZE = 4 * MIB
RATE = 2 * MIB
"""Bytes in a second of each response, so that all fills are under way for two seconds."""
MOST = 1.05
"""The share of the blobs' size that the directory may hold, with checksums."""


def check(facts, options):
    with Fleet(options) as fleet:
        store = fleet.folder("store")
        places = {"directory": {"url": f"file://{store}"}, "bucket": fleet.start_bucket()}
        for place, settings in places.items():
            _kill(facts, fleet, place, settings)
            fleet.stop()
        used = disk_bytes(store)
        holds = COUNT * SIZE <= used <= MOST * COUNT * SIZE
        facts.check("nothing half written is left in the directory", holds, f"{used / MIB:.1f} MiB for {COUNT * SIZE // MIB} MiB")


def _kill(facts, fleet, place, settings):
    (replica,) = fleet.start(cache={"store": settings})
    blobs = [fleet.registry.blob(SIZE, REPOSITORY) for _ in range(COUNT)]
    fleet.registry.set(bytes_per_second=RATE)
    fleet.registry.reset()
    half = COUNT * SIZE // 2
    readers = [Reader(replica, REPOSITORY, blob) for blob in blobs]
    cut = read(readers, until=lambda: fleet.registry.counts().blob_bytes >= half)
    replica.kill()
    fleet.registry.set(bytes_per_second=None)
    begun = sum(0 < reader.at < SIZE for reader in readers)
    facts.check(f"{place}: killed in the middle of {COUNT} fills", begun == COUNT, f"{begun} in the middle; {cut.wrong} wrong")
    fleet.restart(replica)
    first = Read(fleet, lambda: read_blobs(fleet.replicas, REPOSITORY, blobs))
    facts.check(f"{place}: after the start, 0 wrong bytes and 0 failed calls", first.good, first)
    again = until_kept(fleet, lambda: read_blobs(fleet.replicas, REPOSITORY, blobs))
    facts.check(f"{place}: all {COUNT} are kept then", again.good and not again.sent, again)
