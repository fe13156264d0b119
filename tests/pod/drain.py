"""Shutdown of the pod: readiness fails at once, running calls finish, and stalled callers are disconnected in time."""

import hashlib
import os
import subprocess
import tempfile
import time

from report import check, until

# The defaults of limits.drain_pause and limits.drain_grace, and one second, within which rexd ends after them.
DRAIN = 2 + 30 + 1
# Bytes that a caller reads in a second, so that it is still reading while the pod drains.
BYTES_PER_SECOND = 4 << 20
READ = 256 << 10
# Seconds until the process logs SIGTERM: on a busy machine, podman alone takes one of them.
SIGNAL_SECONDS = 15


class Stream:
    """A StreamBlob of the binary's own client, read through a pipe: bytes that are not read wait in the service."""

    def __init__(self, binary, pod, digest):
        target = f"{pod.registry.name}/team/app@{digest}"
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [binary, "blob", target, "--server", f"http://127.0.0.1:{pod.grpc}", "--output", "-"],
            stdout=subprocess.PIPE, stderr=self.errors)
        self.hash, self.count = hashlib.sha256(), 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def read(self):
        """Reads some bytes; returns their number, which is 0 at the end."""
        content = os.read(self.process.stdout.fileno(), READ)
        self.hash.update(content)
        self.count += len(content)
        return len(content)

    def said(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")


def check_finishes(pod, binary, layer):
    """A running stream continues to its last byte, and the pod ends after it."""
    with Stream(binary, pod, layer["digest"]) as stream:
        stream.read()
        pid = pod.state()["Pid"]
        stop, began = stopped(pod)
        check("after SIGTERM with a stream running /readyz is 503 and /livez 200",
              until(lambda: pod.ready() == 503, SIGNAL_SECONDS) and pod.probe("/livez") == 200, (pod.ready(), pod.probe("/livez")))
        check("most of the stream is still to come by then", stream.count < layer["size"] // 4, stream.count)
        while length := stream.read():
            time.sleep(length / BYTES_PER_SECOND)
        streamed = time.time() - began
        complete = stream.process.wait(10) == 0 and "sha256:" + stream.hash.hexdigest() == layer["digest"]
        check(f"the stream receives all its {layer['size']} bytes, {streamed:.1f} s after SIGTERM", complete,
              f"{stream.count} bytes\n{stream.said()}")
        ended = ends(stop, pid) - began
    check(f"the pod ends {ended - streamed:.1f} s after its last stream, {ended:.1f} s after SIGTERM",
          streamed < ended < streamed + 3, ended)
    check_code(pod)


def check_cuts(pod, binary, layer):
    """A stalled caller does not delay the end of the pod beyond its limit."""
    with Stream(binary, pod, layer["digest"]) as stream:
        stream.read()
        pid = pod.state()["Pid"]
        stop, began = stopped(pod)
        check("after SIGTERM with a caller that reads nothing /readyz is 503",
              until(lambda: pod.ready() == 503, SIGNAL_SECONDS), pod.ready())
        seconds = ends(stop, pid) - began
        check(f"the pod ends after {seconds:.1f} s, within {DRAIN} s of its {pod.grace} s", DRAIN - 3 < seconds < DRAIN, seconds)
        while stream.read():
            pass
        check("the caller gets an error for its unfinished stream", stream.process.wait(10) == 1 and stream.count < layer["size"],
              f"{stream.count} bytes\n{stream.said()}")
    check_code(pod)


def stopped(pod):
    """Stops the pod; returns the command, and when the process began to drain by its own clock: the time that podman
    needs before that does not count."""
    before = len(pod.draining())
    stop = pod.stop()
    if not until(lambda: len(pod.draining()) > before, SIGNAL_SECONDS):
        raise RuntimeError(f"no SIGTERM within {SIGNAL_SECONDS} s, or the log does not have it")
    return stop, pod.draining()[-1]


def ends(stop, pid):
    """When the process had ended, and when its container had; podman itself takes a little longer."""
    until(lambda: not os.path.exists(f"/proc/{pid}"), DRAIN + 20)
    at = time.time()
    stop.wait()
    return at


def check_code(pod):
    state = pod.state()
    check("the process ends with exit code 0", state["ExitCode"] == 0 and not state["Running"], state)
