"""The connections to providers of each event loop, and the clients that LiteLLM sends its requests through.

They are ours because LiteLLM never closes those that it makes for a loop: here a loop's close with it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from modelrouter.catalog.known_providers import of_string
from modelrouter.process import event_loops

from .openai_client import openai_client


@dataclass(slots=True)
class Watch:
    """What is seen of a request."""

    ours: bool = False
    """It goes through a client of ours."""
    sent: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of what has answered, whatever its status."""

    @property
    def unsent(self) -> bool:
        """It is known that nothing was sent."""
        return self.ours and not self.sent


_watch: ContextVar[Watch] = ContextVar("modelrouter_watch")


@contextlib.contextmanager
def watch() -> Iterator[Watch]:
    """Watch the request that is sent in the block."""
    token = _watch.set(watched := Watch())
    try:
        yield watched
    finally:
        with contextlib.suppress(ValueError):  # a coroutine that is closed in another context than it ran in
            _watch.reset(token)


def watched() -> bool:
    """Whether this is part of a call of ours, and not of other code's to LiteLLM."""
    return _watch.get(None) is not None


async def _note(_: Any) -> None:
    with contextlib.suppress(LookupError):
        _watch.get().sent = True


async def _note_answer(response: Any) -> None:
    with contextlib.suppress(LookupError):
        _watch.get().headers = response.headers


class _Clients:
    """LiteLLM's handler, and OpenAI's clients on top of its pool."""

    def __init__(self, transport: Any = None) -> None:
        import httpx
        from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

        from . import lines

        self.handler: Any = AsyncHTTPHandler(event_hooks={"request": [_note], "response": [_note_answer, lines.mend]})
        if transport is not None:
            self.handler.client = httpx.AsyncClient(transport=transport, headers=self.handler.client.headers)
        self._openai: dict[tuple[str | None, ...], Any] = {}

    def openai(self, api_base: str | None, api_key: str, organization: str | None) -> Any:
        of = api_base, api_key, organization  # LiteLLM writes the last into the client
        if (client := self._openai.get(of)) is None:
            client = openai_client()(api_key=api_key, base_url=api_base, max_retries=0, http_client=self.handler.client)
            self._openai[of] = client
        return client

    def without_keys(self) -> _Clients:
        """For a client of no loop, which nobody closes."""
        self._openai.clear()
        return self

    async def close(self) -> None:
        import litellm

        await self.handler.close()
        # Providers that take no client of ours were called through those that LiteLLM keeps for this loop.
        cache: Any = litellm.in_memory_llm_clients_cache
        kept, mine = cache.cache_dict, cache.update_cache_key_with_event_loop("")
        for client in [kept.pop(name) for name in list(kept) if str(name).endswith(mine)]:
            with contextlib.suppress(Exception):
                await client.close()


_clients = event_loops.PerLoop(_Clients, _Clients.close)


@functools.cache
def _in_place(transport: Any) -> _Clients:
    return _Clients(transport)


async def post(url: Any, headers: Any, content: bytes, *, timeout: float, stream: bool) -> Any:
    """httpx's response to this, of a stream without its content; url and headers are httpx's, too.

    The request goes to the pool of connections below httpx's client, which takes as long to prepare a request as it is
    under way. A redirect is for the client to follow, or not.
    """
    import httpx

    from . import lines

    client = (await _clients.get()).handler.client
    with contextlib.suppress(LookupError):
        watched = _watch.get()
        watched.ours = watched.sent = True
    limits = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout)}
    request = httpx.Request("POST", url, headers=headers, content=content, extensions=limits)
    try:
        response = await client._transport_for_url(url).handle_async_request(request)
    except httpx.RequestError as error:
        error.request = request  # LiteLLM looks at it
        raise
    try:
        if response.has_redirect_location:
            following = client._build_redirect_request(request, response)
            await response.aclose()
            response = await client.send(following, stream=stream)
        else:
            response.request = request
            await _note_answer(response)
            await lines.mend(response)
        if not stream or not response.is_success:
            await response.aread()
    except BaseException:
        await response.aclose()
        raise
    return response


async def client(arguments: Mapping[str, Any], *, transport: Any = None) -> dict[str, Any]:
    """The argument ``client`` of LiteLLM's completion, for the providers that take one; else nothing. `transport` is
    httpx's, in place of the network."""
    clients = await _clients.get() if transport is None else _in_place(transport).without_keys()
    provider = of_string(arguments["model"])
    takes, elsewhere = provider.client, provider.host is None and "api_base" not in arguments
    if takes is None or (takes == "openai" and ("api_key" not in arguments or elsewhere)):
        return {}  # OpenAI's client has an address of its own
    with contextlib.suppress(LookupError):
        _watch.get().ours = True
    if takes == "handler":
        return {"client": clients.handler}
    named = arguments.get("api_base"), arguments["api_key"], arguments.get("organization")
    return {"client": clients.openai(*named)}


def probe() -> None:
    """Look at what the clients are made of. Raises what is not as it was."""
    import litellm
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    from . import lines

    lines.probe()
    inspect.signature(AsyncHTTPHandler).bind(event_hooks={})
    inspect.signature(litellm.in_memory_llm_clients_cache.update_cache_key_with_event_loop).bind("")
    openai_client()
