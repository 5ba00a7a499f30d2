"""Schemas that refer to themselves arrive whole, or the model is passed over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Optional

import pytest
from conftest import WriteCatalog
from pydantic import BaseModel
from servers import Reply, ScriptedServer, ToolUse
from servers.raw import RawServer

from modelrouter import AllModelsFailed, Router
from modelrouter.backend.schemas import written_out

pytestmark = pytest.mark.heavy


class Node(BaseModel):
    name: str
    children: list[Node] = []


class Linked(BaseModel):
    value: int
    next: Optional[Linked] = None  # noqa: UP045 - as many write it


class Author(BaseModel):
    book: Book | None = None


class Book(BaseModel):
    author: Author | None = None
    inner: Inner


class Inner(BaseModel):
    x: int


class Wrapped(BaseModel):
    root: Node
    others: list[Node] = []


class Flat(BaseModel):
    where: Inner
    more: list[Inner]


POINTER = {
    "type": "object",
    "properties": {"p": {"$ref": "#/$defs/P"}},
    "$defs": {"P": {"properties": {"q": {"$ref": "#/$defs/P/$defs/Q"}}, "$defs": {"Q": {"type": "integer"}}}},
}
ITSELF = {"type": "object", "properties": {"c": {"type": "array", "items": {"$ref": "#"}}}}
OLDER = {
    "type": "object",
    "properties": {"c": {"$ref": "#/definitions/N"}},
    "definitions": {"N": {"type": "object", "properties": {"k": {"$ref": "#/definitions/N"}}}},
}


def form(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}


RECURSIVE: dict[str, Any] = {
    "list": Node, "optional": Linked, "mutual": Author, "wrapped": Wrapped, "#": form(ITSELF), "older": form(OLDER)
}  # fmt: skip
ANY: dict[str, Any] = {**RECURSIVE, "flat": Flat, "pointer": form(POINTER)}


def documents(part: Any) -> Iterator[Mapping[str, Any]]:
    """The schemas in the body of a request, which every form of a provider has by one of these names."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name in ("schema", "input_schema", "parameters", "format", "response_json_schema"):
                yield value
            else:
                yield from documents(value)
    elif isinstance(part, list):
        for each in part:
            yield from documents(each)


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def dangling(body: Any) -> set[str]:
    """What refers to nothing."""
    found = set()
    (document,) = documents(body)
    for reference in references(document):
        at: Any = document if reference.startswith("#") else None
        for step in reference.split("/")[1:]:
            at = at.get(step) if isinstance(at, dict) else None
        if not isinstance(at, dict):
            found.add(reference)
    return found


@pytest.mark.parametrize("asked", ANY.values(), ids=ANY)
@pytest.mark.parametrize(
    "string",
    [
        "anthropic/claude-sonnet-4-5",
        "anthropic/claude-3-7-sonnet-20250219",
        "anthropic/claude-sonnet-5-5",
        "openai/gpt-4o",
        "ollama_chat/x",
        "gemini/gemini-2.5-flash",
        "groq/x",
        "mistral/x",
        "openrouter/anthropic/claude-sonnet-4.5",
    ],
)
def test_no_reference_is_sent_without_what_it_refers_to(
    string: str, asked: Any, router: Router, catalog: WriteCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{string.partition('/')[0].upper()}_API_KEY", "some-key")
    with RawServer() as raw:
        catalog({"a": {"model": string, "api_base": raw.base}}, retries=0)
        raw.says({"error": {"message": "no"}}, 401)
        with pytest.raises(AllModelsFailed, match="auth"):
            router.complete("hi", response_format=asked)
        (body,) = raw.bodies
    assert dangling(body) == set()


@pytest.mark.parametrize("how", ["sync", "async", "stream"])
@pytest.mark.parametrize("name", ["claude-sonnet-4-5", "claude-3-7-sonnet-20250219"])
def test_claude_answers_a_recursive_schema_through_a_tool(
    name: str, how: str, router: Router, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    said = {"name": "a", "children": [{"name": "b", "children": []}]}
    server.script(name, Reply("", tools=[ToolUse("json_tool_call", said)]))
    catalog({"a": server.anthropic(name)}, retries=0)
    if how == "stream":
        with router.stream("hi", response_format=Node) as pieces:
            text = "".join(pieces)
        answer: Any = pieces.answer
        assert text == answer.text
    elif how == "async":
        answer = asyncio.run(router.acomplete("hi", response_format=Node))
    else:
        answer = router.complete("hi", response_format=Node)
    assert answer.parsed == Node.model_validate(said)
    assert (answer.tool_calls, answer.finish_reason) == ((), "stop")
    body = server.requests()[0].body
    assert body["tool_choice"] == {"type": "tool", "name": "json_tool_call"}
    assert body["tools"][0]["input_schema"]["properties"].keys() == {"name", "children"}


def test_thinking_excludes_that_the_tool_is_demanded(
    router: Router, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    server.script("claude-sonnet-4-5", Reply("", tools=[ToolUse("json_tool_call", {"name": "a"})]))
    catalog({"a": server.anthropic("claude-sonnet-4-5")}, retries=0, max_tokens=3000)
    assert router.complete("hi", response_format=Node, reasoning_effort="low").parsed.name == "a"
    assert server.requests()[0].body.get("tool_choice", {"type": "auto"}) == {"type": "auto"}


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize("asked", RECURSIVE.values(), ids=RECURSIVE)
def test_a_model_that_cannot_is_passed_over(
    asked: Any, router: Router, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    bedrock = {"model": "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0", "api_base": "http://127.0.0.1:1"}
    catalog({"bedrock": bedrock, "claude": server.anthropic("claude-sonnet-4-5")}, retries=0)
    with pytest.raises(AllModelsFailed) as caught:
        router.complete("hi", response_format=asked, tools=[TOOL])
    assert [(attempt.outcome, attempt.error) for attempt in caught.value.attempts] == [
        ("skipped", "it takes no response_format that refers to itself"),
        ("skipped", "it takes no response_format that refers to itself together with tools"),
    ]
    assert server.ledger == []


def test_a_tool_whose_input_is_recursive_arrives_whole(
    router: Router, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": server.anthropic("claude-sonnet-4-5")}, retries=0)
    router.complete(
        "hi", tools=[{"type": "function", "function": {"name": "f", "parameters": Node.model_json_schema()}}]
    )
    body = server.requests()[0].body
    assert body["tools"][0]["input_schema"]["properties"].keys() == {"name", "children"}
    assert dangling(body) == set()


def test_names_are_no_references_and_data_is_left_alone() -> None:
    schema = {
        "properties": {
            "$ref": {"type": "string"},
            "definitions": {"const": {"$ref": "#/x"}},
            "n": {"$ref": "#/$defs/N"},
        },
        "$defs": {"N": {"type": "integer"}},
    }
    assert written_out(schema) == {
        "properties": {
            "$ref": {"type": "string"},
            "definitions": {"const": {"$ref": "#/x"}},
            "n": {"title": "N", "type": "integer"},
        }
    }


def test_a_schema_that_would_grow_too_large_is_not_written_out() -> None:
    levels = {
        f"L{n}": {"properties": {"a": {"$ref": f"#/$defs/L{n + 1}"}, "b": {"$ref": f"#/$defs/L{n + 1}"}}}
        for n in range(40)
    }
    assert written_out({"$ref": "#/$defs/L0", "$defs": {**levels, "L40": {"type": "integer"}}}) is None
