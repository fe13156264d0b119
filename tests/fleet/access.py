"""Who gets what is kept: callers with grants, credentials that the registry knows, repositories that it closes."""

import time

import grpc

from callers import Callers, blob_code, pb
from readers import read_blobs
from registry import MIB
from replicas import NAME, Fleet
from sign_in import add_user, credentials, sign_in

REPOSITORY = "org/app"
OTHER = "other/app"
CHECK_SECONDS = 1
BUILD, GUEST = "token-of-the-build-0123456789", "token-of-a-guest-0123456789"
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND)


def check(facts, options):
    for part in (_grants, _credentials, _repositories, _closed):
        with Fleet(options) as fleet:
            part(facts, fleet, {"store": fleet.start_bucket(), "shared": fleet.start_engine()}, Content(fleet))


class Content:
    """A manifest, a blob that fits into memory, and one that does not."""

    def __init__(self, fleet):
        self.digest = fleet.registry.image(REPOSITORY, "v1")
        self.blobs = {name: fleet.registry.blob(size, REPOSITORY) for name, size in (("small", 1000), ("large", 4 * MIB))}

    def codes(self, replica, repository=REPOSITORY, token=None):
        """The code of each read."""
        with Callers([replica], 1, token) as callers:
            outcomes = {
                "the tag": callers.manifest(repository, "v1"),
                "the digest": callers.manifest(repository, self.digest),
                "the list of tags": callers.tags(repository),
            }
        codes = {name: burst.outcomes[0].code for name, burst in outcomes.items()}
        for name, blob in self.blobs.items():
            codes[f"the {name} blob"], got = blob_code(replica, repository, blob.digest, token)
            if codes[f"the {name} blob"] == grpc.StatusCode.OK and got != blob.content[:]:
                codes[f"the {name} blob"] = "wrong bytes"
        return codes


def shown(codes):
    return ", ".join(f"{name} {code.name if isinstance(code, grpc.StatusCode) else code}" for name, code in codes.items())


def all_ok(codes):
    return set(codes.values()) == {grpc.StatusCode.OK}


def _grants(facts, fleet, stores, content):
    """A caller without a grant gets nothing of what another one has read."""
    callers = {
        "build": {"token_file": fleet.file("build.token", BUILD), "allow": [f"{NAME}/org/"]},
        "guest": {"token_file": fleet.file("guest.token", GUEST), "allow": [f"{NAME}/other/"]},
    }
    replicas = fleet.start(2, {"tags": "1h", "lists": "1h", **stores}, callers=callers)
    read = content.codes(replicas[0], token=BUILD)
    facts.check("a caller with a grant reads all", all_ok(read), shown(read))
    fleet.registry.reset()
    for name, replica in (("of this replica", replicas[0]), ("of another replica", replicas[1])):
        codes = content.codes(replica, token=GUEST)
        denied = set(codes.values()) == {grpc.StatusCode.PERMISSION_DENIED}
        facts.check(f"a caller without a grant {name} gets nothing", denied, shown(codes))
        codes = content.codes(replica)
        unknown = set(codes.values()) == {grpc.StatusCode.UNAUTHENTICATED}
        facts.check(f"an unknown caller {name} gets nothing", unknown, shown(codes))
    facts.check("the registry is not asked for them", not fleet.registry.counts().total, fleet.registry.counts())
    _join(facts, fleet, replicas[0])


def _join(facts, fleet, replica):
    """A caller without a grant does not join a read that is under way."""
    fleet.registry.image(REPOSITORY, "slow")
    fleet.registry.set(delay=1)
    with Callers([replica], 1, BUILD) as build, Callers([replica], 1, GUEST) as guest:
        slow = pb.GetManifestRequest(registry=NAME, repository=REPOSITORY, reference="slow")
        running = build.start("GetManifest", slow)
        build.wait(running, 0.3)
        joined = guest.wait(guest.start("GetManifest", slow))
        code = joined.code
        facts.check("a caller without a grant joins no read", code == grpc.StatusCode.PERMISSION_DENIED, code.name)
        ended = build.wait(running)
        facts.check("the read that was under way goes on", ended.code == grpc.StatusCode.OK, ended.code.name)
    fleet.registry.set(delay=0)


def _credentials(facts, fleet, stores, content):
    """Replicas that sign in differently, with the same engine and the same bucket."""
    cache = {"tags": "1h", "lists": "1h", "absent": "1h", "access_check": "1h", **stores}
    password = add_user(fleet, "allowed", REPOSITORY)
    (allowed,) = fleet.start(1, cache, credentials(fleet, "allowed", password))
    (denied,) = fleet.start(1, cache, sign_in(fleet, "denied", OTHER))
    (wrong,) = fleet.start(1, cache, credentials(fleet, "allowed", "registry-password-that-is-wrong"))
    (anonymous,) = fleet.start(1, cache)
    read = content.codes(allowed)
    facts.check("a replica whose credential may read, reads all", all_ok(read), shown(read))
    for name, replica in (("the credential of another user", denied), ("a wrong password", wrong), ("no credential", anonymous)):
        for again in ("", ", again"):
            codes = content.codes(replica)
            refused = set(codes.values()) <= set(REFUSED)
            facts.check(f"a replica with {name} gets nothing of what is kept{again}", refused, shown(codes))
    read = content.codes(allowed)
    facts.check("their failures are not those of the first replica", all_ok(read), shown(read))


def _repositories(facts, fleet, stores, content):
    """Content is kept once by its digest; which repository has it, the registry says."""
    (replica,) = fleet.start(1, {"access_check": "1h", **stores})
    read_blobs([replica], REPOSITORY, list(content.blobs.values()))
    fleet.registry.image(OTHER, "v1")
    codes = {name: blob_code(replica, OTHER, blob.digest)[0] for name, blob in content.blobs.items()}
    lacks = set(codes.values()) == {grpc.StatusCode.NOT_FOUND}
    facts.check("a blob that another repository lacks is NOT_FOUND there", lacks, shown(codes))
    blob = content.blobs["large"]
    fleet.registry.share(OTHER, blob)
    fleet.registry.reset()
    got = read_blobs([replica], OTHER, [blob], 20)
    counts = fleet.registry.counts()
    facts.check("a blob that another repository has costs no byte", got.good and not counts.blob_bytes, f"{counts}; {got}")
    facts.check("and at most 2 HEADs", counts.total <= 2, counts)


def _closed(facts, fleet, stores, content):
    """A repository that the registry closes is closed here within `access_check`."""
    check = f"{CHECK_SECONDS}s"
    for name, tags in (("", "0s"), (", with `tags: 1h`", "1h")):
        replicas = fleet.start(2, {"tags": tags, "lists": "1s", "access_check": check, **stores})
        for status in (401, 403, 404):
            fleet.registry.set(closed={})
            time.sleep(CHECK_SECONDS + 0.5)
            read = [content.codes(replica) for replica in replicas]
            facts.check(f"open{name}: both replicas read all", all(map(all_ok, read)), "; ".join(map(shown, read)))
            fleet.registry.set(closed={REPOSITORY: status})
            time.sleep(CHECK_SECONDS + 0.5)
            for which, replica in zip(("one replica", "the other replica"), replicas, strict=True):
                codes = content.codes(replica)
                closed = set(codes.values()) <= set(REFUSED)
                facts.check(f"closed with {status}{name}: {which} gives nothing after {check}", closed, shown(codes))
        fleet.registry.set(closed={})
        fleet.stop()
