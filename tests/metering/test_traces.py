"""Spans of calls: the right trees, with the right words and numbers in them, and nothing where there is no tracer."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from decimal import Decimal
from random import Random
from typing import Any

import httpx
import pytest
from conftest import CANARY, WriteCatalog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from servers import Fault, Reply, ScriptedServer
from servers.otlp import OtlpReceiver

from modelrouter import AllModelsFailed, CallFailed, Router, Usage, start_metrics_server, track
from modelrouter.catalog.target import Gateway, Target
from modelrouter.metering import conventions, spend, traces
from modelrouter.metering.spend import Spending
from modelrouter.planning.effects import Effect
from modelrouter.planning.exchange import Request
from modelrouter.store import DiskStore
from modelrouter.testing import Answer, Error, ScriptedProvider, ToolCall

MONEY = "modelrouter.cost_usd"
MODELS = {
    name: {"model": f"openai/{name}", "price": {"input": 1, "output": 2, "cache_read": 0.1}} for name in ("a", "b")
}
WAYS = ("complete", "acomplete", "stream", "astream")


@pytest.fixture
def router(router: Router, catalog: WriteCatalog) -> Router:
    catalog(MODELS, retries=1, modules={"again": {"chain": ["b"]}, "plain": {"chain": ["a"], "cache": False}})
    return router


class Tree:
    """A span, and those under it in the order of their beginnings."""

    def __init__(self, span: ReadableSpan, spans: Sequence[ReadableSpan]) -> None:
        assert span.context is not None
        self.name, self.kind, self.events = span.name, span.kind, span.events
        self.said = dict(span.attributes or {})
        self.status = span.status
        self.id, self.trace = span.context.span_id, span.context.trace_id
        self.under = [Tree(each, spans) for each in spans if each.parent is not None and each.parent.span_id == self.id]
        assert span.start_time is not None
        assert span.end_time is not None
        self.began, self.ended = span.start_time, span.end_time
        self.under.sort(key=lambda each: each.began)
        assert all(self.began <= each.began <= each.ended <= self.ended for each in self.under)

    def __call__(self, *names: str) -> tuple[Any, ...]:
        return tuple(self.said.get(name) for name in names)

    @property
    def shape(self) -> Any:
        return (self.name, [each.shape for each in self.under]) if self.under else self.name


def trees(exported: InMemorySpanExporter) -> list[Tree]:
    spans = exported.get_finished_spans()
    found = [Tree(span, spans) for span in spans if span.parent is None]
    return sorted(found, key=lambda each: each.began)


def text_of(exported: InMemorySpanExporter) -> str:
    return "".join(span.to_json() for span in exported.get_finished_spans())


def call(router: Router, way: str, *args: Any, **kwargs: Any) -> Any:
    """A whole call, made in this way; the answer."""
    match way:
        case "stream":
            list(pieces := router.stream(*args, **kwargs))
            return pieces.answer
        case "complete":
            return router.complete(*args, **kwargs)

    async def main() -> Any:
        if way == "acomplete":
            return await router.acomplete(*args, **kwargs)
        async for _ in (pieces := router.astream(*args, **kwargs)):
            pass
        return pieces.answer

    # In the context of this thread: the loop's first task copies it.
    return asyncio.run(main())


def test_a_call_with_a_retry_a_fallback_and_a_hit(
    server: ScriptedServer, provider: TracerProvider, exported: InMemorySpanExporter, catalog: WriteCatalog, keys: str,
    router: Router, quick_backoff: None,
) -> None:  # fmt: skip
    claude = server.anthropic("claude", price={"input": 1, "output": 2, "cache_read": 1, "cache_write": 1})
    catalog({"a": server.openai("gpt-x"), "b": claude}, retries=1, modules={"again": {"chain": ["b"]}})
    server.script("gpt-x", Fault(503))
    usage = {"input_tokens": 100, "output_tokens": 20, "cache_read_tokens": 40, "cache_write_tokens": 30}
    server.script("claude", Reply("fine", **usage, reasoning_tokens=7, served_by="claude-2026"))
    with OtlpReceiver() as receiver:
        sender = BatchSpanProcessor(OTLPSpanExporter(endpoint=receiver.url))
        provider.add_span_processor(sender)
        router.complete("hi", temperature=0, max_tokens=50, stop="END", seed=3)
        router.complete("hi", module="again", temperature=0, max_tokens=50, stop="END", seed=3)
        list(router.stream("hi", module="again", cache=False))
        sender.force_flush()
    first, hit, streamed = trees(exported)
    assert first.shape == ("invoke_workflow default", ["chat gpt-x", "chat gpt-x", "chat claude"])
    assert [each.kind for each in (first, *first.under)] == [SpanKind.INTERNAL, *[SpanKind.CLIENT] * 3]
    assert first.said == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "default",
        "modelrouter.module": "default",
        "modelrouter.model": "b",
        "modelrouter.cache": "miss",
        "modelrouter.cached": False,
        "modelrouter.outcome": "success",
        "modelrouter.cost_usd": "0.000140",
    }
    assert [(each.name, each.attributes) for each in first.events] == [
        ("modelrouter.fallback", {"modelrouter.from": "a", "modelrouter.to": "b", "modelrouter.reason": "server"})
    ]
    asked = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.temperature": 0,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.seed": 3,
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "modelrouter.module": "default",
    }
    for failed in first.under[:2]:
        assert failed.said == asked | {
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-x",
            "modelrouter.model": "a",
            "modelrouter.outcome": "error",
            "modelrouter.cost_usd": "0",
            "error.type": "server",
            "http.response.status_code": 503,
        }
        assert failed.status.status_code is StatusCode.ERROR
    number = first.under[2].said.pop("gen_ai.response.id")
    assert number
    assert first.under[2].said == asked | {
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude",
        "gen_ai.response.model": "claude-2026",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.cache_write.input_tokens": 30,
        "gen_ai.usage.reasoning.output_tokens": 7,
        "modelrouter.model": "b",
        "modelrouter.outcome": "ok",
        "modelrouter.cost_usd": "0.000140",
    }
    assert hit.shape == "invoke_workflow again"
    assert hit("modelrouter.cached", "modelrouter.cache", "modelrouter.model") == (True, "hit", "b")
    assert hit("modelrouter.cost_usd", "modelrouter.saved_usd") == ("0", "0.000140")

    assert streamed.shape == ("invoke_workflow again", ["chat claude"])
    assert streamed.under[0]("gen_ai.response.model", "gen_ai.request.stream") == ("claude-2026", True)

    def sent() -> Iterator[tuple[Any, ...]]:
        for span in receiver.spans:
            yield span.name, span.span_id.hex(), span.parent_span_id.hex(), receiver.attributes(span)

    kept = exported.get_finished_spans()
    assert list(sent()) == [
        (
            span.name,
            f"{span.context.span_id:016x}",
            f"{span.parent.span_id:016x}" if span.parent else "",
            span.attributes,
        )
        for span in kept
        if span.context is not None
    ]


@pytest.mark.parametrize("way", WAYS)
def test_the_span_around_a_call_is_its_parent_in_every_way(
    way: str, router: Router, exported: InMemorySpanExporter, provider: TracerProvider
) -> None:
    tracer = provider.get_tracer("the application")
    with ScriptedProvider({"a": [500, "two words"]}), tracer.start_as_current_span("work") as work:
        assert str(call(router, way, "hi")) == "two words"
        assert trace.get_current_span() is work
    (tree,) = trees(exported)
    assert tree.shape == ("work", [("invoke_workflow default", ["chat a", "chat a"])])
    assert tree.under[0].under[1]("gen_ai.request.stream") == (True if "stream" in way else None,)


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_spans_of_a_stream_last_until_its_end_and_are_not_current_between_its_pieces(
    way: str, router: Router, exported: InMemorySpanExporter
) -> None:
    seen = []

    def look(piece: str) -> None:
        seen.append((piece, len(exported.get_finished_spans()), trace.get_current_span().is_recording()))

    async def pieces(router: Router) -> None:
        # Each step in a task of its own, as a server that hands a stream on may take them.
        stream = router.astream("hi", module="plain")
        while (piece := await asyncio.create_task(anext(stream, None))) is not None:  # type: ignore[arg-type]
            look(piece)

    with ScriptedProvider({"a": "one two"}):
        if way == "astream":
            asyncio.run(pieces(router))
        else:
            for piece in router.stream("hi", module="plain"):
                look(piece)
    assert seen == [("one ", 0, False), ("two", 0, False)]
    (tree,) = trees(exported)
    assert tree.shape == ("invoke_workflow plain", ["chat a"])
    assert tree.under[0].said["gen_ai.response.time_to_first_chunk"] > 0


def test_a_stream_that_is_closed_early_and_a_task_that_is_cancelled(
    router: Router, exported: InMemorySpanExporter
) -> None:
    class Provider(ScriptedProvider):
        async def _take(self, *args: Any, **kwargs: Any) -> Any:
            asked.set()
            return await super()._take(*args, **kwargs)

    async def cancelled() -> None:
        asked.clear()
        task = asyncio.create_task(router.acomplete("hi", module="again"))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asked = asyncio.Event()
    with Provider({"a": "one two three", "b": Answer("late", delay=60)}):
        with router.stream("hi", module="plain") as pieces:
            assert next(pieces) == "one "
        asyncio.run(cancelled())
    closed, left = trees(exported)
    for tree, error in ((closed, None), (left, "asyncio.exceptions.CancelledError")):
        assert tree("modelrouter.outcome", "error.type") == ("cancelled", error)
        assert tree.under[0]("modelrouter.outcome", "error.type") == ("error", "cancelled")
        assert tree.status.status_code is tree.under[0].status.status_code is StatusCode.UNSET
    assert closed.under[0]("modelrouter.estimated", "gen_ai.usage.output_tokens") == (True, 1)


def test_a_coroutine_that_is_closed_in_another_context_leaves_that_one_alone(
    router: Router, exported: InMemorySpanExporter, provider: TracerProvider, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        coroutine: Any = router.acomplete("hi", module="plain")
        copy_context().run(coroutine.send, None)  # up to where it waits for the answer
        with provider.get_tracer("the application").start_as_current_span("work") as work:
            coroutine.close()
            assert trace.get_current_span() is work

    with ScriptedProvider({"a": Answer("late", delay=60)}):
        asyncio.run(main())
    assert [tree("modelrouter.outcome") for tree in trees(exported)] == [("cancelled",), (None,)]
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


def test_a_call_that_nobody_answers_and_a_model_that_is_not_asked(
    router: Router, exported: InMemorySpanExporter, catalog: WriteCatalog
) -> None:
    catalog({"a": MODELS["a"] | {"api_key_env": "A_KEY"}, "b": MODELS["b"]}, retries=0)
    with ScriptedProvider({"b": 401}, missing_keys={"A_KEY"}), pytest.raises(AllModelsFailed):
        router.complete("hi")
    (tree,) = trees(exported)
    assert tree.shape == ("invoke_workflow default", ["chat b"])
    assert tree("modelrouter.outcome", "error.type") == ("error", "modelrouter.errors.AllModelsFailed")
    assert tree.status.status_code is StatusCode.ERROR
    skipped = tree.events[0]
    assert (skipped.name, skipped.attributes) == (
        "modelrouter.skipped",
        {"modelrouter.model": "a", "error.type": "missing_key"},
    )


def test_threads_tasks_and_interleaved_streams_are_told_apart(
    router: Router, exported: InMemorySpanExporter, provider: TracerProvider
) -> None:
    tracer = provider.get_tracer("the application")

    async def one(name: str) -> None:
        with tracer.start_as_current_span(name):
            await asyncio.gather(router.acomplete(name), asyncio.to_thread(router.complete, f"{name}, in a thread"))

    async def both() -> None:
        await asyncio.gather(one("x"), one("y"))

    with ScriptedProvider({"a": Answer("one two")}), ThreadPoolExecutor() as pool:
        asyncio.run(both())
        with tracer.start_as_current_span("z"):
            pool.submit(copy_context().run, router.complete, "taken along").result()
        streams = [router.stream(f"{number}", module="plain") for number in range(2)]
        for _ in range(2):
            for stream in streams:
                next(stream)
        for stream in streams:
            assert list(stream) == []
    call_of = ("invoke_workflow default", ["chat a"])
    *named, first, second = trees(exported)
    assert sorted(tree.shape for tree in named) == [("x", [call_of] * 2), ("y", [call_of] * 2), ("z", [call_of])]
    assert first.shape == second.shape == ("invoke_workflow plain", ["chat a"])
    assert first.began < second.began < first.ended < second.ended


@pytest.mark.parametrize("way", WAYS)
def test_what_a_request_does_belongs_to_its_span(
    way: str, router: Router, exported: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, take = [], ScriptedProvider._take

    async def sent(*args: Any, **kwargs: Any) -> Any:
        names.append(trace.get_current_span().name)  # type: ignore[attr-defined]
        return await take(*args, **kwargs)

    monkeypatch.setattr(ScriptedProvider, "_take", sent)
    with ScriptedProvider({"a": [500, 500], "b": "fine"}):
        call(router, way, "hi")
    assert names == ["chat a", "chat a", "chat b"]


def test_metrics_lead_to_the_spans(router: Router, exported: InMemorySpanExporter, registry: CollectorRegistry) -> None:
    with ScriptedProvider({"a": [500, 500], "b": "fine"}), start_metrics_server(0, registry=registry) as served:
        router.complete("hi")
        shown = httpx.get(served.url, headers={"Accept": "application/openmetrics-text; version=1.0.0"}).text
    (tree,) = trees(exported)
    found = defaultdict(list)
    for family in text_string_to_metric_families(shown):
        for sample in family.samples:
            if sample.exemplar is not None:
                found[sample.name].append((sample.exemplar.labels["span_id"], sample.exemplar.value))
                assert sample.exemplar.labels["trace_id"] == f"{tree.trace:032x}"
    failed, answered = f"{tree.under[1].id:016x}", f"{tree.under[2].id:016x}"
    assert {number for number, _ in found.pop("llm_provider_latency_seconds_bucket")} == {failed, answered}
    cost = float(tree.said[MONEY])
    assert found == {
        "llm_cost_usd_total": [(answered, cost)],
        "llm_module_cost_usd_total": [(f"{tree.id:016x}", cost)],
    }


# -- what is not to be told

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be SHORT."},
    {"role": "user", "content": [
        {"type": "text", "text": "Look at my PROMPT."},
        {"type": "image_url", "image_url": {"url": "https://example.org/PICTURE.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
    ]},
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    ]},
    {"role": "tool", "tool_call_id": "1", "content": "a RESULT"},
]  # fmt: skip


def test_no_prompt_no_answer_and_no_secret_is_in_a_span(
    server: ScriptedServer, router: Router, exported: InMemorySpanExporter, catalog: WriteCatalog, keys: str
) -> None:
    quoting = Fault(400, body=lambda request: {"error": {"message": f"not {request.body} with {request.headers}"}})
    server.script("gpt-x", quoting).script("gpt-y", Reply("my ANSWER"))
    address = server.openai_base.replace("//", "//somebody:HIDDEN@")
    catalog({"a": server.openai("gpt-x"), "b": {**server.openai("gpt-y"), "api_base": address}})
    for model in ("a", "b", "b"):
        with track():
            try:
                router.complete(messages=[MESSAGES[0], {"role": "user", "content": "my PROMPT"}], model=model)
            except CallFailed:
                assert model == "a"
    said = text_of(exported)
    assert len(trees(exported)) == 3
    for word in ("SHORT", "PROMPT", "ANSWER", "HIDDEN", "somebody", CANARY):
        assert word not in said


def test_prompts_and_answers_are_told_to_whom_asks(
    router: Router, exported: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(conventions.CAPTURE, "span_and_event")
    answer = Answer("my ANSWER", tool_calls=[ToolCall("2", "look", '{"at": "it"}')])
    with ScriptedProvider({"a": Error(400, "no PROMPT"), "b": answer}, cache=True):
        for model in ("b", "b", "a"):
            try:
                router.complete(messages=MESSAGES, model=model, tools=[])
            except CallFailed:
                assert model == "a"
    asked, hit, refused = trees(exported)
    for tree in (asked.under[0], hit):
        parts = [(each["role"], each["parts"]) for each in json.loads(tree.said["gen_ai.input.messages"])]
        assert json.loads(tree.said["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be SHORT."}]
        assert parts == [
            ("user", [
                {"type": "text", "content": "Look at my PROMPT."},
                {"type": "uri", "modality": "image", "mime_type": None, "uri": "https://example.org/PICTURE.png"},
                {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "aGk="},
            ]),
            ("assistant", [{"type": "tool_call", "id": "1", "name": "look", "arguments": "{}"}]),
            ("tool", [{"type": "tool_call_response", "id": "1", "response": "a RESULT"}]),
        ]  # fmt: skip
        assert json.loads(tree.said["gen_ai.output.messages"]) == [
            {
                "role": "assistant",
                "parts": [
                    {"type": "text", "content": "my ANSWER"},
                    {"type": "tool_call", "id": "2", "name": "look", "arguments": '{"at": "it"}'},
                ],
                "finish_reason": "tool_call",
            }
        ]
    assert "no PROMPT" in (refused.under[0].status.description or "")


@pytest.mark.parametrize(("value", "asks"), [("", False), ("no_content", False), ("event_only", False), ("true", True)])
def test_what_asks_for_them(value: str, asks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(conventions.CAPTURE, value)
    assert conventions.wanted() is asks


@pytest.mark.parametrize(
    ("facts", "server"),
    [
        ({}, ("api.openai.com", 443)),
        ({"api_base": "https://somebody:HIDDEN@models.example.org/v1"}, ("models.example.org", 443)),
        ({"gateway": Gateway("http://10.0.0.7:4000")}, ("10.0.0.7", 4000)),
        ({"provider": "bedrock"}, None),
    ],
    ids=["the provider's own", "one's own", "a gateway", "one that LiteLLM alone knows"],
)
def test_whom_a_request_goes_to(facts: dict[str, Any], server: tuple[str, int] | None) -> None:
    target = replace(Target("m", "openai/m", "openai"), **facts)
    said = conventions.of_request(target, Request(()), stream=False)
    found = {name: value for name, value in said.items() if name.startswith("server.")}
    assert found == ({} if server is None else dict(zip(("server.address", "server.port"), server, strict=True)))


# -- no tracer, and one that does not want it, or fails


def nothing(effect: Effect) -> None:
    """Performs nothing."""


async def nothing_awaited(effect: Effect) -> None:
    """The same, asynchronously."""


@pytest.mark.parametrize("lacking", ["the package", "a tracer", "a tracer that is not turned off"])
def test_without_a_tracer_nothing_is_put_around_a_call(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if lacking == "the package":
        monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)  # importing it fails
    elif lacking == "a tracer that is not turned off":
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider(shutdown_on_exit=False))
    assert traces.performing(nothing, "default") is nothing
    assert traces.aperforming(nothing_awaited, "default") is nothing_awaited
    assert traces.exemplar() is None


def test_what_is_not_sampled_is_not_sampled_below_either(
    router: Router, monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    flags, take = [], ScriptedProvider._take

    async def sent(*args: Any, **kwargs: Any) -> Any:
        context = trace.get_current_span().get_span_context()
        flags.append((context.is_valid, context.trace_flags.sampled, traces.exemplar()))
        return await take(*args, **kwargs)

    monkeypatch.setattr(ScriptedProvider, "_take", sent)
    with ScriptedProvider({"a": "fine"}):
        assert router.complete("hi").text == "fine"
    assert flags == [(True, False, None)]
    assert exporter.get_finished_spans() == ()
    provider.shutdown()


def test_a_tracer_that_fails_fails_no_call(
    router: Router, provider: TracerProvider, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError("the disk is full")

    provider.add_span_processor(Failing())
    with ScriptedProvider({"a": "fine"}):
        for number in range(3):
            assert router.complete(f"{number}").text == "fine"
    assert [record.message[:14] for record in caplog.records] == ["tracing_failed"]
    assert not trace.get_current_span().is_recording()


def test_a_provider_of_tracers_that_fails_fails_no_call(
    router: Router, provider: TracerProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the exporter's settings are wrong")

    monkeypatch.setattr(provider, "get_tracer", broken)
    monkeypatch.setattr(traces, "_kept", None)
    monkeypatch.setattr(traces, "_complained", set())
    with ScriptedProvider({"a": "fine"}):
        assert [router.complete(f"{number}").text for number in range(3)] == ["fine"] * 3
    assert [record.message[:14] for record in caplog.records] == ["tracing_failed"]


# -- the books

CALLS = 500


def test_spans_of_random_calls_are_what_the_books_say(
    exported: InMemorySpanExporter, catalog: WriteCatalog, registry: CollectorRegistry, tmp_path: Any
) -> None:
    catalog(MODELS, retries=1, modules={"scorer": {"chain": ["b", "a"]}, "again": {"chain": ["b"]}})
    random, store = Random(7), DiskStore(tmp_path / "store")
    router = Router(registry=registry, store=store)

    def answer() -> Answer | Error:
        if random.random() < 0.3:
            return Error(random.choice((429, 500, 401, 400, "timeout", "content_policy")))
        usage = Usage(random.randrange(1, 999), random.randrange(1, 99), random.randrange(50), 0, random.randrange(9))
        return Answer("one two three", usage=usage, cut_after=random.choice((None, None, None, 0, 2)))

    def one(make: Callable[[], Any]) -> None:
        with suppress(CallFailed):
            make()

    def early(router: Router, **kwargs: Any) -> None:
        with router.stream(f"{random.randrange(60)}", **kwargs) as pieces:
            next(pieces)

    def some_call() -> None:
        module, way = random.choice(("default", "scorer", "again")), random.choice((*WAYS, "early"))
        if way == "early":
            one(lambda: early(router, module=module))
        else:
            prompt = f"{random.randrange(60)}"
            one(lambda: call(router, way, prompt, module=module))

    scripts = {name: [answer() for _ in range(4 * CALLS)] for name in MODELS}
    with ScriptedProvider(scripts, cache=True), track() as spent, ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(copy_context().run, some_call) for _ in range(CALLS)]:
            each.result()
        router.close()
    spans = exported.get_finished_spans()
    calls = [dict(span.attributes or {}) for span in spans if span.kind is SpanKind.INTERNAL]
    requests = [dict(span.attributes or {}) for span in spans if span.kind is SpanKind.CLIENT]
    assert len(calls) == CALLS
    assert {span.name for span in spans if span.parent is None} == {f"invoke_workflow {each}" for each in
        ("default", "scorer", "again")}  # fmt: skip

    def total(found: Sequence[dict[str, Any]]) -> Decimal:
        return sum((Decimal(each[MONEY]) for each in found if MONEY in each), Decimal(0))

    # The books of spend, to the last digit.
    booked = spend.by(spend.lines(store, spend.last(2)), lambda line: f"{line.module} {line.model}".strip())
    assert sum(each.requests for each in booked.values()) == len(requests) > CALLS / 2
    for name in {f"{each['modelrouter.module']} {each['modelrouter.model']}" for each in requests}:
        mine = [each for each in requests if f"{each['modelrouter.module']} {each['modelrouter.model']}" == name]
        line = booked.get(name, Spending())
        assert (line.requests, line.cost_usd) == (len(mine), total(mine))
        for said, count in zip(conventions._TOKENS, line.usage.counts, strict=True):
            assert sum(each.get(said, 0) for each in mine) == count
    assert spent.total.cost_usd == total(requests) == total(calls) > 0
    assert spent.total.cache_hits == sum(each["modelrouter.cached"] for each in calls) > 0
    assert spent.total.fallbacks == sum(event.name == "modelrouter.fallback" for span in spans for event in span.events)

    # The metrics.
    def shown(series: str, *labels: str) -> dict[tuple[str, ...], float]:
        samples = (each for metric in registry.collect() for each in metric.samples if each.name == series)
        return {tuple(each.labels[label] for label in labels): each.value for each in samples if each.value}

    ended = Counter((each["modelrouter.module"], each["modelrouter.outcome"]) for each in calls)
    assert shown("llm_module_requests_total", "module", "outcome") == ended
    assert {outcome for _, outcome in ended} == {"success", "error", "bad_request", "cancelled"}
    statuses = Counter(
        (each["gen_ai.request.model"], "cancelled" if each.get("error.type") == "cancelled" else
            {"ok": "success"}.get(each["modelrouter.outcome"], "error"))
        for each in requests
    )  # fmt: skip
    assert shown("llm_provider_requests_total", "model", "status") == statuses
    money = {(name,): float(total([r for r in requests if r["modelrouter.model"] == name])) for name in MODELS}
    assert shown("llm_cost_usd_total", "model") == pytest.approx(money)
