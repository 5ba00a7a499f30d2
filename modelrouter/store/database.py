"""diskcache, as the store needs it: rows of text and nothing else, and one connection for all threads.

What is kept of diskcache is its table, expiry and eviction; its files beside the database, its pickles and its
connection per thread are not used.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import DBNAME, MODE_RAW, UNKNOWN

from .ledger import TABLES
from .store import WouldWait
from .values import Refused

FILE_NAME: str = DBNAME
_PAGES = 1000
"""Pages of the write-ahead log, after which SQLite moves them into the database; its own default."""
_AGAIN = (0.0005, 0.0015)
"""Seconds, from and to, until it is tried again whether others still write."""
_TRIES = 50
"""And no fewer, where so many threads want to run that each has to wait for its turn."""


class _Rows(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """Keys and values are text, in the database itself.

    diskcache unpickles whatever row says that it is a pickle, and so does its JSONDisk: a planted row runs code
    (CVE-2025-69872). A planted file name would have any file of the user's read or removed.
    """

    def put(self, key: str) -> tuple[str, bool]:
        return key, True

    def get(self, key: object, raw: object) -> str:
        if not raw or type(key) is not str:
            raise Refused("its key is not text")
        return key

    def store(self, value: str, read: bool, key: object = UNKNOWN) -> tuple[int, int, None, str]:  # noqa: ARG002 - diskcache's
        return 0, MODE_RAW, None, value

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> str:  # noqa: ARG002 - diskcache's
        if mode != MODE_RAW or filename is not None or type(value) is not str:
            raise Refused("it is not text")
        return value

    def remove(self, file_path: object) -> None:
        """There are no files to remove."""


class Database(diskcache.Cache):  # type: ignore[misc]  # diskcache has no types
    """One directory of diskcache's. One thread at a time may use it.

    diskcache's own connection per thread costs each new thread half a millisecond, outlives `close` in all threads but
    the caller's, and cannot be closed before a fork, over which SQLite must not carry one:
    https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_

    `busy` is how long to wait for another process's lock, in seconds.
    """

    def __init__(self, directory: str, *, busy: float, size_limit: int) -> None:
        self._file = f"{directory}/{FILE_NAME}"
        self._busy = busy
        self._connection: sqlite3.Connection | None = None
        # diskcache waits a minute for a lock while it sets up, so ask first whether there is one.
        with contextlib.closing(self._connect()) as probe:
            self._run(probe, "BEGIN IMMEDIATE")
            probe.execute("ROLLBACK")
        try:
            super().__init__(
                directory,
                timeout=busy,
                disk=_Rows,
                # By age: the oldest is the next to expire, and a look-up writes nothing, as it would have to for LRU.
                eviction_policy="least-recently-stored",
                size_limit=size_limit,
                cull_limit=10,
                statistics=0,
                tag_index=0,
                # A mapped file that somebody cuts short kills the process.
                sqlite_mmap_size=0,
            )
            for table in filter(None, map(str.strip, TABLES.split(";"))):
                self._sql(table)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._run(connection, "PRAGMA synchronous = NORMAL")
            # What was removed is overwritten: an answer is not kept longer than it was asked to be.
            self._run(connection, "PRAGMA secure_delete = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def _con(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
            self._pages = _PAGES
            self._id = self._identity()
        return self._connection

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._file)  # noqa: PTH116 - quicker, and each write asks
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def is_lost(self) -> bool:
        """Whether the open file is not the one in the directory any more: nobody else will see what goes into it."""
        return self._connection is not None and self._identity() != self._id

    def close(self) -> None:
        """Close the connection; the next use opens a new one. An open transaction is rolled back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __del__(self) -> None:
        self.close()

    def recover(self) -> None:
        """After a failure: leave no transaction open, as when a commit fails: it would lock all others out."""
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                self.close()

    def delete(self, tag: str | None, before: float) -> int:
        """Delete the rows with this tag (None: any) that were stored before a wall-clock time; returns how many."""
        select = (
            "SELECT rowid, filename FROM Cache WHERE rowid > ? AND (? IS NULL OR tag = ?) AND store_time < ?"
            " ORDER BY rowid LIMIT ?"
        )
        count: int = self._select_delete(select, [0, tag, tag, before, 500])
        # Out of the write-ahead log too. Where somebody reads at the moment, that has to wait for a later checkpoint.
        self._sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return count

    def entries(self, tag: str | None, before: float) -> int:
        """How many rows `delete` would delete."""
        select = "SELECT COUNT(*) FROM Cache WHERE (? IS NULL OR tag = ?) AND store_time < ?"
        ((count,),) = self._sql(select, (tag, tag, before)).fetchall()
        return int(count)

    @contextlib.contextmanager
    def transaction(self, *, at_once: bool = False) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """What runs SQL, all of it or nothing; nobody else writes meanwhile. At once: `WouldWait` where somebody else
        writes at the moment; and what SQLite does now and then, which waits for the disk, is left to the next one."""
        self._checkpoint_after(0 if at_once else _PAGES)
        try:
            (self._con.execute if at_once else self._sql)("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if at_once and _is_busy(error):
                raise WouldWait from None
            raise
        try:
            yield self._sql
            self._sql("COMMIT")
        except BaseException:
            self.recover()
            raise

    def _checkpoint_after(self, pages: int) -> None:
        if self._connection is None or pages != self._pages:
            self._sql(f"PRAGMA wal_autocheckpoint = {pages}")
            self._pages = pages

    def _sql(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._run(self._con, statement, values)

    def _run(self, connection: sqlite3.Connection, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """SQLite's own way to wait for a lock looks ever more seldom: where many write, some never have their turn."""
        until, tries = 0.0, 0
        while True:
            try:
                return connection.execute(statement, values)
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                now, tries = time.monotonic(), tries + 1
                until = until or now + self._busy
                if now > until and tries > _TRIES:
                    raise
            time.sleep(random.uniform(*_AGAIN))

    @contextlib.contextmanager
    def _transact(self, retry: bool = False, filename: object = None) -> Iterator[tuple[Any, Any]]:  # noqa: ARG002 - diskcache's
        """diskcache's own makes a Timeout of whatever goes wrong at the beginning."""
        with self.transaction() as sql:
            yield sql, lambda _: None

    def select(self, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """The rows that a query gives."""
        rows: list[tuple[Any, ...]] = self._sql(sql, values).fetchall()
        return rows


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def is_whole(directory: Path, *, busy: float) -> bool:
    """Whether SQLite finds nothing wrong with the database, or cannot look."""
    try:
        with contextlib.closing(sqlite3.connect(directory / FILE_NAME, timeout=busy)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.Error as error:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return found == [("ok",)]
