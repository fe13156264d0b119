"""The service under test on a free port, in front of its own sample registry or of the registry with faults."""

import json
import pathlib
import re
import socket
import subprocess
import time

from registry import Registry

NAME = "registry.test"
# Nothing listens on port 1 (tcpmux), and an ephemeral port is never it.
DOWN = ("down.test", "http://127.0.0.1:1")
TOKEN = "token-of-the-page-0123456789"
LIMITED_TOKEN = "token-of-one-stream-0123456789"
START_SECONDS = 30
STOP_SECONDS = 15


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port, process, log, host="127.0.0.1"):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.05)
    stop(process)
    raise SystemExit(f"nothing listens on {host}:{port}: {log.read_text()}")


def stop(process):
    """Stops a process that was started here."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Demo:
    """`BINARY demo`: its own sample registry, and the service in front of it."""

    def __init__(self, binary, directory):
        log = pathlib.Path(directory) / "demo.log"
        with open(log, "wb") as file:
            command = [binary, "demo", "--listen", "127.0.0.1:0"]
            self.process = subprocess.Popen(command, stdout=file, stderr=file)
        end = time.monotonic() + START_SECONDS
        while "Serving until" not in log.read_text():
            if time.monotonic() > end or self.process.poll() is not None:
                stop(self.process)
                raise SystemExit(f"{binary} demo does not serve: {log.read_text()}")
            time.sleep(0.05)
        self.port = int(re.search(r"rexd in front of it on 127\.0\.0\.1:(\d+)", log.read_text())[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop(self.process)


class Service:
    """The registry with faults, and `BINARY serve` in front of it. Each instance starts with all faults."""

    def __init__(self, binary, directory, host="127.0.0.1", port=None):
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.registry, self.port = Registry(), port or free_port()
        config = directory / "rexd.yaml"
        config.write_text(
            f"listen: {host}:{self.port}\n"
            "ops_listen: null\n"
            f"default_registry: {NAME}\n"
            "registries:\n"
            f"  {NAME}: {{url: \"{self.registry.url}\"}}\n"
            f"  {DOWN[0]}: {{url: \"{DOWN[1]}\"}}\n"
            "limits: {drain_pause: 1ms, drain_grace: 1s}\n"
            f"{self.more(directory)}"
        )
        log = directory / "rexd.log"
        with open(log, "wb") as file:
            self.process = subprocess.Popen([binary, "serve", "--config", config], stdout=file, stderr=file)
        wait_for(self.port, self.process, log, host)

    def more(self, directory):
        """Additional lines of the configuration."""
        return ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop(self.process)
        self.registry.shutdown()
        self.registry.server_close()


class WithCallers(Service):
    """The same for two callers with tokens who may read `team/`; the second one may have one stream at a time."""

    def more(self, directory):
        callers = {}
        for name, token, limits in (("build", TOKEN, {}), ("nightly", LIMITED_TOKEN, {"max_streams": 1})):
            (directory / name).write_text(token)
            callers[name] = {"token_file": str(directory / name), "allow": [f"{NAME}/team/"], "limits": limits}
        return f"callers: {json.dumps(callers)}\n"
