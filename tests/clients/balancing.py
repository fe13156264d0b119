"""Two services behind one name of `dns:///`: calls go to both, and to the other one when one is stopped."""

import subprocess
import tempfile

from dns_server import Dns
from service import NAME, Service, free_port, stop

ADDRESSES = ("127.0.0.1", "127.0.0.2")
CALLS = 20
# round_robin calls only the backend that connects first, until the other one is connected too.
ROUNDS = 50


def calls(client, count):
    """Makes calls; returns how many of them succeeded."""
    client.stdin.write(f"{count}\n")
    client.stdin.flush()
    return int(client.stdout.readline() or -1)


def balance(check, binary, command, environment, directory):
    """Checks the Python client; `command` runs it."""
    port, dns = free_port(), Dns(ADDRESSES)
    target = f"dns://127.0.0.1:{dns.port}/rexd.test:{port}"
    with (
        Service(binary, directory / "one", ADDRESSES[0], port) as one,
        Service(binary, directory / "two", ADDRESSES[1], port) as two,
        tempfile.TemporaryFile("w+") as problems,
        subprocess.Popen(
            [*command, target, NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=problems, text=True, env=environment
        ) as client,
    ):
        seen = lambda: [one.registry.requests, two.registry.requests]
        succeeded = made = 0
        while made < ROUNDS * CALLS and not all(seen()):
            succeeded, made = succeeded + calls(client, CALLS), made + CALLS
        before = seen()
        succeeded, made = succeeded + calls(client, CALLS), made + CALLS
        shares = [after - first for after, first in zip(seen(), before)]
        check("dns:///: both addresses of a name are called in turn", shares == [CALLS // 2, CALLS // 2], shares)
        check("dns:///: every call succeeds", succeeded == made, f"{succeeded} of {made}")
        stop(one.process)
        before = seen()
        succeeded = calls(client, CALLS)
        shares = [after - first for after, first in zip(seen(), before)]
        problems.seek(0)
        check("dns:///: every call succeeds when one service is stopped", succeeded == CALLS, f"{succeeded}: {problems.read()[-500:]}")
        check("dns:///: the other service gets all calls then", shares == [0, CALLS], shares)
        client.stdin.close()
    dns.close()
