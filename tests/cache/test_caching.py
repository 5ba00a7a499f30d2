"""An answer that was paid for is not paid for twice: remembered on disk, and shared by calls that are in flight."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import CANARY, WriteCatalog
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from servers import Fault, Gate, Known, Reply, ScriptedServer, ToolUse

from modelrouter import AllModelsFailed, Completion, InvalidRequest, Router
from modelrouter.completion import Kind
from modelrouter.metering.track import track

Call = Callable[..., Completion]


@pytest.fixture
def router(router: Router, catalog: WriteCatalog, server: ScriptedServer, keys: str) -> Router:
    catalog(
        {name: server.openai(name) for name in ("first", "second")},
        retries=0,
        modules={"forgetful": {"cache": False}, "brief": {"cache": {"ttl": 0.000001}}, "scorer": {"temperature": 0}},
    )
    return router


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, router: Router) -> Call:
    if request.param == "sync":
        return router.complete
    return lambda *args, **kwargs: asyncio.run(router.acomplete(*args, **kwargs))


def counted(registry: CollectorRegistry, result: str, module: str = "default") -> float:
    return registry.get_sample_value("llm_cache_requests_total", {"module": module, "result": result}) or 0.0


def test_the_same_question_is_paid_for_once(call: Call, server: ScriptedServer, registry: CollectorRegistry) -> None:
    server.script("first", Reply("Paris", input_tokens=100, output_tokens=20))
    paid, free = call("France?"), call("France?")
    assert (paid.cached, free.cached) == (False, True)
    assert (free.text, free.model, free.usage, free.finish_reason) == ("Paris", "first", paid.usage, "stop")
    assert (paid.cost_usd, free.cost_usd) == (Decimal("0.000140"), Decimal(0))
    assert [a.outcome for a in free.attempts] == ["cached"]
    assert free.response.choices[0].message.content == "Paris"
    assert server.count() == 1
    assert (counted(registry, "hit"), counted(registry, "miss")) == (1, 1)
    saved = registry.get_sample_value("llm_cache_saved_usd_total", {"module": "default"})
    assert saved == pytest.approx(0.00014)
    assert registry.get_sample_value("llm_module_requests_total", {"module": "default", "outcome": "success"}) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "Spain?"},
        {"system": "be brief"},
        {"temperature": 0.1},
        {"model": "second"},
        {"module": "scorer"},
        {"cache_key": "2"},
        {"cache": False},
        {"cache": "refresh"},
        {"module": "forgetful"},
        {"module": "brief"},
    ],
    ids=str,
)
def test_any_difference_asks_again(other: dict[str, Any], call: Call, server: ScriptedServer) -> None:
    call("France?")
    assert not call(**{"prompt": "France?"} | other).cached
    assert server.count() == 2


def test_limits_of_time_make_no_difference(call: Call, server: ScriptedServer) -> None:
    call("France?")
    assert call("France?", timeout=3, deadline=9, retries=7).cached


def test_refresh_asks_and_is_remembered_in_its_place(call: Call, server: ScriptedServer) -> None:
    server.script("first", Reply("old"), Reply("new"))
    assert [call("?").text, call("?", cache="refresh").text, call("?").text] == ["old", "new", "new"]
    with pytest.raises(InvalidRequest, match="cache= takes True, False or 'refresh'"):
        call("?", cache="refrsh")


@pytest.mark.parametrize("variables", [{"CACHE_ENABLED": "false"}, {"CACHE_TTL": "0.000001"}], ids=str)
def test_the_environment_turns_it_off(
    variables: dict[str, str], call: Call, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    call("France?")
    assert not call("France?").cached


def test_what_was_cut_off_or_is_no_answer_is_not_remembered(call: Call, server: ScriptedServer) -> None:
    server.script("first", Reply("Par", finish_reason="length"))
    call("France?")
    assert not call("France?").cached


def test_a_fallbacks_answer_never_stands_in_for_the_primarys(call: Call, server: ScriptedServer) -> None:
    server.script("first", Known("bad_key"), Known("bad_key"), Reply("primary"))
    server.script("second", Reply("fallback"))
    assert call("?").text == "fallback"
    again = call("?")  # the primary is asked all the same, and its fallback remembered
    assert (again.text, again.cached, again.fallback) == ("fallback", True, True)
    assert call("?").text == "primary"
    assert (server.count("first"), server.count("second")) == (3, 1)


def fell_over(registry: CollectorRegistry, reason: str) -> float:
    labels = {"module": "default", "from_model": "first", "to_model": "second", "reason": reason}
    return registry.get_sample_value("llm_fallbacks_total", labels) or 0.0


def test_a_fallback_is_one_in_every_book_whether_it_was_asked_or_remembered(
    call: Call, router: Router, server: ScriptedServer, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    server.script("first", Known("bad_key"))
    with track() as tracker:
        answers = [call("?") for _ in range(4)]  # after three failures the first one is set aside
        with router.stream("?") as pieces:
            next(pieces)  # and the reader goes
    assert [answer.cached for answer in answers] == [False, True, True, True]
    assert all(answer.fallback for answer in answers)
    assert [answer.attempts[0].outcome for answer in answers] == ["error", "error", "error", "cached"]
    assert fell_over(registry, "auth") == 5
    assert (tracker.total.fallbacks, server.count("second")) == (5, 1)
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("llm_fallback module=default from=first to=second reason=auth") == 5


class City(BaseModel):
    name: str


def test_tool_calls_and_parsed_objects_survive(call: Call, server: ScriptedServer) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    server.script("first", Reply("", tools=[ToolUse("look", {"at": "Paris"})]), Reply('{"name": "Paris"}'))
    assert call("?", tools=[tool]).tool_calls == call("?", tools=[tool]).tool_calls != ()
    assert call("?", response_format=City).parsed == call("?", response_format=City).parsed == City(name="Paris")
    assert server.count() == 2


def test_who_has_had_a_remembered_answer_whole_may_close_its_stream(
    router: Router, registry: CollectorRegistry
) -> None:
    router.complete("?")
    with router.stream("?") as pieces:
        assert next(pieces) == "ok"
    outcomes = {"success": 2, "cancelled": 0}
    for outcome, count in outcomes.items():
        labels = {"module": "default", "outcome": outcome}
        assert registry.get_sample_value("llm_module_requests_total", labels) == count


def test_a_remembered_answer_is_replayed_as_a_stream_and_the_other_way_round(
    router: Router, server: ScriptedServer
) -> None:
    server.script("first", Reply("one two"))
    with router.stream("?") as pieces:
        assert list(pieces) == ["one", " two"]
    with router.stream("?") as again:
        assert "".join(again) == "one two"
    assert again.answer.cached
    assert router.complete("?").cached

    async def asynchronous() -> Completion:
        async with router.astream("?") as pieces:
            assert [piece async for piece in pieces] == ["one two"]
        return pieces.answer

    assert asyncio.run(asynchronous()).cached
    assert server.count() == 1


def test_a_hit_needs_no_key_no_litellm_and_no_server(
    router: Router, server: ScriptedServer, surroundings: Path
) -> None:
    router.complete("France?")
    router.close()
    code = (
        "import sys, modelrouter\n"
        "answer = modelrouter.complete('France?')\n"
        "print(answer, answer.cached, 'litellm' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=surroundings, check=False
    )
    assert (done.stdout, done.stderr) == ("ok True False\n", "")
    assert server.count() == 1


def test_no_key_is_on_disk(router: Router, server: ScriptedServer, tmp_path: Path) -> None:
    router.complete("France?", extra_headers={"x-vendor": CANARY})
    router.close()
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert files
    assert all(CANARY.encode() not in path.read_bytes() for path in files)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "state" / "cache").rglob("*"))


def test_a_store_that_fails_never_fails_a_call(
    catalog: WriteCatalog,
    server: ScriptedServer,
    registry: CollectorRegistry,
    keys: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    catalog({"first": server.openai("first")})
    (tmp_path / "state").write_text("a file where the directory should be")
    router = Router(registry=registry)
    assert [router.complete("?").cached for _ in range(3)] == [False] * 3
    assert counted(registry, "error") > 0
    warnings = [record.getMessage() for record in caplog.records if "cache_failed" in record.getMessage()]
    assert len(warnings) == 1


# In flight


def together(router: Router, server: ScriptedServer, gate: Gate, mode: str, count: int) -> list[Any]:
    """`count` identical calls at once; the gate is opened once the first of them has reached the server."""

    def opened() -> None:
        server.wait_for(1)
        threading.Timer(0.2, gate.open).start()  # long enough for the others to board

    if mode == "threads":
        with ThreadPoolExecutor(count) as pool:
            futures = [pool.submit(router.complete, "?") for _ in range(count)]
            opened()
            return [future.exception() or future.result() for future in futures]

    async def tasks() -> list[Any]:
        asked = [asyncio.create_task(router.acomplete("?")) for _ in range(count)]
        await asyncio.to_thread(opened)
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(tasks())


@pytest.mark.parametrize("mode", ["threads", "tasks"])
def test_identical_calls_in_flight_are_sent_once(
    mode: str, router: Router, server: ScriptedServer, registry: CollectorRegistry
) -> None:
    gate = Gate()
    server.script("first", Reply("shared", gate=gate))
    answers = together(router, server, gate, mode, 64)
    assert {answer.text for answer in answers} == {"shared"}
    assert server.count() == 1
    assert sum(answer.cost_usd for answer in answers) == Decimal("0.000020")
    assert sum(answer.cached for answer in answers) == 63
    assert counted(registry, "miss") == 1
    assert counted(registry, "coalesced") + counted(registry, "hit") == 63
    responses = [answer.response for answer in answers]
    assert len({id(response) for response in responses}) == 64


@pytest.mark.parametrize("mode", ["threads", "tasks"])
def test_a_leaders_failure_is_everybodys_and_all_fall_over_together(
    mode: str, router: Router, server: ScriptedServer, registry: CollectorRegistry
) -> None:
    gate = Gate()
    server.script("first", Fault(403, gate=gate))
    answers = together(router, server, gate, mode, 16)
    assert {answer.model for answer in answers} == {"second"}
    assert (server.count("first"), server.count("second")) == (1, 1)
    kinds = {answer.attempts[0].error_kind for answer in answers}
    assert kinds == {Kind.PERMISSION}
    assert sorted(answer.attempts[0].outcome for answer in answers) == ["error"] + ["skipped"] * 15
    assert fell_over(registry, "permission") == 16


def test_a_cancelled_leader_is_followed_by_another(router: Router, server: ScriptedServer) -> None:
    gate = Gate()
    server.script("first", Reply("first", gate=Gate()), Reply("second", gate=gate))

    async def run() -> list[Any]:
        leader = asyncio.create_task(router.acomplete("?"))
        await asyncio.to_thread(server.wait_for, 1)
        followers = [asyncio.create_task(router.acomplete("?")) for _ in range(8)]
        await asyncio.sleep(0.05)
        leader.cancel()
        await asyncio.to_thread(server.wait_for, 2)
        gate.open()
        return await asyncio.gather(leader, *followers, return_exceptions=True)

    cancelled, *answers = asyncio.run(run())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert {answer.text for answer in answers} == {"second"}
    assert server.count() == 2


def test_a_leader_out_of_time_takes_nobody_with_it(router: Router, server: ScriptedServer) -> None:
    gate = Gate()
    server.script("first", Reply("never", gate=Gate()), Reply("in time", gate=gate))

    async def run() -> list[Any]:
        leader = asyncio.create_task(router.acomplete("?", model="first", deadline=0.3))
        await asyncio.to_thread(server.wait_for, 1)
        follower = asyncio.create_task(router.acomplete("?", model="first"))
        await asyncio.to_thread(server.wait_for, 2)
        gate.open()
        return await asyncio.gather(leader, follower, return_exceptions=True)

    late, answer = asyncio.run(run())
    assert isinstance(late, AllModelsFailed)
    assert answer.text == "in time"


def test_a_synchronous_call_inside_the_leaders_loop_does_not_wait_for_it(
    router: Router, server: ScriptedServer
) -> None:
    gate = Gate()
    server.script("first", Reply("leader", gate=gate), Reply("inner"))

    async def run() -> list[str]:
        leader = asyncio.create_task(router.acomplete("?"))
        await asyncio.to_thread(server.wait_for, 1)
        inner = router.complete("?")  # blocks the loop on which the leader runs
        gate.open()
        return [inner.text, (await leader).text]

    assert asyncio.run(run()) == ["inner", "leader"]
