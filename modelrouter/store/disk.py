"""A store on disk: what is wrong with it at any time, what that means, and how it goes on."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sqlite3
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from modelrouter.errors import StoreError
from modelrouter.process.files import absolute
from modelrouter.process.forks import at_fork, held_lock

from . import ledger
from .store import Balance, Stats, Store, WouldWait
from .values import Damaged, Refused, from_text, to_text

if TYPE_CHECKING:
    from .database import Database

T = TypeVar("T")

SIZE_LIMIT = 2**30
"""Bytes."""
BUSY = 0.25
"""Seconds to wait for another process's lock on the database: a call is waiting too."""
REST = 5.0
"""Seconds for which what has just kept a call waiting, or could not even be opened, is not tried again."""
TIDY = 60.0
"""Seconds between two times that a process removes what has ended from the books."""
ENOUGH = 3
"""Damaged values, after which the whole database counts as damaged: SQLite may not notice it, and mix up more."""

KEPT = 86400.0
"""Seconds that a damaged database is kept, moved aside: nobody who still has it open writes into it for so long."""

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""SQLite's codes that prove that a database is damaged. All others may be about what is around it: a lock, a disk, a
network. It stays then: other processes, and other machines, may well be able to use it."""
_UNCLEAR = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH)
"""What a damaged schema shows itself in, when a database is opened; and much else."""
_SLOW = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
"""What SQLite has waited for: ten seconds for the last one, of locks on a network."""

_DAMAGED = (Damaged, sqlite3.OperationalError, UnicodeDecodeError)
"""What a row, or a name in an error of SQLite's, raises when it is text that is none."""

# Held while any store of the process is used, and over a fork, before which all connections are closed: a child that
# inherits a transaction of another thread's can never write again, and one that inherits a connection believes in locks
# that it does not have.
_lock = held_lock()
_stores: weakref.WeakSet[DiskStore] = weakref.WeakSet()


@contextlib.contextmanager
def _locked_at_once() -> Iterator[None]:
    """`_lock`, for who cannot wait for it."""
    if not _lock.acquire(blocking=False):
        raise WouldWait
    try:
        yield
    finally:
        _lock.release()


def _disconnect_all() -> None:
    for store in _stores:
        store.disconnect()


at_fork(before=_disconnect_all, in_child=_disconnect_all)


class DiskStore(Store):
    """Values as JSON text in an SQLite database, through diskcache. Safe over threads, processes and forks.

    `directory` is the store's own. It is made with mode 0700, its files with 0600, whatever the umask says; an existing
    one that is open to others is tightened, and not used if it cannot be, because it is somebody else's.

    Nothing is touched before the first use. Above `size_limit` bytes the values that were set first go first. Each
    `set` also removes up to ten values whose time is over.

    A database that is proven to be damaged is left for a new one in a directory of a higher number, never mended or
    replaced in place: other processes may have it open, and SQLite finds its log by name. It is renamed, so that they
    move on when they next write, and removed a day later.
    A value carries a checksum over its key and text, so damage that SQLite does not notice is an error and no value.
    """

    def __init__(self, directory: Path | str, *, size_limit: int = SIZE_LIMIT) -> None:
        self.directory = absolute(Path(directory))
        self._size_limit = size_limit
        self._database: Database | None = None
        self._number = 1
        self._damaged = 0
        self._tidy_from = 0.0
        self._rests: dict[bool, tuple[float, str, str]] = {}
        """By whether it writes: until when (monotonic) it is not tried again, with the reason and the message."""
        with _lock:
            _stores.add(self)

    def get(self, key: str) -> Any:
        """As the protocol's. For a row that nobody here has written, such as a pickle, StoreError: it is never run."""
        return self._use(lambda database: from_text(key, database.get(key)))

    def set(self, key: str, value: Any, *, ttl: float, tag: str | None = None) -> None:
        """As the protocol's, for a value other than null. Raises StoreError, also for one that is not JSON."""
        row = to_text(key, value)
        self._use(lambda database: database.set(key, row, expire=ttl, tag=tag), writing=True)

    def clear(self, *, tag: str | None = None, older_than: float = 0.0) -> int:
        if tag is None:
            self._remove_damaged(_before(older_than))
        return self._use(lambda database: database.delete(tag, _before(older_than)), writing=True)

    def stats(self, *, tag: str | None = None, older_than: float = 0.0) -> Stats:
        return self._use(lambda database: Stats(database.entries(tag, _before(older_than)), database.volume()))

    def count(
        self, changes: Mapping[str, Mapping[str, int]], *, once: str, ttl: float, release: Collection[str] = ()
    ) -> None:
        now = time.monotonic()
        if tidy := now >= self._tidy_from:
            self._tidy_from = now + TIDY
        self._use(lambda database: ledger.count(database, changes, once, ttl, release, tidy=tidy), writing=True)

    def counts(self, books: Collection[str]) -> Mapping[str, Mapping[str, int]]:
        return self._use(lambda database: ledger.counts(database, books))

    def reserve(
        self, reservation: str, amount: int, limits: Mapping[str, int], *, ttl: float, at_once: bool = False
    ) -> Mapping[str, Balance]:
        return self._use(
            lambda database: ledger.reserve(database, reservation, amount, limits, ttl, at_once=at_once),
            writing=amount != 0,
            at_once=at_once,
        )

    def renew(self, reservations: Collection[str], *, ttl: float) -> None:
        self._use(lambda database: ledger.renew(database, reservations, ttl), writing=True)

    def __str__(self) -> str:
        return str(self.directory)

    def close(self) -> None:
        """Close the database, and forget what was wrong with it. The next use opens it again."""
        with _lock:
            self._forget()
            self._rests.clear()

    def disconnect(self) -> None:
        """Close the connection alone."""
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()

    def _forget(self) -> None:
        self.disconnect()
        self._database = None

    def _use(self, operation: Callable[[Database], T], *, writing: bool = False, at_once: bool = False) -> T:
        with _locked_at_once() if at_once else _lock:
            if writing in self._rests:
                until, reason, message = self._rests[writing]
                if time.monotonic() < until:
                    raise StoreError(reason, message)
                del self._rests[writing]
            try:
                if writing and self._database is not None and self._database.is_lost():
                    self._forget()
                return operation(self._opened(at_once=at_once))
            except WouldWait:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not fail a call
                failed = self._failed(error, writing)
            except BaseException:
                self.close()  # Ctrl-C, between any two steps of diskcache's
                raise
        raise failed  # out here, so that it does not refer to an exception that may quote a value

    def _opened(self, *, at_once: bool) -> Database:
        if self._database is None and at_once:
            raise WouldWait
        return self._open() if self._database is None else self._database

    def _open(self) -> Database:
        from .database import FILE_NAME, Database

        if not self.directory.is_absolute():  # elsewhere it would mean another one
            raise FileNotFoundError(errno.ENOENT, "the working directory has been removed")
        _make_private(self.directory)
        self._remove_damaged(_before(KEPT))
        found = (re.fullmatch(r"db-(\d+)", path.name) for path in self.directory.iterdir())
        self._number = max([self._number, *(int(match[1]) for match in found if match)])
        _make_private(self._home)
        file = self._home / FILE_NAME
        with contextlib.suppress(FileExistsError):
            os.close(os.open(file, os.O_CREAT | os.O_EXCL, 0o600))
            file.chmod(0o600)  # whatever the umask has left of it; SQLite gives its other files the same
        self._damaged = 0
        self._database = Database(str(self._home), busy=BUSY, size_limit=self._size_limit)
        return self._database

    def _failed(self, error: Exception, writing: bool) -> StoreError:
        """What an exception means, after the store has been put into a state to go on from."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the details of extended codes
        opening = self._database is None
        if isinstance(error, Refused):
            return self._error("refused_value", f"holds a value that modelrouter has not written ({error})")
        if not opening and not code and isinstance(error, _DAMAGED):
            self._damaged += 1
            if self._damaged < ENOUGH:
                return self._error("damaged_value", "holds a damaged value")
            code = sqlite3.SQLITE_CORRUPT
        if code in _DAMAGE or (opening and self._proves(error, code)):
            self._move_aside()
            failed = self._error("damaged", "was damaged, and a new one is begun")
        else:
            # Python's own errors may quote a value.
            said = str(error) if code or isinstance(error, OSError) else type(error).__name__
            failed = self._error(_reason(error), f"cannot be used ({said})")
        if opening or code in _SLOW:
            rest = (time.monotonic() + REST, failed.reason, str(failed))
            self._rests |= dict.fromkeys((False, True) if opening else (writing,), rest)
        if self._database is not None:
            if code and code not in _UNCLEAR:
                self._database.recover()
            else:
                self._forget()
        return failed

    def _proves(self, error: Exception, code: int) -> bool:
        """Whether what came of opening it proves that the database is damaged."""
        if code not in _UNCLEAR:
            return not code and isinstance(error, _DAMAGED)
        from .database import is_whole

        return not is_whole(self._home, busy=BUSY)

    def _move_aside(self) -> None:
        self._forget()
        damaged, self._number = self._home, self._number + 1
        with contextlib.suppress(OSError):  # somebody else was quicker, or may do it
            _make_private(self._home)  # first, so that no new one is ever begun under the old name
            os.utime(damaged)
            damaged.rename(self.directory / damaged.name.replace("db", "damaged"))

    def _remove_damaged(self, before: float) -> None:
        """Remove what was moved aside before a wall-clock time."""
        for path in self.directory.glob("damaged-*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < before:
                    shutil.rmtree(path)

    @property
    def _home(self) -> Path:
        return self.directory / f"db-{self._number}"

    def _error(self, reason: str, what: str) -> StoreError:
        return StoreError(reason, f"the store in {self.directory} {what}.")


def _before(older_than: float) -> float:
    """The wall-clock time before which what is so many seconds old was set."""
    return time.time() - older_than if older_than else float("inf")


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if (mode := directory.stat().st_mode & 0o777) & 0o077:
            directory.chmod(mode & 0o700)
    else:
        directory.chmod(0o700)  # whatever the umask has left of it


def _reason(error: Exception) -> str:
    if isinstance(error, sqlite3.Error):
        name: str = getattr(error, "sqlite_errorname", type(error).__name__)
        return name.removeprefix("SQLITE_").lower()
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, "oserror").lower()
    return type(error).__name__.lower()
