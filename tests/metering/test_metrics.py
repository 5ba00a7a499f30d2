"""What Prometheus sees, over a socket and in the words of its own format."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Metric
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.routing import Mount

from modelrouter.catalog.target import Target
from modelrouter.completion import Attempt, Kind, Usage
from modelrouter.errors import CannotListen, ConfigurationError, MetricsUnavailable
from modelrouter.metering.metrics import BUCKETS, Metrics
from modelrouter.metering.server import MetricsServer, metrics_app, start_metrics_server
from modelrouter.planning.events import CacheUsed, CallEnded, FellOver, FirstToken

GPT = Target("best", "openai/gpt-x", "openai")
LLAMA = Target("llama2", "ollama_chat/llama2", "ollama")
GPT_LABELS = {"provider": "openai", "model": "gpt-x"}


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics.of(registry)


@pytest.fixture
def served(registry: CollectorRegistry) -> Iterator[MetricsServer]:
    with start_metrics_server(0, registry=registry) as server:
        yield server


@pytest.fixture
def seen(shown: tuple[_Shown, str], registry: CollectorRegistry) -> Seen:
    shown[0].now = registry
    return Seen(shown[1])


class _Shown(CollectorRegistry):
    """Shows the registry of the test that runs: to stop a server of its own would take each test half a second."""

    now: CollectorRegistry

    def collect(self) -> Iterator[Metric]:
        yield from self.now.collect()


@pytest.fixture(scope="module")
def shown() -> Iterator[tuple[_Shown, str]]:
    registry = _Shown()
    registry.now = CollectorRegistry()
    with start_metrics_server(0, registry=registry) as server:
        yield registry, server.url


class Seen:
    """What a scrape gives now: ``seen("llm_tokens_used_total", type="input", ...)``."""

    def __init__(self, url: str) -> None:
        self.url = url

    def all(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        text = httpx.get(self.url).text
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found

    def __call__(self, series: str, **labels: str) -> float | None:
        return next((value for on, value in self.all().get(series, []) if on == labels), None)

    def sums(self) -> dict[str, float]:
        """All that has counted, by series."""
        return {
            name: total
            for name, samples in self.all().items()
            if not name.endswith(("_created", "_bucket")) and (total := sum(value for _, value in samples))
        }


def ok(**facts: Any) -> Attempt:
    return Attempt("best", "openai/gpt-x", "openai", "ok", latency_s=0.4, **facts)


def error(kind: Kind, **facts: Any) -> Attempt:
    return Attempt("best", "openai/gpt-x", "openai", "error", error_kind=kind, error="...", latency_s=1.5, **facts)


# -- one attempt


def test_an_answer(metrics: Metrics, seen: Seen) -> None:
    metrics.hear("analyzer", ok(usage=Usage(1000, 100, 600, 300, 40), cost_usd=Decimal("0.003105")))
    for kind, count in {"input": 1000, "output": 100, "cache_read": 600, "cache_write": 300, "reasoning": 40}.items():
        assert seen("llm_tokens_used_total", **GPT_LABELS, type=kind) == count
    assert seen("llm_cost_usd_total", **GPT_LABELS) == 0.003105
    assert seen("llm_provider_requests_total", **GPT_LABELS, status="success") == 1
    assert seen("llm_provider_latency_seconds_bucket", **GPT_LABELS, le="0.2") == 0
    assert seen("llm_provider_latency_seconds_bucket", **GPT_LABELS, le="0.5") == 1
    assert seen("llm_provider_latency_seconds_sum", **GPT_LABELS) == 0.4
    assert seen.sums().keys() == {
        "llm_tokens_used_total",
        "llm_cost_usd_total",
        "llm_provider_requests_total",
        "llm_provider_latency_seconds_count",
        "llm_provider_latency_seconds_sum",
    }


@pytest.mark.parametrize(
    ("attempt", "counted"),
    [
        pytest.param(
            error(Kind.RATE_LIMIT),
            {"llm_provider_requests_total": 1, "llm_errors_total": 1, "latency": 1},
            id="an error",
        ),
        pytest.param(
            error(Kind.MAX_TOKENS, usage=Usage(10, 5), cost_usd=Decimal("0.5")),
            {
                "llm_provider_requests_total": 1,
                "llm_errors_total": 1,
                "llm_tokens_used_total": 15,
                "llm_cost_usd_total": 0.5,
                "latency": 1,
            },
            id="an answer that was turned down",
        ),
        pytest.param(
            error(Kind.TIMEOUT, cost_usd=None),
            {"llm_provider_requests_total": 1, "llm_errors_total": 1, "latency": 1},
            id="a timeout: whether it is billed is not known, and it is no answer without a price",
        ),
        pytest.param(error(Kind.CANCELLED, cost_usd=None), {"llm_provider_requests_total": 1}, id="cancelled"),
        pytest.param(
            error(Kind.CANCELLED, usage=Usage(7, 0), cost_usd=Decimal("0.25")),
            {"llm_provider_requests_total": 1, "llm_tokens_used_total": 7, "llm_cost_usd_total": 0.25},
            id="a stream that was closed: what was used",
        ),
        pytest.param(
            ok(usage=Usage(10, 5), cost_usd=None),
            {
                "llm_provider_requests_total": 1,
                "llm_tokens_used_total": 15,
                "llm_cost_unknown_total": 1,
                "latency": 1,
            },
            id="no price",
        ),
        pytest.param(
            ok(usage=None, cost_usd=None),
            {"llm_provider_requests_total": 1, "llm_cost_unknown_total": 1, "latency": 1},
            id="no usage",
        ),
        pytest.param(Attempt("best", "openai/gpt-x", "openai", "skipped", Kind.MISSING_KEY), {}, id="skipped"),
        pytest.param(Attempt("best", "openai/gpt-x", "openai", "cached", usage=Usage(9, 9)), {}, id="cached"),
    ],
)
def test_each_outcome_counts_what_it_used_and_nothing_else(
    metrics: Metrics, seen: Seen, attempt: Attempt, counted: dict[str, float]
) -> None:
    metrics.hear("analyzer", attempt)
    if counted.pop("latency", None):
        counted |= {
            "llm_provider_latency_seconds_count": 1,
            "llm_provider_latency_seconds_sum": attempt.latency_s,
        }
    assert seen.sums() == counted


def test_errors_and_cancellations_are_told_apart(metrics: Metrics, seen: Seen) -> None:
    for kind in Kind:
        metrics.hear("analyzer", error(kind))
    assert seen("llm_provider_requests_total", **GPT_LABELS, status="error") == len(Kind) - 1
    assert seen("llm_provider_requests_total", **GPT_LABELS, status="cancelled") == 1
    counted = {labels["error_type"]: value for labels, value in seen.all()["llm_errors_total"]}
    assert counted == {kind.value: 1 for kind in Kind if kind is not Kind.CANCELLED}


def test_an_unknown_cost_is_warned_about_once(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        metrics.hear("analyzer", ok(usage=Usage(1, 1), cost_usd=None))
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("cost_unknown model=openai/gpt-x module=analyzer: no price in the catalog")


# -- a call, and the rest


def test_calls_fallbacks_cache_and_reloads(metrics: Metrics, seen: Seen) -> None:
    metrics.hear("scorer", CallEnded("success", Decimal("0.25")))
    metrics.hear("scorer", CallEnded("success", None))
    metrics.hear("scorer", CallEnded("error", Decimal("0.5")))
    metrics.hear("scorer", CallEnded("bad_request", Decimal(0)))
    metrics.hear("scorer", CallEnded("cancelled", Decimal(0)))
    metrics.hear("scorer", FellOver("scorer", "best", "llama2", Kind.TIMEOUT))
    metrics.hear("scorer", CacheUsed("hit", Decimal("0.125")))
    metrics.hear("scorer", FirstToken(GPT, 0.3))
    metrics.set_aside(GPT, True)
    metrics.reload(True)
    metrics.reload(False)
    metrics.reload(False)
    outcomes = {labels["outcome"]: value for labels, value in seen.all()["llm_module_requests_total"]}
    assert outcomes == {"success": 2, "error": 1, "bad_request": 1, "cancelled": 1}
    assert seen("llm_module_cost_usd_total", module="scorer") == 0.75
    names = {"from_model": "best", "to_model": "llama2", "reason": "timeout"}
    assert seen("llm_fallbacks_total", module="scorer", **names) == 1
    assert seen("llm_cache_requests_total", module="scorer", result="hit") == 1
    assert seen("llm_cache_saved_usd_total", module="scorer") == 0.125
    assert seen("llm_time_to_first_token_seconds_sum", **GPT_LABELS) == 0.3
    assert seen("llm_model_set_aside", **GPT_LABELS) == 1
    assert seen("llm_catalog_reloads_total", result="ok") == 1
    assert seen("llm_catalog_reloads_total", result="error") == 2
    metrics.set_aside(GPT, False)
    assert seen("llm_model_set_aside", **GPT_LABELS) == 0


MODEL = {"provider", "model"}
SERIES = {
    "llm_provider_requests_total": MODEL | {"status"},
    "llm_provider_latency_seconds_bucket": MODEL | {"le"},
    "llm_tokens_used_total": MODEL | {"type"},
    "llm_cost_usd_total": MODEL,
    "llm_errors_total": {"provider", "error_type"},
    "llm_module_requests_total": {"module", "outcome"},
    "llm_module_cost_usd_total": {"module"},
    "llm_fallbacks_total": {"module", "from_model", "to_model", "reason"},
    "llm_cache_requests_total": {"module", "result"},
    "llm_cache_saved_usd_total": {"module"},
    "llm_time_to_first_token_seconds_bucket": MODEL | {"le"},
    "llm_cost_unknown_total": MODEL,
    "llm_model_set_aside": MODEL,
    "llm_budget_refused_total": {"module"},
    "llm_catalog_reloads_total": {"result"},
}
"""Names and labels that dashboards and alerts rest on."""


def test_all_series_start_at_zero_with_the_catalog(metrics: Metrics, seen: Seen) -> None:
    metrics.seed({"analyzer": [GPT, LLAMA], "scorer": [GPT]})
    found = {name: samples for name, samples in seen.all().items() if not name.endswith("_created")}
    for name, labels in SERIES.items():
        assert found[name], name
        assert all(on.keys() == labels for on, _ in found[name]), name
    of_histograms = {name.replace("_bucket", part) for name in SERIES for part in ("_count", "_sum") if "_b" in name}
    assert found.keys() == SERIES.keys() | of_histograms
    assert not any(value for samples in found.values() for _, value in samples)
    edges = [on["le"] for on, _ in found["llm_provider_latency_seconds_bucket"] if on["model"] == "gpt-x"]
    assert [float(edge) for edge in edges] == [*BUCKETS, float("inf")]
    assert (BUCKETS[0], BUCKETS[-1]) == (0.05, 120)


def test_seeding_again_keeps_what_was_counted(metrics: Metrics, seen: Seen) -> None:
    metrics.hear("analyzer", ok())
    metrics.set_aside(GPT, True)
    metrics.seed({"analyzer": [GPT]})
    assert seen("llm_provider_requests_total", **GPT_LABELS, status="success") == 1
    assert seen("llm_model_set_aside", **GPT_LABELS) == 1


def test_unknown_names_cannot_flood_prometheus(metrics: Metrics, seen: Seen) -> None:
    """Whatever users may type as a model, also from many threads, and as a provider's name."""

    def call(numbers: range) -> None:
        for n in numbers:
            name = f"groq{n}/model-{n}"
            metrics.hear("m", Attempt(name, name, f"groq{n}", "ok", listed=False))
            metrics.hear("m", Attempt(name, name, f"groq{n}", "error", Kind.NOT_FOUND, listed=False))
            metrics.hear("m", FellOver("m", name, "best", Kind.NOT_FOUND))

    threads = [threading.Thread(target=call, args=(range(start, 1000, 4),)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    metrics.seed({"m": [GPT]})
    metrics.hear("m", ok())

    found = seen.all()
    requests = found["llm_provider_requests_total"]
    assert len({on["model"] for on, _ in requests} - {"gpt-x"}) == 101
    assert len({on["provider"] for on, _ in requests} - {"openai"}) == 101
    assert sum(value for _, value in requests) == 2001
    others = {"provider": "other", "model": "other"}
    assert seen("llm_provider_requests_total", **others, status="success") == 900
    assert seen("llm_provider_requests_total", **GPT_LABELS, status="success") == 1
    assert seen("llm_errors_total", provider="other", error_type="not_found") == 900
    assert len({on["from_model"] for on, _ in found["llm_fallbacks_total"]}) == 101


def test_metering_never_raises_into_a_call(metrics: Metrics, seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        metrics.hear("m", CacheUsed("hit", Decimal(-1)))  # which a counter refuses
    [record] = caplog.records
    assert record.getMessage().startswith("metering_failed what=hear")
    metrics.hear("m", CacheUsed("hit", Decimal(1)))
    assert seen("llm_cache_saved_usd_total", module="m") == 1


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")  # Python 3.12 and newer
def test_a_child_forked_while_others_meter_can_meter(metrics: Metrics) -> None:
    stop = threading.Event()

    def meter() -> None:
        while not stop.is_set():
            metrics.hear("m", ok(usage=Usage(1, 1)))

    threads = [threading.Thread(target=meter, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            child = _fork_and_meter(metrics)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _fork_and_meter(metrics: Metrics) -> int:
    child = os.fork()
    if child == 0:
        import signal

        signal.alarm(20)  # a child that hangs dies of it
        metrics.hear("m", ok(usage=Usage(1, 1)))
        os._exit(0)
    return child


# -- one set of series per registry


def test_routers_on_one_registry_share_their_series(registry: CollectorRegistry) -> None:
    assert Metrics.of(registry) is Metrics.of(registry)
    assert Metrics.of(None) is Metrics.of(REGISTRY)
    assert Metrics.of(registry) is not Metrics.of(None)


def test_a_series_of_the_same_name_in_the_application(registry: CollectorRegistry) -> None:
    theirs = Counter("llm_tokens_used", "The application's own.", registry=registry)
    with pytest.raises(MetricsUnavailable, match=r"llm_tokens_used.*\n  Rename"):
        Metrics.of(registry)
    registry.unregister(theirs)
    Metrics.of(registry)  # nothing of the first time is in the way


@pytest.mark.parametrize("variable", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_multiprocess_mode_refuses_a_registry(
    monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry, variable: str
) -> None:
    monkeypatch.setenv(variable, "")  # prometheus_client looks whether it is set, not what it says
    with pytest.raises(MetricsUnavailable, match=f"registry= cannot be used while {variable} is set"):
        Metrics.of(registry)
    Metrics.of(None)


def test_multiprocess_mode_without_its_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "not/there")
    with pytest.raises(MetricsUnavailable, match="'not/there', which is not a directory"):
        metrics_app()


@pytest.mark.heavy
def test_multiprocess_mode_adds_up_the_processes(tmp_path: Path) -> None:
    """In processes of their own: prometheus_client makes up its mind when it is imported."""
    worker = textwrap.dedent("""
        import sys
        from decimal import Decimal
        from modelrouter.metering.metrics import Metrics
        from modelrouter.catalog.target import Target
        from modelrouter.completion import Attempt, Usage
        metrics = Metrics.of(None)
        metrics.hear("m", Attempt("a", "openai/gpt-x", "openai", "ok", usage=Usage(3, 4), cost_usd=Decimal("0.5")))
        metrics.set_aside(Target("a", "openai/gpt-x", "openai"), sys.argv[1] == "aside")
    """)
    reader = textwrap.dedent("""
        from urllib.request import urlopen
        from modelrouter.metering.server import start_metrics_server
        with start_metrics_server(0) as server, urlopen(server.url) as response:
            print(response.read().decode())
    """)
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}

    def run(code: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(worker, "aside")
    run(worker, "fine")
    text = run(reader)
    assert 'llm_tokens_used_total{model="gpt-x",provider="openai",type="input"} 6.0' in text
    assert 'llm_cost_usd_total{model="gpt-x",provider="openai"} 1.0' in text
    assert 'llm_model_set_aside{model="gpt-x",provider="openai"} 1.0' in text


# -- the server


def test_the_servers_paths(metrics: Metrics, served: MetricsServer) -> None:
    base = served.url.removesuffix("/api/v1/metrics")
    assert base == f"http://127.0.0.1:{served.port}"
    metrics.reload(True)
    for path in ("/api/v1/metrics", "/metrics", "/metrics/", "/metrics?name[]=llm_catalog_reloads_total", "/"):
        response = httpx.get(base + path)
        assert response.status_code == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        assert 'llm_catalog_reloads_total{result="ok"} 1.0' in response.text


def test_the_server_speaks_gzip_and_openmetrics(metrics: Metrics, served: MetricsServer) -> None:
    metrics.reload(True)
    zipped = httpx.get(served.url, headers={"Accept-Encoding": "gzip"})
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert "llm_catalog_reloads_total" in zipped.text
    openmetrics = httpx.get(served.url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert openmetrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")


def test_a_closed_server_gives_its_port_back(registry: CollectorRegistry) -> None:
    server = start_metrics_server(0, registry=registry)
    server.close()
    server.close()
    with start_metrics_server(server.port, registry=registry) as again:
        assert again.port == server.port


def test_a_port_in_use(served: MetricsServer, registry: CollectorRegistry) -> None:
    with pytest.raises(CannotListen) as caught:
        start_metrics_server(served.port, registry=registry)
    refused = caught.value
    assert isinstance(refused, ConfigurationError)
    assert isinstance(refused, OSError)
    assert (refused.host, refused.port) == ("127.0.0.1", served.port)
    assert str(refused) == (
        f"cannot serve metrics on port {served.port} of 127.0.0.1: Address already in use.\n"
        "  Another program has this port, or this one serves its metrics twice. Stop the one or take another port; "
        "port 0 takes a free one."
    )
    assert str(pickle.loads(pickle.dumps(refused))) == str(refused)  # noqa: S301


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("127.0.0.1", -1), ("192.0.2.1", 0)])
def test_an_address_that_cannot_be(registry: CollectorRegistry, host: str, port: int) -> None:
    with pytest.raises(CannotListen, match=rf"port {port} of {host}: .+\n  Take a host of this machine"):
        start_metrics_server(port, host, registry=registry)


def test_ipv6(registry: CollectorRegistry) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with start_metrics_server(0, "::1", registry=registry) as server:
        assert server.url.startswith("http://[::1]:")
        assert httpx.get(server.url).status_code == 200


# -- mounted in an application


@pytest.mark.parametrize(
    ("mount", "path", "status", "text"),
    [
        ("/metrics", "/metrics/", 200, "llm_catalog_reloads_total"),
        ("/api/v1/metrics", "/api/v1/metrics/", 200, "llm_catalog_reloads_total"),
        ("/internal", "/internal/metrics", 200, "llm_catalog_reloads_total"),
        ("", "/api/v1/metrics", 200, "llm_catalog_reloads_total"),
        ("", "/", 200, "llm_catalog_reloads_total"),
    ],
)
def test_mounted(registry: CollectorRegistry, mount: str, path: str, status: int, text: str) -> None:
    async def fetch() -> httpx.Response:
        app = Starlette(routes=[Mount(mount, app=metrics_app(registry=registry))])
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return await client.get(path)

    Metrics.of(registry).reload(True)
    response = asyncio.run(fetch())
    assert response.status_code == status
    assert text in response.text
