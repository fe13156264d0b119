"""Facts about the chart's defaults and about single set-ups."""

import copy
import json
import pathlib
import re
import tempfile

import kubernetes_validate.utils as kubernetes_validate
import pod_security
import yaml
from rendered import CHART, ROOT, command, config_of, files_of, objects_of, one, pods, problem_of, schema_problems, template
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


def check_cache(binary):
    def rendered(case, *arguments):
        return objects_of(template("-f", CHART / "ci" / f"{case}-values.yaml", *arguments).stdout)

    def server(objects):
        return one(objects, "Deployment")["spec"]["template"]["spec"]

    def volume(objects):
        return next(volume for volume in server(objects)["volumes"] if volume["name"] == "cache")

    def store(objects):
        return yaml.safe_load(config_of(objects))["cache"]["store"]

    for case in ("directory", "ephemeral", "emptydir", "fleet", "bucket-role"):
        mounts = server(rendered(case))["containers"][0]["volumeMounts"]
        mount = next(mount for mount in mounts if mount["name"] == "cache")
        fact(f"{case}: the volume of the store can be written", not mount.get("readOnly"))
        folder = store(rendered(case)).get("spool_dir") or store(rendered(case))["url"].removeprefix("file://")
        fact(f"{case}: the volume is mounted where the service writes", folder == mount["mountPath"])
    fact("emptyDir has a limit", volume(rendered("emptydir"))["emptyDir"]["sizeLimit"] == "512Mi")
    fact("config.cache.store.max_bytes is used", store(rendered("emptydir"))["max_bytes"] == 256 << 20)
    most = store(rendered("ephemeral"))["max_bytes"] / (100 << 30)
    check("without it the service uses nine tenths of the volume", "" if 0.89 < most <= 0.9 else most)
    spool = volume(rendered("fleet"))["emptyDir"]["sizeLimit"]
    fact("blobs on their way to a bucket are in a bounded emptyDir", spool == "5Gi" and store(rendered("fleet"))["max_bytes"] < 5 << 30)
    directory = rendered("directory")
    claim = one(directory, "PersistentVolumeClaim")
    fact(
        "the Deployment uses the chart's claim",
        volume(directory)["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"],
    )
    fact("with a claim, an update ends the old pod first", one(directory, "Deployment")["spec"]["strategy"] == {"type": "Recreate"})
    existing = rendered("directory", "--set", "cache.store.existingClaim=mine")
    fact(
        "with an existing claim the chart makes none",
        volume(existing)["persistentVolumeClaim"]["claimName"] == "mine"
        and not any(item["kind"] == "PersistentVolumeClaim" for item in existing),
    )
    template_of = volume(rendered("ephemeral"))["ephemeral"]["volumeClaimTemplate"]["spec"]
    fact("an ephemeral claim has the size", template_of["resources"]["requests"]["storage"] == "100Gi")

    def ports(case):
        egress = one(rendered(case), "NetworkPolicy")["spec"]["egress"]
        return [({entry["port"] for entry in rule["ports"]}, rule.get("to")) for rule in egress[2:]]

    data = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "data"}}}]
    check("the NetworkPolicy opens the ports of the engine and of the endpoint", "" if ports("fleet") == [({6380, 9000}, data)] else ports("fleet"))
    role = ports("bucket-role")
    expected = [
        ({26379, 6379}, None),
        ({80}, [{"ipBlock": {"cidr": "169.254.169.254/32"}}]),
        ({988}, [{"ipBlock": {"cidr": "169.254.169.252/32"}}]),
    ]
    check("the NetworkPolicy opens Sentinels and server, and GKE's metadata server for a bucket's role", "" if role == expected else role)
    identity = ports("bucket-pod-identity")
    check(
        "the NetworkPolicy opens the agent of EKS Pod Identity for a bucket's role",
        "" if identity == [({80}, [{"ipBlock": {"cidr": "169.254.170.23/32"}}])] else identity,
    )
    with_secret = template("-f", CHART / "ci" / "bucket-role-values.yaml", "--set", "cache.store.secret.name=login").stdout
    fact("with a Secret for the bucket, no metadata address is open", "cidr: 169.254.169.254/32" not in with_secret)
    if binary:
        check("fleet: the service accepts the rendered configuration with its files", accepted(binary, rendered("fleet")))
        broken = rendered("fleet", "--set", "cache.shared.url=rediss://valkey.data:99999")
        fact("the service refuses an engine on a port that cannot be", accepted(binary, broken))


def accepted(binary, objects):
    """What `check-config` says when the files of Secrets and ConfigMaps are in a directory."""
    text = config_of(objects)
    root = (ROOT / "tests" / "support" / "roots" / "root.pem").read_text()
    with tempfile.TemporaryDirectory() as folder:
        for name in files_of(yaml.safe_load(text)):
            path = pathlib.Path(folder + name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(root if name.endswith(".crt") else "canary")
        config = pathlib.Path(folder) / "config.yaml"
        config.write_text(text.replace("/var/run/rexd", f"{folder}/var/run/rexd"))
        return problem_of(command(binary, "check-config", "--config", config))


def check_monitoring():
    """The alerts are rules that Prometheus accepts, and fire when they should; each metric that they name exists."""
    objects = objects_of(template("-f", CHART / "ci" / "monitoring-values.yaml").stdout)
    monitor = one(objects, "PodMonitor")
    pod = one(objects, "Deployment")["spec"]["template"]
    names = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    fact("the PodMonitor reads a port of the pod", monitor["spec"]["podMetricsEndpoints"][0]["port"] in names)
    selects = monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    fact("the PodMonitor selects the pods", selects)
    spec = one(objects, "PrometheusRule")["spec"]
    check("every metric of the alerts is documented", undocumented([rule["expr"] for rule in spec["groups"][0]["rules"]]))
    runbook = (ROOT / "docs" / "operations.md").read_text()
    alerts = [rule["alert"] for group in spec["groups"] for rule in group["rules"]]
    check("every alert has a line in docs/operations.md", [name for name in alerts if f"`{name}`" not in runbook])
    with tempfile.TemporaryDirectory() as folder:
        rules, tests = pathlib.Path(folder) / "rules.yaml", pathlib.Path(folder) / "test.yaml"
        rules.write_text(yaml.safe_dump(spec))
        tests.write_text((pathlib.Path(__file__).parent / "rules_test.yaml").read_text().replace("RULES", str(rules)))
        check("promtool accepts the alerts", problem_of(command("promtool", "check", "rules", rules)))
        check("each alert fires when it should, and not before", problem_of(command("promtool", "test", "rules", tests)))
    tested = (pathlib.Path(__file__).parent / "rules_test.yaml").read_text()
    check("each alert has a unit test", [name for name in alerts if f"alertname: {name}," not in tested])

    objects = objects_of(template("-f", CHART / "ci" / "servicemonitor-values.yaml").stdout)
    monitor, service = one(objects, "ServiceMonitor")["spec"], one(objects, "Service", "-headless")
    selected = [
        item["metadata"]["name"]
        for item in objects
        if item["kind"] == "Service" and monitor["selector"]["matchLabels"].items() <= item["metadata"]["labels"].items()
    ]
    check("the ServiceMonitor selects the headless Service alone", "" if selected == [service["metadata"]["name"]] else selected)
    ports = {port["name"] for port in service["spec"]["ports"]}
    fact("the ServiceMonitor reads a port of that Service", monitor["endpoints"][0]["port"] in ports)
    check_dashboard(json.loads(one(objects, "ConfigMap", "-dashboard")["data"]["rexd.json"]))


def check_dashboard(dashboard):
    """What Grafana's schema wants of a dashboard, as far as this one uses it."""
    panels = dashboard["panels"]
    ids = [panel["id"] for panel in panels]
    fact("the dashboard has a title, a schema version and panels", dashboard["title"] and dashboard["schemaVersion"] >= 36 and panels)
    fact("each panel has an id of its own", len(set(ids)) == len(ids))
    required = {"id", "type", "title", "gridPos", "targets", "datasource", "fieldConfig"}
    check("each panel has what Grafana requires", [panel.get("title") for panel in panels if not required <= panel.keys()])
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    fits = all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    fact("the panels are beside each other, and none covers another", fits and len(set(places)) == len(places))
    variables = {variable["name"] for variable in dashboard["templating"]["list"]} | {"__rate_interval"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels)))
    check("every variable of the panels exists", used - variables)
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    check("every metric of the dashboard is documented", undocumented(expressions))
    plain = [expr.replace("$__rate_interval", "5m").replace("$namespace", ".*") for expr in expressions]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(plain)]
        yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
        file.flush()
        check("promtool accepts every query of the dashboard", problem_of(command("promtool", "check", "rules", file.name)))


def undocumented(expressions):
    """The metrics of the queries that docs/metrics.md does not have."""
    documented = (ROOT / "docs" / "metrics.md").read_text()
    names = set(re.findall(r"\b((?:rexd|rpc|http|process)_\w+)(?=\{)", " ".join(expressions)))
    plain = {re.sub(r"_(bucket|count)$", "", name) if name.endswith(("_seconds_bucket", "_seconds_count")) else name for name in names}
    return sorted(name for name in plain if f"`{name}`" not in documented) or ("" if plain else "no metric was found")
