"""The chart's Deployment under podman."""

import base64
import datetime
import json
import pathlib
import re
import subprocess
import urllib.error
import urllib.request

from kubelet import SecretVolume
from peers import free_port
from release import IMAGE, USER, run
from report import check

# The user and group of the pod.
ID = 65532

# A proxy from the environment must not affect the pod.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Pod:
    """The pod that `helm install` of a chart would run: with the two values of the README, local ports, and one registry."""

    def __init__(self, work, chart, registry):
        self.work, self.chart, self.registry = work, chart, registry
        self.grpc, self.ops = free_port(), free_port()
        values = {
            "image": {"repository": f"{registry.name}/{IMAGE}"},
            "pullSecrets": [{"name": "registry-login"}],
            "replicaCount": 1,
            "service": {"port": self.grpc},
            "config": {
                "listen": f"0.0.0.0:{self.grpc}",
                "ops_listen": f"0.0.0.0:{self.ops}",
                "default_registry": registry.name,
                "registries": {registry.name: {"url": f"http://{registry.name}"}},
            },
            "extraObjects": [self.secret()],
        }
        self.values, self.manifest = work / "values.json", work / "pod.yaml"
        self.values.write_text(json.dumps(values))
        self.volume = SecretVolume(work / "registry-login", ID)
        self.volume.write(self.login_in(self.rendered("extra")))
        deployment = self.rendered("deployment")
        self.grace = int(re.search(r"terminationGracePeriodSeconds: (\d+)", deployment)[1])
        self.probes = re.findall(r"(\w+)Probe:\n(?: +\w+: \d+\n)*? +grpc:\n +port: (\d+)\n", deployment)
        self.manifest.write_text(self.rendered("configmap") + self.for_podman(deployment))

    def secret(self):
        """The Secret that `kubectl create secret docker-registry` creates."""
        login = base64.b64encode(f"{USER}:{self.registry.password}".encode()).decode()
        text = json.dumps({"auths": {self.registry.name: {"auth": login}}}).encode()
        kind = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson"}
        data = {".dockerconfigjson": base64.b64encode(text).decode()}
        return {**kind, "metadata": {"name": "registry-login"}, "data": data}

    @staticmethod
    def login_in(rendered):
        return {".dockerconfigjson": base64.b64decode(re.search(r"\.dockerconfigjson: (\S+)", rendered)[1])}

    def rotate(self):
        """Writes the registry's current password to the Secret's volume."""
        self.volume.write({name: base64.b64decode(text) for name, text in self.secret()["data"].items()})

    def helm(self, *command):
        return run("helm", *command, "rexd", self.chart, "--namespace", "default", "--values", self.values)

    def rendered(self, template):
        return self.helm("template", f"--show-only=templates/{template}.yaml")

    def for_podman(self, text):
        # podman refuses ports with the host's network.
        text, count = re.subn(r"^ +ports:\n(?: +- name: \w+\n +containerPort: \d+\n)+", "", text, flags=re.M)
        assert count == 1, "the Deployment's ports were not found"
        mounted = rf"\1hostPath:\n\1  path: {self.volume.directory}\n\1  type: Directory\n"
        text, count = re.subn(r"^( +)secret:\n(?:\1 +\S.*\n)+", mounted, text, flags=re.M)
        assert count == 1, "the Secret's volume was not found"
        return text

    def grpcurl_lines(self):
        """The commands that NOTES.txt shows, with the local end of the port-forward replaced by the pod itself."""
        notes = json.loads(self.helm("install", "--dry-run=client", "--output=json"))["info"]["notes"]
        lines = [line.strip() for line in notes.splitlines() if line.strip().startswith("grpcurl ")]
        return [line.replace("localhost:50051", f"127.0.0.1:{self.grpc}") for line in lines]

    def start(self):
        """Pulls the image, as a node would, and starts it."""
        run("podman", "kube", "play", "--network=host", "--tls-verify=false",
            f"--creds={USER}:{self.registry.password}", self.manifest)
        names = run("podman", "ps", "--all", "--format={{.ID}} {{.Image}}").splitlines()
        self.container = next(line.split()[0] for line in names if f"/{IMAGE}:" in line)

    def start_again(self):
        run("podman", "start", self.container)

    def stop(self):
        """Like the kubelet: SIGTERM, then SIGKILL after the grace period. Returns the command, which ends with the pod."""
        return subprocess.Popen(["podman", "stop", "--time", str(self.grace), self.container], stdout=subprocess.DEVNULL)

    def remove(self):
        subprocess.run(["podman", "kube", "down", self.manifest], capture_output=True, timeout=60)

    def inspect(self):
        return json.loads(run("podman", "inspect", self.container))[0]

    def state(self):
        return self.inspect()["State"]

    def probe(self, path):
        """The status of the ops port's response; None without one."""
        try:
            return DIRECT.open(f"http://127.0.0.1:{self.ops}{path}", timeout=2).status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def ready(self):
        return self.probe("/readyz")

    def logs(self):
        done = subprocess.run(["podman", "logs", self.container], capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    def draining(self):
        """When the process logged that it drains, in seconds since the epoch: one entry for each stop."""
        said = re.findall(r'"timestamp":"([^"]+)Z","level":"INFO","message":"draining: not ready"', self.logs())
        return [datetime.datetime.fromisoformat(f"{at}+00:00").timestamp() for at in said]


def check_confinement(pod):
    pid = pod.state()["Pid"]
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    ids = set(status["Uid"].split() + status["Gid"].split())
    check(f"the process runs as user and group {ID}", ids == {str(ID)}, ids)
    sets = {status[name] for name in ("CapEff", "CapPrm", "CapBnd")}
    check("the process has no capabilities", sets == {"0" * 16}, sets)
    check("the process cannot gain privileges", status["NoNewPrivs"] == "1", status["NoNewPrivs"])
    mounts = [line.split() for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    options = {fields[4]: fields[5].split(",") for fields in mounts}
    check("the root file system is read-only", "ro" in options["/"], options["/"])
    check("the configuration is mounted read-only", "ro" in options.get("/etc/rexd", []), options)
    mounted = options.get("/var/run/rexd/pull/registry-login") or options.get("/run/rexd/pull/registry-login", [])
    check("the Secret is mounted read-only", "ro" in mounted, options)
