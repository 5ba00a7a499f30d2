"""llmock's own verdict on how the calls behave under the faults that it makes, on both of its wire formats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from conftest import WriteCatalog
from prometheus_client import CollectorRegistry
from servers import Llmock

from modelrouter import AllModelsFailed, BadRequest, Completion, Router
from modelrouter.types import Kind


@pytest.fixture(params=["openai", "anthropic"])
def wire(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["sync", "async"])
def call(
    request: pytest.FixtureRequest, wire: str, catalog: WriteCatalog, llmock: Llmock, keys: str
) -> Callable[..., Completion]:
    base = llmock.base_url(wire)
    catalog({name: {"model": f"{wire}/{name}", "api_base": base, "price": "free"} for name in ("first", "second")})
    router = Router(registry=CollectorRegistry())
    if request.param == "sync":
        return router.complete
    return lambda *args, **kwargs: asyncio.run(router.acomplete(*args, **kwargs))


def test_a_rate_limit_is_sat_out(call: Callable[..., Completion], llmock: Llmock) -> None:
    llmock.rate_limit(times=1, retry_after=0.3)
    assert call("hi").model == "first"
    assert (llmock.count("first"), llmock.count("second")) == (2, 0)
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("status", [500, 503, 529])
def test_an_error_that_passes_is_tried_again_with_backoff(
    status: int, call: Callable[..., Completion], llmock: Llmock
) -> None:
    llmock.fail(status, times=1)
    assert call("hi").model == "first"
    assert (llmock.count("first"), llmock.count("second")) == (2, 0)
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize(("status", "kind"), [(401, Kind.AUTH), (403, Kind.PERMISSION), (404, Kind.NOT_FOUND)])
def test_an_error_that_stays_is_not_tried_again(
    status: int, kind: Kind, call: Callable[..., Completion], llmock: Llmock
) -> None:
    llmock.fail(status, times=1)
    answered = call("hi")
    assert [a.error_kind for a in answered.attempts] == [kind, None]
    assert (llmock.count("first"), llmock.count("second")) == (1, 1)
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("status", [400, 422])
def test_a_request_that_is_wrong_is_sent_once(status: int, call: Callable[..., Completion], llmock: Llmock) -> None:
    llmock.fail(status, times=1)
    with pytest.raises(BadRequest):
        call("hi")
    assert llmock.count() == 1
    llmock.assert_resilient(strict=True)


def test_a_prompt_too_long_goes_to_the_next_model(call: Callable[..., Completion], llmock: Llmock) -> None:
    llmock.context_overflow(times=1)
    answered = call("hi")
    assert [a.error_kind for a in answered.attempts] == [Kind.CONTEXT_WINDOW, None]
    llmock.assert_resilient(strict=True)


def test_an_outage_ends_with_every_attempt_listed(call: Callable[..., Completion], llmock: Llmock) -> None:
    llmock.outage()
    with pytest.raises(AllModelsFailed) as failed:
        call("hi", retries=1)
    assert [(a.model, a.status) for a in failed.value.attempts] == [("first", 503)] * 2 + [("second", 503)] * 2
    assert llmock.count() == 4
    llmock.assert_resilient(strict=True)
