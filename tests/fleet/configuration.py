"""Unusable settings of `cache` are named by their key; `check-config --connect` tries the engine and the bucket."""

import json
import secrets
import subprocess

from replicas import NAME, Fleet, Replica

SECONDS = 120
NO_PLACE = "file:///proc/rexd"
"""A directory that not even root can make."""

UNUSABLE = {
    "cache.tagz": {"tagz": "1s"},
    "cache.tags": {"tags": "-1s"},
    "cache.lists": {"lists": "soon"},
    "cache.absent": {"absent": 5},
    "cache.access_check": {"access_check": ""},
    "cache.memory_bytes": {"memory_bytes": -1},
    "cache.store.url": {"store": {"url": "ftp://somewhere"}},
    "cache.store.max_bytes": {"store": {"url": "file:///var/cache/rexd", "max_bytes": "many"}},
    "cache.shared.url": {"shared": {"url": "http://somewhere"}},
}


def check(facts, options):
    with Fleet(options) as fleet:
        checks = Checks(facts, fleet)
        checks.unusable()
        checks.connections()
        checks.start_without_a_place()


class Checks:
    def __init__(self, facts, fleet):
        self.facts, self.fleet, self.number = facts, fleet, 0

    def run(self, cache, *options):
        """Runs `check-config`. Returns its exit code and all that it printed."""
        self.number += 1
        registries = {NAME: {"url": f"http://127.0.0.1:{self.fleet.registry.port}"}}
        file = self.fleet.file(f"config-{self.number}.yaml", json.dumps({"registries": registries, "cache": cache}))
        command = [self.fleet.options.binary, "check-config", "--config", file, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        return done.returncode, done.stdout + done.stderr

    def unusable(self):
        for key, cache in UNUSABLE.items():
            code, said = self.run(cache)
            named = code == 2 and (key in said or (key.endswith("tagz") and "cache" in said and "tagz" in said))
            self.facts.check(f"an unusable value is named by its key, {key}", named, f"exit {code}, {last(said)}")
        canary = f"canary-{secrets.token_hex(8)}"
        for url in (f"redis://:{canary}@127.0.0.1", f"s3://key:{canary}@bucket"):
            section = "shared" if url.startswith("redis") else "store"
            code, said = self.run({section: {"url": url}})
            refused = code == 2 and canary not in said and "unknown key" not in said
            self.facts.check(f"a password in `{section}.url` is refused, and not printed", refused, last(said))

    def connections(self):
        fleet = self.fleet
        password = f"engine-password-{secrets.token_hex(16)}"
        shared, store = fleet.start_engine(password), fleet.start_bucket()
        cache = {"shared": shared, "store": {**store, "spool_dir": str(fleet.folder("spool"))}}
        code, said = self.run(cache, "--connect")
        tried = code == 0 and said.count("ok ") >= 3
        self.facts.check("`--connect` tries the registry, the engine and the bucket", tried, f"exit {code}, {said}")
        entries, objects = fleet.engine.entries(), [path for path in fleet.bucket.files.rglob("*") if path.is_file()]
        self.facts.check("it leaves nothing in them", not entries and not objects, f"{len(entries)} keys, {len(objects)} objects")
        self._fails("a wrong password of the engine", "shared", {**cache, "shared": {**shared, "password_file": self._wrong()}})
        wrong = {**cache["store"], "secret_access_key_file": self._wrong()}
        self._fails("a wrong key of the bucket", "store", {**cache, "store": wrong})
        self._fails("a bucket that is absent", "store", {**cache, "store": {**cache["store"], "url": "s3://absent/blobs"}})
        fleet.engine.__exit__()
        self._fails("an engine that is away", "shared", cache)
        self._fails("a directory that cannot be made", "store", {"store": {"url": NO_PLACE}})

    def _wrong(self):
        return self.fleet.file("wrong.secret", "canary-of-a-wrong-secret")

    def _fails(self, what, section, cache):
        code, said = self.run(cache, "--connect")
        holds = code == 1 and f"cache.{section}" in said and "canary" not in said
        self.facts.check(f"`--connect` names {what}, cache.{section}", holds, f"exit {code}, {last(said)}")

    def start_without_a_place(self):
        """`serve` ends at once."""
        registries = {NAME: {"url": f"http://127.0.0.1:{self.fleet.registry.port}"}}
        config = {"registries": registries, "cache": {"store": {"url": NO_PLACE}}}
        try:
            replica = Replica(self.fleet.options.binary, self.fleet.folder("no-place"), config)
        except SystemExit as error:
            said = str(error)
        else:
            replica.__exit__()
            said = "it started"
        named = "cache.store" in said or "/proc/rexd" in said
        self.facts.check("a store directory that is not writable ends the start with a sentence", named, last(said))


def last(text):
    """The last line."""
    return (text.strip().splitlines() or [""])[-1]
