"""A real LiteLLM Proxy with an exported file, beside the same catalog in process: whom each asks, in which order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from conftest import CANARY, StartProxy
from prometheus_client import CollectorRegistry
from servers import Answer, Break, Drop, Fault, Garbage, Hang, Known, ProxyServer, Reply, ScriptedServer, refused_port

from modelrouter import CallFailed, Router
from modelrouter.catalog.binding import load
from modelrouter.export.differences import GENERAL
from modelrouter.export.litellm_proxy import Export, export

pytestmark = pytest.mark.slow

CHAINS = {"openai": "oal", "anthropic": "alo", "ollama": "loa"}
"""Module -> the models of its chain: the first is of the wire format that it is named for."""
WAYS = ("whole", "stream")

FAULTS: Mapping[str, Answer | None] = {
    "none": Reply("ok"),
    "400": Fault(400, "no such parameter: frobnicate"),
    "401": Known("bad_key"),
    "402": Fault(402),
    "403": Fault(403),
    "404": Known("model_not_found"),
    "408": Fault(408),
    "422": Fault(422, "unprocessable"),
    "429": Fault(429),
    "429, a minute": Fault(429, retry_after=60),
    "out of credit": Known("insufficient_quota"),
    "503": Fault(503),
    "529": Fault(529),
    "hang": Hang(),
    "refused": None,
    "dropped": Drop(),
    "too long": Known("context_window"),
    "filtered": Known("content_policy"),
    "answer filtered": Reply("", finish_reason="content_filter"),
    "empty": Reply(""),
    "no JSON": Garbage(),
    "cut": Reply(pieces=[Break.CUT]),
    "ended": Reply(pieces=[Break.END]),
    "cut later": Reply(pieces=["o", "k", Break.CUT]),
}
"""What the first model of a chain does; the others answer "ok"."""

STREAMS_ALONE = {"cut", "ended", "cut later"}
CASES = [
    (fault, module, way)
    for fault in FAULTS
    for module in CHAINS
    for way in WAYS
    if way == "stream" or fault not in STREAMS_ALONE
]


def _named() -> Iterator[tuple[tuple[str, str, str], str]]:
    for module in CHAINS:
        for way in WAYS:
            yield ("400", module, way), "bad request"
            yield ("422", module, way), "bad request"
            yield ("429", module, way), "rate limit"
            yield ("403", module, way), "refusals"
            yield ("answer filtered", module, way), "filtered"
            yield ("empty", module, way), "answers"
        yield ("no JSON", module, "stream"), "streams"
    for way in WAYS:
        yield ("402", "openai", way), "refusals"
    yield ("cut", "openai", "stream"), "streams"
    yield ("ended", "openai", "stream"), "streams"
    yield ("ended", "ollama", "stream"), "streams"


DIFFERS = dict(_named())
"""Fault, module and way -> what the file calls the difference; everywhere else there is none."""


@dataclass(frozen=True)
class Seen:
    """What a call came to."""

    asked: str
    """The models, in the order of their requests."""
    said: str
    """The text, or that it failed."""


@pytest.fixture(scope="module")
def closed() -> Iterator[int]:
    """A port where nothing listens."""
    with refused_port() as port:
        yield port


@pytest.fixture(scope="module")
def file(_scripted_server: ScriptedServer, closed: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalog: each module twice, once with its first model where nothing listens."""
    at = _scripted_server
    models = {"o": at.openai("o"), "a": at.anthropic("a"), "l": at.ollama("l")}
    for name, entry in list(models.items()):
        models[f"no-{name}"] = {**entry, "api_base": entry["api_base"].replace(str(at.port), str(closed))}
    modules: dict[str, object] = {module: {"chain": [*chain]} for module, chain in CHAINS.items()}
    modules |= {f"no-{module}": {"chain": [f"no-{chain[0]}", *chain[1:]]} for module, chain in CHAINS.items()}
    modules["default"] = {"chain": ["o"], "timeout": 1, "deadline": 60, "retries": 1, "cache": False}
    path = tmp_path_factory.mktemp("catalog") / "models.yaml"
    path.write_text(yaml.safe_dump({"models": models, "modules": modules}))
    return path


@pytest.fixture(scope="module")
def made(file: Path) -> Export:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
            patch.setenv(name, CANARY)
        return export(load(file.read_bytes(), shown="models.yaml"), redis=False)


@pytest.fixture(scope="module")
def proxy(litellm_proxy: StartProxy, made: Export) -> ProxyServer:
    return litellm_proxy(made.text, dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY"), CANARY))


@pytest.fixture
def router(file: Path, keys: str, quick_backoff: None) -> Iterator[Router]:
    with Router(file, registry=CollectorRegistry()) as router:
        yield router


def through(proxy: ProxyServer, server: ScriptedServer, module: str, way: str) -> Seen:
    body = {"model": module, "messages": [{"role": "user", "content": "Hello"}], "stream": way == "stream"}
    headers = {"Authorization": f"Bearer {proxy.key}"}
    answer = httpx.post(f"{proxy.openai_base}/chat/completions", json=body, headers=headers, timeout=60)
    said = "failed"
    if answer.status_code == 200 and way == "whole":
        found = answer.json()
        said = "nothing" if found is None else found["choices"][0]["message"]["content"] or ""
    elif answer.status_code == 200:
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        pieces = [choice["delta"].get("content") or "" for event in events for choice in event.get("choices", ())]
        said = "failed" if any("error" in event for event in events) else "".join(pieces)
    return Seen("".join(request.model or "?" for request in server.requests()), said)


def in_process(router: Router, server: ScriptedServer, module: str, way: str) -> Seen:
    try:
        if way == "whole":
            said = router.complete("Hello", module=module).text
        else:
            with router.stream("Hello", module=module) as pieces:
                said = "".join(pieces)
    except CallFailed:
        said = "failed"
    return Seen("".join(request.model or "?" for request in server.requests()), said)


def scripted(server: ScriptedServer, answers: Mapping[str, Answer]) -> None:
    server.reset()
    for model in "oal":
        server.script(model, answers.get(model, Reply("ok")))


@pytest.mark.parametrize(("fault", "module", "way"), CASES)
def test_the_same_are_asked_in_the_same_order_or_the_file_says_otherwise(
    proxy: ProxyServer, made: Export, router: Router, server: ScriptedServer, fault: str, module: str, way: str
) -> None:
    answer, asked = FAULTS[fault], module
    if answer is None:
        answer, asked = Reply("ok"), f"no-{module}"
    scripted(server, {CHAINS[module][0]: answer})
    here = in_process(router, server, asked, way)
    scripted(server, {CHAINS[module][0]: answer})
    there = through(proxy, server, asked, way)
    if (difference := DIFFERS.get((fault, module, way))) is None:
        assert here == there
    else:
        assert here != there, "the file says that there is a difference"
        assert f"# - {difference}: {GENERAL[difference][:40]}" in made.text


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("module", CHAINS)
def test_when_all_fail_the_order_is_the_same_and_the_error_is_of_the_first(
    proxy: ProxyServer, router: Router, server: ScriptedServer, module: str, way: str
) -> None:
    errors = {"o": Known("bad_key"), "a": Known("bad_key"), "l": Fault(404)}
    seen = []
    for one in (lambda: in_process(router, server, module, way), lambda: through(proxy, server, module, way)):
        scripted(server, errors)
        seen.append(one())
    assert seen == [Seen(CHAINS[module], "failed")] * 2


def test_the_last_model_is_not_asked_again_when_all_hang(
    proxy: ProxyServer, router: Router, server: ScriptedServer
) -> None:
    scripted(server, dict.fromkeys("oal", Hang()))
    assert in_process(router, server, "openai", "whole") == Seen("oall", "failed")
    scripted(server, dict.fromkeys("oal", Hang()))
    assert through(proxy, server, "openai", "whole") == Seen("oal", "failed")
    assert "last model" in GENERAL


def test_a_model_that_keeps_failing_is_asked_first_all_the_same(proxy: ProxyServer, server: ScriptedServer) -> None:
    scripted(server, {"o": Known("bad_key")})
    for _ in range(5):
        through(proxy, server, "openai", "whole")
    assert [request.model for request in server.requests()] == ["o", "a"] * 5
    assert "set aside" in GENERAL


def test_each_server_gets_its_own_key_and_nothing_of_the_configuration(
    proxy: ProxyServer, server: ScriptedServer
) -> None:
    scripted(server, {})
    for module in CHAINS:
        through(proxy, server, module, "whole")
    seen = {request.model: request for request in server.requests()}
    assert seen["o"].headers["authorization"] == f"Bearer {CANARY}"
    assert seen["a"].headers["x-api-key"] == CANARY
    assert CANARY not in str(seen["l"].headers)
    assert {model: set(request.body) - {"messages"} for model, request in seen.items()} == {
        "o": {"model"},
        "a": {"model", "max_tokens"},
        "l": {"model", "options", "stream"},
    }


def test_a_model_by_itself_is_asked_once_whoever_else_there_is(proxy: ProxyServer, server: ScriptedServer) -> None:
    scripted(server, {"o": Fault(503)})
    assert through(proxy, server, "o", "whole") == Seen("o", "failed")
    scripted(server, {})
    assert through(proxy, server, "o", "stream") == Seen("o", "ok")
