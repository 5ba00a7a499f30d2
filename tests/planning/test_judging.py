"""What counts as an answer: how it ended, and whether its tools can be called."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from modelrouter.completion import Kind, ToolCall, Usage
from modelrouter.planning import endings
from modelrouter.planning.exchange import Reply, Request
from modelrouter.planning.judging import judge

SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}, "by": {}}, "required": ["at"]}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "look", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
    {"type": "function", "function": {"name": "any", "parameters": {"type": "object", "properties": {"by": {}}}}},
    {"type": "function", "function": {"name": "bare"}},
    {"type": "custom", "custom": {"name": "run"}},
    {"type": "custom", "name": "claudes", "input_schema": SCHEMA},
]


def kind(reply: Reply, *, mends: bool = False, **params: Any) -> Kind | None:
    failure, _ = judge(reply, Request(({"role": "user", "content": "hi"},), params, mends=mends))
    return failure and failure.kind


def test_a_word_for_an_ending_has_one_meaning() -> None:
    words = Counter(" ".join(endings._MEANINGS.values()).split())
    assert words.most_common(1)[0][1] == 1
    assert [endings.in_openais(word) for word in ("STOP", "tool-calls", "max_tokens", "new", "", None)] == [
        "stop",
        "tool_calls",
        "length",
        "new",
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("error", Kind.SERVER),
        ("MALFORMED_FUNCTION_CALL", Kind.SERVER),
        ("upstream-error", Kind.SERVER),
        ("canceled", Kind.SERVER),
        ("error_toxic", None),
        ("new", None),
        (None, None),
    ],
)
def test_an_answer_that_broke_off_is_none_whatever_has_come(word: str | None, expected: Kind | None) -> None:
    assert kind(Reply("half a text", Usage(1, 1), word)) == expected
    assert kind(Reply("", Usage(1, 1), word, (ToolCall("1", "now", "{}"),)), tools=TOOLS) == expected


@pytest.mark.parametrize(
    ("name", "arguments", "whole", "cut"),
    [
        ("look", '{"at": "Par', Kind.EMPTY_RESPONSE, Kind.MAX_TOKENS),
        ("look", "[]", Kind.EMPTY_RESPONSE, Kind.MAX_TOKENS),
        ("look", '"Paris"', Kind.EMPTY_RESPONSE, Kind.MAX_TOKENS),
        ("look", "[" * 100_000, Kind.EMPTY_RESPONSE, Kind.MAX_TOKENS),
        ("look", "{}", None, Kind.MAX_TOKENS),
        ("look", '{"by": 1}', None, Kind.MAX_TOKENS),
        ("look", '{"at": "Paris"}', None, None),
        ("now", "{}", None, None),
        ("any", "{}", None, Kind.MAX_TOKENS),
        ("bare", "{}", None, None),
        ("of no tool", "{", Kind.EMPTY_RESPONSE, Kind.MAX_TOKENS),
        ("run", "print(", None, Kind.MAX_TOKENS),
        ("claudes", "print(", Kind.EMPTY_RESPONSE, Kind.MAX_TOKENS),
    ],
)
def test_a_tool_that_cannot_be_called_is_no_answer(
    name: str, arguments: str, whole: Kind | None, cut: Kind | None
) -> None:
    calls = (ToolCall("1", "now", "{}"), ToolCall("2", name, arguments))
    found = [kind(Reply("so", Usage(1, 1), word, calls), tools=TOOLS) for word in ("tool_calls", "stop", "length")]
    assert found == [whole, whole, cut]
    # DSPy mends what a model writes, but for what has not come.
    mended = [kind(Reply("so", Usage(1, 1), word, calls), mends=True, tools=TOOLS) for word in ("stop", "length")]
    assert mended == [None, cut]


def test_a_function_of_the_older_form_is_judged_as_a_tool() -> None:
    reply = Reply("", Usage(1, 1), "length", (ToolCall("", "look", "{}"),))
    assert kind(reply, functions=[{"name": "look", "parameters": SCHEMA}]) is Kind.MAX_TOKENS
