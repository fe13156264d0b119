"""The counting registry as a process, and the content that it serves."""

import hashlib
import json
import mmap
import pathlib
import random
import subprocess
import sys

MIB = 1 << 20
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PIECE = 4 * MIB


class Blob:
    """A blob of random bytes, the same every time, in a file."""

    def __init__(self, directory, seed, size):
        source, hashed, self.size = random.Random(seed), hashlib.sha256(), size
        new = directory / "new"
        with new.open("wb") as file:
            for at in range(0, size, PIECE):
                piece = source.randbytes(min(PIECE, size - at))
                hashed.update(piece)
                file.write(piece)
        self.digest = f"sha256:{hashed.hexdigest()}"
        self.path = new.rename(directory / hashed.hexdigest())
        with self.path.open("rb") as file:
            self.content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class Counts:
    """What the registry has counted since the last reset."""

    def __init__(self, values):
        self.requests, self.paths = values["requests"], values["paths"]
        self.blob_bytes, self.pulls, self.exchanges = values["blob_bytes"], values["pulls"], values["exchanges"]
        self.most_running, self.times = values["most_running"], values["times"]

    def of(self, kind):
        """The requests of a kind: "GET manifests"."""
        return self.requests.get(kind, 0)

    @property
    def total(self):
        return sum(count for kind, count in self.requests.items() if kind != "304")

    def __str__(self):
        parts = [f"{count} {kind}" for kind, count in sorted(self.requests.items())]
        if self.blob_bytes:
            parts.append(f"{self.blob_bytes / MIB:.1f} MiB of blobs")
        if self.exchanges:
            parts.append(f"{self.exchanges} sign-ins")
        return ", ".join(parts) or "no request"


class CountingRegistry:
    """The registry. `set` changes a setting of `counting_registry`."""

    def __init__(self, directory):
        self.directory = directory / "content"
        self.directory.mkdir()
        command = [sys.executable, pathlib.Path(__file__).with_name("counting_registry"), self.directory]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.popen.stdout.readline())
        self.seed, self.users = 0, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.stdin.close()
        self.popen.wait(10)
        self.popen.stdout.close()

    def _do(self, do, **values):
        self.popen.stdin.write(json.dumps({"do": do, **values}) + "\n")
        self.popen.stdin.flush()
        return json.loads(self.popen.stdout.readline())

    def set(self, **settings):
        self._do("set", **settings)

    def counts(self):
        return Counts(self._do("counts"))

    def reset(self):
        self._do("reset")

    def add_user(self, name, password, *repositories):
        """A user who may read the repositories. Once there is one, everybody has to sign in."""
        self.users[name] = {"password": password, "repositories": repositories}
        self.set(users=self.users)

    def tokens(self):
        """All tokens that it has issued."""
        return self._do("tokens")

    def blob(self, size, *repositories):
        """A new blob in the repositories."""
        self.seed += 1
        blob = Blob(self.directory, self.seed, size)
        for repository in repositories:
            self.share(repository, blob)
        return blob

    def share(self, repository, blob):
        self._do("put", repository=repository, blobs=[blob.digest])

    def image(self, repository, tag):
        """A new manifest with the tag, which moves when it exists. Returns the manifest's digest."""
        self.seed += 1
        config = {"mediaType": CONFIG, "digest": f"sha256:{self.seed:064x}", "size": 2}
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}
        body = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        (self.directory / digest.removeprefix("sha256:")).write_bytes(body)
        self._do("put", repository=repository, tags={tag: digest}, manifests={digest: MANIFEST})
        return digest

    def content(self, digest):
        return (self.directory / digest.removeprefix("sha256:")).read_bytes()
