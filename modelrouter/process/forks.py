"""A lock that a forked child can take, whoever held it in the parent."""

from __future__ import annotations

import os
import threading
import weakref

__all__ = ["ProcessLock"]


class ProcessLock:
    """A lock of this process. A child that is forked while another thread holds it begins with one that is free: the
    thread is not there to release it, and what it guards is still whole enough to begin anew.

    Reentrant: the garbage collector may close a dropped stream in the middle, which is metered."""

    def __init__(self) -> None:
        self.renew()
        _locks.add(self)

    def renew(self) -> None:
        """Have it free."""
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()


_locks: weakref.WeakSet[ProcessLock] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lock in list(_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
