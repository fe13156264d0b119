#!/usr/bin/env python3
"""A small registry with faults, for the callers in tests/clients. It uses only the standard library, on 127.0.0.1.

Every repository has the same image. Its name selects the fault:

    team/app      none; 250 tags on pages linked by Link (OCI Distribution Specification, end-8b)
    team/flaky    responds with 503 three times before each manifest's first success
    team/stall    the first read of a layer stops half-way and stays open
    team/corrupt  one bit of each layer is wrong
    team/private  401, requires Basic
    team/limited  one 429 with Retry-After: 7, then success

usage: registry.py      serves until it is stopped; prints its address
"""

import hashlib
import http.server
import json
import random
import re
import threading
import urllib.parse

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

LAYER_BYTES = 8 << 20
TAGS = ["v1"] + [f"v1.{minor}.{patch}" for minor in range(25) for patch in range(10)][:249]
FAILURES_OF_FLAKY = 3
RETRY_AFTER = 7
# A stalled read ends when its reader disconnects; this bounds one whose reader never does.
LONGEST_STALL = 60


class Image:
    """An index for two platforms, and the bytes of everything below it, by digest."""

    def __init__(self):
        self.documents, self.layers = {}, {}
        # Incompressible, and the same every time.
        self.layer = self.add(self.layers, LAYER, random.Random(7).randbytes(LAYER_BYTES))
        entries = []
        for architecture, variant in (("amd64", {}), ("arm64", {"variant": "v8"})):
            platform = {"architecture": architecture, "os": "linux"} | variant
            config = platform | {"rootfs": {"type": "layers", "diff_ids": [self.layer["digest"]]}}
            manifest = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self.add(self.layers, CONFIG, json.dumps(config).encode()),
                "layers": [self.layer],
            }
            entries.append(self.add(self.documents, MANIFEST, json.dumps(manifest).encode()) | {"platform": platform})
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        self.index = self.add(self.documents, INDEX, json.dumps(index).encode())

    @staticmethod
    def add(store, media_type, content):
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        store[digest] = (media_type, content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}


IMAGE = Image()


class Registry(http.server.ThreadingHTTPServer):
    """Listens on a free port of 127.0.0.1. Each instance counts its own faults."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.requests = threading.Lock(), 0
        self.left = {"team/flaky": FAILURES_OF_FLAKY, "team/stall": 1, "team/limited": 1}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def fault_is_due(self, repository):
        with self.lock:
            due = self.left.get(repository, 0) > 0
            self.left[repository] = self.left.get(repository, 0) - 1
            return due


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    routes = re.compile(r"/v2/(?P<repository>.+)/(?P<kind>tags|manifests|blobs)/(?P<reference>[^/]+)")

    def do_GET(self):
        with self.server.lock:
            self.server.requests += 1
        url = urllib.parse.urlsplit(self.path)
        route = self.routes.fullmatch(url.path)
        if url.path == "/v2/":
            return self.respond(200, b"{}", "application/json")
        if url.path == "/v2/_catalog":
            return self.refuse(405, "UNSUPPORTED")
        if not route:
            return self.refuse(404, "NAME_UNKNOWN")
        repository, reference = route["repository"], route["reference"]
        if repository == "team/private":
            return self.refuse(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="team"'})
        if repository == "team/limited" and self.server.fault_is_due(repository):
            return self.refuse(429, "TOOMANYREQUESTS", {"Retry-After": str(RETRY_AFTER)})
        if repository == "team/flaky" and self.server.fault_is_due(repository):
            return self.refuse(503, "UNAVAILABLE")
        if route["kind"] == "tags":
            return self.tags(repository, urllib.parse.parse_qs(url.query))
        if route["kind"] == "manifests":
            return self.manifest(reference)
        return self.blob(repository, reference)

    def tags(self, repository, query):
        size, last = int(query.get("n", ["100"])[0]), query.get("last", [None])[0]
        start = TAGS.index(last) + 1 if last in TAGS else 0
        page = TAGS[start : start + size]
        headers = {}
        if start + size < len(TAGS):
            headers["Link"] = f'</v2/{repository}/tags/list?last={page[-1]}&n={size}>; rel="next"'
        body = json.dumps({"name": repository, "tags": page}).encode()
        self.respond(200, body, "application/json", headers)

    def manifest(self, reference):
        digest = IMAGE.index["digest"] if reference in TAGS else reference
        if digest not in IMAGE.documents:
            return self.refuse(404, "MANIFEST_UNKNOWN")
        media_type, content = IMAGE.documents[digest]
        self.respond(200, content, media_type, {"Docker-Content-Digest": digest})

    def blob(self, repository, digest):
        if digest not in IMAGE.layers:
            return self.refuse(404, "BLOB_UNKNOWN")
        _, content = IMAGE.layers[digest]
        if repository == "team/corrupt":
            content = content[:-1] + bytes([content[-1] ^ 1])
        status, headers, body = 200, {"Accept-Ranges": "bytes"}, content
        range_header = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if range_header:
            first, last = int(range_header[1]), min(int(range_header[2] or len(content)), len(content) - 1)
            if first >= len(content):
                return self.refuse(416, "RANGE_INVALID", {"Content-Range": f"bytes */{len(content)}"})
            status, body = 206, content[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        stall = repository == "team/stall" and self.server.fault_is_due(repository)
        self.respond(status, body, "application/octet-stream", headers, stall)

    def respond(self, status, body, media_type, headers=None, stall=False):
        self.send_response(status)
        self.send_header("Docker-Distribution-API-Version", "registry/2.0")
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if stall:
            self.wfile.write(body[: len(body) // 2])
            # The reader sends nothing more until it disconnects.
            self.connection.settimeout(LONGEST_STALL)
            self.close_connection = True
            self.connection.recv(1)
            return
        self.wfile.write(body)

    def refuse(self, status, code, headers=None):
        body = json.dumps({"errors": [{"code": code, "message": f"registry.py says {status}"}]}).encode()
        self.respond(status, body, "application/json", headers)

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass  # The reader disconnected during the response.

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    print(Registry().url, flush=True)
    threading.Event().wait()
