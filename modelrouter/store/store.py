"""What a store is: JSON values with a time to live, under keys of text, and books: counters, and what is reserved.

A store may fail at any time (a full disk, a lock, a lost server). It then raises `StoreError`, soon, and it is for the
caller to go on without.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

SPENT = "spent"
"""The counter of a book that a limit is about."""


@dataclass(frozen=True, slots=True)
class Stats:
    entries: int
    """Those that have expired and are not removed yet included."""
    bytes: int
    """All that is kept takes up, whatever the tag and the age of the entries."""


@dataclass(frozen=True, slots=True)
class Balance:
    """How a book stands against its limit."""

    spent: int = 0
    """Its counter `SPENT`."""
    reserved: int = 0


class WouldWait(Exception):
    """What was to be done at once takes longer: have a thread do it."""


class Ledger(Protocol):
    """Books of counters, which are whole numbers. Safe over threads; all methods raise nothing but `StoreError`."""

    def count(
        self,
        changes: Mapping[str, Mapping[str, int]],
        *,
        once: str,
        ttl: float,
        release: Collection[str] = (),
    ) -> None:
        """Add to counters, by book and name, and end reservations: all of it, or nothing.

        A book is kept for `ttl` seconds after its last change. Told again within `ONCE` seconds with the same `once`,
        nothing is done: after a failure nobody knows whether the first time got through.
        """

    def counts(self, books: Collection[str]) -> Mapping[str, Mapping[str, int]]:
        """The counters of these books, by book and name; a book that is not there has none."""

    def reserve(
        self, reservation: str, amount: int, limits: Mapping[str, int], *, ttl: float, at_once: bool = False
    ) -> Mapping[str, Balance]:
        """Reserve an amount in each of these books, or in none of them when what is spent, what is reserved and the
        amount exceed one's limit. It ends by itself after `ttl` seconds.

        Returns how the books stood before (`granted`). An amount of 0 reserves nothing. At once, for an event loop:
        `WouldWait` where a lock, a disk or a network would have to be waited for, and nothing is done.
        """

    def renew(self, reservations: Collection[str], *, ttl: float) -> None:
        """Let these end `ttl` seconds from now. One that has ended stays so."""


ONCE = 600.0
"""Seconds for which a ledger knows again what it was told."""


def granted(amount: int, limits: Mapping[str, int], balances: Mapping[str, Balance]) -> bool:
    """Whether a reservation was made, by how the books stood before."""
    return all(balances[book].spent + balances[book].reserved + amount <= limit for book, limit in limits.items())


class Store(Ledger, Protocol):
    """A ledger, and JSON values with a time to live. `str` says where it is, without a password."""

    remote: bool = False
    """Its methods wait for a network: an event loop has a thread do it."""

    def get(self, key: str) -> Any:
        """The value, or None when there is none or its time is over."""

    def set(self, key: str, value: Any, *, ttl: float, tag: str | None = None) -> None:
        """Keep a JSON value for `ttl` seconds, in place of an earlier one. `tag` is what `clear` can go by."""

    def clear(self, *, tag: str | None = None, older_than: float = 0.0) -> int:
        """Remove values that have this tag (None: any) and were set more than so many seconds ago. Returns how many.
        The books stay."""

    def stats(self, *, tag: str | None = None, older_than: float = 0.0) -> Stats:
        """How much is kept; its entries are those that `clear` would remove with the same arguments."""

    def close(self) -> None:
        """Give back what the store holds. It can be used again."""
