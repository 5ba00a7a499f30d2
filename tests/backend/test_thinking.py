"""What Claude's thinking excludes gives way where module or catalog say it, and is sent where the call does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from conftest import WriteCatalog
from servers import ScriptedServer
from servers.raw import RawServer

from modelrouter import Router

pytestmark = pytest.mark.heavy

OLD, LATER = "claude-sonnet-4-5", "claude-sonnet-4-6"
ENABLED = {"type": "enabled", "budget_tokens": 1500}
ALL = {"temperature": 0.7, "top_p": 0.5, "top_k": 3}


def sent(router: Router, server: ScriptedServer, how: str, **asked: Any) -> dict[str, Any]:
    if how == "sync":
        router.complete("hi", **asked)
    elif how == "async":
        asyncio.run(router.acomplete("hi", **asked))
    else:
        with router.stream("hi", **asked) as pieces:
            list(pieces)
    names = (*ALL, "max_tokens", "thinking")
    return {name: value for name, value in server.requests()[-1].body.items() if name in names}


@pytest.mark.parametrize("how", ["sync", "async", "stream"])
@pytest.mark.parametrize(
    ("name", "asked", "left"),
    [
        (OLD, {"reasoning_effort": "low"}, "max_tokens thinking"),
        (OLD, {"thinking": ENABLED}, "max_tokens thinking"),
        (LATER, {"reasoning_effort": "low"}, "max_tokens thinking"),  # which has no budget, but a level
        (OLD, {"reasoning_effort": "low", "temperature": 0.2}, "max_tokens thinking temperature"),
        (OLD, {"reasoning_effort": "low", "top_p": 0.2, "top_k": 2}, "max_tokens thinking top_p top_k"),
        # Without thinking nothing is excluded.
        (OLD, {"reasoning_effort": "none"}, "max_tokens temperature top_p top_k"),
        (OLD, {"thinking": {"type": "disabled"}}, "max_tokens thinking temperature top_p top_k"),
        (OLD, {}, "max_tokens temperature top_p top_k"),
    ],
    ids=str,
)
def test_what_thinking_excludes(
    how: str,
    name: str,
    asked: dict[str, Any],
    left: str,
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    keys: str,
) -> None:
    catalog(
        {"a": server.anthropic(name, params={"top_p": 0.5, "top_k": 3})}, temperature=0.7, max_tokens=5000, cache=False
    )
    body = sent(router, server, how, **asked)
    assert body.keys() == set(left.split())
    assert {name: body[name] for name in ALL.keys() & body.keys()} == {
        name: asked.get(name, value) for name, value in ALL.items() if name in left.split()
    }
    assert body["max_tokens"] == 5000


def test_what_goes_with_thinking_stays(
    router: Router, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": server.anthropic(OLD, params={"top_p": 0.95, "thinking": ENABLED})}, temperature=1, max_tokens=5000)
    assert sent(router, server, "sync") == {
        "temperature": 1, "top_p": 0.95, "max_tokens": 5000, "thinking": ENABLED
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settled", "asked", "tokens"),
    [
        # A limit that is no larger than the budget holds for what comes behind the thinking.
        ({"max_tokens": 500}, {"thinking": ENABLED}, 2000),
        ({"max_tokens": 1500}, {"thinking": ENABLED}, 3000),
        ({"max_tokens": 1501}, {"thinking": ENABLED}, 1501),
        # The call's own is sent as it is.
        ({"max_tokens": 500}, {"thinking": ENABLED, "max_tokens": 700}, 700),
    ],
    ids=str,
)
def test_a_limit_leaves_room_for_the_thinking(
    settled: dict[str, int],
    asked: dict[str, Any],
    tokens: int,
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    keys: str,
) -> None:
    catalog({"a": server.anthropic(OLD)}, **settled)
    assert sent(router, server, "sync", **asked)["max_tokens"] == tokens


@pytest.mark.parametrize("effort", ["low", "medium", "high"])
def test_every_level_of_an_older_model_is_accepted_with_any_limit_of_the_module(
    effort: str, router: Router, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": server.anthropic(OLD, params={"reasoning_effort": effort})}, max_tokens=300, temperature=0)
    body = sent(router, server, "sync")
    assert body["max_tokens"] > body["thinking"]["budget_tokens"]
    assert "temperature" not in body


@pytest.mark.parametrize("string", ["openai/own-model", "gemini/gemini-2.5-flash", "deepseek/deepseek-reasoner"])
def test_with_other_models_thinking_excludes_nothing(
    string: str, router: Router, catalog: WriteCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{string.partition('/')[0].upper()}_API_KEY", "some-key")
    with RawServer() as raw:
        catalog({"a": {"model": string, "api_base": raw.base}}, temperature=0.7, retries=0)
        raw.says({"error": {"message": "no"}}, 401)
        with pytest.raises(Exception, match="auth"):
            router.complete("hi", reasoning_effort="low")
        assert "0.7" in str(raw.bodies[0])
