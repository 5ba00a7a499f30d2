"""A store in a Redis, or a Valkey, that many machines share: what is kept under which names, and what a failure means.

All names begin with `PREFIX`, whose braces have a cluster keep them on one node:

- ``value:KEY`` is a value, which ends by itself; ``index`` has of each when it was set, when it ends, its length and
  its tag, and ``ends`` has them by when they end.
- ``book:BOOK`` are a book's counters. ``told:ONCE`` marks what was counted.
- ``held`` has the amount and the books of each reservation, ``until`` has them by when they end, and ``reserved`` the
  sum in each book.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from modelrouter.errors import StoreError
from modelrouter.process.forks import process_lock

from . import scripts
from .store import ONCE, SPENT, Balance, Stats, Store, WouldWait
from .values import Damaged, Refused, from_text, to_text

if TYPE_CHECKING:
    from .connections import Connections

T = TypeVar("T")

PREFIX = "modelrouter:{1}:"
REST = 5.0
"""Seconds for which a server that has just kept a call waiting, or is not there, is not tried again."""
TRY = 0.5
"""Seconds that the one call may take that tries it again."""
BATCH = 500
"""Values that are removed in one step."""

_LASTING = frozenset(("unreachable", "timeout", "nonsense", "refused_login", "loading"))
_LONGEST = 2.0**52
_INDEX, _ENDS = f"{PREFIX}index", f"{PREFIX}ends"
_RESERVATIONS = (f"{PREFIX}until", f"{PREFIX}held", f"{PREFIX}reserved")


class RedisStore(Store):
    """Values as JSON text, and books, in a Redis 5 or newer. Safe over threads, processes, machines and forks.

    `address` is ``redis://``, ``rediss://`` (TLS) or ``unix://``, with user, password and database as redis-py reads
    them. It needs the extra: ``pip install 'modelrouter[redis]'``. Raises StoreError without it, or for an address that
    is none.

    Nothing is connected before the first use. What calls wait for fails within half a second, and then at once for
    `REST` seconds; after them one call tries again.
    """

    remote = True

    def __init__(self, address: str) -> None:
        self._lock = process_lock()
        self._rest: tuple[float, str, str] | None = None
        """Until when (monotonic) the server is not tried again, with the reason and the message."""
        try:
            self._connections = _connections(address)
        except ImportError as error:
            if (error.name or "").partition(".")[0] != "redis":
                raise
            failed = "not_installed", "a store in a Redis needs redis-py: pip install 'modelrouter[redis]'"
        except ValueError as error:
            failed = "no_address", f"the store's address {error}"
        else:
            return
        raise StoreError(*failed)

    def __str__(self) -> str:
        return str(self._connections)

    def get(self, key: str) -> Any:
        """As the protocol's. For what nobody here has written StoreError: it is never run."""
        return self._use(
            lambda redis: None if (said := _ask(redis, "GET", _value(key))) is None else from_text(key, _text(said))
        )

    def set(self, key: str, value: Any, *, ttl: float, tag: str | None = None) -> None:
        """As the protocol's, for a value other than null. Raises StoreError, also for one that is not JSON."""
        text = to_text(key, value)
        about = f"{len(text)}" if tag is None else f"{len(text)} {tag}"
        self._run(scripts.SET, (_value(key), _INDEX, _ENDS), text, _milliseconds(ttl), key, about)

    def clear(self, *, tag: str | None = None, older_than: float = 0.0) -> int:
        found = [one for one in self._index() if one.is_meant(tag, older_than)]
        count = 0
        for first in range(0, len(found), BATCH):
            batch = found[first : first + BATCH]
            keys = (_INDEX, _ENDS, *(_value(one.key) for one in batch))
            about = chain.from_iterable((one.key, one.said) for one in batch)
            count += self._run(scripts.CLEAR, keys, *about, patient=True)
        return count

    def stats(self, *, tag: str | None = None, older_than: float = 0.0) -> Stats:
        kept = [one for one in self._index() if not one.ended]
        return Stats(sum(one.is_meant(tag, older_than) for one in kept), sum(one.size for one in kept))

    def count(
        self, changes: Mapping[str, Mapping[str, int]], *, once: str, ttl: float, release: Collection[str] = ()
    ) -> None:
        keys = (f"{PREFIX}told:{once}", *_RESERVATIONS, *map(_book, changes))
        told = chain.from_iterable((len(names), *chain.from_iterable(names.items())) for names in changes.values())
        self._run(scripts.COUNT, keys, _milliseconds(ONCE), _milliseconds(ttl), len(release), *release, *told)

    def counts(self, books: Collection[str]) -> Mapping[str, Mapping[str, int]]:
        def read(redis: Any) -> dict[str, dict[str, int]]:
            redis.send_packed_command(redis.pack_commands([("HGETALL", _book(book)) for book in books]))
            replies = [_pairs(redis.read_response()) for _ in books]
            return {
                book: {name: _number(count) for name, count in reply.items()}
                for book, reply in zip(books, replies, strict=True)
            }

        return self._use(read, patient=True)

    def reserve(
        self, reservation: str, amount: int, limits: Mapping[str, int], *, ttl: float, at_once: bool = False
    ) -> Mapping[str, Balance]:
        if at_once:
            raise WouldWait
        keys = (*_RESERVATIONS, *map(_book, limits))
        asked = (reservation, amount, _milliseconds(ttl), SPENT, *chain.from_iterable(limits.items()))

        def read(redis: Any) -> dict[str, Balance]:
            balances = map(_list, _list(_ask(redis, "EVAL", scripts.RESERVE, len(keys), *keys, *asked)))
            return {book: Balance(*map(_number, one)) for book, one in zip(limits, balances, strict=True)}

        return self._use(read)

    def renew(self, reservations: Collection[str], *, ttl: float) -> None:
        self._run(scripts.RENEW, _RESERVATIONS[:1], _milliseconds(ttl), *reservations)

    def close(self) -> None:
        """Close the connections, and forget what was wrong. The next use connects again."""
        self._connections.close()
        self._rest = None

    def _run(self, script: str, keys: Collection[str], *arguments: object, patient: bool = False) -> int:
        command = ("EVAL", script, len(keys), *keys, *arguments)
        return self._use(lambda redis: _whole(_ask(redis, *command)), patient=patient)

    def _index(self) -> Collection[_Entry]:
        """What the index says, a part at a time, so that nobody has to wait for all of it."""
        seconds, micros = self._use(lambda redis: [_number(said) for said in _list(_ask(redis, "TIME"))])
        now = seconds + micros / 1e6
        cursor, entries = b"0", dict[str, _Entry]()

        def read(redis: Any) -> bytes:
            at, pairs = _list(_ask(redis, "HSCAN", _INDEX, cursor, "COUNT", BATCH))
            entries.update((key, _entry(key, said, now)) for key, said in _pairs(pairs).items())
            return bytes(at)

        while (cursor := self._use(read, patient=True)) != b"0":
            pass
        return entries.values()

    def _use(self, operation: Callable[[Any], T], *, patient: bool = False) -> T:
        """What it gives with a connection of redis-py's. Patient: no call waits for it."""
        if self._rest is not None:
            self._keep_resting()
        try:
            with self._connections.one(patient=patient) as redis:
                found = operation(redis)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not fail a call
            failed = self._failed(error)
        else:
            self._rest = None
            return found
        raise failed  # out here, so that it does not refer to an exception that may quote a value or a password

    def _keep_resting(self) -> None:
        """Raises StoreError, but to one call when the time is over: the others wait for what comes of it."""
        with self._lock:
            if self._rest is None:
                return
            until, reason, message = self._rest
            if (now := time.monotonic()) < until:
                raise StoreError(reason, message)
            self._rest = now + TRY, reason, message

    def _failed(self, error: Exception) -> StoreError:
        from .connections import meaning

        match error:
            case Damaged():
                reason, what = "damaged_value", "holds a damaged value"
            case Refused():
                reason, what = "refused_value", f"holds a value that modelrouter has not written ({error})"
            case _:
                reason, what = meaning(error)
        message = f"the store at {self} {what}."
        self._rest = (time.monotonic() + REST, reason, message) if reason in _LASTING else None
        return StoreError(reason, message)


def _connections(address: str) -> Connections:
    from .connections import Connections

    return Connections(address)


# -- names and numbers


def _value(key: str) -> str:
    return f"{PREFIX}value:{key}"


def _book(name: str) -> str:
    return f"{PREFIX}book:{name}"


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(min(seconds * 1000, _LONGEST)))


# -- what a server says, which may be anything


class _Entry(NamedTuple):
    """Of the index."""

    key: str
    said: str
    age: float
    """Seconds."""
    ended: bool
    size: int
    """Bytes."""
    tag: str | None

    def is_meant(self, tag: str | None, older_than: float) -> bool:
        return (tag is None or tag == self.tag) and (not older_than or self.age > older_than)


def _entry(key: str, said: str, now: float) -> _Entry:
    at, ends, size, *tag = said.split(" ", 3)
    return _Entry(key, said, now - int(at) / 1000, int(ends) <= now * 1000, int(size), tag[0] if tag else None)


def _ask(redis: Any, *command: object) -> Any:
    redis.send_command(*command)
    return redis.read_response()


def _whole(reply: object) -> int:
    if not isinstance(reply, int):
        raise TypeError
    return reply


def _list(reply: object) -> list[Any]:
    if not isinstance(reply, list):
        raise TypeError
    return reply


def _text(reply: object) -> str:
    if not isinstance(reply, bytes):
        raise TypeError
    try:
        return reply.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise Refused("it is not text") from None


def _number(said: Any) -> int:
    try:
        return int(said)
    except ValueError:
        raise Refused("it is no number") from None


def _pairs(reply: object) -> dict[str, str]:
    texts = [_text(each) for each in _list(reply)]
    return dict(zip(texts[::2], texts[1::2], strict=True))
