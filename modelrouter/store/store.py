"""What a store is: JSON values with a time to live, under keys of text, and counters.

A store may fail at any time (a full disk, a lock, a lost server). It then raises `StoreError`, soon, and it is for the
caller to go on without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Stats:
    entries: int
    """Those that have expired and are not removed yet included."""
    bytes: int
    """On the disk, whatever the tag and the age of the entries."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """All that `Store.count` was ever told, by name."""


class Store(Protocol):
    """JSON values with a time to live. Safe over threads; all methods raise nothing but `StoreError`."""

    def get(self, key: str) -> Any:
        """The value, or None when there is none or its time is over."""

    def set(self, key: str, value: Any, *, ttl: float, tag: str | None = None) -> None:
        """Keep a JSON value for `ttl` seconds, in place of an earlier one. `tag` is what `clear` can go by."""

    def clear(self, *, tag: str | None = None, older_than: float = 0.0) -> int:
        """Remove what has this tag (None: any) and was set more than so many seconds ago. Returns how many."""

    def count(self, changes: Mapping[str, int]) -> None:
        """Add to counters that outlive the process. `clear` leaves them."""

    def stats(self, *, tag: str | None = None, older_than: float = 0.0) -> Stats:
        """How much is kept; its entries are those that `clear` would remove with the same arguments."""

    def close(self) -> None:
        """Give back what the store holds. It can be used again."""


class NullStore:
    """Keeps nothing."""

    def get(self, key: str) -> None:  # noqa: ARG002 - the protocol's
        return None

    def set(self, key: str, value: Any, *, ttl: float, tag: str | None = None) -> None:
        """Forget the value at once."""

    def clear(self, *, tag: str | None = None, older_than: float = 0.0) -> int:  # noqa: ARG002 - the protocol's
        return 0

    def count(self, changes: Mapping[str, int]) -> None:
        """Forget the changes at once."""

    def stats(self, *, tag: str | None = None, older_than: float = 0.0) -> Stats:  # noqa: ARG002 - the protocol's
        return Stats(0, 0)

    def close(self) -> None:
        """Nothing is held."""
