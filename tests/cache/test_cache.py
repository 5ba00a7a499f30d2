"""Which requests are the same, and what of an answer survives being kept."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import pytest
from conftest import CANARY
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from modelrouter.cache.cache import Cache, decode, encode, key
from modelrouter.catalog.target import Gateway, Target
from modelrouter.completion import ToolCall, Usage
from modelrouter.planning.exchange import Reply, Request
from modelrouter.store import DiskStore, StoreError

NOW = 1_800_000_000.0
TARGET = Target("gpt", "openai/gpt-x", "openai")
ELSEWHERE = replace(TARGET, api_base="http://gateway.test/v1", own_address=False)
ASKED = Request(({"role": "user", "content": "hi"},), {"temperature": 0.7, "max_tokens": 500})
REPLY = Reply("fine", Usage(10, 5, 4, 3, 2, 1), "stop", (ToolCall("c1", "look_up", '{"a": 1}'),))


class Verdict(BaseModel):
    score: int


def asked(**params: Any) -> Request:
    return Request(ASKED.messages, {**ASKED.params, **params})


# -- keys


@pytest.mark.heavy
def test_a_key_is_the_same_in_every_process_and_version() -> None:
    digest = "862120e665ed67ded096166c3d5449cf953cdca46d5fb1ebce8d5ba8706704d5"
    assert key(TARGET, ASKED) == digest
    script = """
from modelrouter.cache.cache import key
from modelrouter.catalog.target import Target
from modelrouter.planning.exchange import Request
request = Request(({"content": "hi", "role": "user"},), {"max_tokens": 500, "temperature": 0.7})
print(key(Target("another name", "openai/gpt-x", "openai", timeout=5), request))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest


SAME: dict[str, tuple[Target, Request]] = {
    "another name in the catalog": (replace(TARGET, name="best", timeout=3.0, listed=False), ASKED),
    "names in another order": (
        TARGET,
        Request(({"content": "hi", "role": "user"},), {"max_tokens": 500, "temperature": 0.7}),
    ),
    "a mapping that is no dict": (
        TARGET,
        Request((MappingProxyType(dict(ASKED.messages[0])),), MappingProxyType(dict(ASKED.params))),
    ),
    "nothing said": (TARGET, asked(seed=None)),
    "an API key": (TARGET, asked(api_key=CANARY)),
    "a timeout": (TARGET, asked(timeout=5)),
    "a label for the provider's books": (TARGET, asked(user="u1", metadata={"trace": "1"}, safety_identifier="x")),
    "another way to parse it": (TARGET, replace(ASKED, parse=json.loads)),
}

FIRST = {"role": "user", "content": "first"}
OTHER: dict[str, tuple[Target, Request]] = {
    "another model": (replace(TARGET, litellm_model="openai/gpt-y"), ASKED),
    "another address": (ELSEWHERE, ASKED),
    "another word": (TARGET, replace(ASKED, messages=({"role": "user", "content": "ho"},))),
    "another role": (TARGET, replace(ASKED, messages=({"role": "system", "content": "hi"},))),
    "one message more": (TARGET, replace(ASKED, messages=(*ASKED.messages, FIRST))),
    "another order": (TARGET, replace(ASKED, messages=(FIRST, *ASKED.messages))),
    "a cache mark": (TARGET, replace(ASKED, messages=({**ASKED.messages[0], "cache_control": {"type": "ephemeral"}},))),
    "another temperature": (TARGET, asked(temperature=0)),
    "another limit": (TARGET, asked(max_tokens=501)),
    "a seed": (TARGET, asked(seed=1)),
    "tools": (TARGET, asked(tools=[{"type": "function", "function": {"name": "f"}}])),
    "a response_format": (TARGET, asked(response_format={"type": "json_object"})),
    "a pydantic response_format": (TARGET, asked(response_format=Verdict)),
    "a header": (TARGET, asked(extra_headers={"anthropic-beta": "x"})),
    "a body": (TARGET, asked(extra_body={"a": 1})),
    "text in place of a number": (TARGET, asked(max_tokens="500")),
}  # fmt: skip


@pytest.mark.parametrize("what", SAME)
def test_what_cannot_change_the_answer_does_not_change_the_key(what: str) -> None:
    assert key(*SAME[what]) == key(TARGET, ASKED)


def test_all_that_can_change_the_answer_changes_the_key() -> None:
    keys = {what: key(*pair) for what, pair in OTHER.items()}
    keys |= {f"extra {extra!r}": key(TARGET, ASKED, extra=extra) for extra in (None, "", "1", "2")}
    assert None not in keys.values()
    assert len(set(keys.values())) == len(keys), keys


def test_at_a_gateway_labels_may_change_the_answer() -> None:
    through = replace(TARGET, gateway=Gateway("http://gateway"))
    for target in (ELSEWHERE, through):
        assert key(target, asked(user="u1")) != key(target, asked(user="u2"))
    assert key(through, asked()) == key(TARGET, asked())
    assert key(ELSEWHERE, asked(api_key=CANARY, timeout=1)) == key(ELSEWHERE, ASKED)


def test_a_pydantic_class_counts_by_its_schema() -> None:
    def another(kind: type) -> type[BaseModel]:
        return type("Verdict", (BaseModel,), {"__annotations__": {"score": kind}})

    verdict = key(TARGET, asked(response_format=Verdict))
    assert verdict == key(TARGET, asked(response_format=another(int)))
    assert verdict != key(TARGET, asked(response_format=another(str)))


@pytest.mark.parametrize("odd", [object(), {1, 2}, b"bytes", float("nan"), {(1, 2): 3}, {1: 1, "b": 2}, int])
def test_a_request_with_no_json_form_has_no_key(odd: object) -> None:
    assert key(TARGET, asked(extra_body=odd)) is None


def test_a_request_that_holds_itself_has_no_key() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    assert key(TARGET, asked(extra_body=loop)) is None


def test_an_address_that_only_litellm_knows_gives_no_key() -> None:
    assert key(replace(TARGET, own_address=False), ASKED) is None


PARAMS = st.dictionaries(
    st.sampled_from("temperature top_p seed stop tools extra_body".split()),
    st.recursive(
        st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
)


@given(PARAMS, PARAMS)
def test_two_requests_have_one_key_when_their_json_is_one(one: dict[str, Any], two: dict[str, Any]) -> None:
    def wire(params: dict[str, Any]) -> str:
        return json.dumps(params, sort_keys=True)

    same = key(TARGET, Request(ASKED.messages, one)) == key(TARGET, Request(ASKED.messages, two))
    assert same == (wire(one) == wire(two))
    shuffled = dict(reversed(one.items()))
    assert key(TARGET, Request(ASKED.messages, shuffled)) == key(TARGET, Request(ASKED.messages, one))


# -- values


@dataclass
class Response:
    """As LiteLLM's is one for `encode`."""

    content: dict[str, Any] = field(default_factory=dict)

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return self.content


COUNTS = st.integers(0, 10**9)
REPLIES = st.builds(
    Reply,
    text=st.text(),
    usage=st.none() | st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
    finish_reason=st.none() | st.text(),
    tool_calls=st.lists(st.builds(ToolCall, st.text(), st.text(), st.text())).map(tuple),
    other=st.booleans(),
    estimated=st.booleans(),
    response=st.none() | st.builds(Response, st.dictionaries(st.text(), st.text() | st.none() | st.integers())),
)
COSTS = st.none() | st.decimals(0, 1000, allow_nan=False)


@given(REPLIES, COSTS, st.text())
def test_an_answer_survives_the_round_trip(reply: Reply, cost: Decimal | None, module: str) -> None:
    value = json.loads(json.dumps(encode(reply, cost, module=module, now=NOW)))
    back = decode(value, rebuild=Response)
    assert replace(back.reply, response=None) == replace(reply, response=None)
    assert (back.cost_usd, back.module, back.stored_at) == (cost, module, NOW)
    assert (back.reply.response and back.reply.response()) == reply.response


def test_a_response_that_is_built_when_asked_for_is_kept_too() -> None:
    value = encode(replace(REPLY, response=lambda: Response({"id": "r1"})), None, module="m", now=NOW)
    assert decode(value, rebuild=Response).reply.response() == Response({"id": "r1"})


def test_litellms_response_survives_and_no_key_is_kept(bare_litellm: ModuleType) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    message = {"role": "assistant", "content": "fine", "tool_calls": [call], "reasoning_content": "because"}
    response = bare_litellm.ModelResponse(
        id="r1",
        model="gpt-x",
        choices=[{"index": 0, "finish_reason": "stop", "message": message}],
        usage={"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 1}},
    )
    response._hidden_params = {"api_key": CANARY, "additional_headers": {"authorization": CANARY}}
    value = encode(replace(REPLY, response=response), Decimal(1), module="m", now=NOW)
    assert CANARY not in json.dumps(value)
    back = decode(value, rebuild=lambda content: bare_litellm.ModelResponse(**content)).reply.response()
    assert back.model_dump() == response.model_dump()
    assert back.choices[0].message.tool_calls[0].function.name == "look_up"
    assert back.choices[0].message.reasoning_content == "because"
    assert back.usage.prompt_tokens_details.cached_tokens == 1


GOOD = encode(REPLY, Decimal("0.5"), module="m", now=NOW)
BROKEN: list[Any] = [
    "text",
    ["text"],
    5,
    {},
    *({name: value for name, value in GOOD.items() if name != missing} for missing in GOOD),
    *({**GOOD, name: object()} for name in GOOD),
    {**GOOD, "version": 0},
    {**GOOD, "usage": [1, 2, 3]},
    {**GOOD, "usage": [1, 2, 3, 4, "5"]},
    {**GOOD, "tool_calls": [["c1", "f"]]},
    {**GOOD, "tool_calls": [["c1", "f", None]]},
    {**GOOD, "tool_calls": ["abc"]},
    {**GOOD, "other": 1},
    {**GOOD, "cost_usd": "much"},
    {**GOOD, "cost_usd": "-1"},
    {**GOOD, "cost_usd": "NaN"},
    {**GOOD, "stored_at": float("nan")},
]


@pytest.mark.parametrize("value", BROKEN, ids=range(len(BROKEN)))
def test_what_is_no_answer_is_told_from_one(value: Any) -> None:
    with pytest.raises(StoreError):
        decode(value, rebuild=dict)


# -- reading and writing


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    with contextlib.closing(DiskStore(tmp_path / "cache")) as store:
        yield store


@pytest.fixture
def cache(store: DiskStore) -> Cache:
    return Cache(store, rebuild=Response)


def write(cache: Cache, cost: Decimal | None = None, now: float = NOW) -> bool:
    return cache.write("key", REPLY, cost, ttl=3600, module="m", now=now)


def test_what_is_written_is_found(cache: Cache) -> None:
    assert cache.read("key", ttl=60, now=NOW).result == "miss"
    assert write(cache, Decimal("0.01"))
    found = cache.read("key", ttl=60, now=NOW + 1)
    assert found.result == "hit"
    assert found.answer is not None
    assert (found.answer.reply, found.answer.cost_usd) == (REPLY, Decimal("0.01"))


@pytest.mark.parametrize(
    ("age", "result"),
    [(0, "hit"), (59.9, "hit"), (60, "miss"), (1e9, "miss"), (-1, "miss")],
    ids=["new", "just in time", "too old", "long ago", "from the future: the clock was set back"],
)
def test_the_reader_says_how_old_an_answer_may_be(cache: Cache, age: float, result: str) -> None:
    write(cache)
    assert cache.read("key", ttl=60, now=NOW + age).result == result


def test_the_module_is_the_tag(cache: Cache, store: DiskStore) -> None:
    write(cache)
    assert store.clear(tag="another") == 0
    assert store.clear(tag="m") == 1


class Failing:
    """A store whose server is lost."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def get(self, key: str) -> Any:
        raise self.error

    def set(self, key: str, value: Any, *, ttl: float, tag: str | None = None) -> None:
        raise self.error

    clear: Callable[..., int]
    stats: Callable[..., Any]
    close: Callable[..., None]


def test_a_store_that_fails_is_an_error_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    store = Failing(StoreError("full", "the disk is full."))
    cache = Cache(store, rebuild=dict)
    for _ in range(3):
        assert cache.read("key", ttl=60, now=NOW).result == "error"
        assert not write(cache)
    store.error = ConnectionError(f"redis://:{CANARY}@host is gone")
    for _ in range(3):
        assert cache.read("key", ttl=60, now=NOW).result == "error"
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert [record.getMessage() for record in caplog.records] == [
        "cache_failed reason=full: calls go on without it. the disk is full.",
        "cache_failed reason=ConnectionError: calls go on without it.",
    ]


@pytest.mark.parametrize("value", ["text", {**GOOD, "version": 0}])
def test_a_broken_value_is_an_error_until_it_is_overwritten(cache: Cache, store: DiskStore, value: Any) -> None:
    store.set("key", value, ttl=60)
    assert cache.read("key", ttl=60, now=NOW).result == "error"
    assert write(cache)
    assert cache.read("key", ttl=60, now=NOW).result == "hit"


def test_a_response_with_no_json_form_is_not_kept(cache: Cache) -> None:
    odd = replace(REPLY, response=Response({"odd": object()}))
    assert not cache.write("key", odd, None, ttl=60, module="m", now=NOW)
    assert cache.read("key", ttl=60, now=NOW).result == "miss"
