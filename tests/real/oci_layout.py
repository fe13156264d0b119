#!/usr/bin/env python3
"""Writes an OCI image layout (OCI Image Specification, image-layout.md): one index, linux/amd64 and linux/arm64.

usage: oci_layout.py DIRECTORY [MIB]     MIB: size of the incompressible layer, 8 by default
"""

import gzip
import hashlib
import io
import json
import os
import random
import sys
import tarfile

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


class Layout:
    def __init__(self, root):
        self.root = root
        os.makedirs(os.path.join(root, "blobs", "sha256"), exist_ok=True)

    def blob(self, media_type, content):
        digest = hashlib.sha256(content).hexdigest()
        with open(os.path.join(self.root, "blobs", "sha256", digest), "wb") as file:
            file.write(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def document(self, media_type, document):
        return self.blob(media_type, json.dumps(document, indent=2).encode())


def noise(mib):
    """Incompressible, and the same every time."""
    source = random.Random(7)
    return b"".join(source.randbytes(1 << 20) for _ in range(mib))


def layer(name, content):
    """A tar with one file; returns it gzipped, and the digest of the plain tar (the diff ID)."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    tar = plain.getvalue()
    return gzip.compress(tar, compresslevel=0, mtime=0), "sha256:" + hashlib.sha256(tar).hexdigest()


def main():
    root, mib = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8
    layout = Layout(root)
    big, big_id = layer("data", noise(mib))
    entries = []
    for architecture, variant in (("amd64", None), ("arm64", "v8")):
        small, small_id = layer("hello", f"hello from {architecture}\n".encode())
        platform = {"os": "linux", "architecture": architecture} | ({"variant": variant} if variant else {})
        config = platform | {"rootfs": {"type": "layers", "diff_ids": [small_id, big_id]}, "config": {}}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": layout.document(CONFIG, config),
            "layers": [layout.blob(LAYER, small), layout.blob(LAYER, big)],
        }
        entries.append(layout.document(MANIFEST, manifest) | {"platform": platform})
    index = layout.document(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    index["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
    with open(os.path.join(root, "index.json"), "w") as file:
        json.dump({"schemaVersion": 2, "mediaType": INDEX, "manifests": [index]}, file)
    with open(os.path.join(root, "oci-layout"), "w") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)


main()
