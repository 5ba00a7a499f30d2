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
from functools import partial
from typing import Any, TypeAlias

Lock: TypeAlias = "threading.RLock"

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


def process_lock() -> Lock:
    """A lock of this process. A child that is forked while another thread holds it begins with one that is free: the
    thread is not there to release it, and what it guards is still whole enough to begin anew.

    Reentrant: the garbage collector may close a dropped stream in the middle, which is metered."""
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def held_lock() -> Lock:
    """One that is held over every fork: nobody is in the middle of what it guards when a child begins. For a module's
    own, which is never collected."""
    lock = threading.RLock()

    def let_go(*, in_child: bool = False) -> None:
        if _mine(lock):
            lock.release()
        elif in_child:  # of a fork in C, before which nobody was asked; in a parent, it was made while the fork waited
            _renew(lock)

    at_fork(before=lock.acquire, in_parent=let_go, in_child=partial(let_go, in_child=True))
    return lock


# Two names of the standard library's own locks, for its own use at forks: to put another lock in the place of one would
# not reach whoever is inside of it.


def _mine(lock: Any) -> bool:
    mine: bool = lock._is_owned()
    return mine


def _renew(lock: Any) -> None:
    lock._at_fork_reinit()


def _renew_all() -> None:
    for lock in list(_locks):
        if not _mine(lock):
            _renew(lock)


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()
at_fork(in_child=_renew_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _run(_before),
        after_in_parent=lambda: _run(_in_parent[::-1]),
        after_in_child=lambda: _run(_in_child[::-1]),
    )
