"""The restricted Pod Security Standard, rule by rule.

https://kubernetes.io/docs/concepts/security/pod-security-standards/ (the baseline rules are part of restricted). A rule
is a function from a pod spec to sentences that describe the violations. `self_check` violates each rule in turn, which
shows that every rule finds something.
"""

import copy

BASELINE_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
}
VOLUME_TYPES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def containers(pod):
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from pod.get(kind) or []


def contexts(pod):
    """(where, security context) of the pod and of each container."""
    yield "pod", pod.get("securityContext") or {}
    for container in containers(pod):
        yield container["name"], container.get("securityContext") or {}


def effective(pod, key):
    """(container, value) with the pod's value where the container has none of its own."""
    inherited = (pod.get("securityContext") or {}).get(key)
    for container in containers(pod):
        yield container["name"], (container.get("securityContext") or {}).get(key, inherited)


def host_process(pod):
    return [w for w, c in contexts(pod) if (c.get("windowsOptions") or {}).get("hostProcess")]


def host_namespaces(pod):
    return [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]


def privileged(pod):
    return [w for w, c in contexts(pod) if c.get("privileged")]


def capabilities(pod):
    broken = []
    for container in containers(pod):
        capabilities = (container.get("securityContext") or {}).get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or []):
            broken.append(f"{container['name']} does not drop ALL")
        broken += [f"{container['name']} adds {c}" for c in capabilities.get("add") or [] if c != "NET_BIND_SERVICE"]
    return broken


def volume_types(pod):
    return [v["name"] for v in pod.get("volumes") or [] if not VOLUME_TYPES & (set(v) - {"name"})]


def host_ports(pod):
    return [str(p["hostPort"]) for c in containers(pod) for p in c.get("ports") or [] if p.get("hostPort")]


def host_probes(pod):
    """Since 1.34: a probe or hook must not name a host."""
    broken = []
    for container in containers(pod):
        hooks = container.get("lifecycle") or {}
        probes = [container.get(kind) for kind in ("startupProbe", "livenessProbe", "readinessProbe")]
        for handler in [*probes, hooks.get("postStart"), hooks.get("preStop")]:
            for kind in ("httpGet", "tcpSocket"):
                if ((handler or {}).get(kind) or {}).get("host"):
                    broken.append(container["name"])
    return broken


def app_armor(pod):
    return [w for w, c in contexts(pod) if (c.get("appArmorProfile") or {}).get("type") == "Unconfined"]


def selinux(pod):
    broken = []
    for where, context in contexts(pod):
        options = context.get("seLinuxOptions") or {}
        if options.get("type", "") not in SELINUX_TYPES or options.get("user") or options.get("role"):
            broken.append(where)
    return broken


def proc_mount(pod):
    return [w for w, c in contexts(pod) if c.get("procMount", "Default") != "Default"]


def sysctls(pod):
    return [s["name"] for _, c in contexts(pod) for s in c.get("sysctls") or [] if s["name"] not in BASELINE_SYSCTLS]


def privilege_escalation(pod):
    return [
        container["name"]
        for container in containers(pod)
        if (container.get("securityContext") or {}).get("allowPrivilegeEscalation") is not False
    ]


def run_as_non_root(pod):
    return [w for w, value in effective(pod, "runAsNonRoot") if value is not True]


def run_as_user(pod):
    return [w for w, context in contexts(pod) if context.get("runAsUser") == 0]


def seccomp(pod):
    allowed = ("RuntimeDefault", "Localhost")
    return [w for w, value in effective(pod, "seccompProfile") if (value or {}).get("type") not in allowed]


RULES = (
    host_process,
    host_namespaces,
    privileged,
    capabilities,
    volume_types,
    host_ports,
    host_probes,
    app_armor,
    selinux,
    proc_mount,
    sysctls,
    privilege_escalation,
    run_as_non_root,
    run_as_user,
    seccomp,
)

# One way to violate each rule: the path into the pod, and the value to put there (None removes it).
BREACHES = {
    host_process: (("securityContext", "windowsOptions"), {"hostProcess": True}),
    host_namespaces: (("hostNetwork",), True),
    privileged: (("containers", 0, "securityContext", "privileged"), True),
    capabilities: (("containers", 0, "securityContext", "capabilities", "drop"), ["NET_RAW"]),
    volume_types: (("volumes", 0), {"name": "root", "hostPath": {"path": "/"}}),
    host_ports: (("containers", 0, "ports"), [{"containerPort": 1, "hostPort": 1}]),
    host_probes: (("containers", 0, "livenessProbe"), {"tcpSocket": {"host": "10.0.0.1", "port": 1}}),
    app_armor: (("securityContext", "appArmorProfile"), {"type": "Unconfined"}),
    selinux: (("securityContext", "seLinuxOptions"), {"user": "system_u"}),
    proc_mount: (("containers", 0, "securityContext", "procMount"), "Unmasked"),
    sysctls: (("securityContext", "sysctls"), [{"name": "kernel.msgmax", "value": "1"}]),
    privilege_escalation: (("containers", 0, "securityContext", "allowPrivilegeEscalation"), None),
    run_as_non_root: (("securityContext", "runAsNonRoot"), None),
    run_as_user: (("containers", 0, "securityContext", "runAsUser"), 0),
    seccomp: (("securityContext", "seccompProfile"), {"type": "Unconfined"}),
}


def violations(pod):
    """(rule, where) for each violation in the pod spec."""
    return [(rule.__name__, where) for rule in RULES for where in rule(pod)]


def self_check(pod):
    """Violates each rule in a pod that meets them all; returns the rules that did not find it, or not only they did."""
    blind = []
    for rule in RULES:
        broken = copy.deepcopy(pod)
        (*path, last), value = BREACHES[rule]
        node = broken
        for step in path:
            node = node[step]
        if value is None:
            del node[last]
        else:
            node[last] = value
        if {name for name, _ in violations(broken)} != {rule.__name__}:
            blind.append(rule.__name__)
    return blind
