"""What every test stands on: a clean environment, a directory of its own, servers on loopback, no way off them."""

from __future__ import annotations

import asyncio
import functools
import gc
import ipaddress
import os
import re
import shutil
import signal
import sys
import time
import warnings
from asyncio.selector_events import _SelectorTransport  # type: ignore[attr-defined]
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import pytest
import yaml
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from llmock.testing import LLMockServer
from prometheus_client import CollectorRegistry
from servers import PROXY_PROGRAM, Llmock, ProxyServer, RedisServer, ScriptedServer, never_accepts, refused_port

from modelrouter import Router, environment
from modelrouter.backend.current import LITELLM
from modelrouter.backend.insides import shapes, way
from modelrouter.catalog import live
from modelrouter.metering import posting
from modelrouter.planning import attempt
from modelrouter.process import event_loops
from modelrouter.router import default
from modelrouter.store import DiskStore, RedisStore, Store

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

CANARY = "sk-canary-0123456789abcdef"
"""The key of every provider in tests: whatever shows it has leaked a key."""

_MATTERS = re.compile(
    r"API_KEY|API_BASE|BASE_URL|LLM_|(^|_)(ACCESS|AUTH|SECRET)_|"
    r"^(ANTHROPIC|AWS|AZURE|CACHE|DSPY|GATEWAY|GEMINI|GOOGLE|LITELLM|LLMOCK|MODELROUTER|OLLAMA|OPENAI|OTEL|PROMETHEUS)|"
    r"^VERTEX",
    re.IGNORECASE,
)
"""Variables that could change what a test sees, or spend somebody's money."""

_LIBRARIES = ("HF_", "LITELLM_", "TIKTOKEN_")
"""Variables that the door sets once, before LiteLLM is imported; LiteLLM looks at some later."""

_HEAVY = {"server", "llmock", "bare_litellm", "needs_program", "redis_server", "litellm_proxy"}
"""Fixtures that load LiteLLM, or start or need a program: who asks for them is `heavy`."""

strayed: list[str] = []
"""What the test at hand tried that is not for it: a connection beyond this machine; a process, or LiteLLM, in a test
that is not `heavy`."""

_light = False
"""Whether the test at hand is one of `make quick`."""


def pytest_configure(config: pytest.Config) -> None:
    # Tests time nothing: on a busy machine Hypothesis would complain of that.
    hypothesis_settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    hypothesis_settings.load_profile("untimed")
    # A warning of LiteLLM's own that became an error in the middle of a call would look like the provider's failure.
    for theirs in ("Item '.*' on TypedDict class:UserWarning", "Accessing the 'model_:DeprecationWarning"):
        config.addinivalue_line("filterwarnings", f"ignore:{theirs}")
    # httpx's iterator over lines, which LiteLLM leaves to the garbage collector when a stream breaks; the books of the
    # tests see to it that the connection is closed all the same.
    left = "ignore:.*aiter_lines.*:pytest.PytestUnraisableExceptionWarning"
    config.addinivalue_line("filterwarnings", left)
    # A runner in the background ignores Ctrl-C, and so would every process that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [name for name in os.environ if _MATTERS.search(name)]:
        del os.environ[name]
    # Servers of the tests are reached directly, also where the machine reaches the world through a proxy.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))
    sys.addaudithook(_stay_home)
    sys.addaudithook(_stay_light)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not _HEAVY.isdisjoint(getattr(item, "fixturenames", ())) or item.get_closest_marker("slow"):
            item.add_marker("heavy")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What asks models is tried both ways: as the first request of a shape goes, and as those after it."""
    if Path(metafunc.module.__file__ or "").parent.name == "backend" and "server" in metafunc.fixturenames:
        metafunc.fixturenames.append("asked_after")
        metafunc.parametrize("asked_after", [10**9, 0], ids=["front", "straight"], indirect=True)


@pytest.fixture
def asked_after(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many requests of a shape go through LiteLLM's front before they go without it."""
    shapes.forget()
    monkeypatch.setattr(shapes, "AFTER", request.param)


def _stay_light(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuses a process, and LiteLLM, to tests that are run as quick ones."""
    if not _light:
        return
    if event in ("subprocess.Popen", "os.fork") or (event == "import" and arguments[0] == "litellm"):
        strayed.append(f"{event} {arguments[0] if arguments else ''}")
        raise RuntimeError(f"{strayed[-1]} in a test that is not marked `heavy`")


def _stay_home(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuses every connection that would leave this machine, whichever library tries."""
    if event != "socket.connect" or not isinstance(arguments[1], tuple):
        return
    host = str(arguments[1][0])
    try:
        near = ipaddress.ip_address(host).is_loopback
    except ValueError:
        near = host == "localhost"
    if not near:
        strayed.append(f"to reach {host}")
        raise ConnectionRefusedError(f"a test tried to reach {host}")


@pytest.fixture(autouse=True)
def surroundings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """An empty working directory, and an environment in which no provider is set up; both are put back afterwards."""
    global _light
    before, home = dict(os.environ), Path.cwd()
    work = tmp_path / "work"
    work.mkdir()
    os.chdir(work)
    os.environ["MODELROUTER_STATE_DIR"] = str(tmp_path / "state")
    environment._file = None  # as in a process that has read no .env yet
    strayed.clear()
    _light = request.node.get_closest_marker("heavy") is None
    yield work
    for one in list(posting._all):  # what this test has counted is not for the next one's store
        with one._lock:
            one.begin_anew()
    _light = False
    os.chdir(home)
    kept = {name: value for name, value in os.environ.items() if name.startswith(_LIBRARIES)}
    os.environ.clear()
    os.environ.update(before | kept)
    assert not strayed, f"not for this test: {strayed}"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> str:
    """OPENAI_API_KEY and ANTHROPIC_API_KEY are set, to the canary."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, CANARY)
    return CANARY


def _missing(reason: str) -> NoReturn:
    """Skips the test at hand for this reason, but fails it on CI."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def needs_program() -> Callable[[str], str]:
    """Finds a program that is not a Python package. Without it a test is skipped, but fails on CI."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            _missing(f"the program {name!r} is not installed here")
        return path

    return find


# -- servers: started once, when first needed, and reset for each test


@pytest.fixture(scope="session")
def _scripted_server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@functools.cache
def _warm_up() -> None:
    LITELLM.load()
    asyncio.run(LITELLM.warm())
    gc.freeze()  # LiteLLM's hundreds of thousands of objects, or each test that collects garbage would go through them


@pytest.fixture
def server(_scripted_server: ScriptedServer) -> Iterator[ScriptedServer]:
    """OpenAI, Anthropic and Ollama as scripted, with a ledger."""
    _warm_up()  # timeouts of tests are short, and the first call of a process has LiteLLM and its clients to load
    _scripted_server.reset()
    yield _scripted_server
    _scripted_server.reset()  # so that nothing hangs on into the next test


@pytest.fixture(scope="session")
def llmock_server() -> Iterator[LLMockServer]:
    with LLMockServer() as server:
        yield server


@pytest.fixture
def llmock(llmock_server: LLMockServer) -> Llmock:
    """llmock, without the environment variables that its own fixture of this name sets."""
    handle = Llmock(llmock_server)
    handle.reset()
    return handle


@pytest.fixture(scope="session")
def _redis_server(
    needs_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    with RedisServer(needs_program("redis-server"), tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(_redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """A Redis with nothing in it. On a busy machine it is waited for longer than elsewhere."""
    monkeypatch.setattr("modelrouter.store.connections.LIMIT", 10.0)
    _redis_server.reset()
    return _redis_server


class StartProxy(Protocol):
    """Starts LiteLLM's proxy with a configuration, as a file or as its text; `environment`: keys, and whatever else it
    is to have in its own."""

    def __call__(self, config: Path | str, environment: Mapping[str, str] | None = None) -> ProxyServer: ...


@pytest.fixture(scope="module")
def litellm_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartProxy]:
    """A start takes ten to twenty seconds; all that were started end with the module. Skipped without its environment,
    but fails on CI."""
    if not PROXY_PROGRAM.exists():
        _missing("LiteLLM's proxy is not installed here: make proxy")
    with ExitStack() as proxies:

        def start(config: Path | str, environment: Mapping[str, str] | None = None) -> ProxyServer:
            directory = tmp_path_factory.mktemp("proxy")
            if isinstance(config, str):
                (directory / "config.yaml").write_text(config)
                config = directory / "config.yaml"
            return proxies.enter_context(ProxyServer(directory, config, environment))

        yield start


# -- stores


@pytest.fixture(params=["disk", pytest.param("redis", marks=pytest.mark.heavy)])
def shared_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[float], None]:
    """The store of processes that the test starts, named by the environment. Makes all in it older by so many
    seconds."""
    monkeypatch.setenv("MODELROUTER_STATE_DIR", str(tmp_path / "shared"))
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        monkeypatch.setenv("MODELROUTER_STORE", server.url)
        return server.age
    now = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: now() + seconds)


@pytest.fixture(params=["disk", pytest.param("redis", marks=pytest.mark.heavy)])
def kind(request: pytest.FixtureRequest) -> str:
    """Of the store, for tests of what every store does."""
    return str(request.param)


@pytest.fixture
def open_store(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens a store; all of them are in the same place."""
    place = request.getfixturevalue("redis_server").url if kind == "redis" else tmp_path / "cache"
    with ExitStack() as stores:
        yield lambda: stores.enter_context(closing(RedisStore(place) if kind == "redis" else DiskStore(place)))


@pytest.fixture
def any_store(open_store: Callable[[], Store]) -> Store:
    """One of each kind."""
    return open_store()


@pytest.fixture
def later(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clocks forward, by so many seconds in all."""
    clocks = {name: getattr(time, name) for name in ("time", "monotonic")}
    passed = 0.0

    def set_forward(seconds: float) -> None:
        nonlocal passed
        if kind == "redis":
            request.getfixturevalue("redis_server").age(seconds - passed)
            passed = seconds
            return
        for name, clock in clocks.items():
            monkeypatch.setattr(time, name, lambda clock=clock: clock() + seconds)

    return set_forward


@pytest.fixture
def refused() -> Iterator[str]:
    """An address that refuses connections."""
    with refused_port() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def unaccepted() -> Iterator[str]:
    """An address where a connection is never made and never refused."""
    with never_accepts() as port:
        yield f"http://127.0.0.1:{port}"


# -- the catalog


class WriteCatalog(Protocol):
    """`default` and further keywords are the module ``default``, whose chain is all of `models` unless given."""

    def __call__(
        self,
        models: Mapping[str, Mapping[str, Any]],
        *,
        chain: Sequence[str] | None = None,
        modules: Mapping[str, Mapping[str, Any]] | None = None,
        aliases: Mapping[str, str] | None = None,
        providers: Mapping[str, Mapping[str, Any]] | None = None,
        **default: Any,
    ) -> Path: ...


@pytest.fixture
def catalog(surroundings: Path) -> WriteCatalog:
    """Writes ``config/models.yaml`` where the test works: ``catalog({"a": server.openai("gpt-x")}, retries=0)``."""

    def write(
        models: Mapping[str, Mapping[str, Any]],
        *,
        chain: Sequence[str] | None = None,
        modules: Mapping[str, Mapping[str, Any]] | None = None,
        aliases: Mapping[str, str] | None = None,
        providers: Mapping[str, Mapping[str, Any]] | None = None,
        **default: Any,
    ) -> Path:
        content: dict[str, Any] = {"providers": providers, "models": dict(models), "aliases": aliases}
        content["modules"] = {"default": {"chain": list(chain or models), **default}, **(modules or {})}
        path = surroundings / "config" / "models.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value}, sort_keys=False))
        return path

    return write


@pytest.fixture
def litellms_litter() -> Iterator[None]:
    """For tests that have LiteLLM called other than through the door: it leaves its clients open with every loop that
    ends, and they would be complained of in whatever test runs when they are collected."""
    yield
    if (litellm := sys.modules.get("litellm")) is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        event_loops.stop()  # which has their connections, too
        litellm.in_memory_llm_clients_cache.flush_cache()
        vars(litellm).pop("module_level_aclient", None)  # made anew when it is asked for
        gc.collect()
    for each in gc.get_objects():  # what somebody still refers to would be complained of later
        if isinstance(each, _SelectorTransport) and each._sock is not None and each._loop.is_closed():
            each._sock.close()
            each._sock = None


@pytest.fixture
def bare_litellm(litellms_litter: None) -> Iterator[ModuleType]:
    """LiteLLM itself, for tests of what it does by itself; kept from fetching its price map."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    # Its synchronous calls make an event loop for the thread when there is none, and nobody closes that one.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield litellm
    for left in asyncio.all_tasks(loop):  # LiteLLM's worker for its log: collected, it would complain in another test
        left.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture(params=["quick", "plain"])
def either_way(request: pytest.FixtureRequest, server: ScriptedServer) -> Iterator[str]:
    """Each of the two ways in which LiteLLM is called."""
    if request.param == "plain":
        os.environ["MODELROUTER_LITELLM"] = "plain"
    way.choose()
    yield str(request.param)
    os.environ.pop("MODELROUTER_LITELLM", None)
    way.choose()


# -- traces


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[TracerProvider]:
    """Of tracers: that of the application."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield provider
    provider.shutdown()


@pytest.fixture
def exported(provider: TracerProvider) -> InMemorySpanExporter:
    """The spans that have ended."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


# -- routers, and the constants that tests turn


@pytest.fixture
def registry() -> CollectorRegistry:
    """Of the test's own."""
    return CollectorRegistry()


@pytest.fixture
def router(catalog: WriteCatalog, registry: CollectorRegistry) -> Router:
    """On the catalog that the test writes before its first call."""
    return Router(registry=registry)


@pytest.fixture
def process_router(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Router | None], None]]:
    """Sets the process's router; that of before is put back, and one that was made meanwhile is closed."""
    monkeypatch.setattr(default, "_default", None)
    yield lambda router: setattr(default, "_default", router)
    if default._default is not None:
        default._default.close()


@pytest.fixture
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come after hundredths of a second."""
    monkeypatch.setattr(attempt, "BACKOFF", 0.01)


@pytest.fixture
def eager_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalog's file is looked at before each call."""
    monkeypatch.setattr(live, "EVERY", 0.0)
