"""Runs several groups at once, each in a process of its own: most of them wait most of the time."""

import concurrent.futures
import re
import subprocess
import sys

TALLY = re.compile(r"(\d+) passed, (\d+) failed")


def check(program, binary, groups, count, options):
    """Runs the groups, some at a time. Prints each one's output when it ends, and the tally of all; returns the exit code."""
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        command = lambda group: [sys.executable, program, binary, group, *options]
        for done in pool.map(lambda group: subprocess.run(command(group), stdout=subprocess.PIPE, text=True), groups):
            *lines, last = done.stdout.splitlines() or [""]
            print("\n".join(lines), flush=True)
            tally = TALLY.fullmatch(last)
            # A process that does not come to its tally has printed why.
            passed, failed = (passed + int(tally[1]), failed + int(tally[2])) if tally else (passed, failed + 1)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
