"""Models that keep failing are asked last, until one call finds that they answer again."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from conftest import WriteCatalog
from prometheus_client import CollectorRegistry
from servers import Fault, Reply, ScriptedServer

from modelrouter import Router
from modelrouter.catalog.target import Gateway, Target
from modelrouter.completion import Kind
from modelrouter.planning.events import ModelLeft
from modelrouter.planning.exchange import Failure
from modelrouter.planning.health import IN_A_ROW, PROBE_AFTER, Health

TARGET = Target("a", "openai/a", "openai")


@pytest.fixture
def changes() -> list[bool]:
    return []


@pytest.fixture
def health(changes: list[bool]) -> Health:
    return Health(lambda _, aside: changes.append(aside))


def left(kind: Kind | None, *, retry_after: float | None = None, cut_short: bool = False) -> ModelLeft:
    failure = Failure(kind, "no", retry_after=retry_after) if kind is not None else None
    return ModelLeft(TARGET, failure, cut_short=cut_short)


@pytest.mark.parametrize("kind", [Kind.CONNECTION, Kind.SERVER, Kind.AUTH, Kind.TIMEOUT])
def test_three_failed_calls_in_a_row_set_a_model_aside(kind: Kind, health: Health, changes: list[bool]) -> None:
    for failures in range(1, 4):
        assert not health.aside(TARGET, 0.0)
        health.note(left(kind), float(failures))
    assert health.aside(TARGET, 4.0)
    assert changes == [True]


def test_an_answer_in_between_begins_the_count_anew(health: Health) -> None:
    for kind in (Kind.SERVER, Kind.SERVER, None, Kind.SERVER, Kind.SERVER):
        health.note(left(kind), 0.0)
    assert not health.aside(TARGET, 1.0)


@pytest.mark.parametrize("kind", [Kind.BAD_REQUEST, Kind.CONTENT_POLICY, Kind.CONTEXT_WINDOW, Kind.EMPTY_RESPONSE])
def test_what_says_nothing_about_the_model_does_not_count(kind: Kind, health: Health) -> None:
    for _ in range(5):
        health.note(left(kind), 0.0)
        health.note(left(Kind.TIMEOUT, cut_short=True), 0.0)
    assert not health.aside(TARGET, 1.0)


def test_one_call_probes_and_its_answer_brings_the_model_back(health: Health, changes: list[bool]) -> None:
    for _ in range(3):
        health.note(left(Kind.SERVER), 0.0)
    assert health.aside(TARGET, PROBE_AFTER - 1)
    assert not health.aside(TARGET, PROBE_AFTER)  # the probe
    assert health.aside(TARGET, PROBE_AFTER)  # everybody else
    health.note(left(Kind.SERVER), PROBE_AFTER + 1)
    assert health.aside(TARGET, 2 * PROBE_AFTER)
    health.note(left(None), 2 * PROBE_AFTER + 1)
    assert not health.aside(TARGET, 2 * PROBE_AFTER + 1)
    assert changes == [True, False]


def test_a_rate_limited_model_is_set_aside_until_its_retry_after(health: Health) -> None:
    health.note(left(Kind.RATE_LIMIT, retry_after=12), 100.0)
    assert health.aside(TARGET, 111.0)
    assert not health.aside(TARGET, 112.0)


def test_a_model_is_set_aside_as_long_as_it_is_at_any_address(health: Health, changes: list[bool]) -> None:
    elsewhere = Target("a2", "openai/a", "openai", api_base="http://127.0.0.1:1/v1")
    for target in (TARGET, elsewhere):
        health.note(ModelLeft(target, Failure(Kind.RATE_LIMIT, "no", retry_after=10.0)), 0.0)
    health.note(ModelLeft(elsewhere, None), 1.0)
    health.note(ModelLeft(TARGET, None), 2.0)
    assert changes == [True, True, True, False]


def test_a_gateway_that_is_down_says_nothing_of_the_model_itself(health: Health) -> None:
    through = replace(TARGET, gateway=Gateway("http://gateway"))
    for _ in range(IN_A_ROW):
        health.note(ModelLeft(through, Failure(Kind.CONNECTION, "refused")), 0.0)
    assert health.aside(through, 0.0) is Kind.CONNECTION
    assert health.aside(TARGET, 0.0) is None
    assert health.aside(replace(through, gateway=Gateway("http://another")), 0.0) is None


def test_a_model_is_set_aside_for_what_it_was_set_aside_for(health: Health) -> None:
    for _ in range(3):
        health.note(left(Kind.SERVER), 0.0)
    health.note(left(Kind.EMPTY_RESPONSE), 1.0)
    assert health.aside(TARGET, 2.0) is Kind.SERVER


def test_calls_go_past_a_failing_model_and_return_when_it_answers(
    catalog: WriteCatalog, server: ScriptedServer, keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog({"a": server.openai("a"), "b": server.openai("b")}, retries=0, cache=False)
    server.script("a", Fault(503), Fault(503), Fault(503), Reply("back"))
    registry = CollectorRegistry()
    router = Router(registry=registry)
    labels = {"provider": "openai", "model": "a"}
    clock = time.monotonic
    assert [router.complete("hi").model for _ in range(5)] == ["b"] * 5
    assert server.count("a") == 3
    assert registry.get_sample_value("llm_model_set_aside", labels) == 1
    monkeypatch.setattr(time, "monotonic", lambda: clock() + PROBE_AFTER + 1)
    assert router.complete("hi").text == "back"
    assert registry.get_sample_value("llm_model_set_aside", labels) == 0


def test_a_model_set_aside_still_answers_when_the_others_fail(
    catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    catalog({"a": server.openai("a"), "b": server.openai("b")}, retries=0, cache=False)
    server.script("a", Fault(503), Fault(503), Fault(503), Reply("back"))
    server.script("b", Reply("fine"), Reply("fine"), Reply("fine"), Fault(401))
    router = Router(registry=CollectorRegistry())
    assert [router.complete("hi").text for _ in range(4)] == ["fine"] * 3 + ["back"]
