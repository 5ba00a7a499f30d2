"""Calls that other code makes to LiteLLM directly: in the same series, at the catalog's prices, and none twice."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import CANARY, WriteCatalog
from prometheus_client import CollectorRegistry
from servers import Fault, Reply, ScriptedServer

import modelrouter
from modelrouter import AllModelsFailed, Router, callback
from modelrouter.metering.metrics import Metrics

pytestmark = pytest.mark.usefixtures("litellms_litter")

HELLO = [{"role": "user", "content": "hi"}]
LISTS = [
    *("callbacks", "input_callback", "success_callback", "failure_callback"),
    *("_async_success_callback", "_async_failure_callback"),
]


class Counted:
    """What has been metered: ``counted("llm_cost_usd_total", model="a")``, a sum over the other labels."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def __call__(self, series: str, **labels: str) -> float:
        samples = (sample for family in self.registry.collect() for sample in family.samples if sample.name == series)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def requests(self, **labels: str) -> float:
        return self("llm_provider_requests_total", **labels)

    def until(self, number: int, timeout: float = 5.0) -> None:
        """LiteLLM tells of a call a moment after it has returned."""
        end = time.monotonic() + timeout
        while self.requests() < number and time.monotonic() < end:
            time.sleep(0.005)
        assert self.requests() == number


@pytest.fixture
def litellm(bare_litellm: ModuleType) -> Iterator[ModuleType]:
    kept = {name: list(getattr(bare_litellm, name)) for name in LISTS}
    yield bare_litellm
    for name, callbacks in kept.items():
        getattr(bare_litellm, name)[:] = callbacks


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def router(litellm: ModuleType, catalog: WriteCatalog, server: ScriptedServer, counted: Counted, keys: str) -> Router:
    """A router on the same metrics; the callback is installed."""
    catalog(
        {
            "a": server.openai("a"),
            "claude": server.anthropic("claude"),
            "llama2": server.ollama("llama2"),
        },
        retries=0,
    )
    router = Router(registry=counted.registry)
    callback.install(lambda: router.catalog, Metrics.of(counted.registry))
    return router


class Calls:
    """The ways in which other code comes to LiteLLM; each asks `model` once."""

    def __init__(self, litellm: ModuleType, server: ScriptedServer, counted: Counted) -> None:
        self.litellm, self.server, self.counted = litellm, server, counted

    def at(self, model: str = "openai/a") -> dict[str, Any]:
        base = self.server.openai_base if model.startswith("openai/") else self.server.ollama_base
        return {"model": model, "api_base": base, "api_key": CANARY, "max_retries": 0}

    def run(self, coroutine: Coroutine[Any, Any, Any], events: int = 1) -> Any:
        """On a loop that lives until LiteLLM's queue has told of it."""

        async def told() -> Any:
            try:
                return await coroutine
            finally:
                await asyncio.to_thread(self.counted.until, events)

        return asyncio.run(told())

    def sync(self, model: str = "openai/a") -> None:
        self.litellm.completion(**self.at(model), messages=HELLO)

    def asynchronous(self, model: str = "openai/a") -> None:
        self.run(self.litellm.acompletion(**self.at(model), messages=HELLO))

    def stream(self, model: str = "openai/a") -> None:
        usage = {"include_usage": True}
        for _ in self.litellm.completion(**self.at(model), messages=HELLO, stream=True, stream_options=usage):
            pass

    def astream(self, model: str = "openai/a") -> None:
        async def read() -> None:
            usage = {"include_usage": True}
            pieces = await self.litellm.acompletion(**self.at(model), messages=HELLO, stream=True, stream_options=usage)
            async for _ in pieces:
                pass

        self.run(read())

    def router(self, model: str = "openai/a") -> None:
        self._router(model).completion("it", HELLO)

    def arouter(self, model: str = "openai/a") -> None:
        self.run(self._router(model).acompletion("it", HELLO))

    def _router(self, model: str) -> Any:
        deployments = [{"model_name": "it", "litellm_params": self.at(model)}]
        return self.litellm.Router(model_list=deployments, num_retries=0)

    def dspy(self, model: str = "openai/a") -> None:
        import dspy

        dspy.LM(**self.at(model), engine="litellm", cache=False, num_retries=0)("hi")


@pytest.fixture
def calls(router: Router, litellm: ModuleType, server: ScriptedServer, counted: Counted) -> Calls:
    return Calls(litellm, server, counted)


ways = pytest.mark.parametrize("way", ["sync", "asynchronous", "stream", "astream", "router", "arouter", "dspy"])


@ways
def test_an_answer_is_metered_once_at_the_catalogs_price(
    way: str, calls: Calls, counted: Counted, server: ScriptedServer
) -> None:
    getattr(calls, way)()
    counted.until(server.count())
    labels = {"provider": "openai", "model": "a"}
    assert counted.requests(**labels, status="success") == server.count() == 1
    assert counted("llm_tokens_used_total", **labels, type="input") == 10
    assert counted("llm_tokens_used_total", **labels, type="output") == 5
    assert counted("llm_cost_usd_total", **labels) == pytest.approx(0.00002)
    assert counted("llm_cost_unknown_total") == 0
    assert counted("llm_provider_latency_seconds_count", **labels) == 1
    assert counted("llm_time_to_first_token_seconds_count", **labels) == ("stream" in way)


@ways
def test_an_error_is_metered_once_with_its_kind(
    way: str, calls: Calls, counted: Counted, server: ScriptedServer
) -> None:
    server.script("a", Fault(429, "slow down"))
    with pytest.raises(Exception, match="slow down"):
        getattr(calls, way)()
    counted.until(server.count())
    assert counted.requests(provider="openai", model="a", status="error") == server.count() == 1
    assert counted("llm_errors_total", provider="openai", error_type="rate_limit") == 1
    assert counted("llm_errors_total") == 1


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        ("anthropic/claude", {"provider": "anthropic", "model": "claude"}),
        ("ollama_chat/llama2", {"provider": "ollama", "model": "llama2"}),
    ],
)
@pytest.mark.parametrize("way", ["sync", "astream"])
def test_the_other_providers(
    way: str, model: str, labels: dict[str, str], calls: Calls, counted: Counted, server: ScriptedServer
) -> None:
    server.script(labels["model"], Reply(input_tokens=1000, output_tokens=500))
    getattr(calls, way)(model)
    counted.until(1)
    assert counted.requests(**labels, status="success") == server.count() == 1
    assert counted("llm_tokens_used_total", **labels, type="input") == 1000
    assert counted("llm_cost_usd_total", **labels) == pytest.approx(0.002 if "claude" in model else 0)
    assert counted("llm_cost_unknown_total") == 0


def test_each_try_of_litellms_router_is_metered(
    litellm: ModuleType, calls: Calls, counted: Counted, server: ScriptedServer
) -> None:
    server.script("a", Fault(500), Fault(500), Reply())
    deployments = [{"model_name": "it", "litellm_params": calls.at()}]
    litellm.Router(model_list=deployments, num_retries=2, retry_after=0).completion("it", HELLO)
    counted.until(3)
    assert server.count() == 3
    assert counted("llm_errors_total", error_type="server") == 2
    assert counted.requests(status="success") == 1


def test_a_model_elsewhere_has_no_price(calls: Calls, counted: Counted) -> None:
    """The catalog's price and LiteLLM's are the provider's own; somebody else may ask what they like."""
    calls.sync("openai/gpt-4")
    counted.until(1)
    assert counted("llm_cost_unknown_total", provider="openai", model="gpt-4") == 1
    assert counted("llm_cost_usd_total", model="gpt-4") == 0


def test_a_model_that_the_catalog_does_not_list_has_litellms_price(
    litellm: ModuleType, router: Router, counted: Counted
) -> None:
    litellm.completion("openai/gpt-4", HELLO, mock_response="hello")  # at the provider's own address, and not sent
    counted.until(1)
    assert counted("llm_cost_usd_total", provider="openai", model="gpt-4") > 0


def test_with_a_broken_catalog_calls_are_metered_all_the_same(
    litellm: ModuleType, calls: Calls, catalog: WriteCatalog, counted: Counted
) -> None:
    catalog({}).write_text("modules: [")
    broken = Router(registry=counted.registry)
    callback.install(lambda: broken.catalog, Metrics.of(counted.registry))
    calls.sync()
    counted.until(1)
    assert counted("llm_cost_unknown_total", provider="openai", model="a") == 1


def test_what_is_no_chat_is_not_metered(litellm: ModuleType, calls: Calls, counted: Counted) -> None:
    with pytest.raises(litellm.NotFoundError):
        litellm.embedding(input="hi", **calls.at())
    calls.sync()
    counted.until(1)


def test_others_hear_of_synchronous_calls_as_of_asynchronous_ones(
    litellm: ModuleType, router: Router, server: ScriptedServer
) -> None:
    from litellm.integrations.custom_logger import CustomLogger

    told: list[str] = []
    came = threading.Event()

    class Listener(CustomLogger):  # type: ignore[misc]
        def log_success_event(self, *_: Any, **__: Any) -> None:
            told.append("synchronous")

        async def async_log_success_event(self, *_: Any, **__: Any) -> None:
            told.append("asynchronous")
            came.set()

    litellm.callbacks.append(Listener())
    litellm.success_callback.append(lambda *_: told.append("function"))
    router.complete("hi", model="a")
    assert came.wait(5)
    assert told == ["asynchronous"]


@pytest.mark.parametrize("others", [False, True], ids=["alone", "with other code's callbacks"])
@pytest.mark.parametrize("how", ["sync", "async"])
def test_our_own_calls_are_counted_once(
    how: str,
    others: bool,
    litellm: ModuleType,
    calls: Calls,
    router: Router,
    counted: Counted,
    server: ScriptedServer,
) -> None:
    heard: list[str] = []
    if others:  # then LiteLLM tells all callbacks, ours too
        litellm.success_callback.append(lambda kwargs, *_: heard.append(kwargs["litellm_call_id"]))
        litellm.failure_callback.append(lambda kwargs, *_: heard.append(kwargs["litellm_call_id"]))

    def call(model: str) -> Any:
        if how == "sync":
            return router.complete("hi", model=model)

        async def ask() -> Any:
            answer = await router.acomplete("hi", model=model)
            await asyncio.sleep(0.1 if others else 0)  # long enough for the queue to tell
            return answer

        return asyncio.run(ask())

    call("a")
    server.script("claude", Fault(500))
    with pytest.raises(AllModelsFailed):
        call("claude")
    calls.sync()  # told last
    counted.until(server.count())
    assert server.count() == 3
    assert counted("llm_tokens_used_total", type="input") == 20
    assert counted("llm_errors_total") == 1
    assert len(heard) >= others
    assert not any("modelrouter" in str(request.body) for request in server.requests())


APPLICATION = textwrap.dedent("""
    import sys
    import time
    import modelrouter
    from prometheus_client import REGISTRY

    how, base = sys.argv[1:]
    if how == "call":
        modelrouter.complete("hi", cache=False)
    else:
        modelrouter.install_callback()
    import litellm

    messages = [{"role": "user", "content": "hi"}]
    for model in ("a", "unlisted"):
        litellm.completion(f"openai/{model}", messages, api_base=base, api_key="none")

    def metered(model):
        labels = {"provider": "openai", "model": model, "status": "success"}
        return REGISTRY.get_sample_value("llm_provider_requests_total", labels)

    end = time.monotonic() + 5
    while metered("unlisted") != 1 and time.monotonic() < end:
        time.sleep(0.01)
    print(metered("a"), metered("unlisted"))
""")


@pytest.mark.parametrize(("how", "printed"), [("call", "2.0 1.0"), ("install", "1.0 1.0")])
def test_it_is_registered_with_the_first_call_or_by_hand(
    how: str, printed: str, catalog: WriteCatalog, server: ScriptedServer
) -> None:
    """In a process of its own: there the series are the process's, as in an application."""
    catalog({"a": server.openai("a")})
    environment = os.environ | {"PYTHONPATH": str(Path(modelrouter.__file__).parent.parent)}
    run = subprocess.run(
        [sys.executable, "-c", APPLICATION, how, server.openai_base],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == printed, run.stderr


def test_installing_again(litellm: ModuleType, router: Router, counted: Counted) -> None:
    def install() -> int:
        callback.install(lambda: router.catalog, Metrics.of(counted.registry))
        return sum(isinstance(each, callback.Hooks) for each in litellm.callbacks)

    assert install() == 1
    litellm.callbacks.clear()
    assert install() == 1


def test_a_stream_that_is_closed_early_is_not_told_of(litellm: ModuleType, calls: Calls, counted: Counted) -> None:
    """Should that change, the docstring of `callback` has to say so."""

    async def leave() -> None:
        pieces = await litellm.acompletion(**calls.at(), messages=HELLO, stream=True)
        await anext(aiter(pieces))
        await pieces.aclose()

    asyncio.run(leave())
    calls.sync()
    counted.until(1)
