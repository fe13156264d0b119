"""What a registry may limit: pulls as Docker Hub counts them, a pause after 429, budgets of the whole fleet."""

import time

import grpc

from callers import Callers
from replicas import Fleet

REPOSITORY = "org/app"
REPLICAS = 3
PULLS = 100
"""Docker Hub's limit for an anonymous address in six hours: https://docs.docker.com/docker-hub/usage/"""


def check(facts, options):
    for part in (_pulls, _pause, _requests_per_second, _concurrent_requests):
        with Fleet(options) as fleet:
            part(facts, fleet, options.callers)


def _pulls(facts, fleet, _):
    """40 tags, read by 50 callers several times, within 100 pulls."""
    tags, rounds, count = 40, 3, 50
    fleet.registry.set(pull_limit=PULLS)
    fleet.start(REPLICAS, {"tags": "30s", "shared": fleet.start_engine()})
    for number in range(tags):
        fleet.registry.image(REPOSITORY, f"v{number}")
    with Callers(fleet.replicas, count) as callers:
        references = [f"v{number // count % tags}" for number in range(count * tags)]
        bursts = [callers.manifests(REPOSITORY, references) for _ in range(rounds)]
    counts, failed = fleet.registry.counts(), sum(burst.failed() for burst in bursts)
    what = f"{count} callers of {REPLICAS} replicas read {tags} tags {rounds} times with {PULLS} pulls"
    facts.check(f"{what}: 0 failed calls", not failed, f"{failed} failed; {counts.pulls} pulls; {counts}")
    facts.check(f"{what}: {tags} pulls", counts.pulls == tags, f"{counts.pulls} pulls")


def _pause(facts, fleet, count):
    """A 429 to one replica pauses all of them."""
    pause = 5
    replicas = fleet.start(REPLICAS, {"shared": fleet.start_engine()})
    for number in range(count):
        fleet.registry.image(REPOSITORY, f"v{number}")
    references = [f"v{number}" for number in range(count)]
    with Callers(replicas[:1], 1) as first, Callers(replicas[1:], count) as others:
        others.ping()  # their connections to the engine are open
        fleet.registry.set(failing=429, retry_after=pause)
        began = time.monotonic()
        limited = first.manifest(REPOSITORY, "v0").outcomes[0]
        facts.check("a 429 is RESOURCE_EXHAUSTED", limited.code == grpc.StatusCode.RESOURCE_EXHAUSTED, limited.code.name)
        fleet.registry.set(failing=None)
        time.sleep(0.5)
        fleet.registry.reset()
        burst = others.manifests(REPOSITORY, references)
        early = sum(at < began + pause for at in fleet.registry.counts().times)
        facts.check(f"for {pause} s no replica asks the registry", not early, f"{early} requests; {burst.codes()}")
        facts.check("calls with enough time wait for the end of the pause", not burst.failed(), burst.codes())
        after = others.manifests(REPOSITORY, references[:20])
        facts.check("after the pause calls succeed", not after.failed(), after.codes())


def _budget(fleet, more):
    """The settings of the registry for a budget of the whole fleet."""
    return {} if fleet.options.no_cache else {"fleet": more}


def _many(fleet, count):
    """As many tags, each of which costs a request; all at once over the replicas."""
    for number in range(count):
        fleet.registry.image(REPOSITORY, f"v{number}")
    with Callers(fleet.replicas, count) as callers:
        fleet.registry.reset()
        return callers.manifests(REPOSITORY, [f"v{number}" for number in range(count)]), fleet.registry.counts()


def _requests_per_second(facts, fleet, _):
    rate, count = 20, 100
    fleet.start(REPLICAS, {"shared": fleet.start_engine()}, _budget(fleet, {"requests_per_second": rate}))
    burst, counts = _many(fleet, count)
    facts.check("`requests_per_second`: 0 failed calls", not burst.failed(), f"{burst.codes()}, p99 {burst.p99_ms():.0f} ms")
    # A second of requests may come at once, after a pause.
    most = max(sum(began <= at < began + 1 for at in counts.times) for began in counts.times)
    seconds = max(counts.times) - min(counts.times)
    facts.check(f"`requests_per_second: {rate}` over {REPLICAS} replicas", most <= 2 * rate, f"at most {most} in a second")
    facts.check(f"{count} requests take {count // rate - 1} s", seconds >= count // rate - 1.5, f"{seconds:.1f} s")


def _concurrent_requests(facts, fleet, _):
    most, count = 4, 60
    fleet.registry.set(delay=0.1)
    fleet.start(REPLICAS, {"shared": fleet.start_engine()}, _budget(fleet, {"max_concurrent_requests": most}))
    burst, counts = _many(fleet, count)
    facts.check("`max_concurrent_requests`: 0 failed calls", not burst.failed(), f"{burst.codes()}, p99 {burst.p99_ms():.0f} ms")
    what = f"`max_concurrent_requests: {most}` over {REPLICAS} replicas"
    facts.check(what, counts.most_running <= most, f"at most {counts.most_running} at once")
