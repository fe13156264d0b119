"""The processes around a measurement, each with a port of its own on 127.0.0.1 and its files in one directory."""

import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import time

from process import Process

PATIENCE = 30
"""Seconds until a process must listen on its port."""

MIB = 1 << 20

REGISTRY_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  cache: {{blobdescriptor: inmemory}}
  filesystem: {{rootdirectory: {directory}/registry}}
http: {{addr: "127.0.0.1:{port}"}}
"""

# As Debian installs it – sendfile, tcp_nopush, a worker for each processor, nginx's default buffers and temporary files –
# except that nothing is logged. The second port has no temporary files: they cost nginx time whenever the caller is
# slower than the registry, so a comparison without them is fair too.
NGINX_CONFIG = """\
{user}
worker_processes auto;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log error;
events {{ worker_connections 768; }}
http {{
    sendfile on;
    tcp_nopush on;
    access_log off;
    client_body_temp_path {directory}/nginx-client;
    proxy_temp_path {directory}/nginx-proxy;
    fastcgi_temp_path {directory}/nginx-fastcgi;
    uwsgi_temp_path {directory}/nginx-uwsgi;
    scgi_temp_path {directory}/nginx-scgi;
    server {{
        listen 127.0.0.1:{port} http2;
        location / {{ proxy_pass http://{registry}; }}
    }}
    server {{
        listen 127.0.0.1:{bare_port} http2;
        location / {{ proxy_pass http://{registry}; proxy_max_temp_file_size 0; }}
    }}
}}
"""

REGISTRY = {"max_concurrent_requests": 10_000}
"""Settings of a registry that every build accepts."""

MANY_BLOBS = {**REGISTRY, "max_concurrent_blobs": 10_000}
"""Settings of a registry for 1,000 stalled streams."""

LIMITS = {
    "max_streams": 2000,
    "memory_bytes": 1 << 30,
    "memory_bytes_per_peer": 1 << 30,
    "max_connections_per_peer": 10_000,
    "write_stall_timeout": "10m",
}
"""Limits that admit 1,000 stalled streams from one address for the time of the measurement."""


class Peer:
    """A running process that listens; its log is `NAME.log` in the directory."""

    def __init__(self, name, command, port, directory, **environment):
        self.name, self.log = name, directory / f"{name}.log"
        self.address = f"127.0.0.1:{port}"
        environment |= {key: value for key, value in os.environ.items() if not key.startswith("REXD_")}
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.process = Process(self.popen.pid)
        self._wait_for(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()

    def _wait_for(self, port):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.popen.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.02)
        self.popen.kill()
        self.popen.wait()
        raise SystemExit(f"{self.name} does not listen on {port}:\n{self.log.read_text()}")


class Registry(Peer):
    """Debian's docker-registry, with its content in the directory."""

    def __init__(self, directory):
        port = free_port()
        config = directory / "registry.yml"
        config.write_text(REGISTRY_CONFIG.format(directory=directory, port=port))
        super().__init__("docker-registry", ["docker-registry", "serve", config], port, directory)

    def push(self, repository, size):
        """Uploads a blob of random bytes, the same each time, in one request as clients do. Returns its digest."""
        source, digest = random.Random(size), hashlib.sha256()

        def content():
            left = size
            while left:
                piece = source.randbytes(min(left, MIB))
                left -= len(piece)
                digest.update(piece)
                yield piece

        location = self._send("POST", f"/v2/{repository}/blobs/uploads/", None, 0)
        location = self._send("PATCH", location, content(), size)
        name = f"sha256:{digest.hexdigest()}"
        self._send("PUT", f"{location}&digest={name}", None, 0)
        return name

    def put_manifest(self, repository, reference, media_type, body):
        """Uploads a manifest whose blobs are there."""
        self._send("PUT", f"/v2/{repository}/manifests/{reference}", body, len(body), media_type)

    def _send(self, method, location, body, length, media_type="application/octet-stream"):
        path = location.removeprefix(f"http://{self.address}")
        connection = http.client.HTTPConnection(self.address)
        headers = {"Content-Type": media_type, "Content-Length": str(length)}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        if response.status not in (201, 202):
            raise SystemExit(f"docker-registry: {method} {path}: {response.status} {text}")
        return response.headers["Location"]


class Nginx(Peer):
    """nginx in front of a registry, HTTP/2 in clear text towards the caller."""

    def __init__(self, directory, registry):
        port, bare_port = free_port(), free_port()
        config = directory / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        text = NGINX_CONFIG.format(
            directory=directory, registry=registry, port=port, bare_port=bare_port, user=user
        )
        config.write_text(text)
        self.bare_address = f"127.0.0.1:{bare_port}"
        command = ["nginx", "-c", config, "-p", directory, "-e", directory / "nginx.log"]
        super().__init__("nginx", command, port, directory)


class Service(Peer):
    """The service in front of the registries at some addresses, which are also their names."""

    def __init__(self, binary, directory, registries, settings=REGISTRY, limits=LIMITS, cache=None, **more_limits):
        port = free_port()
        config = {
            "listen": f"127.0.0.1:{port}",
            "ops_listen": None,
            "default_registry": registries[0],
            "registries": {name: {"url": f"http://{name}", **settings} for name in registries},
            "limits": {**limits, "drain_pause": "1ms", **more_limits},
            **({"cache": cache} if cache else {}),
        }
        file = directory / "rexd.yml"
        file.write_text(json.dumps(config))  # which is YAML too
        super().__init__("rexd", [binary, "serve", "--config", file], port, directory)


class Echo:
    """A bare tonic server; see echo.rs for its options."""

    def __init__(self, binary, **options):
        arguments = [f"--{name}={value}" for name, value in options.items()]
        self.popen = subprocess.Popen([binary, *arguments], stdout=subprocess.PIPE, text=True)
        self.address = f"127.0.0.1:{int(self.popen.stdout.readline())}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.stdout.close()
        self.popen.kill()
        self.popen.wait()


class Load:
    """A running load generator. It writes lines of JSON and reads lines of text."""

    def __init__(self, binary, command, **options):
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not True]
        arguments += [f"--{name}" for name, value in options.items() if value is True]
        self.popen = subprocess.Popen(
            [binary, command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.stdin.close()
        self.popen.stdout.close()
        self.popen.kill()
        self.popen.wait()

    def read_line(self):
        line = self.popen.stdout.readline()
        if not line:
            raise SystemExit(f"the load generator failed ({self.popen.wait()})")
        return json.loads(line)

    def write_line(self, text):
        self.popen.stdin.write(f"{text}\n")
        self.popen.stdin.flush()


def load(binary, command, **options):
    """Runs the load generator and returns its only line."""
    with Load(binary, command, **options) as running:
        return running.read_line()


def free_port():
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


def version(*command):
    """The first line of a program's version output."""
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    return (said.stdout + said.stderr).strip().splitlines()[0]


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"
