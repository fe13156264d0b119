"""The service in a memory cgroup of its own, and the registry behind it."""

import contextlib
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

MIB = 1 << 20
START_SECONDS = 30
TAGS = [f"tag-{number:08}" for number in range(1000)]
"""A page of them has about 15 KiB: less than one HTTP/2 frame."""


class Registry:
    """A registry with one repository of 1,000 tags."""

    def __init__(self):
        body = json.dumps({"name": "org/app", "tags": TAGS}).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 1024

            def handle_error(self, request, client_address):
                """Connections that the service drops are no errors."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Cgroup:
    """A memory cgroup of version 1 or 2 with a limit; `None` in `path` where none may be made."""

    def __init__(self, limit):
        self.path = None
        for root, file in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            path = pathlib.Path(root) / f"rexd-attacks-{os.getpid()}"
            with contextlib.suppress(OSError):
                path.mkdir()
                self.path = path
                (path / file).write_text(str(limit))
                return
            self.remove()

    def add(self, pid):
        if self.path:
            (self.path / "cgroup.procs").write_text(str(pid))

    def remove(self):
        if self.path:
            with contextlib.suppress(OSError):
                self.path.rmdir()
            self.path = None


class Service:
    """The service, started inside the cgroup, so that it finds the limit there."""

    def __init__(self, binary, directory, registry, cgroup, **limits):
        with socket.socket() as any_port:
            any_port.bind(("127.0.0.1", 0))
            self.port = any_port.getsockname()[1]
        config = {
            "listen": f"127.0.0.1:{self.port}",
            "ops_listen": None,
            "registries": {"registry.test": {"url": f"http://{registry.address}"}},
            "limits": {"drain_pause": "1ms", "drain_grace": "1s", **limits},
        }
        file = directory / "rexd.yaml"
        file.write_text(json.dumps(config))  # which is YAML too
        environment = {key: value for key, value in os.environ.items() if not key.startswith("REXD_")}
        self.log = directory / "rexd.log"
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                [binary, "serve", "--config", file],
                stdout=log,
                stderr=log,
                env=environment,
                preexec_fn=lambda: cgroup.add(os.getpid()),
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.popen.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise SystemExit(f"the service does not start:\n{self.log.read_text()}")

    def memory_mib(self, key):
        """`VmRSS` or `VmHWM` of the process, in MiB."""
        for line in pathlib.Path(f"/proc/{self.popen.pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) / 1024
        raise SystemExit("the service has ended")

    def is_running(self):
        return self.popen.poll() is None

    def stop(self):
        self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(10)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
