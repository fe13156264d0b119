"""Calls to a hostile registry, 40 at once, beside the calls of another caller to another registry.

Run as a program, it makes the calls until its input ends, and prints how many have ended. Arguments: port, kind.
"""

import contextlib
import pathlib
import subprocess
import sys
import threading

from http2 import Connection, string_field
from service import end, free_port, wait_for

KINDS = {
    "indexes of 4 MiB": ("GetManifest", "org/index", string_field(3, "latest")),
    "lists of 400,000 tags": ("ListTags", "org/many", b""),
    "a million nested arrays": ("ListTags", "org/nested", b""),
    "redirects to themselves": ("ListTags", "org/redirects", b""),
    "a new realm with each 401": ("ListTags", "org/realms", b""),
}
CALLERS = 40
PAUSE = 0.2
"""Seconds between two calls of a caller: the registry is hostile, its callers are not."""


class HostileRegistry:
    def __init__(self, log):
        self.port = free_port()
        self.popen = subprocess.Popen([pathlib.Path(__file__).with_name("hostile_registry"), str(self.port)])
        wait_for(self.port, self.popen, log)

    def stop(self):
        end(self.popen)


class Calls:
    """40 callers in a process of their own, so that the measured caller does not wait for this interpreter."""

    def __init__(self, port, kind):
        command = [sys.executable, __file__, str(port), kind]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop(self):
        """Returns how many calls ended."""
        ended, _ = self.popen.communicate()
        return int(ended)


def call(port, kind, over, ended, number):
    """Calls again a moment after a call has ended."""
    method, repository, rest = KINDS[kind]
    request = string_field(1, "hostile.test") + string_field(2, repository) + rest
    with contextlib.suppress(OSError):
        connection = Connection(port)
        while not over.is_set():
            connection.unary(method, request)
            ended[number] += 1
            over.wait(PAUSE)
        connection.close()


def main(port, kind):
    over, ended = threading.Event(), [0] * CALLERS
    threads = [
        threading.Thread(target=call, args=(int(port), kind, over, ended, number), daemon=True)
        for number in range(CALLERS)
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join(40)
    print(sum(ended))


if __name__ == "__main__":
    main(*sys.argv[1:])
