"""Bits of kept content are flipped, and other bytes put under a digest: noticed, fetched again, never delivered."""

import os
import pathlib
import random
import time

from blobs import Read, until_kept
from readers import Reader, read, read_blobs
from registry import MIB
from replicas import Fleet

REPOSITORY = "org/app"
COUNT = 125
SIZE = 8 * MIB
PIECES = COUNT * SIZE // MIB
AT_ONCE = 25
UPLOAD_SECONDS = 120


def check(facts, options):
    with Fleet(options) as fleet:
        store = fleet.folder("store")
        blobs = [fleet.registry.blob(SIZE, REPOSITORY) for _ in range(COUNT)]
        for name, settings, files in (
            ("directory", {"url": f"file://{store}"}, store),
            ("bucket", fleet.start_bucket(), fleet.bucket.files),
        ):
            fleet.start(cache={"store": settings})
            _flip(facts, fleet, name, files, blobs)
            _swap(facts, fleet, name, files, blobs)
            fleet.stop()


def _read_all(fleet, blobs):
    """All blobs, some at a time."""
    parts = [blobs[at : at + AT_ONCE] for at in range(0, len(blobs), AT_ONCE)]
    return _Sum([read_blobs(fleet.replicas, REPOSITORY, part) for part in parts])


class _Sum:
    """Several readings one after the other."""

    def __init__(self, readings):
        self.readings = readings
        self.good = all(one.good for one in readings)

    def __str__(self):
        return "; ".join(str(one) for one in self.readings if not one.good) or "all right"


def _content_files(files):
    """Files that can hold a blob, or a part of one."""
    found = []
    # Unlike `rglob`, this bears that uploads end meanwhile, whose parts are in hidden folders.
    for folder, folders, names in os.walk(files):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [pathlib.Path(folder) / name for name in names]
    return sorted(path for path in found if path.stat().st_size >= MIB)


def _wait_for_uploads(files):
    """A bucket has a blob only when its upload has ended; until then the replica reads its own file."""
    end = time.monotonic() + UPLOAD_SECONDS
    while len(_content_files(files)) < COUNT and time.monotonic() < end:
        time.sleep(0.2)


def _flip(facts, fleet, name, files, blobs):
    _read_all(fleet, blobs)
    kept = until_kept(fleet, lambda: _read_all(fleet, blobs))
    facts.check(f"{name}: {PIECES} pieces are kept", kept.good and not kept.sent, kept)
    _wait_for_uploads(files)
    fleet.restart(fleet.replicas[0])  # nothing is in its memory
    chance, flipped = random.Random(1), 0
    for path in _content_files(files):
        with path.open("r+b") as file:
            for start in range(0, path.stat().st_size - MIB + 1, MIB):
                at = start + chance.randrange(MIB)
                file.seek(at)
                (byte,) = file.read(1)
                file.seek(at)
                file.write(bytes([byte ^ 1 << chance.randrange(8)]))
                flipped += 1
    facts.check(f"{name}: a bit is flipped in each of {PIECES} pieces", flipped >= PIECES, f"{flipped} flipped")
    ranges = [(number * MIB + 17, 1000) for number in range(SIZE // MIB)]
    got = Read(
        fleet,
        lambda: read([Reader(fleet.replicas[0], REPOSITORY, blob, *part) for blob in blobs[:AT_ONCE] for part in ranges]),
    )
    facts.check(f"{name}, flipped: ranges have 0 wrong bytes, 0 failed calls", got.good, got)
    got = Read(fleet, lambda: _read_all(fleet, blobs))
    facts.check(f"{name}, flipped: blobs have 0 wrong bytes, 0 failed calls", got.good, got)
    again = until_kept(fleet, lambda: _read_all(fleet, blobs))
    facts.check(f"{name}, flipped: all are kept again", again.good and not again.sent, again)


def _swap(facts, fleet, name, files, blobs):
    """Each kept file gets the bytes of another one, checksums and all: only the digest tells them apart."""
    fleet.restart(fleet.replicas[0])
    paths = _content_files(files)
    facts.check(f"{name}: there are files to exchange", len(paths) >= 2, f"{len(paths)} files")
    for one, other in zip(paths[::2], paths[1::2], strict=False):
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second)
        other.write_bytes(first)
    got = Read(fleet, lambda: _read_all(fleet, blobs))
    facts.check(f"{name}, exchanged: 0 wrong bytes, 0 failed calls", got.good, got)
    for path in _content_files(files):
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
    got = Read(fleet, lambda: _read_all(fleet, blobs))
    facts.check(f"{name}, cut in half: 0 wrong bytes, 0 failed calls", got.good, got)
