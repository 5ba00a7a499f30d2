"""The same call by httpx, the openai SDK, LiteLLM, its Router, and modelrouter."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tests.bench.measure import Row, amedians, medians

__all__ = ["Bench", "calls", "fallbacks", "streams"]

WIRES = ("openai", "anthropic", "ollama_chat")
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-5", "ollama_chat": "llama3.1:8b"}
"""Of each a model as people use it: LiteLLM knows the first two, and looks into its tables for each call."""
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "ollama_chat": "/api/chat"}
IN_FLIGHT = 64
IN_A_ROW = 4
PIECES = 50
MESSAGES = [{"role": "user", "content": "hi"}]
FIXED: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 50, "temperature": 0}
USAGE = {"stream_options": {"include_usage": True}}
"""modelrouter always asks for it, so the others do too."""

SYNC = {"openai": 0.35, "anthropic": 0.3, "ollama_chat": 0.2}
FLOCK = {"openai": 0.285, "anthropic": 0.5, "ollama_chat": 0.285}
STREAM = {"sync": 0.2, "async": 0.25}
"""The most that modelrouter's ratio to LiteLLM's own call may be."""

Call = Callable[[], Any]

T = TypeVar("T")


@dataclass(frozen=True)
class Contender:
    """One of those who ask, and its four ways."""

    call: Call
    acall: Call
    stream: Call
    astream: Call


class Bench:
    """The contenders on a server that answers at once."""

    def __init__(self, folder: Path, address: str) -> None:
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        import litellm

        from modelrouter import Router
        from modelrouter.backend.current import LITELLM
        from modelrouter.planning import health

        LITELLM.load()
        litellm.suppress_debug_info = True
        # A fallback is logged; an application's handler is not what is measured.
        logging.getLogger("modelrouter").addHandler(logging.NullHandler())
        # What is down would soon be asked last, and no fallback would be left to measure.
        health.IN_A_ROW = 10**9
        self.litellm: Any = litellm
        self.address = address
        self.clients: list[_Late] = []
        self.path = self._catalog(folder)
        self.router = Router(self.path)

    def _catalog(self, folder: Path) -> Path:
        lines = ["models:"]
        # Of Ollama a model of our own: what modelrouter tells LiteLLM about it is not to help the others.
        models = {f"{wire}-bench": f"{wire}/{MODELS[wire]}" for wire in WIRES} | {
            "ollama_chat-bench": "ollama_chat/llama3.1:8b-ours",
            **{f"{wire}-down": f"{wire}/our-down" for wire in WIRES},
        }
        lines += [
            f"  {name}: {{model: '{model}', api_base: '{self.base(name.partition('-')[0])}', "
            "price: {input: 1, output: 2}}"
            for name, model in models.items()
        ]
        lines.append("modules:")
        lines.append("  default: {chain: [openai-bench], max_tokens: 50, temperature: 0, retries: 0, cache: false}")
        path = folder / "models.yaml"
        path.write_text("\n".join(lines))
        return path

    def base(self, wire: str) -> str:
        return f"{self.address}/v1" if wire == "openai" else self.address

    def arguments(self, wire: str, model: str | None = None) -> dict[str, Any]:
        """LiteLLM's."""
        return {"model": f"{wire}/{model or MODELS[wire]}", "api_base": self.base(wire), "api_key": "none", **FIXED}

    def contenders(self, wire: str) -> dict[str, Contender]:
        found = {"httpx": self._httpx(wire)}
        if wire == "openai":
            found["openai SDK"] = self._sdk()
        name, router, litellm = f"{wire}-bench", self.router, self.litellm
        bare = self.arguments(wire)
        found["litellm"] = Contender(
            call=partial(litellm.completion, **bare),
            acall=partial(litellm.acompletion, **bare),
            stream=lambda: timed(partial(litellm.completion, **bare, stream=True, **USAGE), _says),
            astream=lambda: atimed(partial(litellm.acompletion, **bare, stream=True, **USAGE), _says),
        )
        parameters = {key: value for key, value in bare.items() if key not in FIXED}
        theirs = litellm.Router(
            model_list=[{"model_name": "bench", "litellm_params": parameters}], num_retries=0, disable_cooldowns=True
        )
        found["litellm.Router"] = Contender(
            call=lambda: theirs.completion(model="bench", **FIXED),
            acall=lambda: theirs.acompletion(model="bench", **FIXED),
            stream=lambda: timed(partial(theirs.completion, model="bench", **FIXED, stream=True, **USAGE), _says),
            astream=lambda: atimed(partial(theirs.acompletion, model="bench", **FIXED, stream=True, **USAGE), _says),
        )
        found["modelrouter"] = Contender(
            call=lambda: router.complete("hi", model=name),
            acall=lambda: router.acomplete("hi", model=name),
            stream=lambda: timed(partial(router.stream, "hi", model=name)),
            astream=lambda: atimed(partial(router.astream, "hi", model=name)),
        )
        return found

    def _httpx(self, wire: str) -> Contender:
        import httpx

        url = f"{self.address}{PATHS[wire]}"
        limits = httpx.Limits(max_connections=None)
        client, asynchronous = httpx.Client(limits=limits), self._late(lambda: httpx.AsyncClient(limits=limits))

        def body(stream: bool) -> dict[str, Any]:
            return {"model": MODELS[wire], **FIXED, "stream": stream}

        def lines() -> Iterator[str]:
            with client.stream("POST", url, json=body(True)) as response:
                yield from response.iter_lines()

        async def alines() -> AsyncIterator[str]:
            async with asynchronous.get().stream("POST", url, json=body(True)) as response:
                async for line in response.aiter_lines():
                    yield line

        async def post() -> Any:
            return (await asynchronous.get().post(url, json=body(False))).json()

        return Contender(
            call=lambda: client.post(url, json=body(False)).json(),
            acall=post,
            stream=lambda: timed(lambda: (_parsed(line) for line in lines() if "{" in line)),
            astream=lambda: atimed(lambda: (_parsed(line) async for line in alines() if "{" in line)),
        )

    def _late(self, make: Callable[[], Any]) -> _Late:
        self.clients.append(_Late(make))
        return self.clients[-1]

    def _sdk(self) -> Contender:
        import openai

        options: dict[str, Any] = {"base_url": self.base("openai"), "api_key": "none", "max_retries": 0}
        client, asynchronous = openai.OpenAI(**options), self._late(lambda: openai.AsyncOpenAI(**options))
        fixed: dict[str, Any] = {"model": MODELS["openai"], **FIXED}
        return Contender(
            call=lambda: client.chat.completions.create(**fixed),
            acall=lambda: asynchronous.get().chat.completions.create(**fixed),
            stream=lambda: timed(partial(client.chat.completions.create, **fixed, stream=True, **USAGE), _says),
            astream=lambda: atimed(
                partial(asynchronous.get().chat.completions.create, **fixed, stream=True, **USAGE), _says
            ),
        )


class _Late:
    """A client of the loop that runs."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._clients: dict[int, Any] = {}

    def get(self) -> Any:
        loop = id(asyncio.get_running_loop())
        if loop not in self._clients:
            self._clients[loop] = self._make()
        return self._clients[loop]

    async def close(self) -> None:
        while self._clients:
            _, client = self._clients.popitem()
            await (client.aclose() if hasattr(client, "aclose") else client.close())


def _parsed(line: str) -> Any:
    return json.loads(line[line.index("{") :])


def _says(chunk: Any) -> bool:
    """Whether a chunk of OpenAI's form has text; what comes before is a role, and after it the usage."""
    return bool(chunk.choices and chunk.choices[0].delta.content)


def timed(ask: Callable[[], Iterable[Any]], says: Callable[[Any], object] = bool) -> float:
    """Ask for a stream and read it to its end: seconds to its first piece with text."""
    began, first = time.perf_counter(), 0.0
    for piece in ask():
        if not first and says(piece):
            first = time.perf_counter() - began
    return first


async def atimed(ask: Callable[[], Any], says: Callable[[Any], object] = bool) -> float:
    """`timed`, of an asynchronous stream or of what has to be awaited for one."""
    began, first = time.perf_counter(), 0.0
    pieces = ask()
    async for piece in pieces if hasattr(pieces, "__aiter__") else await pieces:
        if not first and says(piece):
            first = time.perf_counter() - began
    return first


# -- the rows


def _run(bench: Bench, measuring: Awaitable[T]) -> T:
    """On a loop of its own, at whose end LiteLLM's clients are closed: by itself it leaves them to complain."""

    async def run() -> T:
        try:
            return await measuring
        finally:
            await bench.litellm.close_litellm_async_clients()
            for client in bench.clients:
                await client.close()

    return asyncio.run(run())


def _rows(
    what: str, took: Mapping[str, float], limit: float | None, remarks: Mapping[str, str] | None = None
) -> list[Row]:
    """Each contender against the bare LiteLLM; the limit is modelrouter's."""
    return [
        Row(
            f"{what}: {name}",
            time,
            "litellm",
            took["litellm"],
            limit=limit if name == "modelrouter" else None,
            remark=(remarks or {}).get(name, ""),
        )
        for name, time in took.items()
        if name != "litellm"
    ]


def calls(bench: Bench) -> list[Row]:
    """One call, and 64 at any time, each of which is followed by another: what LiteLLM does after it has answered has
    to fit in too."""

    async def several(one: Call) -> None:
        for _ in range(IN_A_ROW):
            await one()

    def many(one: Call) -> Call:
        return lambda: asyncio.gather(*(several(one) for _ in range(IN_FLIGHT)))

    async def asynchronous(found: Mapping[str, Contender]) -> tuple[dict[str, float], dict[str, float]]:
        single = {name: contender.acall for name, contender in found.items()}
        return await amedians(single), await amedians({name: many(one) for name, one in single.items()}, block=1)

    rows: list[Row] = []
    for wire in WIRES:
        found = bench.contenders(wire)
        rows += _rows(f"{wire}, sync", medians({name: one.call for name, one in found.items()}), SYNC[wire])
        single, flock = _run(bench, asynchronous(found))
        rows += _rows(f"{wire}, async", single, 0.5)
        rates = {name: f"{IN_FLIGHT * IN_A_ROW / took:,.0f} calls/s" for name, took in flock.items()}
        rows += _rows(f"{wire}, {IN_FLIGHT} in flight", flock, FLOCK[wire], rates)
        if (sdk := flock.get("openai SDK")) is not None:
            rows.append(Row("the same", flock["modelrouter"], "openai SDK", sdk, limit=1.0))
    return rows


def streams(bench: Bench) -> list[Row]:
    """A stream of 50 pieces."""
    rows: list[Row] = []
    for wire in WIRES:
        found = bench.contenders(wire)
        firsts: dict[str, list[float]] = {name: [] for name in found}

        def read(name: str, one: Call, firsts: dict[str, list[float]] = firsts) -> Call:
            return lambda: firsts[name].append(one())

        def aread(name: str, one: Call, firsts: dict[str, list[float]] = firsts) -> Call:
            async def run() -> None:
                firsts[name].append(await one())

            return run

        with _uncollected():
            took = medians({name: read(name, one.stream) for name, one in found.items()}, block=3)
        rows += _streamed(f"{wire}, stream, sync", took, firsts)
        for times in firsts.values():
            times.clear()
        took = _run(bench, amedians({name: aread(name, one.astream) for name, one in found.items()}, block=3))
        rows += _streamed(f"{wire}, stream, async", took, firsts)
    return rows


@contextmanager
def _uncollected() -> Iterator[None]:
    """LiteLLM leaves a synchronous stream that was read to the garbage collector. Where that comes upon it inside
    httpcore's pool it waits, for ever, for a lock that its own thread holds."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _streamed(what: str, took: Mapping[str, float], firsts: Mapping[str, list[float]]) -> list[Row]:
    first = {name: statistics.median(times) for name, times in firsts.items()}
    rates = {name: f"{PIECES / time:,.0f} pieces/s" for name, time in took.items()}
    return [*_rows(what, took, STREAM[what.rpartition(" ")[2]], rates), *_rows(f"{what}, first token", first, None)]


def fallbacks(bench: Bench) -> list[Row]:
    """The first model answers 503 and the second one answers."""
    import openai  # LiteLLM's errors are its kinds

    litellm, router = bench.litellm, bench.router
    rows: list[Row] = []
    for wire in WIRES:
        chain = [f"{wire}-down", f"{wire}-bench"]
        down, up = (bench.arguments(wire, model) | {"max_retries": 0} for model in ("down", None))

        def by_hand(down: dict[str, Any] = down, up: dict[str, Any] = up) -> object:
            try:
                return litellm.completion(**down)
            except openai.APIError:
                return litellm.completion(**up)

        async def aby_hand(down: dict[str, Any] = down, up: dict[str, Any] = up) -> object:
            try:
                return await litellm.acompletion(**down)
            except openai.APIError:
                return await litellm.acompletion(**up)

        hand, ours = "LiteLLM by hand", f"{wire}, fallback"
        took = medians({hand: by_hand, ours: partial(router.complete, "hi", model=chain)}, block=5)
        rows.append(Row(f"{ours}, sync: modelrouter", took[ours], hand, took[hand], limit=1.0))
        took = _run(bench, amedians({hand: aby_hand, ours: partial(router.acomplete, "hi", model=chain)}, block=5))
        rows.append(Row(f"{ours}, async: modelrouter", took[ours], hand, took[hand], limit=1.0))
    return rows
