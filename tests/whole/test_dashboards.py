"""What is in dashboards/, without running it: Grafana's types, Prometheus's own checks, and what belongs together."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest
import yaml
from conftest import WriteCatalog
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard, DashboardLink, DataTransformerConfig
from packaging.version import Version
from pydantic import ConfigDict, TypeAdapter, ValidationError
from servers import Reply, ScriptedServer

from modelrouter.cli.app import app
from modelrouter.cli.demo import STAGES

HERE = Path(__file__).parents[2] / "dashboards"
PROMETHEUS = HERE / "prometheus"
DASHBOARD: dict[str, Any] = json.loads((HERE / "grafana/llm-cost-tracking.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ALERTS = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
RULES = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"][0]["rules"]
COMPOSE = yaml.safe_load((HERE / "docker-compose.yml").read_text())

each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
each_service = pytest.mark.parametrize("name", COMPOSE["services"])


# -- Grafana


def misfits(ours: Any, theirs: Any, path: str = "dashboard") -> Iterator[str]:
    """What Grafana's types do not keep of ours: keys that they do not know, values that they read otherwise."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key in theirs:
                yield from misfits(value, theirs[key], f"{path}.{key}")
            elif value is not None:
                yield f"{path}.{key} is unknown"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from misfits(one, other, f"{path}[{number}]")
    elif ours != theirs:
        yield f"{path} is {ours!r}, read as {theirs!r}"


def mistyped(decoded: Any, path: str = "dashboard") -> Iterator[str]:
    """Values that are not of the type that Grafana declares."""
    if isinstance(decoded, list):
        for number, each in enumerate(decoded):
            yield from mistyped(each, f"{path}[{number}]")
    elif type(decoded).__module__.startswith("grafana_foundation_sdk.models"):
        for name, hint in get_type_hints(type(decoded).__init__).items():
            if name == "return":
                continue
            value = getattr(decoded, name)
            try:
                TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value)
            except ValidationError as error:
                yield f"{path}.{name}: {error.errors()[0]['msg']}"
            yield from mistyped(value, f"{path}.{name}")


def problems(dashboard: dict[str, Any]) -> list[str]:
    register_default_plugins()
    decoded = Dashboard.from_json(dashboard)
    for panel in decoded.panels:  # two parts that the library leaves as they are
        panel.links = [DashboardLink.from_json(link) for link in getattr(panel, "links", None) or ()]
        panel.transformations = [
            DataTransformerConfig.from_json(each) for each in getattr(panel, "transformations", None) or ()
        ]
    return [*misfits(dashboard, json.loads(JSONEncoder().encode(decoded))), *mistyped(decoded)]


def test_the_dashboard_is_what_grafanas_types_say() -> None:
    assert problems(DASHBOARD) == []
    assert DASHBOARD["title"] == "LLM Cost Tracking"


@pytest.mark.parametrize(
    ("slip", "found"),
    [
        (lambda panel: panel.update(descripton="..."), "descripton is unknown"),
        (lambda panel: panel["gridPos"].update(w="wide"), "grid_pos.w: Input should be a valid integer"),
        (lambda panel: panel["options"].update(colourMode="value"), "options.colourMode is unknown"),
        (lambda panel: panel["options"].update(colorMode="bright"), "color_mode: Input should be"),
        (lambda panel: panel["targets"][0].update(experssion="up"), "experssion is unknown"),
    ],
)
def test_a_slip_would_be_found(slip: Callable[[Any], None], found: str) -> None:
    dashboard = json.loads(json.dumps(DASHBOARD))
    slip(next(panel for panel in dashboard["panels"] if panel["type"] == "stat"))
    assert any(found in problem for problem in problems(dashboard))


@each_panel
def test_each_panel_explains_itself(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["description"].endswith(".")
    assert defaults["unit"]
    assert defaults["thresholds"]["steps"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]


def test_the_panels_do_not_overlap_and_have_names_of_their_own() -> None:
    squares = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for position in [panel["gridPos"]]
        for x in range(position["x"], position["x"] + position["w"])
        for y in range(position["y"], position["y"] + position["h"])
    ]
    assert len(squares) == len(set(squares))
    assert max(x for x, _ in squares) == 23
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    titles = [panel["title"] for panel in PANELS if panel["type"] != "table"]
    assert len(titles) == len(set(titles))


def test_the_variables() -> None:
    names = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert names == ["datasource", "provider", "model", "module"]
    used = set(re.findall(r"\$(?!__)\{?(\w+)", json.dumps(PANELS)))
    assert used == set(names)


def test_every_alert_is_linked_from_a_panel_that_watches_it() -> None:
    urls = [link["url"] for panel in PANELS for link in panel.get("links", ())]
    assert {url.removeprefix("/alerting/list?search=rule:") for url in urls} == {alert["alert"] for alert in ALERTS}


# -- Prometheus


@each_alert
def test_each_alert_says_what_how_much_and_what_to_run(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("warning", "critical")
    notes = alert["annotations"]
    assert notes["summary"]
    assert "$value" in notes["description"]
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    named = re.findall(r"modelrouter (\w+)", notes["runbook"])
    assert named
    assert set(named) <= commands


def test_the_alerts_are_those_that_are_promised() -> None:
    assert [alert["alert"] for alert in ALERTS] == [
        "HighLLMCost",
        "LLMProviderDown",
        "AllModelsFailing",
        "HighFallbackRate",
        "HighLatency",
        "UnknownModelPrice",
        "CatalogReloadFailed",
        "CacheBroken",
        "BudgetNearlySpent",
        "BudgetRefusesCalls",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "rules.yml", "alerts.yml"),
        ("test", "rules", "tests/alerts.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool(arguments: tuple[str, ...], needs_program: Callable[[str], str]) -> None:
    run = subprocess.run(
        [needs_program("promtool"), *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_each_alert_is_tested_for_firing_and_for_silence() -> None:
    tests = yaml.safe_load((PROMETHEUS / "tests/alerts.test.yml").read_text())["tests"]
    checks = [check for test in tests for check in test["promql_expr_test"]]
    for alert in ALERTS:
        of_alert = [check for check in checks if f'"{alert["alert"]}"' in check["expr"]]
        assert any(check["exp_samples"] for check in of_alert), alert["alert"]
        assert sum(not check["exp_samples"] for check in of_alert) >= 3, alert["alert"]


def test_the_readme_has_every_alert() -> None:
    rows = re.findall(r"^\| (\w+) \| (warning|critical) \|", (HERE / "README.md").read_text(), re.MULTILINE)
    assert rows == [(alert["alert"], alert["labels"]["severity"]) for alert in ALERTS]


# -- Docker Compose


def test_grafana_is_of_the_version_whose_types_are_checked() -> None:
    types = Version(version("grafana-foundation-sdk"))
    image = Version(COMPOSE["services"]["grafana"]["image"].partition(":")[2])
    assert image.release[:2] == types.release[:2]


def test_the_services() -> None:
    assert set(COMPOSE["services"]) == {"app", "prometheus", "alertmanager", "grafana"}


@each_service
def test_each_service_is_pinned_watched_and_closed_to_the_network(name: str) -> None:
    service = COMPOSE["services"][name]
    image = service.get("image") or re.findall(r"^FROM (\S+)", (HERE / "Dockerfile").read_text(), re.MULTILINE)[0]
    assert re.search(r":v?\d+\.\d+\.\d+", image), image
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    for other, how in service.get("depends_on", {}).items():
        assert other in COMPOSE["services"]
        assert how == {"condition": "service_healthy"}


@each_service
def test_what_each_service_mounts_is_there(name: str) -> None:
    for mount in COMPOSE["services"][name].get("volumes", ()):
        source, target = mount.split(":")[:2]
        assert target.startswith("/")
        assert (HERE / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], mount


def test_grafana_has_no_default_password() -> None:
    environment = COMPOSE["services"]["grafana"]["environment"]
    assert environment["GF_SECURITY_ADMIN_PASSWORD"].startswith("${GRAFANA_ADMIN_PASSWORD:?")


def test_grafana_is_given_its_data_source_and_dashboard() -> None:
    mounts = dict(mount.split(":")[:2] for mount in COMPOSE["services"]["grafana"]["volumes"])
    provisioning = HERE / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards/modelrouter.yml").read_text())["providers"]
    assert mounts["./grafana/llm-cost-tracking.json"].startswith(provider["options"]["path"])


def test_dots_lead_to_what_shows_traces() -> None:
    leading = [target["expr"] for panel in PANELS for target in panel["targets"] if target.get("exemplar")]
    assert len(leading) == 2
    # Prometheus keeps them beside what it scrapes, and not beside what a rule makes of it.
    assert not any(rule["record"] in query for query in leading for rule in RULES)
    (source,) = yaml.safe_load((HERE / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    (link,) = source["jsonData"]["exemplarTraceIdDestinations"]
    assert (link["name"], link["url"]) == (
        "trace_id",
        "$TRACES_URL$${__value.raw}",
    )  # $$: a $ that Grafana leaves alone
    assert "TRACES_URL" in COMPOSE["services"]["grafana"]["environment"]
    assert "--enable-feature=exemplar-storage" in COMPOSE["services"]["prometheus"]["command"]


def test_prometheus_scrapes_and_alerts_what_compose_runs() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    targets = [
        target
        for section in (*config["scrape_configs"], *config["alerting"]["alertmanagers"])
        for group in section["static_configs"]
        for target in group["targets"]
    ]
    assert targets == ["app:8000", "alertmanager:9093"]
    alertmanager = yaml.safe_load((HERE / "alertmanager/alertmanager.yml").read_text())
    assert alertmanager["route"]["receiver"] in {receiver["name"] for receiver in alertmanager["receivers"]}


FOR_EVERY_STAGE = """
[[ ## offer ## ]]
{"summary": "A team looks for an engineer.", "company": "Northwind", "role": "engineer", "seniority": "senior",
 "stack": ["Python"], "place": "Berlin", "pay": "not said"}
[[ ## fit ## ]]
{"reason": "The stack fits.", "score": 80, "verdict": "ask first"}
[[ ## reply ## ]]
{"text": "Dear Maria, how much does it pay? Best, Alex"}
"""


def test_the_worker_answers_and_serves_its_metrics(catalog: WriteCatalog, server: ScriptedServer) -> None:
    chain = {"chain": ["good"]}
    catalog({"good": server.openai("good")}, modules=dict.fromkeys(STAGES, chain))
    server.script("good", Reply(FOR_EVERY_STAGE))
    environment = os.environ | {"PORT": "0", "PAUSE": "0.1", "PYTHONPATH": str(HERE.parent)}
    worker = subprocess.Popen(
        [sys.executable, str(HERE / "worker.py")], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert worker.stderr is not None
    with worker, worker.stderr:
        try:
            url = next(line for line in worker.stderr if "metrics at" in line).split()[-1]
            server.wait_for(2 * len(STAGES), timeout=60)  # every second round comes out of the cache
            metrics = httpx.get(url).text
        finally:
            worker.kill()
    for stage in STAGES:
        counted = re.search(rf'llm_module_requests_total{{module="{stage}",outcome="success"}} (\d+)', metrics)
        assert counted is not None
        assert int(counted[1]) >= 2
