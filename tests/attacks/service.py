"""The service in a memory cgroup of its own, and the registry behind it."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

MIB = 1 << 20
START_SECONDS = 30
BLOB_BYTES = 256 * MIB
BLOB_DIGEST = f"sha256:{'0' * 64}"
"""Not the digest of the blob, which nobody reads to its end."""
TAGS = [f"tag-{number:08}" for number in range(1000)]
"""A page of them has about 15 KiB: less than one HTTP/2 frame."""


NGINX = """\
{user}
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {directory}/client;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {directory};
        default_type application/json;
        location / {{ try_files /tags.json =404; }}
        location /v2/org/slow/ {{
            proxy_pass http://127.0.0.1:{far_port};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
        location /v2/org/app/blobs/ {{ default_type application/octet-stream; try_files /blob =404; }}
    }}
}}
"""


class Registry:
    """nginx that responds to every request with a list of 1,000 tags; for `org/slow`, 50 ms later."""

    def __init__(self, directory):
        port, far_port = free_port(), free_port()
        self.address = f"127.0.0.1:{port}"
        (directory / "tags.json").write_text(json.dumps({"name": "org/app", "tags": TAGS}))
        with (directory / "blob").open("wb") as file:
            file.truncate(BLOB_BYTES)
        user = "user root;" if os.geteuid() == 0 else ""
        config = directory / "nginx.conf"
        config.write_text(NGINX.format(directory=directory, port=port, far_port=far_port, user=user))
        command = ["nginx", "-c", config, "-p", directory, "-e", directory / "nginx.log"]
        self.popen = subprocess.Popen(command)
        wait_for(port, self.popen, directory / "nginx.log")
        far = pathlib.Path(__file__).with_name("far_registry")
        self.far = subprocess.Popen([far, str(far_port), directory / "tags.json"])
        wait_for(far_port, self.far, directory / "nginx.log")

    def stop(self):
        end(self.popen)
        end(self.far)


def free_port():
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


def wait_for(port, popen, log):
    """Waits until the process listens."""
    last = time.monotonic() + START_SECONDS
    while time.monotonic() < last and popen.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise SystemExit(f"{popen.args[0]} does not start:\n{log.read_text()}")


def end(popen):
    """Ends a process that this script started."""
    popen.send_signal(signal.SIGTERM)
    try:
        popen.wait(10)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


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

    def __init__(self, binary, directory, registry, cgroup, callers=None, others=None, **limits):
        self.port = free_port()
        config = {
            "listen": f"127.0.0.1:{self.port}",
            "ops_listen": None,
            "registries": {
                name: {"url": f"http://{address}"}
                for name, address in {"registry.test": registry.address, **(others or {})}.items()
            },
            "limits": {"drain_pause": "1ms", "drain_grace": "1s", **limits},
        }
        if callers:
            config["callers"] = {name: self._caller(directory, name) for name in callers}
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
        wait_for(self.port, self.popen, self.log)

    @staticmethod
    def _caller(directory, name):
        """A caller whose token is its name, three times."""
        file = directory / f"{name}.token"
        file.write_text(3 * name)
        return {"token_file": str(file), "allow": ["registry.test"]}

    def memory_mib(self, key):
        """`VmRSS` or `VmHWM` of the process, in MiB."""
        for line in pathlib.Path(f"/proc/{self.popen.pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) / 1024
        raise SystemExit("the service has ended")

    def is_running(self):
        return self.popen.poll() is None

    def stop(self):
        end(self.popen)
