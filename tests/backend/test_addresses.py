"""Who is asked: the address in the catalog, and nobody else; and what is known of a model there."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import CANARY, WriteCatalog
from servers import Fault, Known, Reply, ScriptedServer
from servers.raw import RawServer

from modelrouter import AllModelsFailed, Completion, Router
from modelrouter.backend.abilities import lacks
from modelrouter.backend.current import LITELLM
from modelrouter.backend.insides import redirects
from modelrouter.backend.loading import rows
from modelrouter.catalog.target import Target
from modelrouter.planning.exchange import Request

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("quick_backoff", "litellms_litter")]

_asked: list[tuple[str, int, int]] = []
"""Host, port and thread of every connection and every look-up of an address."""
_listening = False


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _listening and event in ("socket.connect", "socket.getaddrinfo"):
        host, port, *_ = arguments[1] if event == "socket.connect" else arguments
        _asked.append((str(host), int(port or 0), threading.get_ident()))


sys.addaudithook(_note)


@pytest.fixture
def asked() -> Iterator[list[tuple[str, int, int]]]:
    global _listening
    _asked.clear()
    _listening = True
    yield _asked
    _listening = False


@pytest.fixture(scope="module")
def raw() -> Iterator[RawServer]:
    with RawServer() as server:
        yield server


def every_way(router: Router, **asked: Any) -> Iterator[str]:
    """The text of a whole answer and of a stream, synchronous and asynchronous."""
    yield router.complete(**asked).text
    yield asyncio.run(router.acomplete(**asked)).text
    with router.stream(**asked) as pieces:
        yield "".join(pieces)
    assert pieces.answer.response is not None

    async def streamed() -> str:
        async with router.astream(**asked) as pieces:
            return "".join([piece async for piece in pieces])

    yield asyncio.run(streamed())


@pytest.mark.parametrize("provider", ["ollama", "ollama_chat", "huggingface", "lemonade", "hosted_vllm", "lm_studio"])
def test_nobody_but_the_address_in_the_catalog_is_asked(
    provider: str,
    either_way: str,
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    raw: RawServer,
    asked: list[tuple[str, int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # LiteLLM asks how large the model is: Ollama's usual address, this machine's port 8000, the hub.
    for name in ("OLLAMA_API_BASE", "OLLAMA_HOST", "LEMONADE_API_BASE", "HF_ENDPOINT"):
        monkeypatch.setenv(name, raw.base)
    raw.says({})
    model = f"of-{provider}-{either_way}"  # of which LiteLLM has not heard
    server.ollama_models[model] = {}
    base = server.ollama_base if "ollama" in provider else server.openai_base
    catalog({"a": {"model": f"{provider}/{model}", "api_base": base, "price": "free"}}, retries=0, cache=False)
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    assert list(every_way(router, prompt="hi", tools=[tool])) == ["ok"] * 4
    assert {port for _, port, _ in asked} == {server.port}
    assert {request.path for request in server.ledger} <= {"/api/chat", "/v1/chat/completions"}
    assert raw.bodies == []


def test_other_code_may_ask_as_before(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import litellm

    monkeypatch.setenv("OLLAMA_API_BASE", server.ollama_base)
    server.ollama_models["of-others"] = {"model_info": {"x.context_length": 77}}
    assert litellm.get_model_info("ollama/of-others")["max_input_tokens"] == 77


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
@pytest.mark.parametrize("field", ["file_id", "file_data"])
def test_a_file_that_litellm_has_to_fetch_does_not_hold_up_the_loop(
    wire: str,
    field: str,
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    keys: str,
    asked: list[tuple[str, int, int]],
) -> None:
    catalog({"a": getattr(server, wire)("a")}, retries=0)
    part = {"type": "file", "file": {field: "https://127.0.0.1:1/x.pdf"}}
    with contextlib.suppress(AllModelsFailed):
        asyncio.run(router.acomplete(messages=[{"role": "user", "content": [part]}]))
    assert threading.get_ident() not in {thread for _, port, thread in asked if port == 1}


@pytest.mark.parametrize(
    ("string", "wire", "moved"),
    [
        ("openai/gpt-4o", "openai", "model"),
        ("openai/gpt-4o", "openai", "provider"),
        ("openai/gpt-4o", "openai", "OPENAI_BASE_URL"),
        ("anthropic/claude-sonnet-4-5", "anthropic", "model"),
        ("anthropic/claude-sonnet-4-5", "anthropic", "ANTHROPIC_API_BASE"),
        ("mistral/mistral-large-latest", "openai", "MISTRAL_AZURE_API_BASE"),
        ("deepseek/deepseek-chat", "openai", "DEEPSEEK_API_BASE"),
        ("xai/grok-4", "openai", "XAI_API_BASE"),
    ],
)
def test_a_servers_window_is_not_that_of_another_model_of_its_name(
    string: str,
    wire: str,
    moved: str,
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    keys: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider, _, name = string.partition("/")
    monkeypatch.setenv(f"{provider.upper()}_API_KEY", "some-key")
    base = server.openai_base if wire == "openai" else server.anthropic_base
    small: dict[str, Any] = {"model": string} | ({"api_base": base} if moved == "model" else {})
    if moved.isupper():
        monkeypatch.setenv(moved, base)
    server.script(name, Known("context_window"))
    catalog(
        {"small": small, "large": server.ollama("large", context_window=100_000)},
        providers={provider: {"api_base": base}} if moved == "provider" else None,
        retries=0,
    )
    answer = router.complete("hi")
    assert answer.model == "large"
    assert answer.attempts[0].error_kind == "context_window"


def test_nothing_of_litellms_table_holds_elsewhere() -> None:
    LITELLM.load()
    picture = {"type": "image_url", "image_url": {"url": "data:x"}}
    asking = Request(({"role": "user", "content": [picture]},), {"tools": [{}]})
    for name, row in rows().items():
        provider = row.get("litellm_provider")
        if row.get("mode") != "chat" or provider not in ("openai", "anthropic", "gemini", "mistral", "groq", "xai"):
            continue
        string = name if name.startswith(f"{provider}/") else f"{provider}/{name}"
        there = Target(name, string, provider, api_base="http://127.0.0.1:1", own_address=False)
        assert LITELLM.context_window(there) is None
        assert LITELLM.price(there) is None
        assert not any(LITELLM.able(there, ability) for ability in ("reasoning", "response_format", "tools"))
        assert lacks(there, asking) is None, string


# Redirects


async def _astreamed(router: Router) -> Completion[Any]:
    async with router.astream("a secret") as pieces:
        _ = [piece async for piece in pieces]
    return pieces.answer


def _streamed(router: Router) -> Completion[Any]:
    with router.stream("a secret") as pieces:
        list(pieces)
    return pieces.answer


HOW: dict[str, Callable[[Router], Completion[Any]]] = {
    "sync": lambda router: router.complete("a secret"),
    "async": lambda router: asyncio.run(router.acomplete("a secret")),
    "stream": _streamed,
    "astream": lambda router: asyncio.run(_astreamed(router)),
}
REACHED = {
    "openai": "/v1", "anthropic": "", "ollama_chat": "", "gemini": "", "groq": "/v1", "mistral": "/v1",
    "hosted_vllm": "/v1", "azure": "",
}  # fmt: skip
"""Providers, and the path of their interface: by LiteLLM's handler, by OpenAI's client, by LiteLLM's own clients."""


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize("provider", REACHED)
def test_nothing_goes_where_a_server_points(
    provider: str,
    status: int,
    how: str,
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    raw: RawServer,
    keys: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(f"{provider.upper()}_API_KEY", CANARY)
    monkeypatch.setenv("AZURE_API_VERSION", "2024-10-21")
    models = {"a": {"model": f"{provider}/x", "api_base": raw.base + REACHED[provider]}, "b": server.openai("b")}
    catalog(models, cache=False)
    there = f"127.0.0.1:{server.port}/v1/elsewhere"
    raw.says("", status, Location=f"http://user:password@{there}?token=secret")
    answer = HOW[how](router)
    assert answer.model == "b"
    assert [request.path for request in server.ledger] == ["/v1/chat/completions"]
    (first, _) = answer.attempts
    assert len(raw.bodies) == 1
    assert (first.error_kind, first.status) == ("not_found", status)
    assert f"{raw.base}{REACHED[provider]} redirects to http://{there}, where nothing is sent" in str(first.error)
    assert "set 'api_base' to it" in str(first.error)


@pytest.mark.parametrize("provider", REACHED)
def test_nor_in_the_plain_way(
    provider: str,
    either_way: str,
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    raw: RawServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(f"{provider.upper()}_API_KEY", CANARY)
    monkeypatch.setenv("AZURE_API_VERSION", "2024-10-21")
    catalog({"a": {"model": f"{provider}/x", "api_base": raw.base + REACHED[provider]}}, cache=False)
    for ask in HOW.values():
        raw.says("", 307, Location=f"{server.ollama_base}/elsewhere")
        with pytest.raises(AllModelsFailed, match="not_found: 307, "):
            ask(router)
    assert server.ledger == []


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("wire", ["openai", "anthropic", "ollama"])
def test_a_server_may_point_at_itself(
    wire: str, how: str, router: Router, catalog: WriteCatalog, server: ScriptedServer, keys: str
) -> None:
    entry = getattr(server, wire)("a")
    path = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "ollama": "/api/chat"}[wire]
    server.script("a", Fault(307, headers={"Location": path}), Reply())
    catalog({"a": entry}, cache=False, retries=0)
    assert HOW[how](router).text == "ok"
    assert server.count("a") == 2


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_a_redirected_request_is_refused_for_is_said(
    stream: bool, router: Router, server: ScriptedServer, catalog: WriteCatalog, keys: str
) -> None:
    catalog({"a": server.openai("a")}, cache=False, retries=0)
    moved = Fault(307, headers={"Location": "/v1/chat/completions"})
    server.script("a", moved, Fault(429, "slow down", headers={"Retry-After": "7"}))
    with pytest.raises(AllModelsFailed, match=r"rate_limit: 429, slow down \(retry after 7 s\)"):
        list(router.stream("hi")) if stream else router.complete("hi")


@pytest.mark.parametrize(
    ("here", "there", "near"),
    [
        (("http", "a", 80), ("https", "a", 443), True),
        (("https", "a", 443), ("http", "a", 80), False),
        (("http", "a", 80), ("https", "b", 443), False),
        (("http", "a", 8000), ("https", "a", 443), False),
        (("https", "a", 443), ("https", "a", 8443), False),
    ],
)
def test_from_http_a_server_may_point_at_its_own_https(here: Any, there: Any, near: bool) -> None:
    assert redirects._near(here, there) is near


def test_other_codes_requests_are_redirected_as_before(server: ScriptedServer, raw: RawServer) -> None:
    import httpx

    LITELLM.load()
    raw.says("", 307, Location=f"{server.ollama_base}/elsewhere")
    httpx.post(raw.base, json={}, follow_redirects=True)
    assert [request.path for request in server.ledger] == ["/elsewhere"]


def test_an_httpx_that_makes_redirects_elsewhere_keeps_nobody_from_loading_litellm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    LITELLM.load()
    monkeypatch.delattr(redirects._client(), "_build_redirect_request")
    redirects.refuse()
    with pytest.raises(AttributeError):
        redirects.probe()
