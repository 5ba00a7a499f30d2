"""What DSPy asks for each request: its contract for engines, on the router.

One canonical request in, one answer out; planning, retries, the cache and the books are the router's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import Any

from dspy import lm15

from modelrouter.catalog.target import Target
from modelrouter.planning.arguments import NOT_SAID, Arguments
from modelrouter.planning.drivers import adrive, drive
from modelrouter.planning.effects import Plan
from modelrouter.planning.exchange import Recalled, Thinking
from modelrouter.router.default import get_router
from modelrouter.router.performer import Performer
from modelrouter.router.streams import AsyncStream, Stream

from .calls import Call, current
from .failures import as_dspy_knows_it, silent
from .translation import asked, event_of, response_of, rest_of

_HINTS: Mapping[str, Any] = {"response_format": {"type": "json_object"}, "reasoning_effort": "low"}
"""What DSPy itself asks for, of a model like the first of the chain. The prompt asks for JSON in words too, and whoever
cannot tell its reasoning can still answer."""


@dataclass(frozen=True)
class _Base:
    """One request in, one answer out: DSPy's contract for engines."""

    module: str
    pinned: str | tuple[str, ...] | None

    @property
    def primary(self) -> Target:
        return get_router().catalog.resolve(self.module, self.pinned).chain[0]

    def plan(self, request: lm15.Request, call: Call, *, stream: bool = False) -> tuple[Plan, Performer]:
        """What is to be performed for it, and by whom."""
        key = call.arguments.get("cache_key")
        if call.rollout is not None or call.candidate:
            extra = f"dspy rollout {call.rollout} candidate {call.candidate}"
            key = extra if key is None else f"{key} {extra}"
        call.candidate += 1
        wanted = asked(request, call.filenames)
        own = getattr(call.lm, "kwargs", {})
        arguments = {"module": self.module, "model": self.pinned, **wanted, **call.arguments, "cache_key": key}
        together = Arguments(
            **{name: value for name, value in arguments.items() if name in _ASKED},
            params={name: value for name, value in arguments.items() if name not in _ASKED},
            mends=True,
            optional=frozenset(name for name, value in _HINTS.items() if wanted.get(name) == value != own.get(name)),
        )
        router = get_router()
        return router.plan(together, stream=stream, thinking=stream), router.performer


class Engine(_Base):
    def complete(self, request: lm15.Request) -> lm15.Response:
        call = current.get() or Call()
        try:
            with as_dspy_knows_it(call):
                plan, performer = self.plan(request, call)
                return response_of(drive(plan, performer.performing(self.module)), call)
        except lm15.ProviderError as error:
            return silent(error, request, call)

    def stream(self, request: lm15.Request) -> Iterator[Any]:
        call = current.get() or Call()
        yield lm15.StreamStartEvent(model=request.model)
        thought = False
        with as_dspy_knows_it(call):
            plan, performer = self.plan(request, call, stream=True)
            with Stream(plan, performer.performing(self.module)) as pieces:
                for piece in pieces:
                    thought = thought or isinstance(piece, Thinking)
                    with call.unseen() if isinstance(piece, Recalled) else nullcontext():
                        yield event_of(piece)
                response = response_of(pieces.answer, call)
        with call.unseen() if pieces.answer.cached else nullcontext():
            yield from rest_of(response, thought=thought)

    def close(self) -> None:
        """The router stays open: it is the whole process's."""


class AsyncEngine(_Base):
    async def complete(self, request: lm15.Request) -> lm15.Response:
        call = current.get() or Call()
        try:
            with as_dspy_knows_it(call):
                plan, performer = self.plan(request, call)
                return response_of(await adrive(plan, performer.aperforming(self.module)), call)
        except lm15.ProviderError as error:
            return silent(error, request, call)

    async def stream(self, request: lm15.Request) -> AsyncIterator[Any]:
        call = current.get() or Call()
        yield lm15.StreamStartEvent(model=request.model)
        thought = False
        with as_dspy_knows_it(call):
            plan, performer = self.plan(request, call, stream=True)
            async with AsyncStream(plan, performer.aperforming(self.module)) as pieces:
                async for piece in pieces:
                    thought = thought or isinstance(piece, Thinking)
                    with call.unseen() if isinstance(piece, Recalled) else nullcontext():
                        yield event_of(piece)
                response = response_of(pieces.answer, call)
        with call.unseen() if pieces.answer.cached else nullcontext():
            for event in rest_of(response, thought=thought):
                yield event

    async def aclose(self) -> None:
        """The router stays open: it is the whole process's."""


_ASKED = frozenset(each.name for each in fields(Arguments)) - NOT_SAID
