"""One line for each checked fact, and the tally."""

import sys
import time

passed = failed = 0


def check(fact, holds, seen=""):
    """Reports a fact; if it does not hold, also what was found."""
    global passed, failed
    if holds:
        passed += 1
    else:
        failed += 1
    print(f"{'ok' if holds else 'not ok'} {fact}", flush=True)
    if not holds:
        for line in str(seen).strip().splitlines():
            print(f"       {line}", flush=True)


def until(condition, seconds):
    """Whether the condition becomes true within the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())


def finish():
    """Prints the tally and ends the process, with exit code 1 if a fact does not hold."""
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
