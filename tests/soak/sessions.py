"""Random sessions: a few calls, one after the other, over a chain of models that answer and fail as scripted.

All of it follows from a seed, so a session that fails can be had again. ``tests/whole/test_books.py`` and ``make soak``
share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import product
from random import Random
from typing import Any, Literal

from servers import Answer, Break, Drip, Drop, Fault, Garbage, Hang, Known, Reply, ScriptedServer, ToolUse

from modelrouter.completion import Usage

__all__ = ["Call", "Member", "Session", "catalog", "environment", "session"]

SET, UNSET = "BOOKS_KEY", "BOOKS_KEY_UNSET"
TIMEOUT = 0.25
"""Seconds of one attempt, and of the gap between two pieces."""
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]

Way = Literal["thread", "loop", "runs"]
"""Synchronous, on a thread; on an event loop with others; each call in an ``asyncio.run`` of its own."""


@dataclass(frozen=True)
class Member:
    """A model of the catalog."""

    name: str
    wire: Literal["openai", "anthropic", "ollama"]
    has_key: bool
    price: Mapping[str, Decimal] = field(compare=False)
    """As in the catalog: US dollars per million tokens."""

    def cost(self, usage: Usage) -> Decimal:
        """US dollars, by arithmetic of our own."""
        fresh = usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens
        return (
            fresh * self.price["input"]
            + usage.cache_read_tokens * self.price["cache_read"]
            + usage.cache_write_tokens * self.price["cache_write"]
            + usage.output_tokens * self.price["output"]
        ) / 1_000_000


@dataclass(frozen=True)
class Call:
    stream: bool
    deadline: float
    retries: int
    tools: bool
    leave_after: int | None
    """Pieces of a stream after which it is left; None: it is read to its end."""
    leave_by: Literal["close", "drop", "cancel"]
    cancel_after: float | None
    """Seconds after which the task is cancelled."""

    @property
    def arguments(self) -> dict[str, Any]:
        limits: dict[str, Any] = {"deadline": self.deadline, "retries": self.retries}
        return limits | ({"tools": TOOLS} if self.tools else {})


@dataclass(frozen=True)
class Session:
    seed: int
    way: Way
    chain: tuple[Member, ...]
    scripts: Mapping[str, tuple[Answer, ...]]
    """By model; the last answer repeats."""
    calls: tuple[Call, ...]

    def answer(self, model: str, number: int) -> Answer:
        """What the `number`th request to `model` is answered."""
        script = self.scripts[model]
        return script[min(number, len(script) - 1)]


def members(slot: int) -> list[Member]:
    """The models that the sessions of one slot choose from; no two slots share one, so each request is accounted for
    by itself."""
    return [
        Member(
            name=f"{wire}-{slot}-{number}",
            wire=wire,  # type: ignore[arg-type]
            has_key=(wire, number) != ("anthropic", 1),
            price={
                "input": Decimal("1.37") + number,
                "output": Decimal("7.0001") * (number + 1),
                "cache_read": Decimal("0.137"),
                "cache_write": Decimal("1.7125"),
            },
        )
        for wire, number in product(("openai", "anthropic", "ollama"), range(2))
    ]


def catalog(server: ScriptedServer, slots: int) -> dict[str, Any]:
    """All models of all slots, as the YAML has them."""
    models = {
        member.name: getattr(server, member.wire)(
            member.name,
            price={kind: float(dollars) for kind, dollars in member.price.items()},
            api_key_env=SET if member.has_key else UNSET,
        )
        for slot in range(slots)
        for member in members(slot)
    }
    return {
        "models": models,
        "modules": {"default": {"chain": list(models)[:1], "timeout": TIMEOUT, "max_tokens": 50, "cache": False}},
    }


def environment() -> dict[str, str]:
    """The variables that the catalog's models need."""
    return {SET: "sk-books-0123456789abcdef"}


def session(seed: int, slot: int) -> Session:
    """The session that follows from `seed`, with the models of `slot`."""
    random = Random(seed)
    way: Way = random.choice(("thread", "loop", "runs"))
    known = members(slot)
    # A missing key costs no time; it is not to be in half of all chains.
    weights = [3 if member.has_key else 1 for member in known]
    chosen = set(random.choices(known, weights, k=random.randint(1, 4)))
    # In one order: each pair that falls over for another reason is a series, and 100,000 calls are to need no more.
    chain = tuple(member for member in known if member in chosen)
    scripts = {
        member.name: tuple(_answer(random, member.wire) for _ in range(random.choice((1, 1, 2, 3)))) for member in chain
    }
    calls = tuple(_call(random, way) for _ in range(random.randint(1, 4)))
    return Session(seed, way, chain, scripts, calls)


def _call(random: Random, way: Way) -> Call:
    stream = random.random() < 0.5
    return Call(
        stream=stream,
        deadline=random.choice((0.3, 0.6, 1.0)),
        retries=random.choice((0, 1, 2)),
        tools=random.random() < 0.1,
        leave_after=random.randint(0, 4) if stream and random.random() < 0.3 else None,
        leave_by=random.choice(("close", "drop") if way == "thread" else ("close", "drop", "cancel")),
        cancel_after=random.choice((0.0, 0.002, 0.01, 0.05)) if way != "thread" and random.random() < 0.15 else None,
    )


_STATUSES = (400, 401, 402, 403, 404, 408, 409, 413, 418, 422, 429, 500, 501, 502, 503, 504, 529)
_KNOWN = (
    "bad_key",
    "content_policy",
    "context_window",
    "insufficient_quota",
    "model_not_found",
    "overloaded",
    "unsupported",
)


def _answer(random: Random, wire: str) -> Answer:
    if random.random() < 0.55:
        return _reply(random, wire)
    match random.choices(("fault", "known", "drop", "garbage", "silence"), (8, 4, 2, 2, 1))[0]:
        case "fault":
            return Fault(random.choice(_STATUSES), retry_after=random.choice((None, None, 0.01, 0.3, 40)))
        case "known":
            return Known(random.choice(_KNOWN))  # type: ignore[arg-type]
        case "drop":
            return Drop()
        case "garbage":
            return Garbage()
        case _:
            return random.choice((Hang(), Drip("head", interval=0.02), Drip("body", interval=0.02)))


def _reply(random: Random, wire: str) -> Reply:
    read = random.choice((0, 0, 7)) if wire != "ollama" else 0
    write = random.choice((0, 0, 11)) if wire != "ollama" else 0
    output = random.randint(1, 10_000)
    steps: list[Any] = [f"word{number} " for number in range(random.randint(1, 8))]
    if random.random() < 0.2:
        steps.insert(random.randint(0, len(steps)), random.choice((0.01, 0.1)))
    if random.random() < 0.3:
        # A stream that stalls is what shows whether one that was left is closed: others end by themselves.
        steps.insert(random.randint(0, len(steps)), random.choice((*Break, Break.STALL, Break.STALL)))
    if random.random() < 0.1:
        steps = []
    tools = (ToolUse("look", {"at": "Paris"}),) if random.random() < 0.1 else ()
    return Reply(
        pieces=steps,
        input_tokens=read + write + random.randint(1, 100_000),
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=write,
        reasoning_tokens=random.choice((0, output // 2)) if wire == "openai" else 0,
        # Where Ollama says nothing, LiteLLM counts by itself and does not tell; of Anthropic's it takes no such answer.
        usage=wire != "openai" or random.random() > 0.1,
        finish_reason=None if tools else random.choices((None, "length", "content_filter"), (8, 1, 1))[0],
        tools=tools,
        choices=bool(steps or tools) or wire != "openai",
        delay=random.choice((0, 0, 0, 0.01)),
    )
