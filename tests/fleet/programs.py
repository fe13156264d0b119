"""The programs that these tests need besides the service. `tests/run` installs them."""

import os
import pathlib
import shutil
import sys

NEEDED = {
    "redis-server": "apt-get install redis-server",
    "versitygw": "go install github.com/versity/versitygw/cmd/versitygw@v1.8.0",
}


def find(needed=None):
    """Adds the folders to PATH in which `tests/run` and `go install` put programs; ends when one of them is missing."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    folders = [cache / "rexd-tests" / "bin", pathlib.Path.home() / "go" / "bin"]
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)])
    missing = [f"{name} ({how})" for name, how in (needed or NEEDED).items() if not shutil.which(name)]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}")
