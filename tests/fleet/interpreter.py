"""Finds the modules that these tests share with others, and an interpreter that has grpcio."""

import importlib.util
import os
import pathlib
import sys

TESTS = pathlib.Path(__file__).resolve().parent.parent


def use_grpcio():
    """Adds the folders of shared modules to the path. Starts the program again in the interpreter of the Python client."""
    sys.path += [str(TESTS / folder) for folder in ("bench", "attacks", "clients")]
    if importlib.util.find_spec("grpc"):
        return
    import toolchains

    try:
        (program, _), environment = toolchains.python()
    except toolchains.Missing as missing:
        sys.exit(str(missing))
    os.execve(program, [str(program), *sys.argv], {**os.environ, **environment})
