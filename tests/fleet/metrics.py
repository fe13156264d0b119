"""What a real Prometheus reads from a service under load: its page, and the queries of docs/metrics.md."""

import json
import pathlib
import re
import subprocess
import time
import urllib.parse
import urllib.request

import programs
from blobs import MIB
from callers import Callers
from peers import Peer, free_port
from readers import read_blobs
from replicas import Fleet

REPOSITORY = "org/app"
CANARY = "canary"
DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
SCRAPES_SECONDS = 30
"""After this time two scrapes must have been read."""


class Prometheus(Peer):
    """A Prometheus that reads one target every second."""

    def __init__(self, directory, target):
        self.port = free_port()
        config = directory / "prometheus.yaml"
        jobs = [{"job_name": "rexd", "static_configs": [{"targets": [target]}]}]
        config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
        arguments = [f"--config.file={config}", f"--storage.tsdb.path={directory / 'prometheus'}"]
        address = f"--web.listen-address=127.0.0.1:{self.port}"
        super().__init__("prometheus", ["prometheus", *arguments, address], self.port, directory)

    def query(self, expression):
        """The values of the series."""
        path = f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as response:
            return [float(series["value"][1]) for series in json.load(response)["data"]["result"]]


def check(facts, options):
    programs.find({"prometheus": "apt-get install prometheus", "promtool": "apt-get install prometheus"})
    with Fleet(options) as fleet:
        ops = f"127.0.0.1:{free_port()}"
        fleet.start(1, {"tags": "5s", "shared": fleet.start_engine()}, ops_listen=ops)
        prometheus = fleet.stack.enter_context(Prometheus(fleet.directory, ops))
        blob = fleet.registry.blob(4 * MIB, REPOSITORY)
        with Callers(fleet.replicas, 50) as callers:
            end = time.monotonic() + SCRAPES_SECONDS
            number = 0
            while len(prometheus.query("sum(increase(rexd_call_sent_bytes_total[5m])) > 0")) == 0:
                fleet.registry.image(REPOSITORY, f"v{number}")
                callers.manifest(REPOSITORY, f"v{number}")
                callers.manifest(REPOSITORY, f"v{number}")
                callers.manifest(REPOSITORY, CANARY)
                read_blobs(fleet.replicas, REPOSITORY, [blob], 5)
                number += 1
                if time.monotonic() > end:
                    break
                time.sleep(0.5)
            fleet.registry.set(failing=429, retry_after=1)
            callers.manifest(REPOSITORY, "limited")
            time.sleep(3)
        page = urllib.request.urlopen(f"http://{ops}/metrics").read().decode()
        _page(facts, page)
        for question, expression in _queries():
            values = prometheus.query(expression)
            facts.check(question, any(value == value for value in values), f"{values}: {expression}")


def _page(facts, page):
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
    # It warns about names of OpenTelemetry's, which are not ours to choose; what cannot be read is an error.
    readable = done.returncode in (0, 3) and "error while linting" not in done.stderr
    facts.check("`promtool check metrics` can read the page", readable, done.stderr.strip().splitlines()[:3])
    facts.check("no name of a caller, a repository or a tag is on the page", CANARY not in page and REPOSITORY not in page)


def _queries():
    """The questions and the queries of the document's last table."""
    rows = DOCUMENT.read_text().split("## Questions", 1)[1].splitlines()
    for row in rows:
        found = re.fullmatch(r"\| (?P<question>[^|`]+) \| `(?P<query>.+)` \|", row)
        if found:
            yield found["question"], found["query"].replace(r"\|", "|")
