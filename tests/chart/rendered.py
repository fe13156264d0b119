"""The chart as helm renders it: the commands, the objects, and checks for the objects of every set-up."""

import pathlib
import subprocess

import kubernetes_validate.utils as kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CHART = ROOT / "helm" / "rexd"

# Kinds that are not part of Kubernetes, so it has no schema for them.
CUSTOM = {
    "cert-manager.io/v1/Certificate",
    "gateway.networking.k8s.io/v1/GRPCRoute",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
    "monitoring.coreos.com/v1/ServiceMonitor",
}


def command(*arguments, stdin=None):
    return subprocess.run([*map(str, arguments)], input=stdin, capture_output=True, text=True)


def problem_of(result):
    return "" if result.returncode == 0 else result.stderr + result.stdout or f"exit code {result.returncode}"


def template(*arguments):
    return command("helm", "template", "release", CHART, "--namespace", "apps", *arguments)


def objects_of(rendered):
    return [document for document in yaml.safe_load_all(rendered) if document]


def one(objects, kind, suffix=""):
    """The object of a kind, with a name that ends in the suffix."""
    return next(o for o in objects if o["kind"] == kind and o["metadata"]["name"].endswith(suffix))


def pods(objects):
    for item in objects:
        if item["kind"] == "Deployment":
            yield item["metadata"]["name"], item["spec"]["template"]["spec"]
        elif item["kind"] == "Pod":
            yield item["metadata"]["name"], item["spec"]


def config_of(objects):
    """The text of the service's configuration file."""
    return one(objects, "ConfigMap", one(objects, "Deployment")["metadata"]["name"])["data"]["config.yaml"]


def files_of(node, key=""):
    """The file names in a configuration: docker_configs, and whatever is called …_file or docker_config."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from files_of(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from files_of(value, key)
    elif key == "docker_configs" or key == "docker_config" or key.endswith("_file"):
        yield node


def schema_problems(objects, version):
    problems = []
    for item in objects:
        if f"{item['apiVersion']}/{item['kind']}" in CUSTOM:
            continue
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(map(str, error.path))
            problems.append(f"{item['kind']} {item['metadata']['name']}: {path}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            problems.append(error.message)
    return "\n".join(problems)


def selection_problem(objects):
    """Services, budget, policy and spread select the Deployment's pods and not the pod of `helm test`."""
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    test = [item["metadata"]["labels"] for item in objects if item["kind"] == "Pod"]
    selectors = {
        "Deployment": lambda spec: spec["selector"]["matchLabels"],
        "Service": lambda spec: spec["selector"],
        "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
        "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
    }
    for item in objects:
        if item["kind"] in selectors:
            selector = selectors[item["kind"]](item["spec"]).items()
            if not selector <= labels.items():
                return f"{item['kind']} {item['metadata']['name']} does not select the server"
            if any(selector <= other.items() for other in test):
                return f"{item['kind']} {item['metadata']['name']} also selects the test pod"
    return ""


def mount_problem(objects):
    """Every mount has its volume, none uses subPath, and every file the configuration names is mounted."""
    for name, pod in pods(objects):
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        mounts = pod["containers"][0].get("volumeMounts", [])
        used = {mount["name"] for mount in mounts}
        if volumes != used:
            return f"{name}: volumes {sorted(volumes)} and mounts {sorted(used)} differ"
        if any("subPath" in mount for mount in mounts):
            return f"{name}: a file with subPath is never updated"
    mounts = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    for path in files_of(yaml.safe_load(config_of(objects))):
        if not any(path.startswith(mount["mountPath"] + "/") for mount in mounts):
            return f"the configuration names {path}, which nothing mounts"
    return ""
