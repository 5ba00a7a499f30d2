"""LiteLLM as the backend: one request at a time, and nothing but that.

No retries, fallbacks, cache, callbacks or cost calculation of LiteLLM's are used, because modelrouter decides,
remembers and meters by itself.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

from pydantic import SecretStr

from modelrouter import environment
from modelrouter.catalog import prices
from modelrouter.catalog.known_providers import of_string
from modelrouter.catalog.target import Target, broken_key, missing_key
from modelrouter.completion import Kind
from modelrouter.embedded import server as embedded
from modelrouter.errors import CannotSend, EmbeddedUnavailable
from modelrouter.planning.exchange import Failure, Obstacle, Piece, Reply, Request
from modelrouter.redaction import one_line

from . import abilities, gateway, loading, tables
from .answers import reply
from .arguments import arguments_of
from .failures import classify
from .insides import connections, way
from .own_errors import own
from .said import Said
from .stream import Stream

logger = logging.getLogger("modelrouter")

T = TypeVar("T")
Billed: TypeAlias = Callable[[Reply, Any], Reply]

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
        with connections.watch() as watch:
            await self._call(Target("warm-up", "openai/warm-up", "openai"), request, None, 30.0, watch, stream=False)

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

    def alone(self, target: Target) -> bool:
        return target.provider != "embedded" and way.is_alone(target.litellm_model)

    async def send(self, target: Target, request: Request, *, within: float) -> Reply | Failure:
        def whole(got: _Got) -> Reply:
            return got.billed(reply(got.answer, got.said), getattr(got.answer, "usage", None))

        return await self._ask(target, request, within, whole, stream=False)

    async def open(self, target: Target, request: Request, *, within: float, thinking: bool) -> Piece | Reply | Failure:
        def begun(got: _Got) -> Stream:
            return Stream(
                got.served,
                request,
                got.answer,
                got.said,
                quick=got.quick,
                thinking=thinking,
                failed=got.failed,
                billed=got.billed,
            )

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
        made: Callable[[_Got], T],
        *,
        stream: bool,
    ) -> T | Failure:
        """Send one request: what is `made` of what LiteLLM returns."""
        began = time.monotonic()
        key = environment.secret(target.key[0]) if target.key[0] is not None else None
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
                    return made(await self._call(target, request, key, left, watch, stream=stream))
            except TimeoutError:
                return Failure.timeout(within)
            except Exception as error:  # noqa: BLE001 - providers' clients raise whatever they like; all are failures
                failure = _failure(error, target, key, unsent=watch.unsent)
                headers = watch.headers or gateway.headers_of(error)
        if (through := target.gateway) is None or not gateway.is_silent(failure, headers):
            return failure
        direct, left = replace(target, gateway=None), within - (time.monotonic() - began)
        if through.direct and missing_key(direct) is None and left > 0:
            logger.warning("gateway_bypassed model=%s: %s", target.name, failure.message)
            return await self._ask(direct, request, left, lambda got: made(_at_own_price(got)), stream=stream)
        return replace(failure, message=f"the gateway: {failure.message}")

    async def _call(
        self,
        target: Target,
        request: Request,
        key: SecretStr | None,
        within: float,
        watch: connections.Watch,
        *,
        stream: bool,
    ) -> _Got:
        """Have LiteLLM send it. `watch` has the headers of the answer, once there is one."""
        arguments = arguments_of(target, request, key, within, stream=stream)
        said = Said(parts=not of_string(arguments["model"]).reads_parts)
        completion, extra = await way.completion(arguments)
        try:
            answer = await completion(**arguments, **extra, logger_fn=said)
        except Exception:
            if (answer := said.whole()) is None:
                raise
        watch.headers = watch.headers or gateway.headers_of(answer)
        return _Got(
            target if target.gateway is None else gateway.served(target, target.gateway),
            answer,
            said,
            way.is_quick(extra),
            functools.partial(_failure, target=target, key=key),
            functools.partial(_billed, target, watch),
        )


@dataclass(frozen=True, slots=True)
class _Got:
    """What LiteLLM has returned, and how it is read."""

    served: Target
    answer: Any
    said: Said
    """By the provider itself."""
    quick: bool
    """LiteLLM was called the quick way."""
    failed: Callable[[Exception], Failure]
    billed: Billed


def _billed(target: Target, watch: connections.Watch, reply: Reply, usage: Any) -> Reply:
    return reply if target.gateway is None else gateway.billed(reply, target, watch.headers, usage)


def _at_own_price(got: _Got) -> _Got:
    """Of a model that is asked directly, in a call that counts on a gateway's word for what it costs."""

    def billed(reply: Reply, _: Any) -> Reply:
        return replace(reply, billed_usd=prices.cost(reply.usage, tables.price(got.served)))

    return replace(got, billed=billed)


def _failure(error: Exception, target: Target, key: SecretStr | None, *, unsent: bool = False) -> Failure:
    secrets = environment.secret_values()
    if key is not None and key.get_secret_value():
        secrets.append(key.get_secret_value())
    if (why := own(error, unsent=unsent)) is not None:
        raise CannotSend(one_line(why, secrets)) from None
    if (through := target.gateway) is None:
        return classify(error, target, secrets, unsent=unsent)
    return gateway.read(
        classify(error, gateway.served(target, through), secrets, unsent=unsent), through, target.served_as
    )
