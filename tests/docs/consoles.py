"""Runs the console blocks of a document, and compares what the commands print with what the document shows.

A block is a session: lines that begin with `$ ` are commands, the lines below each are its output. A line of output that
is `…` stands for any lines, and `…` within a line for any text. Values that differ from run to run – ports, latencies,
times – are replaced on both sides.

The commands of a document share a directory. The service behind 127.0.0.1:50051 is `rexd demo`; the comment
`<!-- service: NAME -->` above a block selects another one of SERVICES. The first block that starts `rexd demo` itself
is compared with what that prints.
"""

import os
import pathlib
import re
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "clients"))
from service import Demo, Service, WithCallers, free_port, stop, wait_for  # noqa: E402

COMMAND_SECONDS = 60
START = ("cargo run --release -- demo", "rexd demo")


class Serve:
    """`BINARY serve` with its default configuration except for the ports. No test may call its public registries."""

    def __init__(self, binary, directory):
        self.port, self.ops_port = free_port(), free_port()
        log = directory / "serve.log"
        addresses = ["--listen", f"127.0.0.1:{self.port}", "--ops-listen", f"127.0.0.1:{self.ops_port}"]
        with open(log, "wb") as file:
            self.process = subprocess.Popen([binary, "serve", *addresses], stdout=file, stderr=file)
        wait_for(self.ops_port, self.process, log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop(self.process)


# demo: the sample registry. faults: tests/clients/registry.py, which fails on purpose. callers: the same, for two callers
# with tokens. serve: `rexd serve` without a configuration.
SERVICES = {"demo": Demo, "faults": Service, "callers": WithCallers, "serve": Serve}


class Session:
    """The commands of one document, their directory, and the services that they use."""

    def __init__(self, binary, directory, tools):
        self.binary, self.directory, self.running = binary, directory, {}
        bin_directory = directory / "bin"
        bin_directory.mkdir()
        (bin_directory / "rexd").symlink_to(binary)
        for name, path in tools.items():
            (bin_directory / name).symlink_to(path)
        self.work = directory / "work"
        self.work.mkdir()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("REXD_")}
        self.environment["PATH"] = f"{bin_directory}{os.pathsep}{os.environ['PATH']}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for service in self.running.values():
            service.__exit__(None, None, None)

    def service(self, name):
        if name not in self.running:
            directory = self.directory / name
            directory.mkdir(exist_ok=True)
            self.running[name] = SERVICES[name](self.binary, directory)
        return self.running[name]

    def problem(self, block):
        """How a block differs from the real output; empty when it does not."""
        name = block.value if block.key == "service" else "demo"
        if name not in SERVICES:
            return f"there is no service {name!r}; known are {', '.join(SERVICES)}"
        service = self.service(name)
        steps = commands(block.text)
        if not steps:
            return "no line begins with `$ `"
        for command, expected in steps:
            seen = self.demo_log() if command in START else self.output(command, service)
            if not matches(expected, seen):
                return f"$ {command}\n--- shown\n{expected}--- printed\n{seen}"
        return ""

    def demo_log(self):
        self.service("demo")
        return (self.directory / "demo" / "demo.log").read_text()

    def output(self, command, service):
        command = command.replace("cargo run --release -- ", "rexd ")
        command = command.replace("127.0.0.1:50051", f"127.0.0.1:{service.port}")
        command = command.replace("127.0.0.1:9090", f"127.0.0.1:{getattr(service, 'ops_port', 1)}")
        environment = self.environment | {"REXD_SERVER": f"http://127.0.0.1:{service.port}"}
        ended = subprocess.run(
            ["bash", "-c", command],
            cwd=self.work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        return ended.stdout


def commands(text):
    """The commands of a block, each with its output. A command whose line ends in a backslash continues on the next line."""
    steps, more = [], False
    for line in text.splitlines():
        if line.startswith("$ "):
            steps.append([line[2:], ""])
        elif more and steps:
            steps[-1][0] += "\n" + line
        elif steps:
            steps[-1][1] += line + "\n"
        more = line.endswith("\\") and (line.startswith("$ ") or more)
    return steps


def same(text):
    """The text without values that differ from run to run."""
    text = text.expandtabs(4)
    text = re.sub(r"127\.0\.0\.1:\d{2,}", "127.0.0.1:PORT", text)
    text = re.sub(r'"latency": "[^"]*"', '"latency": "LATENCY"', text)
    text = re.sub(r'"requestId": "[0-9a-f]{32}"', '"requestId": "ID"', text)
    text = re.sub(r"\b\d+(\.\d+)? ms\b", "N ms", text)
    text = re.sub(r'"milliseconds":\d+', '"milliseconds":N', text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME", text)
    return [line.rstrip() for line in text.rstrip().splitlines()]


def matches(expected, seen):
    pattern = ""
    for line in same(expected):
        if line == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += re.escape(line).replace("…", ".*") + r"\n"
    return re.fullmatch(pattern, "".join(line + "\n" for line in same(seen))) is not None
