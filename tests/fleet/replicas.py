"""Replicas of the service, and everything behind them: the counting registry, the engine, the bucket."""

import contextlib
import json
import pathlib
import signal
import tempfile

from bucket import Bucket
from engine import Engine
from peers import LIMITS, Peer, free_port
from registry import CountingRegistry

NAME = "registry.test"
"""The registry's name in the configuration."""

FRESH_SECONDS = 5
"""How long a tag, a list or an absence is fresh in these tests: longer than a burst of calls takes on a busy machine."""


class Replica(Peer):
    """`rexd serve` with a configuration."""

    def __init__(self, binary, directory, config, port=None, **environment):
        self.port = port or free_port()
        file = directory / "rexd.yaml"
        file.write_text(json.dumps({"listen": f"127.0.0.1:{self.port}", "ops_listen": None, **config}))  # JSON is YAML
        super().__init__("rexd", [binary, "serve", "--config", file], self.port, directory, **environment)

    def kill(self):
        """SIGKILL: the process does nothing more."""
        self.popen.kill()
        self.popen.wait()

    def __exit__(self, *_):
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            super().__exit__()


DISTURBANCES = set()
"""What disturbed fleets whose engine should have been there all the time."""


class Fleet:
    """Some replicas with the same settings. What they need is started when it is first asked for."""

    def __init__(self, options):
        self.options, self.stack = options, contextlib.ExitStack()
        self.replicas, self.number = [], 0

    def __enter__(self):
        self.directory = pathlib.Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="rexd-fleet-")))
        self.registry = self.stack.enter_context(CountingRegistry(self.directory))
        return self

    def __exit__(self, *_):
        self.stop()
        if any("the shared engine is away" in log.read_text() for log in self.directory.rglob("rexd.log")):
            DISTURBANCES.add("an engine replied after more than 50 ms, so a replica went on alone")
        self.stack.close()

    def start_engine(self, password=None):
        """Starts the engine; returns the section `cache.shared`."""
        self.engine = self.stack.enter_context(Engine(self.directory, password=password))
        return {"url": self.engine.url, **({"password_file": self.file("engine.password", password)} if password else {})}

    def start_bucket(self):
        """Starts the bucket; returns the section `cache.store`."""
        self.bucket = self.stack.enter_context(Bucket(self.directory))
        return self.bucket.store(self.directory)

    def start(self, count=1, cache=None, registry=None, environment=None, **more):
        """Starts replicas with a section `cache`, settings of the registry, and other sections. Returns the replicas."""
        config = {
            "default_registry": NAME,
            "registries": {
                NAME: {
                    "url": f"http://127.0.0.1:{self.registry.port}",
                    "max_concurrent_requests": 10_000,
                    "max_concurrent_blobs": 10_000,
                    **(registry or {}),
                }
            },
            "limits": {**LIMITS, "drain_pause": "1ms", "drain_grace": "1s"},
            **more,
        }
        started = []
        for _ in range(count):
            self.number += 1
            directory = self.directory / f"replica-{self.number}"
            directory.mkdir()
            if cache is not None and not self.options.no_cache:
                config["cache"] = self._with_spool(cache, directory)
            started.append(Replica(self.options.binary, directory, config, **(environment or {})))
        self.replicas += started
        return started

    @staticmethod
    def _with_spool(cache, directory):
        """Blobs on their way to a bucket are in the replica's own directory."""
        if not cache.get("store", {}).get("url", "").startswith("s3://"):
            return cache
        spool = directory / "spool"
        spool.mkdir()
        return {**cache, "store": {**cache["store"], "spool_dir": str(spool)}}

    def restart(self, replica):
        """Starts a replica again, whose process has ended or is ended now, with its own configuration."""
        replica.__exit__()
        config = json.loads((replica.log.parent / "rexd.yaml").read_text())
        again = Replica(self.options.binary, replica.log.parent, config, replica.port)
        self.replicas[self.replicas.index(replica)] = again
        return again

    def stop(self):
        """Stops all replicas."""
        while self.replicas:
            self.replicas.pop().__exit__()

    def file(self, name, content):
        """Writes a file and returns its path as text."""
        path = self.directory / name
        path.write_text(content)
        return str(path)

    def folder(self, name):
        path = self.directory / name
        path.mkdir()
        return path
