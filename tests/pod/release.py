"""The steps of a release with Debian's docker-registry, which requires a password: pushes image and chart, and pulls them."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

from report import check

ROOT = pathlib.Path(__file__).resolve().parents[2]
USER = "pod"
TAGS = [f"t{number:02}" for number in range(7)]
IMAGE, CHARTS = "registry/rexd", "charts"
# MiB of the sample's large layer.
LARGE = 24


def run(*command, **options):
    """The output of a command, which must succeed within a minute."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, **options)
    if done.returncode:
        raise RuntimeError(f"{command[0]} {command[1]}: {done.stdout}{done.stderr}")
    return done.stdout


class Registry:
    """A docker-registry with one user; its name is that in image references."""

    def __init__(self, peers, work, password):
        self.peers, self.work = peers, work
        self.set_password(password)
        passwords = str(peers.directory / "passwords")
        port = peers.registry("registry", {"htpasswd": {"realm": "pod", "path": passwords}})
        self.name = f"127.0.0.1:{port}"

    def set_password(self, password):
        """Sets the only password that the registry accepts from now on."""
        self.password = password
        self.peers.htpasswd("passwords", [(USER, password)], "B")

    def fill(self):
        """Pushes team/app: seven tags of one image for two platforms. Returns the image's OCI layout."""
        layout = self.work / "layout"
        run(sys.executable, ROOT / "tests/real/oci_layout.py", layout, LARGE)
        for tag in TAGS:
            run("skopeo", "copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false",
                f"--dest-creds={USER}:{self.password}", f"oci:{layout}:v1", f"docker://{self.name}/team/app:{tag}")
        return layout


def release_image(registry, local, version):
    """Pushes the image, deletes the local one, and pulls it into an OCI layout. Returns the layout and the manifest."""
    digest = registry.work / "digest"
    for tag in (version, "latest"):
        run("buildah", "push", "--quiet", "--tls-verify=false", f"--creds={USER}:{registry.password}",
            f"--digestfile={digest}", local, f"docker://{registry.name}/{IMAGE}:{tag}")
    run("buildah", "rmi", local)
    layout = registry.work / "image"
    run("skopeo", "copy", "--quiet", "--preserve-digests", "--src-tls-verify=false",
        f"--src-creds={USER}:{registry.password}", f"docker://{registry.name}/{IMAGE}:{version}", f"oci:{layout}:image")
    pushed = digest.read_text().strip()
    entry = json.loads((layout / "index.json").read_text())["manifests"][0]
    check("the image pulled from the registry is the one that was pushed", entry["digest"] == pushed, entry)
    return layout, json.loads((layout / "blobs" / pushed.replace(":", "/")).read_text())


def release_chart(registry, version):
    """Packages, pushes and pulls the chart. Returns the pulled chart."""
    for kind in ("CACHE", "CONFIG", "DATA"):
        os.environ[f"HELM_{kind}_HOME"] = str(registry.work / "helm" / kind.lower())
    run("helm", "package", ROOT / "helm/rexd", "--destination", registry.work)
    chart = registry.work / f"rexd-{version}.tgz"
    plain = "--plain-http"
    run("helm", "registry", "login", registry.name, plain, "--username", USER, "--password-stdin", input=registry.password)
    run("helm", "push", chart, f"oci://{registry.name}/{CHARTS}", plain)
    pulled = registry.work / "pulled"
    pulled.mkdir()
    run("helm", "pull", f"oci://{registry.name}/{CHARTS}/rexd", "--version", version, plain, "--destination", pulled)
    run("helm", "registry", "logout", registry.name)
    back = pulled / chart.name
    same = hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(chart.read_bytes()).digest()
    check("the chart pulled from the registry is the one that was packaged", same, back)
    return back
