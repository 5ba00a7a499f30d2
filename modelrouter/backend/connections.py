"""The connections to providers of each event loop, and the clients that LiteLLM sends its requests through.

They are ours because LiteLLM never closes those that it makes for a loop: here a loop's close with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from modelrouter.process import event_loops as _loop

__all__ = ["client", "watch"]

_TAKES_HANDLER = frozenset(
    "anthropic ollama_chat groq gemini mistral openrouter deepseek xai together_ai fireworks_ai".split()
)
"""Providers that LiteLLM speaks to through its own HTTP handler, and takes one of ours for."""


_sent: ContextVar[list[bool]] = ContextVar("modelrouter_sent")


def watch() -> list[bool]:
    """A list that is empty until a request is sent in this context through `client`'s clients."""
    sent: list[bool] = []
    _sent.set(sent)
    return sent


async def _note(_: Any) -> None:
    with contextlib.suppress(LookupError):
        _sent.get().append(True)  # and not the request, which has the key and may be large


class _Clients:
    """LiteLLM's handler, and OpenAI's clients on top of its pool."""

    def __init__(self) -> None:
        from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

        self.handler: Any = AsyncHTTPHandler(event_hooks={"request": [_note]})
        self._openai: dict[tuple[str | None, str], Any] = {}

    def openai(self, api_base: str | None, api_key: str) -> Any:
        if (client := self._openai.get((api_base, api_key))) is None:
            client = _openai_client()(
                api_key=api_key, base_url=api_base, max_retries=0, http_client=self.handler.client
            )
            self._openai[api_base, api_key] = client
        return client

    async def close(self) -> None:
        import litellm

        await self.handler.close()
        # Providers that take no client of ours were called through those that LiteLLM keeps for this loop.
        kept, mine = litellm.in_memory_llm_clients_cache.cache_dict, f"-{id(asyncio.get_running_loop())}"
        for client in [kept.pop(name) for name in list(kept) if str(name).endswith(mine)]:
            with contextlib.suppress(Exception):
                await client.close()


_clients = _loop.PerLoop(_Clients, _Clients.close)


async def client(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The argument ``client`` of LiteLLM's completion, for the providers that take one; else nothing."""
    provider = arguments["model"].partition("/")[0]
    clients = await _clients.get()
    if provider in _TAKES_HANDLER:
        return {"client": clients.handler}
    if provider == "openai" and "api_key" in arguments:
        return {"client": clients.openai(arguments.get("api_base"), arguments["api_key"])}
    return {}


@functools.cache
def _openai_client() -> type[Any]:
    """OpenAI's asynchronous client, whose chat completions are sent as they are.

    The original walks through every parameter for names and values to translate, of which chat completions have none:
    an eighth of a call.
    """
    import openai
    from openai import AsyncStream
    from openai.resources.chat import AsyncChat, AsyncCompletions
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    class Completions(AsyncCompletions):
        async def create(  # type: ignore[override] # the same in fewer words
            self,
            *,
            extra_headers: Mapping[str, str] | None = None,
            extra_query: Mapping[str, object] | None = None,
            extra_body: object = None,
            timeout: Any = None,
            stream: bool = False,
            **body: Any,
        ) -> Any:
            given = {"headers": extra_headers, "params": extra_query, "extra_json": extra_body, "timeout": timeout}
            post: Any = self._client.post  # its overloads want to know beforehand whether it is a stream
            return await post(
                "/chat/completions",
                body=body | {"stream": True} if stream else body,
                options={name: value for name, value in given.items() if value is not None},
                cast_to=ChatCompletion,
                stream=stream,
                stream_cls=AsyncStream[ChatCompletionChunk],
            )

    class Chat(AsyncChat):
        @functools.cached_property
        def completions(self) -> Completions:
            return Completions(self._client)

    class AsyncOpenAI(openai.AsyncOpenAI):  # the name goes into the header User-Agent
        @functools.cached_property
        def chat(self) -> Chat:
            return Chat(self)

    return AsyncOpenAI
