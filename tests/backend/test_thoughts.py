"""Reasoning in tags, told apart from the text: by one rule, whoever answers, whole or in pieces."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from conftest import CANARY, WriteCatalog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from servers import Break, Reply, ScriptedServer

from modelrouter import Completion, Router, StreamInterrupted
from modelrouter.backend.thoughts import Thoughts, told_apart
from modelrouter.completion import Kind
from modelrouter.planning.arguments import Arguments
from modelrouter.planning.exchange import Thinking
from modelrouter.router.streams import Stream

SAID: list[tuple[str, str, str | None]] = [
    ("<think>I muse\non it</think>\n\nHello <b>you</b>", "Hello <b>you</b>", "I muse\non it"),
    ("\n <think>\nhm, </thinking>?\n</think> Hello", "Hello", "hm, </thinking>?"),
    ("<thinking>hm</thinking>Hello", "Hello", "hm"),
    ("<thought>hm</thought>Hello", "Hello", "hm"),
    ("[THINK]hm[/THINK]Hello [THINK]", "Hello [THINK]", "hm"),
    ("<think>a</think>\n<think>b</think>c", "c", "ab"),
    ("<think>\n\n</think>\n\nHello", "Hello", None),
    ("<think></think>\n\nHello", "Hello", None),
    ("Use the <think> tag in HTML, and </think> after it", "Use the <think> tag in HTML, and </think> after it", None),
    ("Hello <think>x</think> world", "Hello <think>x</think> world", None),
    ("hm</think>Hello", "hm</think>Hello", None),
    ("<thin ice>", "<thin ice>", None),
    ("<th", "<th", None),
    ("    indented", "    indented", None),
]
"""What a model says; what of it is the text, and the reasoning."""

MODELS = {
    "anthropic": "anthropic/a",
    "hosted_vllm": "hosted_vllm/a",
    "ollama": "ollama_chat/a",
    "openai": "openai/a",
    "openrouter": "openrouter/a",
}


@pytest.fixture(params=MODELS)
def router(
    request: pytest.FixtureRequest,
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    keys: str,
    monkeypatch: pytest.MonkeyPatch,
    litellms_litter: None,
) -> Router:
    """Model a is of each form in turn; model b says ``ok``."""
    monkeypatch.setenv(f"{request.param.upper()}_API_KEY", CANARY)
    base = server.ollama_base if request.param in ("ollama", "anthropic") else server.openai_base
    model = {"model": MODELS[request.param], "api_base": base, "price": {"input": 1, "output": 2}}
    catalog({"a": model, "b": server.openai("b")}, retries=0, cache=False)
    return router


def told(answer: Completion[Any]) -> tuple[str, str | None, str | None]:
    """The text, that of the response, and the reasoning there."""
    message = answer.response.choices[0].message
    return answer.text, message.content, getattr(message, "reasoning_content", None)


def test_reasoning_is_no_text_and_tags_elsewhere_are(either_way: None, router: Router, server: ScriptedServer) -> None:
    for said, text, reasoning in SAID:
        server.script("a", Reply(said), Reply(said), Reply(pieces=list(said)), Reply(pieces=[said]))
        answers = [router.complete("hi"), asyncio.run(router.acomplete("hi"))]
        for _ in range(2):
            plan = router.plan(Arguments("hi"), stream=True, thinking=True)
            with Stream(plan, router.performer.perform) as pieces:
                read = list(pieces)
            assert "".join(piece for piece in read if not isinstance(piece, Thinking)) == text
            assert ("".join(piece for piece in read if isinstance(piece, Thinking)).strip() or None) == reasoning
            answers.append(pieces.answer)
        assert [told(answer) for answer in answers] == [(text, text, reasoning)] * 4


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_that_is_cut_off_is_no_answer(stream: bool, router: Router, server: ScriptedServer) -> None:
    server.script("a", Reply("<think>so I look at", finish_reason="length"))
    if stream:
        with router.stream("hi") as pieces:
            assert list(pieces) == ["ok"]
    answer = pieces.answer if stream else router.complete("hi")
    assert [attempt.error_kind for attempt in answer.attempts] == [Kind.MAX_TOKENS, None]


class Score(BaseModel):
    points: int


@pytest.mark.parametrize("stream", [False, True])
def test_what_comes_after_the_reasoning_is_the_object(stream: bool, router: Router, server: ScriptedServer) -> None:
    server.script("a", Reply('<think>{"points": 1}?</think>\n{"points": 7}'))
    pieces = router.stream("hi", model="a", response_format=Score)
    if stream:
        list(pieces)
    answer = pieces.answer if stream else router.complete("hi", model="a", response_format=Score)
    assert answer.parsed == Score(points=7)


def test_what_might_have_become_a_tag_is_not_lost_when_the_stream_breaks(
    router: Router, server: ScriptedServer
) -> None:
    server.script("a", Reply(pieces=["  <thi", Break.END]))
    with pytest.raises(StreamInterrupted) as caught:
        list(router.stream("hi"))
    assert caught.value.partial_text == "  <thi"
    assert [attempt.error_kind for attempt in caught.value.attempts] == [Kind.TRUNCATED]


@given(st.lists(st.sampled_from(["<", "think", ">", "/", "</think>", "<think>", " ", "\n", "a", "[THINK]"])), st.data())
def test_it_does_not_matter_how_a_text_is_cut_into_pieces(words: list[str], data: st.DataObject) -> None:
    text, found = "".join(words), data.draw(st.booleans())
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    thoughts = Thoughts(found=found)
    taken = [thoughts.take(text[begin:end]) for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    taken.append(thoughts.rest())
    assert ("".join(thought for thought, _ in taken), "".join(said for _, said in taken)) == told_apart(
        text, found=found
    )
