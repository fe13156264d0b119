"""Facts, each printed with its figure as it is checked."""

import time
import traceback


ATTEMPTS = 3


class Facts:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, fact, holds, figure=""):
        self.passed, self.failed = self.passed + bool(holds), self.failed + (not holds)
        print(f"{'ok' if holds else 'not ok'} {fact}{f': {figure}' if str(figure) else ''}", flush=True)

    def group(self, name, check, disturbances=()):
        """Checks a group. One with a failure is checked again, twice at most, if something has disturbed it that is not the
        service's: `disturbances` names it, and is emptied before each attempt."""
        for _ in range(ATTEMPTS):
            before = self.passed, self.failed
            if isinstance(disturbances, set):
                disturbances.clear()
            self.group_once(name, check)
            if self.failed == before[1] or not disturbances:
                return
            print(f"   {name} is checked again: {', '.join(sorted(disturbances))}", flush=True)
            last, (self.passed, self.failed) = (self.passed, self.failed), before
        self.passed, self.failed = last

    def group_once(self, name, check):
        """A group that cannot go on counts as one failed fact."""
        print(f"\n{name}", flush=True)
        began = time.monotonic()
        try:
            check()
        except SystemExit as error:  # a process that does not start says why
            self.check(f"{name}: all facts can be checked", False, last_lines(str(error)))
        except Exception:  # pylint: disable=broad-except
            self.check(f"{name}: all facts can be checked", False, traceback.format_exc())
        print(f"   {name}: {time.monotonic() - began:.0f} s", flush=True)

    def end(self):
        """Prints the tally; returns the exit code."""
        print(f"\n{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0


def last_lines(text):
    return "\n".join(text.strip().splitlines()[-4:])
