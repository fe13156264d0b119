"""Builds the clients, each in the usual way of its language, into a cache folder outside the repository.

A missing tool is installed by the name of its package. If that fails, the error names the tool.
"""

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PROTO = HERE.parent.parent / "proto"
API = "rex/registry/v1/registry.proto"
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"
# Downloads included.
STEP_SECONDS = 600
# Folders that no run has used for a week are removed.
KEPT_SECONDS = 7 * 24 * 3600


class Missing(Exception):
    """A missing tool that could not be installed, or a build that failed."""


def cache():
    """The cache folder of all clients; creates it."""
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    folder = base / "rexd-tests" / "clients"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = pathlib.Path(tempfile.gettempdir()) / "rexd-tests" / "clients"
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def step(*command, **more):
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=STEP_SECONDS, **more)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{' '.join(map(str, command))}: {error}") from error
    if ended.returncode:
        # Maven reports errors on standard output.
        output = (ended.stdout + ended.stderr).strip()[-4000:]
        raise Missing(f"{' '.join(map(str, command))} failed: {output}")


def need(tool, package):
    """The path of a tool, or of a file given by its absolute path. Installs it with apt if it is missing."""
    there = lambda: tool if tool.startswith("/") and os.path.exists(tool) else shutil.which(tool)
    if not there() and shutil.which("apt-get"):
        step("apt-get", "update", "-q")
        step("apt-get", "install", "-qy", "--no-install-recommends", *package.split())
    found = there()
    if not found:
        raise Missing(f"{tool} is not installed, and apt-get install {package} did not bring it")
    return found


class Once:
    """A folder that is built once for each content of its source files, also by concurrent runs."""

    def __init__(self, name, *sources):
        contents = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
        self.name, self.folder = name, cache() / f"{name}-{contents[:16]}"

    def fill(self, make):
        complete = self.folder / ".complete"
        with open(cache() / f"{self.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not complete.exists():
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir()
                make(self.folder)
            complete.touch()
            self.forget_the_unused()
        return self.folder

    def forget_the_unused(self):
        for other in cache().glob(f"{self.name}-*"):
            used = other / ".complete"
            if not used.exists() or time.time() - used.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(other, ignore_errors=True)


def python():
    def make(folder):
        venv = [sys.executable, "-m", "venv", folder / "venv"]
        try:
            step(*venv)
        except Missing:
            # Debian's python3 does not include it.
            step("apt-get", "install", "-qy", "--no-install-recommends", "python3-venv")
            step(*venv)
        step(folder / "venv/bin/pip", "install", "-q", "-r", HERE / "python/requirements.txt")
        out = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
        step(folder / "venv/bin/python", "-m", "grpc_tools.protoc", f"-I{PROTO}", *out, API)

    folder = Once("python", HERE / "python/requirements.txt", PROTO / API).fill(make)
    return [folder / "venv/bin/python", HERE / "python/client.py"], {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def node():
    need("node", "nodejs npm")
    need("npm", "npm")

    def make(folder):
        for file in ("package.json", "package-lock.json"):
            shutil.copy(HERE / "node" / file, folder)
        step("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=folder)

    folder = Once("node", HERE / "node/package-lock.json").fill(make)
    return ["node", HERE / "node/client.js"], {"NODE_PATH": str(folder / "node_modules")}


def go():
    need("go", "golang-go")
    # The protoc that grpcio-tools bundles; the same one for both languages.
    protoc = python()[0][0]
    sources = [HERE / "go" / name for name in ("main.go", "download.go", "go.mod", "go.sum")]

    def make(folder):
        for source in sources:
            shutil.copy(source, folder)
        tools = folder / "bin"
        step("go", "install", "tool", cwd=folder, env={**os.environ, "GOBIN": str(tools)})
        option = f"module=rexd-client,M{API}=rexd-client/registryv1"
        out = ["--go_out=.", f"--go_opt={option}", "--go-grpc_out=.", f"--go-grpc_opt={option}"]
        path = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
        step(protoc, "-m", "grpc_tools.protoc", f"-I{PROTO}", *out, API, cwd=folder, env=path)
        step("go", "vet", "-mod=readonly", ".", cwd=folder)
        step("go", "build", "-mod=readonly", "-o", tools / "client", ".", cwd=folder)

    return [Once("go", *sources, PROTO / API).fill(make) / "bin/client"], {}


def grpcurl():
    """grpcurl's path: the installed one, else built from its Go module."""
    if found := shutil.which("grpcurl"):
        return found
    need("go", "golang-go")

    def make(folder):
        step("go", "install", GRPCURL, env={**os.environ, "GOBIN": str(folder)})

    return str(Once("grpcurl").fill(make) / "grpcurl")


def java(proto=PROTO, name="java"):
    need("javac", "default-jdk-headless")
    need("mvn", "maven")
    pom, client = HERE / "java/pom.xml", HERE / "java/src/main/java/client/Client.java"

    def make(folder):
        shutil.copytree(HERE / "java", folder, dirs_exist_ok=True)
        step("mvn", "-q", "-B", "compile", f"-Dproto.root={proto}", cwd=folder)

    Once(name, pom, client, proto / API).fill(make)


def java_with_descriptor():
    """Stubs with a field called `descriptor` must not compile; otherwise compiling the real ones proves nothing."""
    with tempfile.TemporaryDirectory(prefix="rexd-proto-") as folder:
        changed = pathlib.Path(folder) / API
        changed.parent.mkdir(parents=True)
        changed.write_text((PROTO / API).read_text().replace("ContentDescriptor blob_descriptor =", "ContentDescriptor descriptor ="))
        try:
            java(pathlib.Path(folder), "java-descriptor")
        except Missing as missing:
            if "getDescriptor() is already defined" not in str(missing):
                raise
        else:
            raise Missing("it compiled")


def cpp():
    need("g++", "g++")
    need("protoc", "protobuf-compiler")
    need("/usr/include/google/protobuf/message.h", "libprotobuf-dev")
    need("/usr/include/grpcpp/grpcpp.h", "libgrpc++-dev")
    plugin = need("grpc_cpp_plugin", "protobuf-compiler-grpc")
    client = HERE / "cpp/client.cc"

    def make(folder):
        out = [f"--cpp_out={folder}", f"--grpc_out={folder}", f"--plugin=protoc-gen-grpc={plugin}"]
        step("protoc", f"-I{PROTO}", *out, API)
        generated = sorted((folder / API).parent.glob("*.cc"))
        step("g++", "-std=c++17", "-fsyntax-only", f"-I{folder}", client, *generated)

    Once("cpp", client, PROTO / API).fill(make)


def rust():
    sources = [HERE / "rust" / name for name in ("Cargo.toml", "Cargo.lock", "build.rs", "src/lib.rs")]

    def make(_):
        # Dependencies stay compiled when the proto changes.
        environment = {**os.environ, "CARGO_TARGET_DIR": str(cache() / "target")}
        step("cargo", "check", "--quiet", "--locked", "--manifest-path", sources[0], env=environment)

    Once("rust", *sources, PROTO / API).fill(make)


# Languages whose stubs are compiled, with a short client that reads the fields, and not run.
STUBS = {
    "java: the stubs compile": java,
    "java: a field called descriptor does not compile": java_with_descriptor,
    "c++: the stubs compile": cpp,
    "rust: the stubs compile": rust,
}
LANGUAGES = {"python": python, "node": node, "go": go}
