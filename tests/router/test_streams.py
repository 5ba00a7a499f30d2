"""Streams from real servers, in all three wire formats, synchronous and asynchronous."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from conftest import WriteCatalog
from prometheus_client import CollectorRegistry
from servers import Answer, Break, Drop, Fault, Gate, Known, Reply, ScriptedServer, ToolUse

import modelrouter.planning.attempt
from modelrouter import AllModelsFailed, BadRequest, Completion, DeadlineExceeded, Router, StreamInterrupted
from modelrouter.completion import Kind, ToolCall

pytestmark = pytest.mark.usefixtures("quick_backoff")

WIRES = ("openai", "anthropic", "ollama")
each_wire = pytest.mark.parametrize("wire", WIRES)
Read = Callable[..., tuple[list[str], Completion]]
Seen = Callable[[str], object]


def _unseen(piece: str) -> None:
    """Nobody is told."""


@pytest.fixture(params=["sync", "async"])
def read(request: pytest.FixtureRequest, router: Router) -> Read:
    """Reads a stream to its end: its pieces and its answer. `seen` is told of each piece."""
    if request.param == "sync":

        def read_all(*args: Any, seen: Seen = _unseen, **kwargs: Any) -> tuple[list[str], Completion]:
            read = []
            with router.stream(*args, **kwargs) as pieces:
                for piece in pieces:
                    read.append(piece)
                    seen(piece)
                return read, pieces.answer

    else:

        def read_all(*args: Any, seen: Seen = _unseen, **kwargs: Any) -> tuple[list[str], Completion]:
            async def read_there() -> tuple[list[str], Completion]:
                read = []
                async with router.astream(*args, **kwargs) as pieces:
                    async for piece in pieces:
                        read.append(piece)
                        seen(piece)
                    return read, pieces.answer

            return asyncio.run(read_there())

    return read_all


@pytest.fixture
def two(catalog: WriteCatalog, server: ScriptedServer, keys: str) -> Callable[[str], None]:
    """Writes a catalog of ``first`` and ``second`` on a wire, at 1 and 2 dollars per million tokens."""

    def write(wire: str, **settings: Any) -> None:
        entries = {
            name: {**getattr(server, wire)(name), "price": {"input": 1, "output": 2}} for name in ("first", "second")
        }
        catalog(entries, **{"retries": 0, **settings})

    return write


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


@each_wire
def test_pieces_come_as_they_are_and_the_answer_is_whole(
    wire: str, read: Read, two: Any, server: ScriptedServer, registry: CollectorRegistry
) -> None:
    two(wire)
    server.script("first", Reply("one two three", input_tokens=1000, output_tokens=200))
    pieces, answer = read("hi")
    assert pieces == ["one", " two", " three"]
    assert (answer.text, answer.model, answer.finish_reason) == ("one two three", "first", "stop")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (1000, 200)
    assert answer.cost_usd == Decimal(1400) / 1_000_000
    assert answer.first_token_s is not None
    assert 0 < answer.first_token_s <= answer.latency_s
    assert answer.response.choices[0].message.content == "one two three"
    provider = "ollama" if wire == "ollama" else wire
    assert sample(registry, "llm_time_to_first_token_seconds_count", provider=provider, model="first") == 1
    assert sample(registry, "llm_tokens_used_total", provider=provider, model="first", type="output") == 200


@each_wire
def test_tool_calls_are_gathered_whole(wire: str, read: Read, two: Any, server: ScriptedServer) -> None:
    two(wire)
    tools = [ToolUse("look", {"at": "Paris"}), ToolUse("count", {"to": 3}, id="call_2")]
    server.script("first", Reply("let me see", tools=tools))
    names = [{"type": "function", "function": {"name": tool.name, "parameters": {"type": "object"}}} for tool in tools]
    pieces, answer = read("hi", tools=names)
    assert "".join(pieces) == "let me see"
    assert [(call.name, call.arguments.replace(" ", "")) for call in answer.tool_calls] == [
        ("look", '{"at":"Paris"}'),
        ("count", '{"to":3}'),
    ]
    assert all(isinstance(call, ToolCall) and call.id for call in answer.tool_calls)


BEFORE: list[tuple[str, Answer, Kind]] = [
    ("503", Fault(503), Kind.SERVER),
    ("429", Fault(429, retry_after=31), Kind.RATE_LIMIT),
    ("bad key", Known("bad_key"), Kind.AUTH),
    ("dropped", Drop(), Kind.CONNECTION),
    ("cut at once", Reply(pieces=[Break.CUT]), Kind.CONNECTION),
    ("ended at once", Reply(pieces=[Break.END]), Kind.TRUNCATED),
    ("hanging", Reply(pieces=[Break.STALL]), Kind.TIMEOUT),
    ("no text", Reply(""), Kind.EMPTY_RESPONSE),
]


@each_wire
@pytest.mark.parametrize(("answer", "kind"), [row[1:] for row in BEFORE], ids=[row[0] for row in BEFORE])
def test_before_the_first_piece_the_next_model_is_asked(
    wire: str, answer: Answer, kind: Kind, read: Read, two: Any, server: ScriptedServer
) -> None:
    two(wire, timeout=0.5)
    server.script("first", answer)
    pieces, answered = read("hi")
    assert (pieces, answered.model) == (["ok"], "second")
    assert [a.error_kind for a in answered.attempts] == [kind, None]
    assert (server.count("first"), server.count("second")) == (1, 1)


AFTER: list[tuple[str, Break, set[Kind]]] = [
    ("cut", Break.CUT, {Kind.CONNECTION}),
    ("ended early", Break.END, {Kind.TRUNCATED}),
    ("corrupted", Break.GARBAGE, {Kind.SERVER, Kind.TRUNCATED}),
    ("the provider's error", Break.ERROR, {Kind.SERVER}),
    ("stalled", Break.STALL, {Kind.TIMEOUT}),
]


@each_wire
@pytest.mark.parametrize(("broken", "kinds"), [row[1:] for row in AFTER], ids=[row[0] for row in AFTER])
def test_after_the_first_piece_it_is_an_error_with_what_came_and_its_cost(
    wire: str,
    broken: Break,
    kinds: set[Kind],
    read: Read,
    two: Any,
    server: ScriptedServer,
    registry: CollectorRegistry,
) -> None:
    two(wire, timeout=0.5)
    came = Gate()  # or what was sent just before a cut might be lost
    server.script("first", Reply(pieces=["one", " two", came, broken]))
    with pytest.raises(StreamInterrupted) as interrupted:
        read("hi", seen=lambda piece: came.open() if piece == " two" else None)
    error = interrupted.value
    assert error.partial_text == "one two"
    [attempt] = error.attempts
    assert attempt.error_kind in kinds
    assert attempt.estimated
    assert attempt.usage is not None
    assert error.cost_usd == (attempt.usage.input_tokens + 2 * attempt.usage.output_tokens) * Decimal("0.000001") > 0
    assert (server.count("first"), server.count("second")) == (1, 0)
    cost = sample(registry, "llm_cost_usd_total", provider=attempt.provider, model="first")
    assert cost == pytest.approx(float(error.cost_usd))


@each_wire
@pytest.mark.parametrize("way", ["break", "close", "drop", "collect"])
def test_closing_a_stream_early_closes_the_connection_and_meters_what_was_used(
    wire: str, way: str, router: Router, two: Any, server: ScriptedServer, registry: CollectorRegistry
) -> None:
    two(wire)
    server.script("first", Reply(pieces=[*["word "] * 1000, Gate(), "never"]))
    pieces = router.stream("hi")
    assert [next(pieces), next(pieces)] == ["word ", "word "]
    if way == "break":
        with pieces:
            for _ in pieces:
                break
    elif way == "close":
        pieces.close()
    elif way == "collect":
        cycle = [pieces]  # as an exception that is kept is one, with the frame that it came from
        cycle.append(cycle)  # type: ignore[arg-type]
        del cycle
    del pieces
    gc.collect()
    assert server.requests("first")[0].ended(1.0) == "abandoned"
    _is_metered_as_cancelled(registry, "ollama" if wire == "ollama" else wire)


@each_wire
@pytest.mark.parametrize("way", ["break", "aclose", "cancel", "drop", "collect"])
def test_closing_an_asynchronous_stream_early_does_the_same(
    wire: str, way: str, router: Router, two: Any, server: ScriptedServer, registry: CollectorRegistry
) -> None:
    two(wire)
    server.script("first", Reply(pieces=["word ", "word ", Gate(), "never"]))

    async def run() -> None:
        pieces = router.astream("hi")
        assert [await anext(pieces), await anext(pieces)] == ["word ", "word "]
        if way == "break":
            async with pieces:
                pass
        elif way == "aclose":
            await pieces.aclose()
        elif way == "cancel":
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(pieces), 0.05)
        elif way == "collect":
            cycle = [pieces]
            cycle.append(cycle)  # type: ignore[arg-type]
            del cycle
        del pieces
        gc.collect()
        assert await asyncio.to_thread(server.requests("first")[0].ended, 1.0) == "abandoned"

    asyncio.run(run())
    _is_metered_as_cancelled(registry, "ollama" if wire == "ollama" else wire)


def _is_metered_as_cancelled(registry: CollectorRegistry, provider: str) -> None:
    labels = {"provider": provider, "model": "first"}
    assert sample(registry, "llm_provider_requests_total", **labels, status="cancelled") == 1
    assert sample(registry, "llm_provider_requests_total", **labels, status="error") == 0
    assert (sample(registry, "llm_tokens_used_total", **labels, type="output") or 0) >= 2
    assert sample(registry, "llm_module_requests_total", module="default", outcome="cancelled") == 1


def test_a_model_that_sends_what_is_no_text_is_at_work(read: Read, two: Any, server: ScriptedServer) -> None:
    two("openai", timeout=0.5)
    server.script("first", Reply(pieces=["let me see", *[0.2, ""] * 5, " there"]))
    assert read("hi")[0] == ["let me see", " there"]


def test_a_stream_that_nobody_reads_sends_nothing_and_has_no_answer(
    router: Router, two: Any, server: ScriptedServer
) -> None:
    two("openai")
    with router.stream("hi") as pieces, pytest.raises(RuntimeError, match="not been read to its end"):
        pieces.answer  # noqa: B018
    assert server.ledger == []


def test_wrong_arguments_show_at_once_and_a_wrong_request_when_it_is_read(
    read: Read, router: Router, two: Any, server: ScriptedServer
) -> None:
    two("openai")
    with pytest.raises(modelrouter.InvalidRequest):
        router.stream("hi", temprature=1)
    server.script("first", Fault(422))
    with pytest.raises(BadRequest):
        read("hi")


def test_the_deadline_holds_until_the_first_piece_and_a_gap_after_it(
    read: Read, two: Any, server: ScriptedServer
) -> None:
    two("openai", timeout=5, cache=False)
    server.script("first", Reply(pieces=["one", 0.2, " two", 0.2, " three", 0.2, " four"]), Reply(pieces=[5.0, "late"]))
    pieces, _ = read("hi", deadline=0.3, model="first")
    assert len(pieces) == 4
    with pytest.raises(DeadlineExceeded) as late:
        read("hi", deadline=0.3, model="first")
    assert late.value.elapsed < 1.3


def test_all_failed_is_the_same_error_as_without_streaming(read: Read, two: Any, server: ScriptedServer) -> None:
    two("openai")
    for name in ("first", "second"):
        server.script(name, Fault(503))
    with pytest.raises(AllModelsFailed, match="no answer from 2 models in 2 attempts"):
        read("hi")
