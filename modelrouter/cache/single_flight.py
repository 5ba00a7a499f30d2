"""Identical requests that are in flight at the same time are sent once: one caller leads, the others follow."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeAlias

from modelrouter.planning.exchange import Failure, Remembered
from modelrouter.process.forks import process_lock

Outcome: TypeAlias = Remembered | Failure | None
"""What a leader brings home for everybody: an answer, its model's failure, or nothing, because it went away itself."""


@dataclass(frozen=True, eq=False)
class Flight:
    """One request under way."""

    key: str
    thread: int = field(default_factory=threading.get_ident)
    """The leader's."""
    process: int = field(default_factory=os.getpid)
    outcome: Future[Outcome] = field(default_factory=Future, repr=False)

    def wait(self, within: float) -> Outcome:
        """The outcome, for a synchronous follower. Raises TimeoutError."""
        return self.outcome.result(within)

    async def await_(self, within: float) -> Outcome:
        """The outcome, for an asynchronous follower. Raises TimeoutError."""
        async with asyncio.timeout(within):
            # Shielded: a follower that goes away must not cancel the flight for the others.
            return await asyncio.shield(asyncio.wrap_future(self.outcome))


class Flights:
    """The flights of a router, by cache key."""

    def __init__(self) -> None:
        self._lock = process_lock()
        self._flights: dict[str, Flight] = {}

    def join(self, key: str, *, blocking: bool) -> tuple[Flight, bool]:
        """The flight for `key`, and whether the caller leads it. `blocking`: the caller would block its thread to wait.

        A caller that would block the very thread on which the leader's event loop runs leads a flight of its own: the
        two would wait for each other.
        """
        with self._lock:
            flight = self._flights.get(key)
            if flight is None or flight.process != os.getpid():  # in a forked child its parent's leaders are missing
                flight = self._flights[key] = Flight(key)
                return flight, True
        if blocking and flight.thread == threading.get_ident():
            return Flight(key), True
        return flight, False

    def publish(self, flight: Flight, outcome: Outcome) -> None:
        """The leader is back. With None, the followers join again and one of them leads."""
        with self._lock:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
        if not flight.outcome.done():
            flight.outcome.set_result(outcome)
