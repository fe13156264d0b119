"""No secret is written to the engine, the bucket, the directory or the log: known values are searched in dumps of all of them."""

import base64
import secrets

from callers import Callers, blob_code
from registry import MIB
from replicas import NAME, Fleet
from sign_in import add_user, credentials

REPOSITORY = "org/app"


def check(facts, options):
    with Fleet(options) as fleet:
        password = add_user(fleet, "puller", REPOSITORY)
        caller_token = f"caller-token-{secrets.token_hex(24)}"
        settings = {
            "registry": credentials(fleet, "puller", password),
            "callers": {"build": {"token_file": fleet.file("build.token", caller_token), "allow": [f"{NAME}/org/"]}},
            "environment": {"REXD_LOG": "trace"},
        }
        engine_password = f"engine-password-{secrets.token_hex(16)}"
        bucket, shared, directory = fleet.start_bucket(), fleet.start_engine(engine_password), fleet.folder("store")
        freshness = {"tags": "1h", "lists": "1h", "absent": "1h"}
        for store in (bucket, {"url": f"file://{directory}"}):
            fleet.start(2, {**freshness, "store": store, "shared": shared}, **settings)
        _read_everything(fleet, options, caller_token)
        secret_values = {
            "the registry's password": [password],
            "tokens of the registry's token service": fleet.registry.tokens(),
            "a caller's token": [caller_token],
            "the bucket's secret key": [fleet.bucket.secret_key],
            "the engine's password": [engine_password],
        }
        entries = fleet.engine.entries()
        places = {
            "engine": [part for entry in entries.items() for part in entry],
            "bucket": _files(fleet.bucket.files),
            "directory": _files(directory),
            "log": [replica.log.read_bytes() for replica in fleet.replicas],
        }
        for place, parts in places.items():
            everything = b"\0".join(parts)
            facts.check(f"{place}: something is there", everything, f"{len(parts)} parts, {len(everything)} bytes")
            for name, values in secret_values.items():
                found = sum(form in everything for value in values for form in _forms(value))
                facts.check(f"{place}: does not hold {name}", values and not found, f"{len(values)} searched, {found} found")
        lifetimes = [fleet.engine.run("PTTL", key) for key in entries]
        endless = sum(int(lifetime) == -1 for lifetime in lifetimes)
        facts.check("every key of the engine has a lifetime", lifetimes and not endless, f"{endless} of {len(lifetimes)} have none")
        prefixes = sorted({key.split(b":")[0].decode(errors="replace") for key in entries})
        facts.check("every key of the engine begins with rexd", prefixes == ["rexd"], prefixes)


def _read_everything(fleet, options, token):
    """All that can be kept: documents, lists, absences, a small and a large blob."""
    digest = fleet.registry.image(REPOSITORY, "v1")
    blobs = [fleet.registry.blob(size, REPOSITORY) for size in (1000, 4 * MIB)]
    with Callers(fleet.replicas, options.callers, token) as callers:
        for reference in ("v1", digest, "absent"):
            callers.manifest(REPOSITORY, reference)
        callers.tags(REPOSITORY)
        callers.catalog()
        callers.ping()
    for replica in fleet.replicas:
        for blob in blobs:
            blob_code(replica, REPOSITORY, blob.digest, token)


def _forms(value):
    """The value as it is, in hexadecimal, and in Base64 at each of the three positions."""
    data = value.encode()
    yield data
    yield data.hex().encode()
    for before in range(3):
        # The first and the last characters depend on the neighbours.
        yield base64.b64encode(bytes(before) + data)[4:-4]


def _files(folder):
    """Names and contents; a bucket's metadata are in extended attributes or beside it, and come from versitygw."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return [part for path in paths for part in (str(path).encode(), path.read_bytes())]
