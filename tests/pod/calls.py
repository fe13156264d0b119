"""The pod's RPCs and health checks through grpcurl, as a caller and a kubelet would make them."""

import base64
import hashlib
import json
import subprocess

from release import CHARTS, IMAGE, TAGS
from report import check

SERVICE = "rex.registry.v1.RegistryService"


class Grpc:
    """The pod's main port."""

    def __init__(self, port):
        self.address = f"127.0.0.1:{port}"

    def call(self, method, request):
        """The messages of a call. A failed call raises an error with grpcurl's output."""
        command = ["grpcurl", "-plaintext", "-max-msg-sz", "16777216", "-max-time", "30", "-d", json.dumps(request)]
        done = subprocess.run([*command, self.address, method], capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return list(messages(done.stdout))

    def rpc(self, method, request):
        return self.call(f"{SERVICE}/{method}", request)

    def one(self, method, request):
        return self.rpc(method, request)[0]

    def failure(self, method, request):
        """The error of a call; empty when it succeeds."""
        try:
            self.rpc(method, request)
        except RuntimeError as error:
            return str(error)
        return ""

    def pages(self, method, field, request):
        """All entries, and the number of entries of each page."""
        token, entries, sizes = "", [], []
        while len(sizes) < 100:
            page = self.one(method, request | {"page_token": token})
            entries += page.get(field, [])
            sizes.append(len(page.get(field, [])))
            token = page.get("nextPageToken", "")
            if not token:
                break
        return entries, sizes


def messages(text):
    decoder, text = json.JSONDecoder(), text.strip()
    while text:
        message, end = decoder.raw_decode(text)
        yield message
        text = text[end:].strip()


def check_health(grpc):
    for service in ("", SERVICE):
        status = grpc.call("grpc.health.v1.Health/Check", {"service": service})[0]["status"]
        check(f"grpc.health.v1 on the main port reports SERVING for {service!r}", status == "SERVING", status)


def check_calls(grpc, registry, layout):
    """The five RPCs, compared with what skopeo pushed."""
    at, app = {"registry": registry}, {"registry": registry, "repository": "team/app"}
    ping = grpc.one("Ping", at)
    seen = (ping["registry"], ping["apiVersion"], ping["authScheme"])
    check("Ping reports that the registry requires Basic", seen == (registry, "registry/2.0", "AUTH_SCHEME_BASIC"), ping)
    names, sizes = grpc.pages("ListCatalog", "repositories", at | {"page_size": 2})
    check("ListCatalog returns every repository, in pages of two",
          (names, sizes) == ([f"{CHARTS}/rexd", IMAGE, "team/app"], [2, 1]), (names, sizes))
    tags, sizes = grpc.pages("ListTags", "tags", app | {"page_size": 3})
    check("ListTags returns every tag, in pages of three", (sorted(tags), sizes[:3]) == (TAGS, [3, 3, 1]), (tags, sizes))
    index = grpc.one("GetManifest", app | {"reference": TAGS[0]})
    image = grpc.one("GetManifest", app | {"reference": TAGS[0], "platform": "linux/arm64"})
    content = base64.b64decode(image["content"])
    digest = image["contentDescriptor"]["digest"]
    check("GetManifest picks linux/arm64 and returns the bytes that skopeo pushed",
          content == blob(layout, digest) and digest == digest_of(content), image["contentDescriptor"])
    check("GetManifest reports the index that it picked from",
          image["index"]["digest"] == index["contentDescriptor"]["digest"], image["index"])
    for layer in image["imageManifest"]["layers"]:
        check_blob(grpc, app | {"digest": layer["digest"]}, layout)


def check_release(grpc, registry, layout, manifest, version):
    """The service reads its own image."""
    own = {"registry": registry, "repository": IMAGE}
    tags = grpc.one("ListTags", own).get("tags")
    check("the service lists its own image's tags", sorted(tags or []) == sorted([version, "latest"]), tags)
    largest = max(manifest["layers"], key=lambda layer: layer["size"])
    check_blob(grpc, own | {"digest": largest["digest"]}, layout)


def check_blob(grpc, request, layout):
    frames = grpc.rpc("StreamBlob", request)
    data = b"".join(base64.b64decode(frame["chunk"]["data"]) for frame in frames[1:-1])
    expected = blob(layout, request["digest"])
    verified = frames[-1].get("trailer", {}).get("digestVerified")
    check(f"StreamBlob returns all {len(expected)} bytes of a layer of {request['repository']}, byte for byte",
          data == expected and verified is True, f"{len(data)} bytes, {frames[-1]}")


def blob(layout, digest):
    return (layout / "blobs" / digest.replace(":", "/")).read_bytes()


def digest_of(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()
