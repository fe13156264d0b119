"""Checks the configurations in the documentation: the service must accept each of them.

The files that an example names are created below a temporary directory, with content of the right kind.
"""

import json
import re
import subprocess

CHECK_SECONDS = 60
TOKEN = "0123456789abcdef0123456789abcdef\n"
DOCKER_CONFIG = json.dumps({"auths": {"registry.example": {"username": "robot", "password": "secret"}}})
# A key, and the absolute paths behind it: one, or a list.
FILES = re.compile(r"\b(\w*_file|docker_configs?)(: *)(\[[^\]]*\]|[^\s,}\]]+)")
PATH = re.compile(r"/[\w./-]+")


class Files:
    def __init__(self, directory):
        self.directory = directory
        self.certificate, self.key = directory / "example.pem", directory / "example.key"

    def make_certificate(self):
        """A self-signed certificate and its key; made once."""
        if not self.certificate.exists():
            command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            command += ["-subj", "/CN=example", "-days", "2", "-keyout", self.key, "-out", self.certificate]
            subprocess.run(command, check=True, capture_output=True)

    def content(self, key, path):
        if key.startswith("docker_config"):
            return DOCKER_CONFIG
        if key in ("token_file", "password_file", "proxy_password_file"):
            # Two callers must not have the same token.
            return f"{path} {TOKEN}".replace("/", "-").replace(" ", "-")
        self.make_certificate()
        return (self.key if key.endswith("key_file") else self.certificate).read_text()

    def moved(self, text):
        """The configuration with its files moved below the directory; creates the files."""

        def move(found):
            def one(path):
                target = self.directory / path[0].lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(self.content(found[1], path[0]))
                return str(target)

            return found[1] + found[2] + PATH.sub(one, found[3])

        return FILES.sub(move, text)


def problem_of_config(binary, text, directory):
    """The error of `rexd check-config` for a configuration; empty when it is valid."""
    file = directory / "rexd.yaml"
    file.write_text(Files(directory).moved(text))
    return problem_of([binary, "check-config", "--config", file])


def problem_of_values(helm, chart, text, directory):
    """The error of `helm template` for values of the chart; empty when they render."""
    file = directory / "values.yaml"
    file.write_text(text)
    return problem_of([helm, "template", "rexd", chart, "--values", file])


def problem_of(command):
    ended = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_SECONDS)
    return "" if ended.returncode == 0 else (ended.stderr or ended.stdout or f"exit code {ended.returncode}").strip()
