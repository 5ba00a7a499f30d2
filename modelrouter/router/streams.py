"""What `Router.stream` and `Router.astream` give: an iterator over text, and the whole answer after the last piece."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, Generic, NoReturn, Self

from modelrouter.completion import Completion, Parsed
from modelrouter.planning.drivers import adrive_stream, drive_stream
from modelrouter.planning.effects import Effect, Plan


def _let_go(pieces: object) -> None:
    """Nobody else holds them now, so they are closed."""


class _Answer(Generic[Parsed]):
    """The answer, once there is one."""

    def __init__(self) -> None:
        # Not an attribute that the driver sets through self: a stream that is dropped has to be closed at once, and
        # would wait for the garbage collector if its driver referred to it.
        self._answers: list[Completion[Parsed]] = []

    def _hold(self, pieces: Generator[str, None, None] | AsyncGenerator[str, None]) -> None:
        """Keep the driver from going before the stream does. The garbage collector, where the stream is part of a cycle
        (an exception that is kept has its frame), would end the plan inside first, and nothing would be metered."""
        weakref.finalize(self, _let_go, pieces).atexit = False

    def __reduce__(self) -> NoReturn:
        raise TypeError("a stream cannot be copied or pickled; its answer can, once it has been read to its end")

    @property
    def answer(self) -> Completion[Parsed]:
        """The whole answer: text, tokens, cost, attempts. Raises RuntimeError before the last piece has been read."""
        if not self._answers:
            raise RuntimeError("the stream has not been read to its end, so there is no whole answer")
        return self._answers[0]


class Stream(_Answer[Parsed]):
    """The pieces of an answer's text, as they come. The request is sent when the first one is asked for.

    Use it in a ``with`` statement, or `close` it when it is not read to its end: the connection is closed then, and
    what was used is metered. Reading raises what `Router.complete` raises, and `StreamInterrupted` when the stream
    breaks.
    """

    def __init__(self, plan: Plan, perform: Callable[[Effect], Any]) -> None:
        super().__init__()
        self._pieces: Generator[str, None, None] = drive_stream(plan, perform, self._answers.append)
        self._hold(self._pieces)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def close(self) -> None:
        """Close the connection, if it is still open. Raises ValueError while another thread waits for a piece."""
        self._pieces.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class AsyncStream(_Answer[Parsed]):
    """`Stream` for asynchronous callers: ``async with`` and ``async for``, or `aclose`."""

    def __init__(self, plan: Plan, perform: Callable[[Effect], Awaitable[Any]]) -> None:
        super().__init__()
        self._pieces: AsyncGenerator[str, None] = adrive_stream(plan, perform, self._answers.append)
        self._hold(self._pieces)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        """Close the connection, if it is still open. Raises RuntimeError while another task waits for a piece; cancel
        that one."""
        await self._pieces.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
