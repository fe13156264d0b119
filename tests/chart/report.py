"""One line for each checked fact, and the tally."""

import sys

passed = failed = 0


def check(fact, problem):
    """Reports a fact. `problem` says what is wrong, and is empty when the fact holds."""
    global passed, failed
    if problem:
        failed += 1
        print(f"not ok {fact}")
        for line in str(problem).strip().splitlines():
            print(f"       {line}")
    else:
        passed += 1
        print(f"ok {fact}")


def finish():
    """Prints the tally and ends the process, with exit code 1 if a fact does not hold."""
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
