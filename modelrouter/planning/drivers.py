"""What has a plan's effects performed: one loop for synchronous callers, one for asynchronous ones, no decisions.

A call is a stream that emits nothing.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

from modelrouter.completion import Completion

from .effects import Effect, Emit, Interrupted, Plan, StreamClosed


def drive(plan: Plan, perform: Callable[[Effect], Any]) -> Completion[Any]:
    """Perform the effects of a call, synchronously: its answer."""
    answers: list[Completion[Any]] = []
    for _ in drive_stream(plan, perform, answers.append):
        pass
    return answers[0]


async def adrive(plan: Plan, perform: Callable[[Effect], Awaitable[Any]]) -> Completion[Any]:
    """`drive`, asynchronously."""
    answers: list[Completion[Any]] = []
    async for _ in adrive_stream(plan, perform, answers.append):
        pass
    if not answers:
        raise GeneratorExit  # the coroutine was closed
    return answers[0]


def drive_stream(
    plan: Plan, perform: Callable[[Effect], Any], ended: Callable[[Completion[Any]], None]
) -> Generator[str, None, None]:
    """Perform a plan's effects and yield the pieces that it emits; `ended` is given the answer after the last one.

    Closing the generator, or dropping it, has the plan close the stream and meter what it used.
    """
    effect: Effect | None = next(plan)
    while effect is not None:
        try:
            result = (yield effect.text) if isinstance(effect, Emit) else perform(effect)
        except BaseException as error:  # noqa: BLE001 - the plan meters it and raises it again
            result = _interrupted(error)
        effect = _after(plan, result, ended)


async def adrive_stream(
    plan: Plan, perform: Callable[[Effect], Awaitable[Any]], ended: Callable[[Completion[Any]], None]
) -> AsyncGenerator[str, None]:
    """`drive_stream`, asynchronously."""
    effect: Effect | None = next(plan)
    while effect is not None:
        try:
            result = (yield effect.text) if isinstance(effect, Emit) else await perform(effect)
        except BaseException as error:  # noqa: BLE001 - as above
            result = _interrupted(error)
        effect = _after(plan, result, ended)


def _interrupted(error: BaseException) -> Interrupted:
    return Interrupted(StreamClosed() if isinstance(error, GeneratorExit) else error)


def _after(plan: Plan, result: Any, ended: Callable[[Completion[Any]], None]) -> Effect | None:
    """What the plan wants after this result; None: it is over."""
    try:
        return plan.send((result, time.monotonic()))
    except StopIteration as done:
        ended(done.value)
    except StreamClosed:
        pass
    return None
