"""The servers that the other tests trust do what they say: seen by LiteLLM, and by a plain HTTP client below it."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import yaml
from conftest import WriteCatalog, strayed
from servers import (
    Break,
    Drip,
    Drop,
    Fault,
    Garbage,
    Gate,
    Hang,
    Known,
    Llmock,
    Reply,
    ScriptedServer,
    ToolUse,
)

PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "ollama": "/api/chat"}
WIRES = tuple(PATHS)
MESSAGES = [{"role": "user", "content": "hello"}]


def where(server: ScriptedServer, wire: str, name: str = "m") -> dict[str, Any]:
    """What LiteLLM must be told to call `name` at `server`."""
    entry = getattr(server, wire)(name)
    return {"model": entry["model"], "api_base": entry["api_base"], "api_key": "sk-test", "messages": MESSAGES}


def body(stream: bool = False) -> dict[str, Any]:
    return {"model": "m", "messages": MESSAGES, "stream": stream}


def post(server: ScriptedServer, wire: str = "openai", stream: bool = False, timeout: float = 5.0) -> httpx.Response:
    return httpx.post(server.ollama_base + PATHS[wire], json=body(stream), timeout=timeout)


@pytest.fixture
def litellm(bare_litellm: ModuleType) -> ModuleType:
    # An unlisted Ollama model would be asked about at /api/show first, at an address of LiteLLM's choosing.
    free = {"litellm_provider": "ollama", "mode": "chat", "input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
    bare_litellm.register_model({"ollama_chat/m": free})
    return bare_litellm


@pytest.mark.parametrize("wire", WIRES)
class TestLiteLLMReads:
    def test_an_answer(self, litellm: ModuleType, server: ScriptedServer, wire: str) -> None:
        server.script("m", Reply("Hello there", input_tokens=21, output_tokens=7))
        answer = litellm.completion(**where(server, wire), max_retries=0, max_tokens=9)
        assert answer.choices[0].message.content == "Hello there"
        assert answer.choices[0].finish_reason == "stop"
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (21, 7)
        [request] = server.requests("m")
        assert server.ledger == [request]
        assert (request.method, request.model, request.status, request.ended()) == ("POST", "m", 200, "answered")
        assert request.body["messages"][0]["role"] == "user"
        assert "sk-test" in " ".join(request.headers.values())

    def test_a_stream(self, litellm: ModuleType, server: ScriptedServer, wire: str) -> None:
        server.script("m", Reply("Hello you there", input_tokens=21, output_tokens=7))
        options = {"stream": True, "stream_options": {"include_usage": True}, "max_retries": 0, "max_tokens": 9}
        chunks = list(litellm.completion(**where(server, wire), **options))
        texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
        assert [text for text in texts if text] == ["Hello", " you", " there"]
        assert "stop" in [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
        usage = next(chunk.usage for chunk in reversed(chunks) if getattr(chunk, "usage", None))
        assert (usage.prompt_tokens, usage.completion_tokens) == (21, 7)
        assert server.requests("m")[0].ended() == "answered"

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
    def test_a_tool_call(self, litellm: ModuleType, server: ScriptedServer, wire: str, stream: bool) -> None:
        server.script("m", Reply("", tools=[ToolUse("add", {"a": 1})]))
        answer = litellm.completion(**where(server, wire), max_retries=0, max_tokens=9, stream=stream)
        if stream:
            answer = litellm.stream_chunk_builder(list(answer))
        [call] = answer.choices[0].message.tool_calls
        assert (call.function.name, call.function.arguments.replace(" ", "")) == ("add", '{"a":1}')
        assert answer.choices[0].finish_reason == "tool_calls"

    def test_an_asynchronous_stream_that_is_closed_early(
        self, litellm: ModuleType, server: ScriptedServer, wire: str
    ) -> None:
        server.script("m", Reply(pieces=["first", Break.STALL]))

        async def read_one() -> str:
            stream = await litellm.acompletion(**where(server, wire), max_retries=0, max_tokens=9, stream=True)
            async for chunk in stream:
                if text := chunk.choices[0].delta.content:
                    break
            await stream.aclose()
            await litellm.close_litellm_async_clients()
            return str(text)

        assert asyncio.run(read_one()) == "first"
        assert server.requests("m")[0].ended() == "abandoned"


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_cached_and_reasoning_tokens(litellm: ModuleType, server: ScriptedServer, wire: str) -> None:
    server.script("m", Reply(input_tokens=100, output_tokens=50, cache_read_tokens=60, reasoning_tokens=20))
    usage = litellm.completion(**where(server, wire), max_retries=0, max_tokens=9).usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (100, 50)
    assert usage.prompt_tokens_details.cached_tokens == 60
    assert usage.completion_tokens_details.reasoning_tokens == 20


@pytest.mark.parametrize(
    ("wire", "fault", "raised"),
    [
        ("openai", Known("insufficient_quota"), "RateLimitError"),
        ("openai", Known("context_window"), "ContextWindowExceededError"),
        # ContentPolicyViolationError, which is one, where OpenAI's client puts its code into the words.
        ("openai", Known("content_policy"), "BadRequestError"),
        ("openai", Known("bad_key"), "AuthenticationError"),
        ("anthropic", Known("context_window"), "ContextWindowExceededError"),
        ("anthropic", Known("overloaded"), "InternalServerError"),
        ("anthropic", Fault(403), "PermissionDeniedError"),
        ("ollama", Known("model_not_found"), "NotFoundError"),
    ],
    ids=str,
)
def test_litellm_recognises_the_errors(
    litellm: ModuleType, server: ScriptedServer, wire: str, fault: Fault | Known, raised: str
) -> None:
    server.script("m", fault)
    with pytest.raises(getattr(litellm, raised)):
        litellm.completion(**where(server, wire), max_retries=0, max_tokens=9)
    assert server.count("m") == 1


class TestScripts:
    def test_go_in_order_and_repeat_the_last(self, server: ScriptedServer) -> None:
        server.script("m", Fault(503), Fault(429, retry_after=0.5), Reply("at last"))
        seen = [post(server) for _ in range(4)]
        assert [response.status_code for response in seen] == [503, 429, 200, 200]
        assert seen[1].headers["retry-after"] == "0.5"
        assert [request.status for request in server.requests("m")] == [503, 429, 200, 200]
        assert server.count("other") == 0

    def test_a_body_can_repeat_what_was_sent(self, server: ScriptedServer) -> None:
        server.script("m", Fault(401, body=lambda request: {"you": request.headers["user-agent"]}))
        assert post(server).json()["you"].startswith("python-httpx")

    def test_a_gate_holds_answers_until_it_is_opened(self, server: ScriptedServer) -> None:
        gate = Gate()
        server.script("m", Reply(gate=gate))
        with ThreadPoolExecutor(8) as threads:
            answers = [threads.submit(post, server) for _ in range(8)]
            assert [request.outcome for request in server.wait_for(8, "m")] == ["open"] * 8
            gate.open()
        assert [answer.result().status_code for answer in answers] == [200] * 8


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
class TestFaultsBelowHTTP:
    def test_drop(self, server: ScriptedServer, wire: str, stream: bool) -> None:
        server.script("m", Drop())
        with pytest.raises(httpx.RemoteProtocolError):
            post(server, wire, stream)
        assert (server.requests()[0].ended(), server.requests()[0].status) == ("cut", None)

    def test_garbage(self, server: ScriptedServer, wire: str, stream: bool) -> None:
        server.script("m", Garbage())
        assert post(server, wire, stream).text.startswith("<html>")

    @pytest.mark.parametrize("fault", [Hang(), Drip("head", interval=0.01)], ids=["hang", "drip"])
    def test_silence(self, server: ScriptedServer, wire: str, stream: bool, fault: Hang | Drip) -> None:
        server.script("m", fault)

        async def give_up() -> None:
            async with httpx.AsyncClient() as client:
                call = asyncio.create_task(client.post(server.ollama_base + PATHS[wire], json=body(stream)))
                await asyncio.to_thread(server.wait_for, 1)
                assert not call.done()
                call.cancel()
                await asyncio.wait([call])

        asyncio.run(give_up())
        assert server.requests()[0].ended() == "abandoned"


class TestStreamsBreak:
    @pytest.mark.parametrize("wire", WIRES)
    def test_cut(self, server: ScriptedServer, wire: str) -> None:
        server.script("m", Reply(pieces=["a", Break.CUT]))
        with pytest.raises(httpx.RemoteProtocolError):
            post(server, wire, stream=True)
        assert server.requests()[0].ended() == "cut"

    @pytest.mark.parametrize(
        ("wire", "last"), [("openai", "[DONE]"), ("anthropic", "message_stop"), ("ollama", '"done":true')]
    )
    def test_early_end_garbage_and_error(self, server: ScriptedServer, wire: str, last: str) -> None:
        server.script(
            "m",
            Reply(pieces=["a", "b"]),
            Reply(pieces=["a", Break.END, "b"]),
            Reply(pieces=["a", Break.GARBAGE, 0.001, "b"]),
            Reply(pieces=["a", Break.ERROR, "b"]),
        )
        whole, short, garbled, failed = (post(server, wire, stream=True).text for _ in range(4))
        assert last in whole
        assert whole.startswith(short)
        assert last not in short
        assert "this is not JSON" in garbled
        assert last in garbled
        assert '"error"' in failed
        assert last not in failed

    def test_a_drip_never_ends(self, server: ScriptedServer) -> None:
        server.script("m", Drip(interval=0.001))
        with httpx.stream("POST", f"{server.openai_base}/chat/completions", json={"model": "m"}) as response:
            dripped = response.iter_raw(1)
            assert [next(dripped) for _ in range(5)] == [b" "] * 5
        assert server.requests()[0].ended() == "abandoned"


def test_ollama_knows_what_is_pulled(server: ScriptedServer) -> None:
    server.ollama_models = {"mistral": {"model_info": {"llama.context_length": 4096}}, "qwen3:4b": {}}
    with httpx.Client(base_url=server.ollama_base) as client:
        tags = client.get("/api/tags").json()["models"]
        assert [model["name"] for model in tags] == ["mistral:latest", "qwen3:4b"]
        assert client.post("/api/show", json={"model": "mistral:latest"}).json()["model_info"]
        missing = client.post("/api/chat", json={"model": "llama2", "stream": False})
        assert (missing.status_code, missing.json()) == (404, {"error": "model 'llama2' not found"})
        assert client.post("/api/chat", json={"model": "mistral", "stream": False}).json()["done"] is True
    assert len(server.ledger) == 4
    assert server.count() == 2


def test_a_refused_port_refuses_and_another_never_accepts(refused: str, unaccepted: str) -> None:
    with pytest.raises(httpx.ConnectError):
        httpx.get(refused)
    with pytest.raises(httpx.ConnectTimeout):
        httpx.get(unaccepted, timeout=0.1)


def test_llmock_speaks_two_formats(litellm: ModuleType, llmock: Llmock) -> None:
    llmock.fail(429, retry_after=3, code="insufficient_quota", model="a").reply("from llmock")
    options = {"api_key": "sk-test", "messages": MESSAGES, "max_retries": 0, "max_tokens": 9}
    with pytest.raises(litellm.RateLimitError) as caught:
        litellm.completion(model="openai/a", api_base=llmock.openai_base, **options)
    assert caught.value.litellm_response_headers["retry-after"] == "3"
    answer = litellm.completion(model="anthropic/b", api_base=llmock.anthropic_base, **options)
    assert answer.choices[0].message.content == "from llmock"
    assert (llmock.count("a"), llmock.count("b"), llmock.count()) == (1, 1, 2)


def test_a_server_stops_at_once_whatever_hangs_on_it() -> None:
    with ThreadPoolExecutor() as threads, ScriptedServer() as server:
        server.script("m", Hang())
        failed = threads.submit(post, server)
        server.wait_for(1)
    with pytest.raises(httpx.TransportError):
        failed.result()
    gc.collect()  # a socket left open would be reported here


def test_a_reset_forgets_and_cuts(server: ScriptedServer) -> None:
    server.script("m", Hang())
    with ThreadPoolExecutor() as threads:
        failed = threads.submit(post, server)
        server.wait_for(1)
        server.reset()
        with pytest.raises(httpx.TransportError):
            failed.result(5)
    assert server.ledger == []
    assert post(server).status_code == 200


class TestSurroundings:
    def test_nothing_of_the_machine_leaks_in(self, surroundings: Path) -> None:
        assert Path.cwd() == surroundings
        assert list(surroundings.iterdir()) == []
        assert not {"OPENAI_API_KEY", "LLM_PROVIDER", "OPENAI_BASE_URL", "OLLAMA_URL"} & set(os.environ)
        os.environ["OPENAI_API_KEY"] = "left behind"  # the same test again would see it: it is run twice

    test_and_what_a_test_sets_is_gone_afterwards = test_nothing_of_the_machine_leaks_in

    def test_nothing_leaves_this_machine(self) -> None:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("192.0.2.1", 9), timeout=1)
        assert strayed == ["to reach 192.0.2.1"]
        strayed.clear()  # or this test would fail for it

    def test_a_quick_test_starts_no_process(self) -> None:
        with pytest.raises(RuntimeError, match="not marked `heavy`"):
            subprocess.Popen(["true"])  # noqa: S607
        assert strayed == ["subprocess.Popen true"]
        strayed.clear()

    def test_the_catalog_is_where_the_default_looks(
        self, server: ScriptedServer, catalog: WriteCatalog, keys: str
    ) -> None:
        path = catalog(
            {"a": server.openai("gpt-x"), "b": server.ollama("llama2")}, retries=0, modules={"m": {"chain": "b"}}
        )
        assert path == Path.cwd() / "config" / "models.yaml"
        assert yaml.safe_load(path.read_text()) == {
            "models": {
                "a": {"model": "openai/gpt-x", "api_base": server.openai_base, "price": {"input": 1, "output": 2}},
                "b": {"model": "ollama_chat/llama2", "api_base": server.ollama_base, "price": "free"},
            },
            "modules": {"default": {"chain": ["a", "b"], "retries": 0}, "m": {"chain": "b"}},
        }

    def test_a_program_that_is_missing_skips_but_fails_on_ci(
        self, needs_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("CI", raising=False)
        with pytest.raises(pytest.skip.Exception, match="no-such-program"):
            needs_program("no-such-program")
        monkeypatch.setenv("CI", "true")
        with pytest.raises(pytest.fail.Exception, match="no-such-program"):
            needs_program("no-such-program")
