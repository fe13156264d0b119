"""What reading manifests, tags and lists costs the registry."""

import time

import grpc

from callers import Callers, pb
from replicas import FRESH_SECONDS, Fleet
from sign_in import sign_in

REPOSITORY = "org/app"
DELAY = 1
"""Seconds that the registry takes for a response: longer than it takes all callers to begin their calls."""

FRESH = f"{FRESH_SECONDS}s"
PAGE = 100
RETRY_AFTER = 1


def check(facts, options):
    with Fleet(options) as fleet:
        fleet.registry.set(delay=DELAY)
        for part in (_defaults, _max_age, _without_digests, _fresh, _absences, _errors, _stale, _polls, _off):
            part(facts, fleet, options.callers)
            fleet.stop()
            fleet.registry.set(delay=DELAY, digests=True, etags=True, failing=None)


class Counted:
    """A burst of calls with what the registry has counted meanwhile."""

    def __init__(self, fleet, call):
        fleet.registry.reset()
        self.burst = call()
        self.counts = fleet.registry.counts()
        self.gets, self.heads = self.counts.of("GET manifests"), self.counts.of("HEAD manifests")
        self.ok = not self.burst.failed()

    def __str__(self):
        return f"{self.counts}; {self.burst.codes()}; p99 {self.burst.p99_ms():.0f} ms; {caches(self.burst)}"


def caches(burst):
    names = [str(outcome.cache) for outcome in burst.outcomes]
    return ", ".join(f"{names.count(name)} {name}" for name in sorted(set(names)))


def _defaults(facts, fleet, count):
    fleet.start(cache={})
    digest = fleet.registry.image(REPOSITORY, "v1")
    with Callers(fleet.replicas, count) as callers:
        cold = Counted(fleet, lambda: callers.manifest(REPOSITORY, "v1"))
        facts.check(f"{count} callers read a tag: 1 GET, at most 1 HEAD", cold.ok and cold.gets == 1 and cold.heads <= 1, cold)
        again = Counted(fleet, lambda: callers.manifest(REPOSITORY, "v1"))
        cheap = again.ok and not again.gets and again.heads <= 2
        facts.check("again, with the defaults: at most 2 HEADs, no GET", cheap, again)
        known = {"revalidated", "hit"}
        facts.check("their responses say `revalidated` or `hit`", again.burst.caches() <= known, caches(again.burst))
        ages = {outcome.metadata.get("rexd-age") for outcome in again.burst.outcomes}
        facts.check("their responses have an age in seconds", all(str(age).isdigit() for age in ages), sorted(map(str, ages)))
        moved = fleet.registry.image(REPOSITORY, "v1")
        after = Counted(fleet, lambda: callers.manifest(REPOSITORY, "v1"))
        facts.check("a tag that moved is seen at once", after.burst.digests() == {moved}, after)
        facts.check("a tag that moved costs 1 GET", after.gets == 1 and after.heads <= 2, after)
        # Not content that the tag has brought already.
        other = fleet.registry.image(REPOSITORY, "v2")
        by_digest = Counted(fleet, lambda: callers.manifest(REPOSITORY, other))
        facts.check(f"{count} callers read a digest: 1 GET", by_digest.ok and by_digest.counts.total == 1, by_digest)
        by_digest = Counted(fleet, lambda: callers.manifest(REPOSITORY, other))
        facts.check("the digest again: no request", by_digest.ok and not by_digest.counts.total, by_digest)
        exact = {outcome.response.content for outcome in by_digest.burst.outcomes if outcome.response}
        facts.check("the content is that of the registry", exact == {fleet.registry.content(other)}, f"{len(exact)} contents")
        older = Counted(fleet, lambda: callers.manifest(REPOSITORY, digest))
        facts.check("the digest that the tag had before costs no GET", older.ok and not older.gets, older)
        for name, kind, call in (
            ("list the tags", "GET tags", lambda: callers.tags(REPOSITORY)),
            ("list the catalog", "GET catalog", callers.catalog),
            ("ping", "GET root", callers.ping),
        ):
            counted = Counted(fleet, call)
            facts.check(f"{count} callers {name}: at most 2 requests", counted.ok and counted.counts.of(kind) <= 2, counted)


def _max_age(facts, fleet, count):
    """`max_age` of a request, above and below the configured freshness."""
    if "max_age" not in pb.GetManifestRequest.DESCRIPTOR.fields_by_name:
        return facts.check("a request may say how old its response may be", False, "GetManifestRequest has no max_age")
    fleet.start(cache={"tags": "1h", "lists": "1h"})
    fleet.registry.image(REPOSITORY, "aged")
    with Callers(fleet.replicas, count) as callers:
        callers.manifest(REPOSITORY, "aged")
        aged = Counted(fleet, lambda: callers.manifest(REPOSITORY, "aged", max_age={"seconds": 0}))
        facts.check("max_age 0 asks the registry", aged.ok and not aged.gets and 1 <= aged.heads <= 2, aged)
        callers.tags(REPOSITORY)
        aged = Counted(fleet, lambda: callers.tags(REPOSITORY, max_age={"seconds": 0}))
        facts.check("max_age 0 asks for the list of tags", aged.ok and 1 <= aged.counts.of("GET tags") <= 2, aged)
        refused = callers.manifest(REPOSITORY, "aged", max_age={"seconds": -1})
        facts.check("a negative max_age is INVALID_ARGUMENT", not refused.failed(grpc.StatusCode.INVALID_ARGUMENT), refused.codes())
    fleet.stop()
    fleet.start(cache={})
    with Callers(fleet.replicas, count) as callers:
        callers.manifest(REPOSITORY, "aged")
        aged = Counted(fleet, lambda: callers.manifest(REPOSITORY, "aged", max_age={"seconds": 3600}))
        facts.check("max_age of an hour with the defaults: no request", aged.ok and not aged.counts.total, aged)


def _without_digests(facts, fleet, count):
    """A registry whose responses have no Docker-Content-Digest."""
    fleet.start(cache={})
    fleet.registry.image(REPOSITORY, "plain")
    fleet.registry.set(digests=False)
    with Callers(fleet.replicas, count) as callers:
        callers.manifest(REPOSITORY, "plain")
        again = Counted(fleet, lambda: callers.manifest(REPOSITORY, "plain"))
        conditional = again.counts.of("304")
        holds = again.ok and again.gets == conditional and 1 <= conditional <= 2
        facts.check("without a digest in the response: at most 2 conditional GETs", holds, again)
        fleet.registry.set(etags=False)
        again = Counted(fleet, lambda: callers.manifest(REPOSITORY, "plain"))
        facts.check("without a digest and an ETag: at most 2 GETs", again.ok and again.gets <= 2, again)


def _fresh(facts, fleet, count):
    fleet.start(cache={"tags": FRESH, "lists": FRESH})
    fleet.registry.image(REPOSITORY, "fresh")
    with Callers(fleet.replicas, count) as callers:
        began = time.monotonic()
        cold = Counted(fleet, lambda: callers.manifest(REPOSITORY, "fresh"))
        facts.check(f"`tags: {FRESH}`: 1 GET, at most 1 HEAD", cold.ok and cold.gets == 1 and cold.heads <= 1, cold)
        again = Counted(fleet, lambda: callers.manifest(REPOSITORY, "fresh"))
        facts.check(f"`tags: {FRESH}`, again within it: no request", again.ok and not again.counts.total, again)
        time.sleep(max(0, began + DELAY + FRESH_SECONDS + 1 - time.monotonic()))
        late = Counted(fleet, lambda: callers.manifest(REPOSITORY, "fresh"))
        facts.check(f"`tags: {FRESH}`, after it: 1 HEAD, no GET", late.ok and late.heads == 1 and not late.gets, late)
        began = time.monotonic()
        cold = Counted(fleet, lambda: callers.tags(REPOSITORY, page_size=PAGE))
        facts.check(f"`lists: {FRESH}`: 1 GET", cold.ok and cold.counts.of("GET tags") == 1, cold)
        again = Counted(fleet, lambda: callers.tags(REPOSITORY, page_size=PAGE))
        facts.check(f"`lists: {FRESH}`, again within it: no request", again.ok and not again.counts.total, again)
        time.sleep(max(0, began + DELAY + FRESH_SECONDS + 1 - time.monotonic()))
        late = Counted(fleet, lambda: callers.tags(REPOSITORY, page_size=PAGE))
        holds = late.ok and late.counts.of("GET tags") == late.counts.of("304") == 1
        facts.check(f"`lists: {FRESH}`, after it: 1 conditional GET", holds, late)


def _absences(facts, fleet, count):
    fleet.start(cache={"absent": FRESH})
    fleet.registry.image(REPOSITORY, "present")
    absent = grpc.StatusCode.NOT_FOUND
    with Callers(fleet.replicas, count) as callers:
        cold = Counted(fleet, lambda: callers.manifest(REPOSITORY, "absent"))
        facts.check(f"`absent: {FRESH}`: at most 2 requests", not cold.burst.failed(absent) and cold.counts.total <= 2, cold)
        again = Counted(fleet, lambda: callers.manifest(REPOSITORY, "absent"))
        facts.check(f"`absent: {FRESH}`, again: no request", not again.burst.failed(absent) and not again.counts.total, again)
        pushed = fleet.registry.image(REPOSITORY, "absent")
        time.sleep(FRESH_SECONDS + 1)
        late = Counted(fleet, lambda: callers.manifest(REPOSITORY, "absent"))
        facts.check("what was absent is found after it", late.burst.digests() == {pushed}, late)


def _errors(facts, fleet, count):
    fleet.start(cache={"tags": "1h", "absent": "1h"})
    fleet.registry.image(REPOSITORY, "failing")
    with Callers(fleet.replicas, count) as callers:
        fleet.registry.set(failing=503)
        failed = Counted(fleet, lambda: callers.manifest(REPOSITORY, "failing"))
        everybody = not failed.burst.failed(grpc.StatusCode.UNAVAILABLE)
        facts.check("a failure is given to all who wait", everybody and failed.counts.total < count / 4, failed)
        fleet.registry.set(failing=None)
        after = Counted(fleet, lambda: callers.manifest(REPOSITORY, "failing"))
        facts.check("a failure is not remembered", after.ok, after)


def _stale(facts, fleet, count):
    """Off unless configured; never for 401, 403 and 404."""
    for setting in (None, "1h"):
        more = {"stale_if_error": setting} if setting and not fleet.options.no_cache else {}
        fleet.start(cache={}, registry=more)
        fleet.registry.image(REPOSITORY, "stale")
        with Callers(fleet.replicas, count) as callers:
            for status in (503, 429, *((401, 403, 404) if setting else ())):
                fleet.registry.set(failing=None)
                callers.manifest(REPOSITORY, "stale")
                fleet.registry.set(failing=status, retry_after=RETRY_AFTER)
                got = Counted(fleet, lambda: callers.manifest(REPOSITORY, "stale"))
                if setting and status in (503, 429):
                    stale = got.ok and got.burst.caches() == {"stale"}
                    facts.check(f"`stale_if_error: {setting}`, {status}: the kept response, as `stale`", stale, got)
                else:
                    configured = f"`stale_if_error: {setting}`" if setting else "without `stale_if_error`"
                    facts.check(f"{configured}, {status}: every call fails", got.burst.failed() == count, got)
                if status == 429:
                    time.sleep(RETRY_AFTER + 1)  # the service may pause for that long
            fleet.registry.set(failing=None)
        fleet.stop()


def _polls(facts, fleet, _):
    """The hour of the goal with 1,000 tags needs simulated time; this is its first rounds."""
    tags, callers_count, rounds = 100, 10, 5
    fleet.registry.set(delay=0)
    fleet.start(cache={})
    for number in range(tags):
        fleet.registry.image("org/polled", f"v{number}")
    with Callers(fleet.replicas, callers_count) as callers:
        references = [f"v{number % tags}" for number in range(tags * callers_count)]
        fleet.registry.reset()
        failed = sum(callers.manifests("org/polled", references).failed() for _ in range(rounds))
        counts = fleet.registry.counts()
        what = f"{tags} tags polled {rounds} times by {callers_count} callers: {tags} pulls"
        facts.check(what, not failed and counts.pulls == tags, f"{counts.pulls} pulls; {counts}; {failed} failed")
        fleet.registry.image("org/polled", "v7")
        fleet.registry.reset()
        callers.manifests("org/polled", references)
        pulls = fleet.registry.counts().pulls
        facts.check("one tag moved: 1 pull more", pulls == 1, f"{pulls} pulls")


def _off(facts, fleet, count):
    """`memory_bytes: 0` keeps nothing; calls that are under way at the same time share a read nevertheless."""
    fleet.start(cache={"memory_bytes": 0})
    fleet.registry.image(REPOSITORY, "off")
    with Callers(fleet.replicas, count) as callers:
        for again in ("", ", again"):
            got = Counted(fleet, lambda: callers.manifest(REPOSITORY, "off"))
            facts.check(f"nothing is kept in memory{again}: 1 or 2 GETs", got.ok and 1 <= got.gets <= 2, got)


def check_fleet(facts, options):
    """The same over three replicas that share an engine."""
    count = options.callers
    with Fleet(options) as fleet:
        fleet.registry.set(delay=DELAY)
        signed_in, replicas = sign_in(fleet, "fleet", REPOSITORY), 3
        fleet.start(replicas, {"tags": FRESH, "absent": FRESH, "shared": fleet.start_engine()}, signed_in)
        fleet.registry.image(REPOSITORY, "v1")
        what = f"{count} callers of {replicas} replicas"
        with Callers(fleet.replicas, count) as callers:
            began = time.monotonic()
            cold = Counted(fleet, lambda: callers.manifest(REPOSITORY, "v1"))
            facts.check(f"{what} read a tag: 1 GET that is a pull", cold.ok and cold.counts.pulls == 1, cold)
            facts.check("and at most a sign-in for each replica", 1 <= cold.counts.exchanges <= replicas, cold.counts.exchanges)
            again = Counted(fleet, lambda: callers.manifest(REPOSITORY, "v1"))
            facts.check(f"again within {FRESH}: no request", again.ok and not again.counts.total, again)
            time.sleep(max(0, began + 2 * DELAY + FRESH_SECONDS + 1 - time.monotonic()))
            late = Counted(fleet, lambda: callers.manifest(REPOSITORY, "v1"))
            facts.check(f"after {FRESH}: 1 HEAD, no GET", late.ok and late.heads == 1 and not late.gets, late)
            other = fleet.registry.image(REPOSITORY, "v2")
            by_digest = Counted(fleet, lambda: callers.manifest(REPOSITORY, other))
            facts.check(f"{what} read a digest: 1 pull", by_digest.ok and by_digest.counts.pulls == 1, by_digest)
            absent = Counted(fleet, lambda: callers.manifest(REPOSITORY, "absent"))
            not_found = not absent.burst.failed(grpc.StatusCode.NOT_FOUND)
            facts.check(f"{what} read what is absent: 1 request", not_found and absent.gets + absent.heads == 1, absent)
        fleet.restart(fleet.replicas[0])
        with Callers(fleet.replicas[:1], count) as callers:
            kept = Counted(fleet, lambda: callers.manifest(REPOSITORY, other))
            facts.check("a replica that was restarted needs no GET", kept.ok and not kept.counts.pulls, kept)
