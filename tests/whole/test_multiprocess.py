"""Several worker processes under one metrics address: nothing is lost when one is killed, nothing is counted twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import WriteCatalog
from prometheus_client.parser import text_string_to_metric_families
from servers import Fault, Gate, Reply, Request, ScriptedServer

import modelrouter

WORKERS = 4
PATIENCE = 60.0
"""Seconds, for processes to start on a busy machine."""

APPLICATION = textwrap.dedent("""
    import contextlib
    import os

    import modelrouter
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Mount, Route

    trace.set_tracer_provider(TracerProvider())  # what processes count together has no exemplars


    @contextlib.asynccontextmanager
    async def lifespan(app):
        modelrouter.mark_worker_dead()  # this worker may stand in for one that was killed
        modelrouter.get_router().catalog
        yield


    async def ask(request):
        try:
            await modelrouter.acomplete(str(os.getpid()), module=request.path_params["module"])
        except modelrouter.CallFailed:
            pass
        return JSONResponse(os.getpid())


    async def set_aside(request):
        router = modelrouter.get_router()
        if request.path_params["pid"] == os.getpid():
            router.metrics.set_aside(router.catalog.models["good"], True)
        return JSONResponse(os.getpid())


    routes = [
        Route("/ask/{module}", ask),
        Route("/set_aside/{pid:int}", set_aside),
        Mount("/", modelrouter.metrics_app()),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
""")


class Application:
    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> httpx.Response:
        """On a connection of its own, which any of the workers may accept."""
        return httpx.get(f"{self.url}{path}", timeout=PATIENCE).raise_for_status()

    def ask(self, module: str) -> int | None:
        """The process that answered, or None when it died before it did."""
        try:
            return int(self.get(f"/ask/{module}").json())
        except httpx.TransportError:
            return None

    def many(self, module: str, number: int, *, at_once: int = 8) -> Counter[int | None]:
        with ThreadPoolExecutor(at_once) as pool:
            return Counter(pool.map(self.ask, [module] * number))

    def until_all_have_answered(self, but: int | None = None) -> set[int]:
        """The processes, once as many as there should be have answered."""
        pids: set[int | None] = set()
        end = time.monotonic() + PATIENCE
        while len(pids) < WORKERS:
            assert time.monotonic() < end, pids
            pids |= self.many("default", 8).keys() - {but, None}
        return {pid for pid in pids if pid is not None}

    def total(self, series: str, **labels: str) -> float:
        families = text_string_to_metric_families(self.get("/api/v1/metrics").text)
        samples = (sample for family in families for sample in family.samples if sample.name == series)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


@contextmanager
def workers(directory: Path) -> Iterator[Application]:
    """Uvicorn with four workers; it replaces one that dies."""
    (directory / "application.py").write_text(APPLICATION)
    shared = directory / "metrics"
    shared.mkdir()
    log = directory / "log"
    command = [sys.executable, "-m", "uvicorn", "application:app", "--workers", str(WORKERS), "--port", "0"]
    path = os.pathsep.join([str(Path(modelrouter.__file__).parent.parent), str(directory)])
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(shared), "PYTHONPATH": path}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + PATIENCE
        while "running on" not in (said := log.read_text()):
            assert process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.05)
        yield Application(said.partition("running on ")[2].split()[0])
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def sender(request: Request) -> int:
    """The process that sent it: each sends its number as the prompt."""
    return int(request.body["messages"][0]["content"])


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_totals_stay_the_servers(
    tmp_path: Path, catalog: WriteCatalog, server: ScriptedServer
) -> None:
    gate = Gate()
    server.script("held", Reply(gate=gate)).script("down", Fault(500))
    catalog(
        {"good": server.openai("good"), "held": server.openai("held"), "down": server.anthropic("down")},
        chain=["good"],
        modules={"held": {"chain": ["held"]}, "shaky": {"chain": ["down", "good"]}},
        retries=0,
        cache=False,
    )
    with workers(tmp_path) as application:
        first = application.until_all_have_answered()
        assert sum(application.many("shaky", 20).values()) == 20

        # One is killed with requests under way, all of them held at the server.
        with ThreadPoolExecutor(1) as pool:
            under_way = pool.submit(application.many, "held", 24, at_once=24)
            requests = server.wait_for(24, "held", PATIENCE)
            victim = sender(requests[0])
            lost = [request for request in requests if sender(request) == victim]
            while application.get(f"/set_aside/{victim}").json() != victim:
                pass
            assert application.total("llm_model_set_aside", model="good") == 1
            os.kill(victim, signal.SIGKILL)
            assert {request.ended(PATIENCE) for request in lost} == {"abandoned"}
            gate.open()
            assert under_way.result()[None] == len(lost)

        second = application.until_all_have_answered(but=victim)
        assert len(second - first) == 1
        application.many("shaky", 20)

        seen = [request for request in server.requests() if request.ended() == "answered"]
        good = [request for request in seen if request.status == 200]
        assert len(seen) == server.count() - len(lost)
        assert application.total("llm_provider_requests_total") == len(seen)
        assert application.total("llm_provider_requests_total", status="success") == len(good)
        assert application.total("llm_provider_latency_seconds_count") == len(seen)
        assert application.total("llm_errors_total", error_type="server") == len(seen) - len(good)
        assert application.total("llm_tokens_used_total", type="input") == 10 * len(good)
        assert application.total("llm_tokens_used_total", type="output") == 5 * len(good)
        assert application.total("llm_cost_usd_total") == pytest.approx(0.00002 * len(good))
        # No call failed, but for those that died with their worker.
        assert application.total("llm_module_requests_total") == len(good)
        assert application.total("llm_module_requests_total", outcome="success") == len(good)
        # What the dead worker had set aside is forgotten, what it had counted is not.
        assert application.total("llm_model_set_aside", model="good") == 0


@pytest.fixture
def gauges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], set[str]]:
    """The files of two workers, one alive and one dead, and of something else; gives the names of those left."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f"gauge_livemax_{os.getpid()}", f"gauge_livemax_{dead.pid}", f"counter_{dead.pid}"):
        (tmp_path / f"{name}.db").touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    me, other = str(os.getpid()), str(dead.pid)

    def left() -> set[str]:
        return {path.stem.replace(me, "alive").replace(other, "dead") for path in tmp_path.glob("*.db")}

    return left


@pytest.mark.heavy
def test_all_dead_workers_are_forgotten(gauges: Callable[[], set[str]]) -> None:
    modelrouter.mark_worker_dead()
    assert gauges() == {"gauge_livemax_alive", "counter_dead"}
    modelrouter.mark_worker_dead()


@pytest.mark.heavy
def test_one_worker_is_forgotten_by_its_number(gauges: Callable[[], set[str]]) -> None:
    modelrouter.mark_worker_dead(os.getpid())  # as gunicorn's child_exit does
    assert gauges() == {"gauge_livemax_dead", "counter_dead"}


def test_without_multiprocess_mode_there_is_nothing_to_forget() -> None:
    modelrouter.mark_worker_dead()
    modelrouter.mark_worker_dead(1)
