"""Users of the counting registry, and the service's settings for signing in as one of them."""

import itertools
import secrets

NUMBERS = itertools.count()


def add_user(fleet, name, *repositories):
    """A user of the registry who may read the repositories. Returns the password."""
    password = f"registry-password-{secrets.token_hex(16)}"
    fleet.registry.add_user(name, password, *repositories)
    return password


def credentials(fleet, name, password):
    """Settings of the registry for a user and a password."""
    file = fleet.file(f"{name}-{next(NUMBERS)}.password", password)
    return {"credentials": {"username": name, "password_file": file}}


def sign_in(fleet, name, *repositories):
    """Adds a user; returns the settings for signing in."""
    return credentials(fleet, name, add_user(fleet, name, *repositories))
