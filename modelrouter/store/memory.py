"""A ledger of this process alone, and a store that keeps nothing else."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from modelrouter.process.forks import process_lock

from .store import SPENT, Balance, Ledger, Stats, Store, granted


class MemoryLedger(Ledger):
    """Books that end with the process. What it is told it is told once: nothing can go wrong on the way."""

    def __init__(self) -> None:
        self._lock = process_lock()
        self._books: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._reserved: dict[str, tuple[int, frozenset[str], float]] = {}
        """Amount, books, and until when (monotonic)."""
        self._sums = Counter[str]()
        """What is reserved, by book."""

    def count(
        self,
        changes: Mapping[str, Mapping[str, int]],
        *,
        once: str = "",  # noqa: ARG002 - as the protocol's
        ttl: float = 0.0,  # noqa: ARG002
        release: Collection[str] = (),
    ) -> None:
        with self._lock:
            for book, names in changes.items():
                self._books[book].update(names)
            for reservation in release:
                self._end(reservation)

    def counts(self, books: Collection[str]) -> Mapping[str, Mapping[str, int]]:
        with self._lock:
            return {book: dict(self._books.get(book, ())) for book in books}

    def reserve(
        self,
        reservation: str,
        amount: int,
        limits: Mapping[str, int],
        *,
        ttl: float,
        at_once: bool = False,  # noqa: ARG002
    ) -> Mapping[str, Balance]:
        now = time.monotonic()
        with self._lock:
            for ended in [name for name, (*_, until) in self._reserved.items() if until <= now]:
                self._end(ended)
            spent = {book: self._books[book][SPENT] if book in self._books else 0 for book in limits}
            balances = {book: Balance(spent[book], self._sums[book]) for book in limits}
            if amount and granted(amount, limits, balances):
                self._reserved[reservation] = amount, frozenset(limits), now + ttl
                self._sums.update(dict.fromkeys(limits, amount))
            return balances

    def renew(self, reservations: Collection[str], *, ttl: float) -> None:
        until = time.monotonic() + ttl
        with self._lock:
            for name in reservations & self._reserved.keys():
                amount, books, _ = self._reserved[name]
                self._reserved[name] = amount, books, until

    def _end(self, reservation: str) -> None:
        amount, books, _ = self._reserved.pop(reservation, (0, frozenset[str](), 0.0))
        self._sums.subtract(dict.fromkeys(books, amount))


class NullStore(MemoryLedger, Store):
    """Keeps no values, and its books for this process."""

    def get(self, key: str) -> None:  # noqa: ARG002 - the protocol's
        return None

    def set(self, key: str, value: object, *, ttl: float, tag: str | None = None) -> None:
        """Forget the value at once."""

    def clear(self, *, tag: str | None = None, older_than: float = 0.0) -> int:  # noqa: ARG002 - the protocol's
        return 0

    def stats(self, *, tag: str | None = None, older_than: float = 0.0) -> Stats:  # noqa: ARG002 - the protocol's
        return Stats(0, 0)

    def close(self) -> None:
        """Nothing is held."""
