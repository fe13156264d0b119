"""Real servers on 127.0.0.1: Debian's docker-registry, nginx, squid, and a token service that signs like real ones.

All files are in one temporary directory, and each process is stopped by its id. Nothing is left behind.
"""

import base64
import gzip
import hashlib
import http.server
import io
import json
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
import urllib.parse


SPIFFE_ID = "spiffe://cluster.local/ns/ci/sa/runner"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Facts:
    passed = failed = 0

    def state(self, fact, holds, why=""):
        if holds:
            self.passed += 1
            print(f"ok      {fact}", flush=True)
        else:
            self.failed += 1
            print(f"not ok  {fact}\n        {why}", flush=True)


def mount(directory, name, content):
    """Writes a Secret with one file to a directory like the kubelet: `..data` is a link that is replaced."""
    directory.mkdir(exist_ok=True)
    version = directory / f"..{time.monotonic_ns()}"
    version.mkdir()
    (version / name).write_text(content)
    (directory / "..data_tmp").symlink_to(version.name)
    (directory / "..data_tmp").rename(directory / "..data")
    if not (directory / name).is_symlink():
        (directory / name).symlink_to(f"..data/{name}")


class Peers:
    """The directory and the processes of a run."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="rexd-real-"))
        self.directory.chmod(0o755)  # squid and nginx drop their privileges
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory)

    def write(self, name, content):
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def run(self, *command, **more):
        done = subprocess.run([str(word) for word in command], capture_output=True, cwd=self.directory, **more)
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]} failed: {done.stderr.decode(errors='replace')}")
        return done.stdout

    def start(self, name, port, *command, **environment):
        """Starts a server and waits until it listens. Its output is in NAME.log."""
        log = open(self.directory / f"{name}.log", "wb")
        process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, cwd=self.directory,
                                   env={**os.environ, **environment})
        self.processes.append(process)
        for _ in range(200):
            if process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return process
            time.sleep(0.05)
        raise RuntimeError(f"{name} does not listen on {port}: {self.log(name)[-2000:]}")

    def log(self, name):
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def certificates(self):
        """A private authority; a server's and clients' certificates of it."""
        self.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test authority",
                 "-keyout", "ca.key", "-out", "ca.pem")
        for name, extension in [("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth"),
                                ("runner", f"extendedKeyUsage=clientAuth\nsubjectAltName=URI:{SPIFFE_ID}")]:
            self.run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                     "-out", f"{name}.csr")
            self.write(f"{name}.ext", extension + "\n")
            self.run("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                     "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")

    def htpasswd(self, name, users, kind):
        """Writes or atomically replaces a password file: docker-registry reads it again when it has changed."""
        lines = [self.run("htpasswd", "-nb" + kind, user, password).decode().strip() for user, password in users]
        return self.write(name + ".new", "\n".join(lines) + "\n").rename(self.directory / name)

    def registry(self, name, auth=None, tls=None):
        """docker-registry; all of them serve the same content. JSON is YAML."""
        port = free_port()
        config = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.directory / "content")}},
            "http": {"addr": f"127.0.0.1:{port}", "secret": "not a secret", **({"tls": tls} if tls else {})},
        }
        if auth:
            config["auth"] = auth
        path = self.write(f"{name}.yaml", json.dumps(config))
        self.start(name, port, "docker-registry", "serve", path)
        return port

    def image(self, port):
        """Puts team/app:v1 into the registry on `port`, with skopeo. Returns its layer's digest and bytes."""
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            member = tarfile.TarInfo("random")
            member.size = 200_000
            archive.addfile(member, io.BytesIO(secrets.token_bytes(member.size)))
        layer = gzip.compress(tar.getvalue(), mtime=0)
        oci = "application/vnd.oci.image."
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                             "rootfs": {"type": "layers", "diff_ids": [sha256(tar.getvalue())]}}).encode()

        def put(content, media_type):
            digest = sha256(content)
            path = self.directory / "oci" / "blobs" / digest.replace(":", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            return {"mediaType": oci + media_type, "digest": digest, "size": len(content)}

        manifest = json.dumps({"schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
                               "config": put(config, "config.v1+json"),
                               "layers": [put(layer, "layer.v1.tar+gzip")]}).encode()
        self.write("oci/oci-layout", '{"imageLayoutVersion": "1.0.0"}')
        entry = put(manifest, "manifest.v1+json") | {"annotations": {"org.opencontainers.image.ref.name": "v1"}}
        self.write("oci/index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        self.run("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "oci:oci:v1",
                 f"docker://127.0.0.1:{port}/team/app:v1")
        return sha256(layer), layer

    def nginx(self, registry_port, authorization):
        """A server that responds with 307 for blobs, and the storage host in the redirects; both proxy to the registry."""
        front, storage = free_port(), free_port()
        paths = "".join(f"{kind}_temp_path nginx-temp;" for kind in
                        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
        (self.directory / "nginx-temp").mkdir(mode=0o777)
        config = self.write("nginx.conf", f"""
            daemon off; user root; worker_processes 1; pid {self.directory}/nginx.pid;
            events {{ worker_connections 100; }}
            http {{
                {paths}
                log_format heads '$request_uri [$http_authorization] [$http_x_gateway_key] [$http_referer]';
                access_log off;
                server {{
                    listen 127.0.0.1:{front};
                    location ~ /blobs/ {{ return 307 http://127.0.0.1:{storage}$request_uri; }}
                    location / {{ proxy_pass http://127.0.0.1:{registry_port}; proxy_set_header Host $http_host; }}
                }}
                server {{
                    listen 127.0.0.1:{storage};
                    access_log {self.directory}/storage.log heads;
                    location / {{
                        proxy_pass http://127.0.0.1:{registry_port};
                        proxy_set_header Authorization "{authorization}";
                    }}
                }}
            }}""")
        self.start("nginx", front, "nginx", "-c", config, "-p", self.directory, "-e", self.directory / "nginx-error.log")
        return front, storage

    def squid(self, user, password):
        """A forward proxy that requires a password and serves only CONNECT."""
        port, passwords = free_port(), self.htpasswd("squid.passwd", [(user, password)], "m")
        (self.directory / "squid").mkdir()
        (self.directory / "squid").chmod(0o777)
        config = self.write("squid.conf", f"""
http_port 127.0.0.1:{port}
auth_param basic program /usr/lib/squid/basic_ncsa_auth {passwords}
auth_param basic realm test
acl signed_in proxy_auth REQUIRED
acl tunnel method CONNECT
http_access deny !tunnel
http_access allow signed_in
http_access deny all
cache deny all
pid_filename none
pinger_enable off
shutdown_lifetime 1 seconds
coredump_dir {self.directory}/squid
access_log stdio:{self.directory}/squid/access.log
cache_log {self.directory}/squid/cache.log
""")
        self.start("squid", port, "squid", "-N", "-f", config)
        return port


class TokenService:
    """Docker's token protocol, with real signatures (RS256 by openssl) that docker-registry checks.

    Distribution accepts tokens for a minute longer than their lifetime, so each expires a minute earlier than announced.
    """

    LEEWAY = 60

    def __init__(self, peers, user, password):
        self.peers, self.lifetime, self.given, self.lock = peers, 300, [], threading.Lock()
        self.basic = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        peers.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens",
                  "-keyout", "tokens.key", "-out", "tokens.pem")
        der = peers.run("openssl", "x509", "-in", "tokens.pem", "-outform", "DER")
        self.header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                if self.headers.get("Authorization") != service.basic:
                    return self.respond(401, {})
                self.respond(200, service.token(query.get("scope", [""])[0]))

            def respond(self, status, document):
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def auth(self):
        """The `auth` section of docker-registry's configuration."""
        return {"token": {"realm": self.origin + "/token", "service": "test", "issuer": "tokens",
                          "rootcertbundle": str(self.peers.directory / "tokens.pem")}}

    def token(self, scope):
        now = int(time.time())
        claims = {"iss": "tokens", "sub": "alice", "aud": "test", "jti": secrets.token_hex(8), "iat": now,
                  "nbf": now - 300, "exp": now + self.lifetime - self.LEEWAY, "access": []}
        if scope:
            kind, name, actions = scope.split(":")
            claims["access"].append({"type": kind, "name": name, "actions": actions.split(",")})
        encode = lambda content: base64.urlsafe_b64encode(content).rstrip(b"=")
        signed = b".".join(encode(json.dumps(part).encode()) for part in (self.header, claims))
        signature = self.peers.run("openssl", "dgst", "-sha256", "-sign", "tokens.key", input=signed)
        token = (signed + b"." + encode(signature)).decode()
        with self.lock:
            self.given.append(token)
        return {"token": token, "expires_in": self.lifetime}
