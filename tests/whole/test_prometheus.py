"""A real Prometheus, with the shipped configuration, scrapes an application under load; every query gives data.

The queries are taken from where they are shipped: the dashboard's from its JSON, those of alerts and
rules from their YAML.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from servers import Fault, Known, Reply, Request, ScriptedServer

from modelrouter import CallFailed, Router, start_metrics_server
from modelrouter.catalog.target import Budget
from modelrouter.completion import Attempt, Kind
from modelrouter.metering.metrics import Metrics
from modelrouter.planning.events import BudgetSeen, CacheUsed, FirstToken

SHIPPED = Path(__file__).parents[2] / "dashboards"
DASHBOARD = json.loads((SHIPPED / "grafana/llm-cost-tracking.json").read_text())
RULES = yaml.safe_load((SHIPPED / "prometheus/rules.yml").read_text())["groups"][0]["rules"]
ALERTS = yaml.safe_load((SHIPPED / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]

COMPOSE = yaml.safe_load((SHIPPED / "docker-compose.yml").read_text())

OFTEN = "500ms"
PATIENCE = 15.0
"""Seconds to wait for what takes one or two scrapes."""

GUIDE = {
    "Total cost by provider (last 24h)": "sum by (provider) (increase(llm_cost_usd_total[24h]))",
    "Average cost per request": (
        "sum(increase(llm_cost_usd_total[1h])) / sum(increase(llm_provider_requests_total[1h]))"
    ),
    "Cost breakdown by model": "sum by (model) (increase(llm_cost_usd_total[24h]))",
    "Request Rate": "llm_provider_requests_total",
    "Latency": "llm_provider_latency_seconds_bucket",
    "Cost": "llm_cost_usd_total",
    "Errors": "llm_errors_total",
    "Token Usage": "llm_tokens_used_total",
}
"""The queries and the metrics to monitor, as the guide has them."""

PANEL_QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
}
LEADING = {
    panel["title"]: target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
    if target.get("exemplar")
}
"""The queries whose dots lead to traces."""
VARIABLE_QUERIES = {
    variable["name"]: variable["query"]["query"]
    for variable in DASHBOARD["templating"]["list"]
    if variable["type"] == "query"
}


def filled(query: str) -> str:
    """A query as Grafana sends it when everything is chosen."""
    for name in VARIABLE_QUERIES:
        query = query.replace(f"${name}", ".*")
    return query.replace("$__rate_interval", "1m").replace("$__range", "1h")


class Prometheus:
    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **params: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=params).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        data = self.get("query", query=expression)
        assert data["resultType"] == "vector"
        return [(sample["metric"], float(sample["value"][1])) for sample in data["result"]]

    def by(self, label: str, expression: str) -> dict[str, float]:
        """What counts in the expression, by one label."""
        return {labels[label]: value for labels, value in self.query(f"sum by ({label}) ({expression})") if value}

    def total(self, expression: str) -> float:
        return sum(value for _, value in self.query(expression))

    def until(self, expression: str, value: float) -> None:
        end = time.monotonic() + PATIENCE
        while (seen := self.total(expression)) != value and time.monotonic() < end:
            time.sleep(0.1)
        assert seen == value, f"{expression} is {seen}, not {value}"


@contextmanager
def prometheus(program: str, directory: Path, target: str) -> Iterator[Prometheus]:
    """Prometheus with the shipped rules and scrape job, pointed at `target` and in a hurry."""
    config = yaml.safe_load((SHIPPED / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": OFTEN, "evaluation_interval": OFTEN}
    config["rule_files"] = [str(SHIPPED / "prometheus" / name) for name in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    del config["alerting"]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    features = [each for each in COMPOSE["services"]["prometheus"]["command"] if each.startswith("--enable-feature")]
    arguments = [
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        *features,
    ]
    log = directory / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, *arguments, f"--web.listen-address={address}"], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        end = time.monotonic() + PATIENCE
        while not _ready(f"http://{address}/-/ready"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _ready(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


# -- an application, and load


def write_catalog(path: Path, server: ScriptedServer) -> None:
    dear = {"price": {"input": 100_000, "output": 200_000}}  # 2 dollars a call, so that alerts have something to say
    unpriced = server.openai("unpriced")
    del unpriced["price"]
    models = {
        "good": server.openai("good", **dear),
        "claude": server.anthropic("claude"),
        "llama2": server.ollama("llama2"),
        "choosy": server.openai("choosy"),
        "down": server.anthropic("down"),
        "wrong": server.openai("wrong"),
        "unpriced": unpriced,
    }
    chains = {
        "analyzer": ["good"],
        "scorer": ["claude"],
        "helper": ["llama2"],
        "response_generator": ["choosy", "good"],
        "broken": ["down"],
        "careless": ["wrong"],
        "experiment": ["unpriced"],
    }
    modules = {name: {"chain": chain} for name, chain in chains.items()}
    modules["default"] = {"chain": ["good"], "retries": 0, "cache": False}
    path.write_text(yaml.safe_dump({"models": models, "modules": modules}))
    server.script("choosy", Known("content_policy")).script("down", Fault(500)).script("wrong", Fault(400, "no"))
    server.script("claude", Reply(input_tokens=1000, output_tokens=100, cache_read_tokens=400, cache_write_tokens=100))


MODULES = ("analyzer", "scorer", "helper", "response_generator", "broken", "careless", "experiment")
ROUNDS = 12


def load(router: Router) -> Counter[tuple[str, bool]]:
    """Calls from several threads; how each module's calls ended."""

    def call(module: str) -> tuple[str, bool]:
        try:
            router.complete("hi", module=module)
        except CallFailed:
            return module, False
        return module, True

    with ThreadPoolExecutor(4) as pool:
        # Half of Anthropic's models fail; one of them is called more often, so that more than half of its requests do.
        return Counter(pool.map(call, (*MODULES, "broken") * ROUNDS))


def what_the_load_does_not_reach(router: Router) -> None:
    """Streams, the cache, a slow provider, a broken edit: fed through the methods that meter them."""
    metrics = router.metrics
    for name in ("good", "claude"):
        metrics.hear("analyzer", FirstToken(router.catalog.models[name], 0.3))
    metrics.set_aside(router.catalog.models["down"], True)
    for _ in range(ROUNDS):
        for result in ("hit", "miss", "coalesced", "error"):
            metrics.hear("analyzer", CacheUsed(result))
        metrics.hear("analyzer", Attempt("slow", "groq/slow", "groq", "ok", latency_s=45.0, listed=False))
        metrics.hear("analyzer", Attempt("good", "openai/good", "openai", "skipped", Kind.BUDGET))
    budget, tomorrow = Budget(Decimal(5), "day", module="analyzer"), datetime.now(UTC) + timedelta(days=1)
    metrics.hear("analyzer", BudgetSeen(budget, Decimal("4.7"), Decimal("0.1"), False, tomorrow))
    metrics.reload(True)
    metrics.reload(False)


@contextmanager
def traced() -> Iterator[set[tuple[str, str]]]:
    """The application has set up a tracer: trace and number of each request's span, once it is over."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = set[tuple[str, str]]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", provider)
        yield spans
    spans |= {
        (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}")
        for span in exporter.get_finished_spans()
        if span.context is not None and span.kind is trace.SpanKind.CLIENT
    }
    provider.shutdown()


class Seen:
    """What there is after the load."""

    def __init__(
        self,
        prometheus: Prometheus,
        ledger: list[Request],
        calls: Counter[tuple[str, bool]],
        spans: set[tuple[str, str]],
    ) -> None:
        self.prometheus = prometheus
        self.ledger = ledger
        self.calls = calls
        self.spans = spans
        """Of the requests: of which trace, and which."""


@pytest.fixture(scope="module")
def seen(needs_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    program, directory, registry = needs_program("prometheus"), tmp_path_factory.mktemp("prom"), CollectorRegistry()
    with ScriptedServer() as server:
        write_catalog(directory / "models.yaml", server)
        router = Router(directory / "models.yaml", registry=registry)
        router.catalog  # noqa: B018 - read it, so that all series start at 0
        # An unlisted model's series begin with its first call, and an increase needs a value from before.
        Metrics.of(registry).hear("m", Attempt("slow", "groq/slow", "groq", "error", Kind.CANCELLED, listed=False))
        with (
            start_metrics_server(0, registry=registry) as served,
            prometheus(program, directory, f"127.0.0.1:{served.port}") as running,
        ):
            running.until("up", 1)
            with traced() as spans:
                calls = load(router)
            what_the_load_does_not_reach(router)
            running.until('llm_catalog_reloads_total{result="error"}', 1)
            # Rules see a scrape at their next turn, and the alerts see the rules one later.
            running.until('count(ALERTS{alertname="CacheBroken"})', 1)
            yield Seen(running, server.requests(), calls, spans)


# -- every query gives data


@pytest.mark.parametrize("title", GUIDE)
def test_the_guides_queries(title: str, seen: Seen) -> None:
    assert seen.prometheus.total(GUIDE[title]) > 0


@pytest.mark.parametrize("title", PANEL_QUERIES)
def test_the_panels_queries(title: str, seen: Seen) -> None:
    result = seen.prometheus.query(filled(PANEL_QUERIES[title]))
    assert any(value >= 0 for _, value in result), "no value but NaN"


@pytest.mark.parametrize("title", PANEL_QUERIES)
def test_choosing_one_value_of_a_variable_gives_less(title: str, seen: Seen) -> None:
    query = PANEL_QUERIES[title].replace("$provider", "nobody").replace("$model", "nothing").replace("$module", "none")
    if query != PANEL_QUERIES[title]:
        assert seen.prometheus.query(filled(query)) == []


@pytest.mark.parametrize("title", LEADING)
def test_the_dots_of_a_panel_are_requests_that_were_traced(title: str, seen: Seen) -> None:
    now = time.time()
    found = seen.prometheus.get(
        "query_exemplars", query=filled(LEADING[title]), start=str(now - 600), end=str(now + 60)
    )
    ids = {(each["labels"]["trace_id"], each["labels"]["span_id"]) for one in found for each in one["exemplars"]}
    assert ids
    assert ids <= seen.spans


@pytest.mark.parametrize("variable", VARIABLE_QUERIES)
def test_the_variables_have_values(variable: str, seen: Seen) -> None:
    series, _, label = filled(VARIABLE_QUERIES[variable]).removeprefix("label_values(").rpartition(", ")
    values = seen.prometheus.by(label.removesuffix(")"), series).keys()
    expected = {"provider": {"openai", "anthropic", "ollama"}, "model": {"good", "claude"}, "module": set(MODULES)}
    assert expected[variable] <= values


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["record"])
def test_the_recording_rules(rule: Mapping[str, str], seen: Seen) -> None:
    assert seen.prometheus.query(rule["expr"])
    assert seen.prometheus.query(rule["record"])


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_the_alerts(alert: Mapping[str, Any], seen: Seen) -> None:
    """The load gives every one of them a reason, some of them for a shorter time than they wait."""
    assert seen.prometheus.query(alert["expr"])
    active = [each for each in seen.prometheus.get("alerts")["alerts"] if each["labels"]["alertname"] == alert["alert"]]
    assert active
    for each in active:
        for text in each["annotations"].values():
            assert "<" not in text, "a label or value that the template does not find"
            assert "{{" not in text


def test_alerts_name_whom_they_are_about(seen: Seen) -> None:
    def named(alert: str, label: str) -> set[str]:
        return {labels[label] for labels, _ in seen.prometheus.query(f'ALERTS{{alertname="{alert}"}}')}

    assert named("LLMProviderDown", "provider") == {"anthropic"}
    assert named("AllModelsFailing", "module") == {"broken"}
    assert named("HighFallbackRate", "module") == {"response_generator"}
    assert named("HighLatency", "model") == {"slow"}
    assert named("UnknownModelPrice", "model") >= {"unpriced"}


# -- the sums are those of the server


def test_requests(seen: Seen) -> None:
    wanted = Counter((request.model, request.status == 200) for request in seen.ledger)
    for (model, answered), number in wanted.items():
        labels = f'model="{model}", status="{"success" if answered else "error"}"'
        assert seen.prometheus.total(f"llm_provider_requests_total{{{labels}}}") == number
        count = f'llm_provider_latency_seconds_count{{model="{model}"}}'
        assert seen.prometheus.total(count) == sum(n for (name, _), n in wanted.items() if name == model)
    assert seen.prometheus.total('llm_provider_requests_total{provider!="groq"}') == len(seen.ledger)


def test_tokens_and_money(seen: Seen) -> None:
    answered = Counter(request.model for request in seen.ledger if request.status == 200)
    usual = sum(number for model, number in answered.items() if model != "claude")
    tokens = {
        "input": 10 * usual + 1000 * answered["claude"],
        "output": 5 * usual + 100 * answered["claude"],
        "cache_read": 400 * answered["claude"],
        "cache_write": 100 * answered["claude"],
    }
    assert seen.prometheus.by("type", "llm_tokens_used_total") == tokens
    money = {"openai": 2.0 * answered["good"], "anthropic": 0.0012 * answered["claude"]}
    assert seen.prometheus.by("provider", "llm_cost_usd_total") == pytest.approx(money)
    assert sum(seen.prometheus.by("module", "llm_module_cost_usd_total").values()) == pytest.approx(sum(money.values()))
    unknown = 'llm_cost_unknown_total{model="unpriced"}'
    assert seen.prometheus.total(unknown) == answered["unpriced"]


def test_calls_errors_and_fallbacks(seen: Seen) -> None:
    for outcome, answered in (("success", True), ("error", False)):
        wanted = {module: number for (module, ended), number in seen.calls.items() if ended is answered}
        modules = f'llm_module_requests_total{{outcome=~"{outcome}{"" if answered else "|bad_request"}"}}'
        assert seen.prometheus.by("module", modules) == wanted
    failed = Counter(request.model for request in seen.ledger if request.status != 200)
    kinds = {"server": failed["down"], "bad_request": failed["wrong"], "content_policy": failed["choosy"]}
    assert seen.prometheus.by("error_type", "llm_errors_total") == kinds
    assert seen.prometheus.by("from_model", "llm_fallbacks_total") == {"choosy": failed["choosy"]}


def test_what_increases_is_what_counted(seen: Seen) -> None:
    """Prometheus extrapolates an increase to the time between scrapes; it is near, and no first call is missed."""
    increase = seen.prometheus.total("sum(increase(llm_cost_usd_total[1h]))")
    assert increase == pytest.approx(seen.prometheus.total("sum(llm_cost_usd_total)"), rel=0.3)
