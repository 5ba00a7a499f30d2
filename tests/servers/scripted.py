"""One server for three wire formats, on a thread of its own, that answers as scripted and misbehaves as scripted."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, NoReturn, Self

from aiohttp import web

from .answers import Answer, Break, Drip, Drop, Fault, Garbage, Gate, Hang, Known, Reply
from .ledger import Request
from .wires import WIRES, Frame, Ollama, Wire

__all__ = ["ScriptedServer"]

_PATIENCE = 5.0
"""Seconds that starting, resetting and stopping may take; each takes milliseconds."""


class ScriptedServer:
    """Answers each model as its script says; a model without a script answers ``ok``.

    A script's last answer repeats. Everything that a test touches may be called from any thread.
    """

    def __init__(self) -> None:
        self.ollama_models: dict[str, dict[str, Any]] = {}
        """What Ollama has pulled, beside the models with a script: name -> what ``/api/show`` says beyond the usual."""
        self.ledger: list[Request] = []
        """Every request, ``/api/tags`` and wrong paths included, in the order of arrival."""
        self._scripts: dict[str, list[Answer]] = {}
        self._changed = threading.Condition()
        self._in_flight: dict[asyncio.Task[Any], tuple[asyncio.Transport, Request]] = {}
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()
        # A daemon: a test run that is interrupted ends all the same.
        self._thread = threading.Thread(target=self._run, name="scripted-server", daemon=True)
        self._forget()

    # -- life

    def start(self) -> Self:
        self._thread.start()
        self._ready.result(_PATIENCE)
        return self

    def stop(self) -> None:
        """Closes every connection, hanging ones included, and ends the thread."""
        loop, stopping, _ = self._ready.result(_PATIENCE)
        loop.call_soon_threadsafe(stopping.set)
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            raise RuntimeError("the scripted server does not stop")

    def reset(self) -> None:
        """Forgets scripts and requests, and cuts what is still being answered; idle connections stay open."""
        loop, _, _ = self._ready.result(_PATIENCE)
        asyncio.run_coroutine_threadsafe(self._cut_all(), loop).result(_PATIENCE)
        self._forget()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- where to point clients

    @property
    def port(self) -> int:
        return self._ready.result(_PATIENCE)[2]

    @property
    def ollama_base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def anthropic_base(self) -> str:
        return self.ollama_base

    @property
    def openai_base(self) -> str:
        return f"{self.ollama_base}/v1"

    def openai(self, name: str, **more: Any) -> dict[str, Any]:
        """The catalog's entry for `name`, spoken to as OpenAI. `more`: other keys of the entry."""
        return _entry(f"openai/{name}", self.openai_base, more)

    def anthropic(self, name: str, **more: Any) -> dict[str, Any]:
        return _entry(f"anthropic/{name}", self.anthropic_base, more)

    def ollama(self, name: str, **more: Any) -> dict[str, Any]:
        """The same for Ollama, where `name` counts as pulled from now on."""
        self.ollama_models.setdefault(name, {})
        return _entry(f"ollama_chat/{name}", self.ollama_base, {"price": "free", **more})

    # -- what it says

    def script(self, model: str, *answers: Answer) -> Self:
        """From now on `model`, by its name on the wire, answers these one after the other, and repeats the last."""
        if not answers:
            raise ValueError(f"a script for {model!r} needs at least one answer")
        with self._changed:
            self._scripts[model] = list(answers)
        return self

    # -- what it was asked

    def requests(self, model: str | None = None) -> list[Request]:
        """The calls of models, in the order of arrival; questions about models are only in `ledger`."""
        with self._changed:
            return [r for r in self.ledger if r.path in WIRES and (model is None or r.model == model)]

    def count(self, model: str | None = None) -> int:
        return len(self.requests(model))

    def wait_for(self, count: int, model: str | None = None, timeout: float = 5.0) -> list[Request]:
        """The calls, once there are `count` of them; `TimeoutError` when they do not come."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.count(model) >= count, timeout):
                raise TimeoutError(f"{self.count(model)} of {count} requests came within {timeout} s")
        return self.requests(model)

    # -- the server's own thread

    def _forget(self) -> None:
        with self._changed:
            self._scripts.clear()
            self.ledger.clear()
            self.ollama_models = {"llama2": {}}

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # handler_cancellation: this is how a handler learns that its client has gone.
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
            stopping = asyncio.Event()
            self._ready.set_result((asyncio.get_running_loop(), stopping, runner.addresses[0][1]))
            await stopping.wait()
        finally:
            await self._cut_all()
            await runner.cleanup()

    async def _cut_all(self) -> None:
        tasks = dict(self._in_flight)
        for transport, request in tasks.values():
            if request.outcome == "open":
                request.end("cut")
                transport.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=_PATIENCE / 2)

    async def _handle(self, wire_request: web.Request) -> web.StreamResponse:
        task, transport = asyncio.current_task(), wire_request.transport
        if task is None or not isinstance(transport, asyncio.Transport):
            raise asyncio.CancelledError  # the client went away before its request was looked at
        request = self._enter(wire_request, await wire_request.read())
        self._in_flight[task] = transport, request
        try:
            return await self._answer(wire_request, request, transport)
        except (asyncio.CancelledError, ConnectionError):
            request.end("abandoned")
            raise
        finally:
            del self._in_flight[task]

    def _enter(self, wire_request: web.Request, raw: bytes) -> Request:
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = None
        headers = {name.lower(): value for name, value in wire_request.headers.items()}
        request = Request(wire_request.method, wire_request.path, headers, body, time.monotonic())
        with self._changed:
            self.ledger.append(request)
            self._changed.notify_all()
        return request

    async def _answer(
        self, wire_request: web.Request, request: Request, transport: asyncio.Transport
    ) -> web.StreamResponse:
        wire = WIRES.get(request.path)
        if wire is None or request.method != "POST":
            return self._send(request, *self._about_models(request))
        if not isinstance(request.body, dict) or request.model is None:
            return self._send(request, 400, wire.envelope(400, "a JSON object with a model is needed", None))

        answer = self._next(wire, request.model)
        match answer:
            case Reply() | Fault():
                await asyncio.sleep(answer.delay)
                if answer.gate:
                    await answer.gate.passed()
        match answer:
            case Reply():
                model = answer.served_by or request.model
                if wire.wants_stream(request.body):
                    frames = wire.stream(answer, model, request.body)
                    return await self._stream(wire_request, request, transport, wire, answer, frames)
                return self._send(request, 200, wire.body(answer, model), answer.headers)
            case Fault() | Known():
                return self._fail(request, wire, answer, request.model)
            case Garbage():
                return self._send(request, 200, "<html><body>It works!</body></html>", content_type="text/html")
            case Drop():
                return await _cut(request, transport)
            case Hang():
                return await _never()
            case Drip(part="head"):
                transport.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
                while True:
                    transport.write(b"x")
                    await asyncio.sleep(answer.interval)
            case Drip():
                response = await self._begin(wire_request, request, "application/json")
                while True:
                    await response.write(b" ")
                    await asyncio.sleep(answer.interval)

    def _next(self, wire: Wire, model: str) -> Answer:
        with self._changed:
            if isinstance(wire, Ollama) and not self._pulled(model):
                return Known("model_not_found")
            script = self._scripts.get(model, [Reply()])
            return script.pop(0) if len(script) > 1 else script[0]

    def _fail(self, request: Request, wire: Wire, fault: Fault | Known, model: str) -> web.Response:
        status, body = wire.error(fault, model)
        if isinstance(fault, Known):
            return self._send(request, status, body)
        if fault.body is not None:
            body = fault.body(request) if callable(fault.body) else fault.body
        waiting = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
        return self._send(request, status, body, {**waiting, **fault.headers})

    async def _stream(
        self,
        wire_request: web.Request,
        request: Request,
        transport: asyncio.Transport,
        wire: Wire,
        reply: Reply,
        frames: Iterable[Frame],
    ) -> web.StreamResponse:
        response = await self._begin(wire_request, request, wire.content_type, reply)
        held = (
            b""  # the last bytes leave together with the end, or a client that stops at [DONE] would look as if it left
        )
        for frame in frames:
            if held:
                await response.write(held)
                held = b""
            match frame:
                case bytes():
                    held = frame
                case float() | int():
                    await asyncio.sleep(frame)
                case Gate():
                    await frame.passed()
                case Break.CUT:
                    await _cut(request, transport)
                case Break.STALL:
                    await _never()
                case _:
                    break
        request.end("answered")
        await response.write_eof(held)
        return response

    async def _begin(
        self, wire_request: web.Request, request: Request, content_type: str, reply: Reply | None = None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type, **(reply.headers if reply else {})})
        response.enable_chunked_encoding()
        request.status = response.status
        await response.prepare(wire_request)
        return response

    def _send(
        self, request: Request, status: int, body: Any, headers: Any = None, content_type: str = "application/json"
    ) -> web.Response:
        text = body if isinstance(body, str) else json.dumps(body)
        request.status = status
        request.end("answered")
        return web.Response(status=status, text=text, headers=headers, content_type=content_type)

    # -- Ollama's questions about models

    def _pulled(self, model: str) -> bool:
        return _tagged(model) in map(_tagged, [*self.ollama_models, *self._scripts])

    def _about_models(self, request: Request) -> tuple[int, Any]:
        match request.method, request.path:
            case "GET", "/api/tags":
                names = map(_tagged, self.ollama_models)
                return 200, {
                    "models": [{"name": name, "model": name, "size": 1, "digest": "0", **_FAMILY} for name in names]
                }
            case "POST", "/api/show":
                model = request.model or ""
                if not self._pulled(model):
                    return 404, {"error": f"model '{model}' not found"}
                known = self.ollama_models.get(model.removesuffix(":latest"), {})
                return 200, {
                    "template": "{{ .Prompt }}",
                    **_FAMILY,
                    "model_info": {},
                    "capabilities": ["completion"],
                    **known,
                }
            case _:
                return 404, {"error": f"nothing at {request.method} {request.path}"}


_FAMILY = {"details": {"format": "gguf", "family": "llama", "parameter_size": "7B", "quantization_level": "Q4_0"}}


def _tagged(model: str) -> str:
    return model if ":" in model else f"{model}:latest"


def _entry(litellm_model: str, api_base: str, more: dict[str, Any]) -> dict[str, Any]:
    # Round prices: with the default reply, 10 tokens in and 5 out, a call costs 0.00002 dollars.
    return {"model": litellm_model, "api_base": api_base, "price": {"input": 1, "output": 2}, **more}


async def _never() -> NoReturn:
    """Ends only with the connection, which cancels the handler."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets that event")


async def _cut(request: Request, transport: asyncio.Transport) -> NoReturn:
    request.end("cut")
    transport.abort()
    await _never()
