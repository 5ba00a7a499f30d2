"""Identical calls in flight, in every order of events: plans as data, on one clock, sharing the real flights.

Nobody hangs, whoever is cancelled, fails or runs out of time at whatever moment.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelrouter.cache.single_flight import Flight, Flights
from modelrouter.catalog.target import ModuleSettings, Target
from modelrouter.completion import Attempt, Completion, Kind, Usage
from modelrouter.errors import AllModelsFailed, BadRequest
from modelrouter.planning.call import Call
from modelrouter.planning.effects import (
    Effect,
    Interrupted,
    Join,
    Load,
    Plan,
    Publish,
    ReadCache,
    Remembered,
    Report,
    Send,
    Sleep,
    Wait,
    WriteCache,
)
from modelrouter.planning.events import CallEnded
from modelrouter.planning.exchange import Failure, Obstacle, Reply, Request
from modelrouter.planning.plan import plan
from modelrouter.planning.progress import SHORTEST

CHAIN = tuple(Target(name, f"openai/{name}", "openai") for name in ("primary", "fallback"))
ASKED = Request(({"role": "user", "content": "hi"},))
BLOCKING = (Wait, Send, WriteCache, Load, Sleep)
"""Where a task can be cancelled."""
STEPS = 2000
TIMEOUT = 2.0


class Facts:
    def obstacle(self, target: Target, request: Request) -> Obstacle | None:
        return None

    def capped(self) -> bool:
        return False

    def set_aside(self, target: Target, now: float) -> None:
        """Never."""

    def context_window(self, target: Target) -> int | None:
        return None

    def cost(self, target: Target, usage: Usage | None) -> Decimal | None:
        return None if usage is None else Decimal(1)


@dataclass(eq=False)
class Caller:
    """One call, and how far it is."""

    plan: Plan
    end: float
    """When its deadline is over."""
    effect: Effect
    since: float = 0.0
    due: float = 0.0
    """When what it waits for is there, or its time is up."""
    outcome: Any = None
    """Of the request under way."""
    excused: bool = False
    """It was cancelled, or had less time for its last request than the module gives: others have to ask themselves."""
    leads: Flight | None = None
    joined: list[Flight] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)
    answer: Completion | None = None
    error: BaseException | None = None

    @property
    def over(self) -> bool:
        return self.answer is not None or self.error is not None


class World:
    """One clock, one store and the flights, for several callers whose turns `choose` decides on."""

    def __init__(self, choose: Callable[[Sequence[Any]], Any]) -> None:
        self.choose = choose
        self.now = 0.0
        self.flights = Flights()
        self.kept: dict[str, Remembered] = {}
        self.callers: list[Caller] = []
        self.sent: Counter[Flight] = Counter()

    def start(self, deadline: float, retries: int) -> None:
        limits = ModuleSettings(timeout=TIMEOUT, deadline=deadline, retries=retries)
        job = Call("scorer", CHAIN, ASKED, limits, cache="use")
        running = plan(job, Facts(), now=self.now, random=lambda: 0.5)
        caller = Caller(running, self.now + deadline, next(running))
        self.callers.append(caller)
        self._begin(caller)

    def run(self) -> None:
        """Until all calls have ended: at each step one of those goes on that can, or is cancelled, or time passes."""
        for _ in range(STEPS):
            waiting = [caller for caller in self.callers if not caller.over]
            if not waiting:
                return
            ready = [caller for caller in waiting if self._ready(caller)]
            cancellable = [caller for caller in waiting if isinstance(caller.effect, BLOCKING)]
            moves: list[tuple[str, Caller | None]] = [("go on", caller) for caller in ready] * 3
            moves += [("cancel", caller) for caller in cancellable]
            if any(caller.due > self.now for caller in waiting):
                moves.append(("wait", None))
            move, caller = self.choose(moves)
            if caller is None:
                self.now = min(caller.due for caller in waiting if caller.due > self.now)
            elif move == "cancel":
                self._send(caller, self._cancel(caller))
            else:
                self._send(caller, self._perform(caller))
        pytest.fail(f"they hang: {[caller.effect for caller in self.callers if not caller.over]}")

    def abandon(self) -> None:
        """End what is under way: a plan is never dropped between two effects."""
        for caller in self.callers:
            while not caller.over:
                self._step(
                    caller, self._cancel(caller) if isinstance(caller.effect, BLOCKING) else self._perform(caller)
                )

    def _cancel(self, caller: Caller) -> Interrupted:
        caller.excused = True
        return Interrupted(asyncio.CancelledError())

    def _begin(self, caller: Caller) -> None:
        """An effect is under way: when will it be done?"""
        caller.due = caller.since = self.now
        if isinstance(caller.effect, Wait | Send):
            left = max(SHORTEST, caller.end - self.now)
            assert caller.effect.within <= left + 1e-9, "it would be kept beyond its deadline"
        match caller.effect:
            case Send(target, _, within):
                assert all(
                    other is caller or not isinstance(other.effect, Send) or other.effect.target is not target
                    for other in self.callers
                    if not other.over
                ), f"{target.name} is asked the same by two at once"
                assert caller.leads is not None
                caller.asked.append(target.name)
                self.sent[caller.leads] += 1
                caller.outcome = self.choose(OUTCOMES)
                slow = isinstance(caller.outcome, Failure) and caller.outcome.kind is Kind.TIMEOUT
                caller.excused = slow and within < TIMEOUT
                caller.due += within if slow else min(within, self.choose((0.0, 0.5, 1.5)))
            case Wait(_, within):
                caller.due += within
            case Sleep(seconds):
                caller.due += seconds

    def _ready(self, caller: Caller) -> bool:
        return caller.due <= self.now or (isinstance(caller.effect, Wait) and caller.effect.flight.outcome.done())

    def _perform(self, caller: Caller) -> Any:
        match caller.effect:
            case ReadCache(_, target):
                return target.name, self.kept.get(target.name)
            case Join(key):
                flight, leads = self.flights.join(key, blocking=False)
                if leads:
                    caller.leads = flight
                else:
                    caller.joined.append(flight)
                return flight, leads
            case Wait(flight, _):
                return flight.outcome.result() if flight.outcome.done() else Interrupted(TimeoutError())
            case Publish(flight, outcome):
                assert caller.excused or outcome is not None, "what came of it is kept from those who wait"
                assert not caller.excused or not isinstance(outcome, Failure), "it takes those who wait with it"
                caller.leads = None
                self.flights.publish(flight, outcome)
            case Send():
                return caller.outcome
            case Load():  # which is not charged to the deadline
                caller.end += self.now - caller.since
            case WriteCache(_, key, reply, cost, _):
                self.kept[key] = Remembered(reply, cost, self.now, "scorer")
            case Report(_, record):
                caller.told.append(record)
        return None

    def _send(self, caller: Caller, result: Any) -> None:
        self._step(caller, result)
        if not caller.over:
            self._begin(caller)

    def _step(self, caller: Caller, result: Any) -> None:
        try:
            caller.effect = caller.plan.send((result, self.now))
        except StopIteration as done:
            caller.answer = done.value
        except BaseException as error:  # noqa: BLE001 - cancellation among them
            caller.error = error


OUTCOMES = (
    Reply("fine", Usage(10, 5), "stop"),
    Reply("cut off, so not remembered", Usage(10, 5), "length"),
    Reply("", Usage(10, 0), "stop"),
    *(
        Failure(kind, str(kind))
        for kind in (Kind.SERVER, Kind.AUTH, Kind.TIMEOUT, Kind.CONTEXT_WINDOW, Kind.BAD_REQUEST)
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    data=st.data(),
    calls=st.lists(st.tuples(st.sampled_from([0.1, 1.0, 5.0]), st.integers(0, 1)), min_size=2, max_size=5),
)
def test_in_any_order_each_call_ends_and_nobody_repeats_a_leaders_failure(
    data: st.DataObject, calls: list[tuple[float, int]]
) -> None:
    world = World(lambda options: data.draw(st.sampled_from(options)))
    try:
        for deadline, retries in calls:
            world.start(deadline, retries)
        world.run()
    finally:
        world.abandon()
    assert not world.flights._flights, "a flight that nobody lands"
    most = max(retries for _, retries in calls)
    assert all(times <= 1 + most for times in world.sent.values()), "a flight asks its model more than once"
    for caller in world.callers:
        assert isinstance(caller.answer, Completion) or isinstance(
            caller.error, (AllModelsFailed, BadRequest, asyncio.CancelledError)
        ), caller.error
        assert [type(record) for record in caller.told].count(CallEnded) == 1
        for flight in caller.joined:
            assert flight.outcome.done()
            if isinstance(flight.outcome.result(), (Remembered, Failure)):
                waited = [
                    record for record in caller.told if isinstance(record, Attempt) and record.model == flight.key
                ]
                assert all(record.outcome in ("cached", "skipped") for record in waited), (
                    "a leader's failure is repeated"
                )
