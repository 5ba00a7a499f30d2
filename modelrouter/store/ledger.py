"""The books of a store on disk: SQL, in diskcache's database, for one thread at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from .store import ONCE, SPENT, Balance, granted

if TYPE_CHECKING:
    from .database import Database

TABLES = """
CREATE TABLE IF NOT EXISTS Book (name TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS Counter (book TEXT, name TEXT, total INTEGER NOT NULL, PRIMARY KEY (book, name))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS Reservation (name TEXT, book TEXT, amount INTEGER NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (book, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS Told (once TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
"""


def count(
    database: Database,
    changes: Mapping[str, Mapping[str, int]],
    once: str,
    ttl: float,
    release: Collection[str],
    *,
    tidy: bool,
) -> None:
    """As `Ledger.count`. Tidy: also remove what has ended."""
    now = time.time()
    add = "INSERT INTO Counter VALUES (?, ?, ?) ON CONFLICT (book, name) DO UPDATE SET total = total + excluded.total"
    keep = "INSERT INTO Book VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET until = max(until, excluded.until)"
    with database.transaction() as sql:
        if not sql("INSERT OR IGNORE INTO Told VALUES (?, ?)", (once, now + ONCE)).rowcount:
            return
        for book, names in changes.items():
            sql(keep, (book, now + ttl))
            for name, change in names.items():
                sql(add, (book, name, change))
        if release:
            sql("DELETE FROM Reservation WHERE name IN (SELECT value FROM json_each(?))", (json.dumps(list(release)),))
        if tidy:
            sql("DELETE FROM Told WHERE until < ?", (now,))
            sql("DELETE FROM Reservation WHERE until < ?", (now,))
            sql("DELETE FROM Counter WHERE book IN (SELECT name FROM Book WHERE until < ?)", (now,))
            sql("DELETE FROM Book WHERE until < ?", (now,))


def counts(database: Database, books: Collection[str]) -> Mapping[str, Mapping[str, int]]:
    """As `Ledger.counts`."""
    select = "SELECT name, total FROM Counter WHERE book = ?"
    return {book: dict(database.select(select, (book,))) for book in books}


def reserve(
    database: Database, name: str, amount: int, limits: Mapping[str, int], ttl: float, *, at_once: bool
) -> Mapping[str, Balance]:
    """As `Ledger.reserve`."""
    balances = _balances(database, limits)
    if not amount or not granted(amount, limits, balances):  # for which nobody has to wait for a lock
        return balances
    with database.transaction(at_once=at_once) as sql:
        balances = _balances(database, limits)  # nobody else writes meanwhile
        if granted(amount, limits, balances):
            put = "INSERT OR REPLACE INTO Reservation SELECT ?, value, ?, ? FROM json_each(?)"
            sql(put, (name, amount, time.time() + ttl, json.dumps(list(limits))))
    return balances


def renew(database: Database, names: Collection[str], ttl: float) -> None:
    """As `Ledger.renew`."""
    now = time.time()
    with database.transaction() as sql:
        for name in names:
            sql("UPDATE Reservation SET until = ? WHERE name = ? AND until > ?", (now + ttl, name, now))


_STANDING = """
SELECT value,
    coalesce((SELECT total FROM Counter WHERE book = value AND name = ?), 0),
    (SELECT coalesce(sum(amount), 0) FROM Reservation WHERE book = value AND until > ?)
FROM json_each(?)
"""


def _balances(database: Database, books: Collection[str]) -> Mapping[str, Balance]:
    rows = database.select(_STANDING, (SPENT, time.time(), json.dumps(list(books))))
    return {book: Balance(spent, reserved) for book, spent, reserved in rows}
