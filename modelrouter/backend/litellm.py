"""LiteLLM as the backend: one request at a time, and nothing but that.

No retries, fallbacks, cache, callbacks or cost calculation of LiteLLM's are used, because modelrouter decides,
remembers and meters by itself.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from pydantic import SecretStr

from modelrouter import environment
from modelrouter.catalog.known_providers import of_string
from modelrouter.catalog.target import Target, broken_key, missing_key
from modelrouter.completion import Kind
from modelrouter.embedded import server as embedded
from modelrouter.errors import CannotSend, EmbeddedUnavailable
from modelrouter.planning.exchange import Failure, Obstacle, Piece, Reply, Request
from modelrouter.redaction import one_line

from . import abilities, loading, tables
from .answers import reply
from .arguments import arguments_of
from .failures import classify
from .insides import connections, way
from .own_errors import own
from .said import Said
from .stream import Stream

T = TypeVar("T")
Failed: TypeAlias = Callable[[Exception], Failure]

_ABILITIES = {
    "reasoning": "supports_reasoning",
    "response_format": "supports_response_schema",
    "tools": "supports_function_calling",
}


class LiteLLM:
    """The `Backend` that every router has outside tests."""

    remembers = True
    waits = True

    ready = staticmethod(loading.loaded)
    load = staticmethod(loading.load)
    takes = staticmethod(abilities.takes)
    context_window = staticmethod(tables.context_window)
    price = staticmethod(tables.price)

    async def warm(self) -> None:
        request = Request(({"role": "user", "content": "hi"},), {"mock_response": "hi"})
        await self._call(Target("warm-up", "openai/warm-up", "openai"), request, None, 30.0, stream=False)

    def obstacle(self, target: Target, request: Request) -> Obstacle | None:
        if (variable := missing_key(target)) is not None:
            return Obstacle(Kind.MISSING_KEY, f"{variable} is not set", variable)
        if (broken := broken_key(target)) is not None:
            return Obstacle(Kind.AUTH, broken[1], broken[0])
        if target.provider == "embedded" and (missing := embedded.present(gguf=environment.gguf())) is not None:
            return Obstacle(Kind.NOT_FOUND, missing)
        if (why := abilities.lacks(target, request)) is not None:
            return Obstacle(Kind.UNSUPPORTED, why)
        return None

    def able(self, target: Target, ability: str) -> bool:
        said = target.supports.get(ability)
        if said is None:
            loading.load()
            said = tables.row(target).get(_ABILITIES[ability]) is True
        return said

    async def send(self, target: Target, request: Request, *, within: float) -> Reply | Failure:
        return await self._ask(target, request, within, lambda _, answer, said, *__: reply(answer, said), stream=False)

    async def open(self, target: Target, request: Request, *, within: float, thinking: bool) -> Piece | Reply | Failure:
        def begun(served: Target, chunks: Any, said: Said, quick: bool, failed: Failed) -> Stream:
            return Stream(served, request, chunks, said, quick=quick, thinking=thinking, failed=failed)

        began = time.monotonic()
        opened = await self._ask(target, request, within, begun, stream=True)
        if not isinstance(opened, Stream):
            return opened
        try:
            return await opened.next(max(0.0, within - (time.monotonic() - began)), first=True)
        except BaseException:
            await opened.close()
            raise

    async def _ask(
        self,
        target: Target,
        request: Request,
        within: float,
        made: Callable[[Target, Any, Said, bool, Failed], T],
        *,
        stream: bool,
    ) -> T | Failure:
        """Send one request: what is `made` of what LiteLLM returns."""
        began = time.monotonic()
        key = environment.secret(target.key_env) if target.key_env is not None else None
        if target.provider == "embedded":
            try:
                server = await asyncio.to_thread(embedded.endpoint, gguf=environment.gguf(), timeout=within)
            except EmbeddedUnavailable as error:
                return Failure(Kind.NOT_FOUND, str(error))
            key, string = server.api_key, f"openai/{server.model}"
            target = replace(target, litellm_model=string, api_base=server.api_base, own_address=False)
        with connections.watch() as watch:
            try:
                left = max(0.0, within - (time.monotonic() - began))
                async with asyncio.timeout(left):
                    answer, said, quick = await self._call(target, request, key, left, stream=stream)
                return made(target, answer, said, quick, functools.partial(_failure, target=target, key=key))
            except TimeoutError:
                return Failure.timeout(within)
            except Exception as error:  # noqa: BLE001 - providers' clients raise whatever they like; all are failures
                return _failure(error, target, key, unsent=watch.unsent)

    async def _call(
        self, target: Target, request: Request, key: SecretStr | None, within: float, *, stream: bool
    ) -> tuple[Any, Said, bool]:
        """What LiteLLM returns, what the provider itself said, and whether LiteLLM was called the quick way."""
        said = Said(parts=not of_string(target.litellm_model).reads_parts)
        arguments = arguments_of(target, request, key, within, stream=stream)
        completion, extra = await way.completion(arguments)
        try:
            answer = await completion(**arguments, **extra, logger_fn=said)
        except Exception:
            if (answer := said.whole()) is None:
                raise
        return answer, said, way.is_quick(extra)


def _failure(error: Exception, target: Target, key: SecretStr | None, *, unsent: bool = False) -> Failure:
    secrets = environment.secret_values()
    if key is not None and key.get_secret_value():
        secrets.append(key.get_secret_value())
    if (why := own(error, unsent=unsent)) is not None:
        raise CannotSend(one_line(why, secrets)) from None
    return classify(error, target, secrets, unsent=unsent)
