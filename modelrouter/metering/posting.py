"""What a process writes into the store's books: in the background, within a second, each change once.

The thread that does it waits for a change to be made, so a process that calls no model has none. What could not be
written is kept and told again; the store knows a batch that has got through after all.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
import uuid
import weakref
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from modelrouter.process.forks import at_fork, process_lock

EVERY = 0.5
"""Seconds between two writes: what a process that is killed loses at most, twice over."""
SOON = 0.01
"""Seconds until reservations are ended in the store: those of calls that follow each other go together."""
KEEP = 400 * 86_400.0
"""Seconds: a year can be compared with the one before, month by month."""
MOST = 100
"""Batches that are kept for a store that fails. Beyond them changes are added up in one that is not sent yet."""
TRIES = 4
"""Times that a process which ends tries to write: nobody will do it later. A busy disk holds each up for a quarter of a
second."""
_IDLE = 5.0
"""Seconds without a change, after which the thread ends."""

_all: weakref.WeakSet[Posting] = weakref.WeakSet()
_leaving = False
"""The interpreter is at its end, where no thread can be started."""


@dataclass(slots=True)
class _Batch:
    changes: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    release: list[str] = field(default_factory=list)
    once: str = field(default_factory=lambda: uuid.uuid4().hex)


class Write(Protocol):
    """`Ledger.count`, but that it raises nothing: False, when it could not be written."""

    def __call__(
        self, changes: Mapping[str, Mapping[str, int]], *, once: str, ttl: float, release: Collection[str]
    ) -> bool: ...


class Post(Protocol):
    """`Posting.post`."""

    def __call__(self, book: str, changes: Mapping[str, int], *, release: str | None = None) -> None: ...


class Posting:
    """The changes of this process that are on their way. Safe over threads; nothing here waits for the store but
    `flush`."""

    def __init__(self, write: Write, *, begin_again: Callable[[], object] = lambda: None) -> None:
        self._write = write
        self._begin_again = begin_again
        """Has the store forget that it rests after a failure."""
        self._lock = process_lock()
        # Appending is one step, in whose middle the garbage collector cannot close a stream that is counted here, too.
        self._new: deque[tuple[str, Mapping[str, int], str | None]] = deque()
        self._next = _Batch()
        self._unsure: list[_Batch] = []
        """Tried already: they may have got through."""
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None
        _all.add(self)

    def post(self, book: str, changes: Mapping[str, int], *, release: str | None = None) -> None:
        """Have this added to a book, and a reservation ended. With the latter, soon: others may wait for it."""
        self._new.append((book, changes, release))
        if self._thread is None and not self._start():
            self.flush()
        elif release is not None:
            self._awake.set()

    def flush(self) -> None:
        """Write what there is, and wait until it is written or has failed."""
        with self._lock:
            while self._new:
                book, changes, release = self._new.popleft()
                counts = self._next.changes[book]
                for name, change in changes.items():  # `Counter.update` looks at each twice
                    counts[name] += change
                if release is not None:
                    self._next.release.append(release)
            if self._next.changes and len(self._unsure) < MOST:
                self._unsure.append(self._next)
                self._next = _Batch()
            while self._unsure:
                batch = self._unsure[0]
                if not self._write(batch.changes, once=batch.once, ttl=KEEP, release=batch.release):
                    return
                self._unsure.pop(0)

    def leave(self) -> None:
        """`flush`, at the end of the process."""
        for _ in range(TRIES):
            self.flush()
            if not self._unsure:
                return
            self._begin_again()

    def begin_anew(self) -> None:
        """In a forked child: the parent writes its changes itself."""
        self._new.clear()
        self._next, self._unsure = _Batch(), []
        self._awake, self._thread = threading.Event(), None

    def _start(self) -> bool:
        """Start the thread, unless there is one; False: none can be started any more."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="modelrouter-books", daemon=True)
                try:
                    if not _leaving:
                        thread.start()
                except RuntimeError:
                    return False
                self._thread = thread if not _leaving else None
                if self._thread is not None and (util := sys.modules.get("multiprocessing.util")) is not None:
                    # Its children end without what is registered with atexit.
                    util.Finalize(None, _leave_one, args=(weakref.ref(self),), exitpriority=0)
            return self._thread is not None

    def _run(self) -> None:
        last = time.monotonic()
        while not _leaving:
            if self._awake.wait(EVERY):
                time.sleep(SOON)
                self._awake.clear()
            if self._new or self._unsure:
                self.flush()
                last = time.monotonic()
            elif time.monotonic() - last > _IDLE:
                with self._lock:
                    if not self._new:
                        self._thread = None
                        return


def _leave_one(posting: weakref.ref[Posting]) -> None:
    if (one := posting()) is not None:
        one.leave()


@atexit.register
def _leave() -> None:
    global _leaving
    _leaving = True
    for posting in list(_all):
        posting.leave()


def _begin_anew() -> None:
    for posting in _all:
        posting.begin_anew()


at_fork(in_child=_begin_anew)
