"""What the kernel reports about a process (proc(5)): processor time, memory, descriptors, threads."""

import os
import pathlib

TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """A process with its children, such as nginx's workers. Values are sums over all of them."""

    def __init__(self, pid):
        self.pid = pid

    def cpu_seconds(self):
        """User and system time, in steps of a tick (10 ms)."""
        return sum(_ticks(pid) for pid in self._all()) / TICKS

    def resident_kib(self):
        return sum(_status(pid, "VmRSS") for pid in self._all())

    def peak_kib(self):
        return sum(_status(pid, "VmHWM") for pid in self._all())

    def threads(self):
        return sum(_status(pid, "Threads") for pid in self._all())

    def descriptors(self):
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self._all())

    def held(self):
        """The values in which a leak shows."""
        return {
            "descriptors": self.descriptors(),
            "threads": self.threads(),
            "resident_kib": self.resident_kib(),
        }

    def _all(self):
        children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]


def _ticks(pid):
    # The name in parentheses may contain spaces; utime and stime are fields 14 and 15.
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _status(pid, key):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise KeyError(key)
