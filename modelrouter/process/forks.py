"""What a fork does to this process, in one place: locks that a child can take, and what begins anew in it.

A child has the thread that forked and no other. A lock that another thread held would stay locked in it for ever, and
what that thread was in the middle of would stay half done.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - registers a lock of its own: not in the middle of a fork that waits here
import os
import threading
import weakref
from collections.abc import Callable

_before: list[Callable[[], object]] = []
_in_parent: list[Callable[[], object]] = []
_in_child: list[Callable[[], object]] = []


def at_fork(
    *,
    before: Callable[[], object] | None = None,
    in_parent: Callable[[], object] | None = None,
    in_child: Callable[[], object] | None = None,
) -> None:
    """Have something done at each fork of this process from now on: `before` it in the order of registration, and in
    the opposite order after it. Servers that fork in C (uWSGI) do nothing `before`."""
    for hooks, hook in ((_before, before), (_in_parent, in_parent), (_in_child, in_child)):
        if hook is not None:
            hooks.append(hook)


def _run(hooks: list[Callable[[], object]]) -> None:
    for hook in hooks:
        hook()


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

    def acquire(self, timeout: float = -1) -> bool:
        """Take it, after `timeout` seconds at most; whether that was in time."""
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        """Give it back."""
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()


_locks: weakref.WeakSet[ProcessLock] = weakref.WeakSet()


class HeldLock:
    """A lock that is held over every fork: nobody is in the middle of what it guards when a child begins.

    For a module's own, which is never collected. Reentrant, as `ProcessLock`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._forking = False
        at_fork(before=self._hold, in_parent=self._let_go, in_child=self._begin)

    def _hold(self) -> None:
        self._lock.acquire()
        self._forking = True

    def _let_go(self) -> None:
        if self._forking:  # else it was made while the fork waited
            self._forking = False
            self._lock.release()

    def _begin(self) -> None:
        if not self._forking:  # a fork in C, before which nobody was asked
            self._lock = threading.RLock()
        self._let_go()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()


def _renew_all() -> None:
    for lock in list(_locks):
        lock.renew()


at_fork(in_child=_renew_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _run(_before),
        after_in_parent=lambda: _run(_in_parent[::-1]),
        after_in_child=lambda: _run(_in_child[::-1]),
    )
