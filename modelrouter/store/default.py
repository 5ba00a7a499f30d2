"""Which store a process has that was given none."""

from __future__ import annotations

from modelrouter import environment
from modelrouter.errors import InvalidEnvironment, Problem, StoreError

from .disk import DiskStore
from .redis import RedisStore
from .store import Store


def default_store() -> Store:
    """The Redis that MODELROUTER_STORE names, else the user's own on disk. Raises InvalidEnvironment for an address
    that is none, and without redis-py; StoreError when there is no place on the disk."""
    if (address := environment.secret(environment.STORE)) is None:
        if (directory := environment.state_dir()) is None:
            raise StoreError(
                "no_home", "there is no home directory to keep answers in; set HOME or MODELROUTER_STATE_DIR."
            )
        return DiskStore(directory / "cache")
    try:
        return RedisStore(address.get_secret_value())
    except StoreError as error:
        wrong = str(error)
    raise InvalidEnvironment([Problem(environment.STORE, wrong)])
