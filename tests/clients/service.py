"""The service under test: BINARY serve on a free port, in front of the registry with faults."""

import pathlib
import socket
import subprocess
import time

from registry import Registry

NAME = "registry.test"
START_SECONDS = 30
STOP_SECONDS = 15


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port, process, log):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    stop(process)
    raise SystemExit(f"nothing listens on 127.0.0.1:{port}: {log.read_text()}")


def stop(process):
    """Ends a process that we started."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Service:
    """A registry and the service in front of it, both with nothing behind them yet."""

    def __init__(self, binary, directory):
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.registry, self.port = Registry(), free_port()
        config = directory / "rexd.yaml"
        config.write_text(
            f"listen: 127.0.0.1:{self.port}\n"
            "ops_listen: null\n"
            f"default_registry: {NAME}\n"
            f"registries: {{{NAME}: {{url: \"{self.registry.url}\"}}}}\n"
            "limits: {drain_pause: 1ms, drain_grace: 1s}\n"
        )
        log = directory / "rexd.log"
        with open(log, "wb") as file:
            self.process = subprocess.Popen([binary, "serve", "--config", config], stdout=file, stderr=file)
        wait_for(self.port, self.process, log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop(self.process)
        self.registry.shutdown()
        self.registry.server_close()
