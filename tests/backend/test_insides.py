"""What leans on LiteLLM's insides: that it is as the probe wants it, and that calls work when it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from conftest import WriteCatalog
from servers import Reply, ScriptedServer, ToolUse

from modelrouter import Router
from modelrouter.backend.current import LITELLM
from modelrouter.backend.insides import connections, way

wires = pytest.mark.parametrize("wire", ["openai", "anthropic", "ollama"])
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(autouse=True)
def chosen_anew(server: ScriptedServer, litellms_litter: None) -> Iterator[None]:
    LITELLM.load()
    yield
    way.choose()


@pytest.fixture
def router(router: Router, catalog: WriteCatalog, server: ScriptedServer, keys: str, wire: str) -> Router:
    catalog({"a": getattr(server, wire)("a", price={"input": 1, "output": 2})}, cache=False, retries=0)
    return router


def answers(router: Router, server: ScriptedServer) -> list[Any]:
    """A whole answer, synchronous and asynchronous, one with a tool, and a stream: all that users see of them."""
    server.script(
        "a", Reply("one"), Reply("two"), Reply("", tools=[ToolUse("look", {"at": "it"})]), Reply("three four")
    )
    found = [router.complete("hi"), asyncio.run(router.acomplete("hi")), router.complete("hi", tools=[TOOL])]
    with router.stream("hi") as pieces:
        text = "".join(pieces)
    calls = [(call.name, call.arguments.replace(" ", "")) for call in found[2].tool_calls]
    seen = [(each.text, each.finish_reason, each.usage, each.cost_usd) for each in (*found, pieces.answer)]
    return [*seen, calls, text]


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A LiteLLM whose logging is made with one more argument, which LiteLLM itself passes."""
    from litellm.litellm_core_utils.litellm_logging import Logging

    made = Logging.__init__

    def renewed(self: Any, *arguments: Any, **more: Any) -> None:
        if "litellm_trace_id" not in more:
            raise TypeError("Logging.__init__() missing 1 required keyword-only argument: 'tenant'")
        made(self, *arguments, **more)

    monkeypatch.setattr(Logging, "__init__", renewed)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "modelrouter"]


def test_the_installed_litellm_is_as_it_is_leant_on() -> None:
    way.probe()
    assert way.described().endswith(", the quick way")


@wires
def test_the_plain_call_gives_the_same(
    wire: str, router: Router, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    quick = answers(router, server)
    assert quick[0][3] > Decimal(0)
    server.reset()
    monkeypatch.setenv("MODELROUTER_LITELLM", "plain")
    way.choose()
    assert answers(router, server) == quick
    assert not warnings_of(caplog), "what the operator asked for is nothing to warn of"
    assert way.described().endswith("its plain call, which takes longer: MODELROUTER_LITELLM=plain")


@wires
@pytest.mark.parametrize("found", ["at the load", "at a call"])
def test_a_litellm_that_has_changed_is_called_by_its_plain_call_and_told_of_once(
    wire: str, found: str, changed: None, router: Router, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    if found == "at the load":
        way.choose()
    texts = [each[0] for each in answers(router, server)[:4]]
    assert texts == ["one", "two", "", "three four"]
    [told] = warnings_of(caplog)
    assert told.startswith("litellm_plain LiteLLM ")
    assert "its plain call, which takes longer: it is not as modelrouter knows it" in told
    assert "'tenant'" in told


def test_an_unknown_way_decides_nothing_and_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MODELROUTER_LITELLM", "plian")
    way.choose()
    assert way.described().endswith(", the quick way")
    [told] = warnings_of(caplog)
    assert "MODELROUTER_LITELLM='plian' decides nothing" in told


def test_what_a_model_can_do_is_looked_up_once_in_our_calls_and_by_others_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import litellm

    row: dict[str, Any] = {"litellm_provider": "openai", "mode": "chat", "supports_vision": False}
    monkeypatch.setitem(litellm.model_cost, "of-the-tests", row)
    with connections.watch():
        assert not litellm.supports_vision("openai/of-the-tests")
    row["supports_vision"] = True  # as other code's litellm.register_model does
    assert litellm.supports_vision("openai/of-the-tests")
    with connections.watch():
        assert not litellm.supports_vision("openai/of-the-tests")
