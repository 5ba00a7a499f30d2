"""llmock's own verdict on how the calls behave, under every fault that it can make, on both of its wire formats.

It judges by what it is sent. It takes a request with the same body for a repetition, so one to another model is none:
where it wants a repetition, the same model has to be asked again. Nor does it see that a stream's reader was told:
where a stream breaks after its first piece, the tests ask again, as an application would, once the error has come.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from conftest import WriteCatalog
from llmock.simulation import RETRYABLE_STATUS_CODES
from llmock.verdict import NON_RETRYABLE, RETRYABLE
from prometheus_client import CollectorRegistry
from servers import Llmock

import modelrouter.planning.attempt
from modelrouter import AllModelsFailed, BadRequest, Completion, Router, StreamInterrupted
from modelrouter.completion import Kind

Ask = Callable[..., Completion]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


@pytest.fixture(params=["openai", "anthropic"])
def wire(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def router(wire: str, catalog: WriteCatalog, llmock: Llmock, keys: str, monkeypatch: pytest.MonkeyPatch) -> Router:
    """Of two models, ``first`` and ``second``, whose waits are short and grow for certain."""
    base = llmock.base_url(wire)
    models = {name: {"model": f"{wire}/{name}", "api_base": base, "price": "free"} for name in ("first", "second")}
    catalog(models, cache=False)
    monkeypatch.setattr(modelrouter.planning.attempt, "BACKOFF", 0.12)
    monkeypatch.setattr(random, "random", lambda: 0.5)
    return Router(registry=CollectorRegistry())


def read(router: Router, *args: Any, **kwargs: Any) -> Completion:
    with router.stream(*args, **kwargs) as pieces:
        assert "".join(pieces) == pieces.answer.text
        return pieces.answer


async def aread(router: Router, *args: Any, **kwargs: Any) -> Completion:
    async with router.astream(*args, **kwargs) as pieces:
        assert "".join([piece async for piece in pieces]) == pieces.answer.text
        return pieces.answer


@pytest.fixture(params=["stream", "astream"])
def streamed(request: pytest.FixtureRequest, router: Router) -> Ask:
    """Asks for a stream and reads it to its end."""
    if request.param == "stream":
        return lambda *args, **kwargs: read(router, *args, **kwargs)
    return lambda *args, **kwargs: asyncio.run(aread(router, *args, **kwargs))


@pytest.fixture(params=["complete", "acomplete", "stream", "astream"])
def ask(request: pytest.FixtureRequest, router: Router) -> Ask:
    """Asks in each of the four ways."""
    match request.param:
        case "complete":
            return router.complete
        case "acomplete":
            return lambda *args, **kwargs: asyncio.run(router.acomplete(*args, **kwargs))
        case "stream":
            return lambda *args, **kwargs: read(router, *args, **kwargs)
        case _:
            return lambda *args, **kwargs: asyncio.run(aread(router, *args, **kwargs))


def kinds(answer: Completion) -> list[Kind | None]:
    return [attempt.error_kind for attempt in answer.attempts]


# -- errors that are answered instead of an answer


@pytest.mark.parametrize("status", sorted(RETRYABLE - {408}))
def test_an_error_that_may_pass_is_tried_again_with_backoff(status: int, ask: Ask, llmock: Llmock) -> None:
    # By itself llmock asks for a whole second's wait after some of them.
    llmock.fail(status, times=2, retry_after=0.1 if status in RETRYABLE_STATUS_CODES else None)
    answer = ask("hi", retries=2)
    assert answer.model == "first"
    assert (llmock.count("first"), llmock.count("second")) == (3, 0)
    llmock.assert_resilient(strict=True)


def test_a_timeout_is_tried_again_where_nobody_else_is_left(ask: Ask, llmock: Llmock) -> None:
    llmock.fail(408, times=2)
    assert kinds(ask("hi", model="first", retries=2)) == [Kind.TIMEOUT, Kind.TIMEOUT, None]
    llmock.assert_resilient(strict=True)


def test_a_rate_limit_is_sat_out(ask: Ask, llmock: Llmock) -> None:
    llmock.rate_limit(times=1, retry_after=0.3)
    assert ask("hi").model == "first"
    assert (llmock.count("first"), llmock.count("second")) == (2, 0)
    llmock.assert_resilient(strict=True)


def test_a_quota_of_tokens_is_waited_for(ask: Ask, llmock: Llmock) -> None:
    llmock.limits(tpm=60_000)
    ask("hi", max_tokens=59_900)
    answer = ask("hi", max_tokens=400, model="first")
    assert kinds(answer) == [Kind.RATE_LIMIT, None]
    llmock.assert_resilient(strict=True)


OTHERS: list[tuple[int, Kind | None]] = [
    (400, None),
    (401, Kind.AUTH),
    (402, Kind.QUOTA),
    (403, Kind.PERMISSION),
    (404, Kind.NOT_FOUND),
    (413, Kind.CONTEXT_WINDOW),
    (418, None),
    (422, None),
]
"""None: it is raised."""


def test_every_status_that_llmock_judges_is_asked_for() -> None:
    assert {status for status, _ in OTHERS} >= NON_RETRYABLE


@pytest.mark.parametrize(("status", "kind"), OTHERS)
def test_an_error_that_stays_is_not_tried_again(status: int, kind: Kind | None, ask: Ask, llmock: Llmock) -> None:
    llmock.fail(status, times=1)
    if kind is None:
        with pytest.raises(BadRequest):
            ask("hi")
        assert llmock.count() == 1
    else:
        assert kinds(ask("hi")) == [kind, None]
        assert (llmock.count("first"), llmock.count("second")) == (1, 1)
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("by", ["error", "limit"])
def test_a_prompt_too_long_goes_to_the_next_model(by: str, ask: Ask, llmock: Llmock) -> None:
    if by == "error":
        llmock.context_overflow(times=1)
        assert kinds(ask("hi")) == [Kind.CONTEXT_WINDOW, None]
    else:
        llmock.limits(context_window=1)
        with pytest.raises(AllModelsFailed) as failed:
            ask("a prompt of far more than one token, whatever the tokenizer")
        assert [attempt.error_kind for attempt in failed.value.attempts] == [Kind.CONTEXT_WINDOW] * 2
    llmock.assert_resilient(strict=True)


def test_an_outage_ends_with_every_attempt_listed(ask: Ask, llmock: Llmock) -> None:
    llmock.fail(503, times=None, retry_after=0.1)  # what llmock.outage() does, but for the wait
    with pytest.raises(AllModelsFailed) as failed:
        ask("hi", retries=2)
    assert [(a.model, a.status) for a in failed.value.attempts] == [("first", 503)] * 3 + [("second", 503)] * 3
    assert llmock.count() == 6
    llmock.assert_resilient(strict=True)


# -- slowness


def test_a_model_that_is_too_slow_is_left_for_the_next(ask: Ask, llmock: Llmock) -> None:
    ask("a process's first call takes longer than the timeout below")
    llmock.delay(0.8, times=1)
    assert kinds(ask("hi", timeout=0.3)) == [Kind.TIMEOUT, None]
    llmock.assert_resilient(strict=True)


def test_a_first_token_that_is_late_is_waited_for_or_not(streamed: Ask, llmock: Llmock) -> None:
    streamed("a process's first stream takes longer than the timeout below")
    llmock.slow_first_token(0.1, times=1)
    assert kinds(streamed("hi")) == [None]
    llmock.slow_first_token(0.8, times=1)
    assert kinds(streamed("hi", timeout=0.3)) == [Kind.TIMEOUT, None]
    llmock.assert_resilient(strict=True)


def test_a_stream_may_take_longer_than_the_timeout_of_its_pieces(streamed: Ask, llmock: Llmock) -> None:
    streamed("a process's first stream takes longer than the timeout below")
    llmock.reply("one two three four five six seven eight", times=1).pace(60)
    assert kinds(streamed("hi", timeout=0.4)) == [None]
    llmock.assert_resilient(strict=True)


# -- streams that break


BREAKS: dict[str, Callable[..., Llmock]] = {
    "disconnect": Llmock.disconnect,  # type: ignore[dict-item]
    "truncate": Llmock.truncate,  # type: ignore[dict-item]
    "corrupt": Llmock.corrupt,  # type: ignore[dict-item]
    "stall": Llmock.stall,  # type: ignore[dict-item]
}
TEXT = " ".join(f"word{number}" for number in range(24))
"""Long enough for llmock to notice in time that nobody reads on: what was sent whole counts as read whole."""
NO_TEXT_YET = {"openai": (0, 1), "anthropic": (0, 1, 3)}
"""Chunks that come before the first text: a role, and Anthropic's opening of message and block."""


@pytest.mark.parametrize("broken", BREAKS)
def test_a_stream_that_breaks_before_its_text_is_no_answer(
    broken: str, wire: str, streamed: Ask, llmock: Llmock
) -> None:
    streamed("a process's first stream takes longer than the timeout below")
    llmock.reply(TEXT, times=None).pace(15)
    for number, chunks in enumerate(NO_TEXT_YET[wire]):
        BREAKS[broken](llmock, after_chunks=chunks, times=1)
        answer = streamed(f"hi {number}", model="first", timeout=0.3)
        assert len(answer.attempts) == 2, f"after {chunks} chunks"
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("broken", BREAKS)
def test_a_stream_that_breaks_in_its_text_is_told_to_its_reader(broken: str, streamed: Ask, llmock: Llmock) -> None:
    streamed("a process's first stream takes longer than the timeout below")
    llmock.reply(TEXT, times=None)
    for chunks in (5, 8):
        BREAKS[broken](llmock.pace(30), after_chunks=chunks, times=1)
        with pytest.raises(StreamInterrupted) as interrupted:
            streamed(f"hi {chunks}", timeout=0.3)
        assert interrupted.value.partial_text
        assert TEXT.startswith(interrupted.value.partial_text)
        assert llmock.sent()  # has waited until llmock knows that nobody reads on: only then may one ask again
        llmock.pace(0)
        assert streamed(f"hi {chunks}", timeout=0.3).text == TEXT
    llmock.assert_resilient(strict=True)


# -- tools


@pytest.mark.parametrize("broken", ["malformed_arguments", "unknown_tool"])
def test_a_tool_call_is_handed_on_as_the_model_wrote_it(broken: str, ask: Ask, llmock: Llmock) -> None:
    llmock.call_tool("look", {"at": "Paris"}, times=1).break_tool_call(broken, times=1)
    answer = ask("hi", tools=TOOLS)
    assert len(answer.tool_calls) == 1
    assert (answer.tool_calls[0].name == "look") == (broken == "malformed_arguments")
    llmock.assert_resilient(strict=True)
