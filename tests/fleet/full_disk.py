"""A store on a full disk: the service serves on and keeps nothing."""

import subprocess
import time

from blobs import Read
from readers import read_blobs
from registry import MIB
from replicas import Fleet

REPOSITORY = "org/app"
DISK = 64 * MIB
COUNT = 20
SIZE = 8 * MIB
LONGEST_PAUSE = 30
"""Seconds after a failure until the service writes to the store again, at most."""


class SmallDisk:
    """A tmpfs."""

    def __init__(self, folder, size):
        self.folder = folder
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "rexd-fleet", folder]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"a full disk needs a small tmpfs, and mounting it failed (root may mount): {done.stderr.strip()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", self.folder], check=True)


def check(facts, options):
    with Fleet(options) as fleet:
        store = fleet.folder("small-disk")
        blobs = [fleet.registry.blob(SIZE, REPOSITORY) for _ in range(COUNT)]
        with SmallDisk(store, DISK):
            try:
                _fill(facts, fleet, store, blobs)
            finally:
                fleet.stop()


def _fill(facts, fleet, store, blobs):
    fleet.start(cache={"store": {"url": f"file://{store}", "max_bytes": 100 * DISK}})
    what = f"{COUNT} blobs of {SIZE // MIB} MiB on a disk of {DISK // MIB} MiB"
    for readers in (1, 5):
        got = Read(fleet, lambda: read_blobs(fleet.replicas, REPOSITORY, blobs, readers))
        facts.check(f"{what}, {readers} readers each: 0 wrong bytes, 0 failed calls", got.good, got)
    ballast = store / "ballast"
    for path in [path for path in store.rglob("*") if path.is_file()]:
        path.unlink()
    with ballast.open("wb") as file:
        try:
            while file.write(bytes(MIB)):
                file.flush()
        except OSError:
            pass  # not a byte is left
    got = Read(fleet, lambda: read_blobs(fleet.replicas, REPOSITORY, blobs, 2))
    facts.check("a disk without a free byte: 0 wrong bytes, 0 failed calls", got.good, got)
    fleet.restart(fleet.replicas[0])
    got = Read(fleet, lambda: read_blobs(fleet.replicas, REPOSITORY, blobs[:3]))
    facts.check("a start with a full disk: 0 wrong bytes, 0 failed calls", got.good, got)
    ballast.unlink()
    end, got = time.monotonic() + LONGEST_PAUSE + 5, None
    while time.monotonic() < end and (got is None or got.sent):
        time.sleep(0.5)
        got = Read(fleet, lambda: read_blobs(fleet.replicas, REPOSITORY, blobs[:1]))
    facts.check("the disk has room again: blobs are kept again", got.good and not got.sent, got)
