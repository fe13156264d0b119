"""Facts about the chart's defaults and about single set-ups."""

import copy
import json

import kubernetes_validate.utils as kubernetes_validate
import pod_security
import yaml
from rendered import CHART, command, objects_of, one, pods, problem_of, schema_problems, template
from report import check

# AWS and most clouds, ECS and EKS pods, Alibaba; over IPv6 AWS, EKS pods and Google.
METADATA = {"169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32", "100.100.100.200/32"}
METADATA_IPV6 = {"fd00:ec2::254/128", "fd00:ec2::23/128", "fd20:ce::254/128"}


def fact(text, holds):
    check(text, "" if holds else "it does not hold")


def check_defaults():
    two_values = ["--set", "image.repository=registry.example/rexd", "--set", "pullSecrets[0].name=login"]
    result = template(*two_values)
    check("two values, the image and a pull Secret, are enough", problem_of(result))
    objects = objects_of(result.stdout)
    deployment = one(objects, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    config = yaml.safe_load(one(objects, "ConfigMap")["data"]["config.yaml"])
    check("every rule of the Pod Security checker finds a violation", pod_security.self_check(pod))
    unknown = copy.deepcopy(deployment)
    unknown["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    fact("the schema check finds an unknown field", schema_problems([unknown], kubernetes_validate.latest_version()))
    fact("the default root file system is read-only", container["securityContext"]["readOnlyRootFilesystem"])
    fact(
        "the default sets requests and a memory limit",
        container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"],
    )
    fact(
        "no pod mounts a service-account token",
        all(p["automountServiceAccountToken"] is False for _, p in pods(objects)),
    )
    fact(
        "no pod gets service links, which would look like REXD_ settings",
        all(p["enableServiceLinks"] is False for _, p in pods(objects)),
    )
    probes = [container[kind] for kind in ("startupProbe", "livenessProbe", "readinessProbe")]
    fact(
        "without TLS all three probes are native gRPC on the main port", all(p["grpc"]["port"] == 50051 for p in probes)
    )
    fact(
        "the pull Secret becomes a docker_configs entry",
        config["docker_configs"] == ["/var/run/rexd/pull/login/.dockerconfigjson"],
    )
    ports = [item["spec"]["ports"][0] for item in objects if item["kind"] == "Service"]
    fact(
        "both Services declare HTTP/2 in plain text",
        [p["appProtocol"] for p in ports] == ["kubernetes.io/h2c"] * 2,
    )
    headless = one(objects, "Service", "-headless")["spec"]
    fact("the headless Service has no cluster address", headless["clusterIP"] == "None")
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    same = environment == {"REXD_LISTEN": config["listen"], "REXD_OPS_LISTEN": config["ops_listen"]}
    fact("the environment, which wins over the file, repeats the file's addresses", same)

    def checksum(*arguments):
        rendered = objects_of(template(*two_values, *arguments).stdout)
        return one(rendered, "Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    fact("a changed configuration changes the pods", checksum() != checksum("--set", "config.default_registry=ghcr.io"))
    fact("other values do not change the checksum", checksum() == checksum("--set", "replicaCount=5"))


def check_variants():
    def rendered(case):
        return objects_of(template("-f", CHART / "ci" / f"{case}-values.yaml").stdout)

    tls = one(rendered("cert-manager"), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    probes = {kind: tls[kind].get("httpGet") for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    plain = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    fact("with TLS the probes use the ops port", probes == {k: {"path": v, "port": "ops"} for k, v in plain.items()})
    fact(
        "with TLS the Services declare https",
        one(rendered("cert-manager"), "Service")["spec"]["ports"][0]["appProtocol"] == "https",
    )
    fact(
        "with an autoscaler the Deployment has no replicas",
        "replicas" not in one(rendered("hpa"), "Deployment")["spec"],
    )
    budget = one(rendered("pdb"), "PodDisruptionBudget")["spec"]
    fact("a budget has exactly one bound", budget["minAvailable"] == "50%" and "maxUnavailable" not in budget)
    egress = one(rendered("networkpolicy"), "NetworkPolicy")["spec"]["egress"]
    blocks = [to["ipBlock"] for rule in egress for to in rule.get("to", []) if "ipBlock" in to]
    denied = {block["cidr"]: set(block["except"]) for block in blocks}
    check(
        "the NetworkPolicy denies registry traffic the metadata addresses and exceptCIDRs, and nothing else",
        "" if denied == {"0.0.0.0/0": METADATA | {"192.168.0.0/16"}, "::/0": METADATA_IPV6 | {"fd00::/8"}} else denied,
    )
    anywhere = [rule["ports"] for rule in egress if not rule.get("to")]
    dns = [{"port": port, "protocol": protocol} for port in (53, 5353) for protocol in ("UDP", "TCP")]
    check("the NetworkPolicy opens the ports of DNS, and no other, to every address", "" if anywhere == [dns] else anywhere)
    image = one(rendered("everything"), "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"]
    fact("a digest wins over the tag", image.startswith("registry.example:5000/tools/rexd@sha256:"))
    pinged = {case: one(rendered(case), "Pod")["spec"]["containers"][0]["args"][1] for case in ("default", "one-registry", "ca")}
    expected = {"default": "docker.io", "one-registry": "ghcr.io", "ca": "registry.internal:5000"}
    check(
        "helm test pings config.default_registry, else the first of config.registries, else docker.io",
        "" if pinged == expected else pinged,
    )
    config = yaml.safe_load(one(rendered("ports"), "ConfigMap")["data"]["config.yaml"])
    large = config["limits"]["memory_bytes"]
    fact("large numbers reach the configuration as whole numbers", large == 67108864 and isinstance(large, int))

    notes = command("helm", "install", "release", CHART, "--namespace", "apps", "--dry-run=client", "-o", "json")
    text = json.loads(notes.stdout)["info"]["notes"] if notes.returncode == 0 else ""
    check("NOTES.txt renders", problem_of(notes))
    fact("NOTES.txt shows grpcurl lines for health, description and Ping", text.count("grpcurl -plaintext") == 3)
