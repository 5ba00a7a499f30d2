"""Errors, in DSPy's form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dspy import lm15

from modelrouter.completion import Kind, Usage, total
from modelrouter.errors import CallFailed, ConfigurationError, ModelRouterError

from .calls import Call

_ERRORS: Mapping[Kind | None, Any] = {
    Kind.RATE_LIMIT: lm15.RateLimitError,
    Kind.CONNECTION: lm15.TransportError,
    Kind.SERVER: lm15.ServerError,
    Kind.TIMEOUT: lm15.TimeoutError,
    Kind.MISSING_KEY: lm15.NotConfiguredError,
    Kind.AUTH: lm15.AuthError,
    Kind.PERMISSION: lm15.AuthError,
    Kind.QUOTA: lm15.BillingError,
    Kind.NOT_FOUND: lm15.UnsupportedModelError,
    Kind.UNSUPPORTED: lm15.UnsupportedFeatureError,
    Kind.CONTEXT_WINDOW: lm15.ContextLengthError,
    Kind.CONTENT_POLICY: lm15.InvalidRequestError,
    Kind.EMPTY_RESPONSE: lm15.ProviderError,
    Kind.MAX_TOKENS: lm15.ProviderError,
    Kind.BUDGET: lm15.BillingError,
    Kind.BAD_REQUEST: lm15.InvalidRequestError,
    Kind.TRUNCATED: lm15.StreamAssemblyError,
}


@contextmanager
def as_dspy_knows_it(call: Call) -> Iterator[None]:
    try:
        yield
    except ModelRouterError as failure:
        call.attempts += getattr(failure, "attempts", ())
        raise _translated(failure) from failure


def silent(error: lm15.ProviderError, request: lm15.Request, call: Call) -> lm15.Response:
    """An answer without words, where all that is wrong with a call is that no model has said anything: DSPy asks once
    more then, for JSON. Raises any other error again."""
    failure = error.__cause__
    failed = [each for each in failure.attempts if each.outcome == "error"] if isinstance(failure, CallFailed) else []
    if not failed or any(each.error_kind is not Kind.EMPTY_RESPONSE for each in failed):
        raise error
    call.costs.append(total(failed))
    used = sum((each.usage or Usage() for each in failed), Usage())
    usage = lm15.Usage(input_tokens=used.input_tokens, output_tokens=used.output_tokens)
    message = lm15.Message.assistant("")
    return lm15.Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)


def _translated(failure: ModelRouterError) -> Exception:
    if isinstance(failure, CallFailed):
        failed = [each for each in failure.attempts if each.outcome == "error"] or failure.attempts
        # DSPy's agents know how to shorten a prompt that is too long. Otherwise it is the last error that counts.
        decisive = ([each for each in failed if each.error_kind is Kind.CONTEXT_WINDOW] or failed)[-1]
        known = _ERRORS.get(decisive.error_kind, lm15.ProviderError)
        if decisive.error_kind is Kind.UNSUPPORTED and decisive.status is not None:
            known = lm15.InvalidRequestError  # a provider's word about a parameter, and not the catalog's about a model
        error = known(provider=decisive.provider, status=decisive.status, retry_after=decisive.retry_after)
        error.attempts = failure.attempts
    else:
        error = (lm15.ConfigurationError if isinstance(failure, ConfigurationError) else lm15.InvalidRequestError)()
    # lm15 puts advice of its own into a message, about arguments that are not here; ours says what to do.
    error.message = str(failure)
    error.args = (error.message,)
    return error  # type: ignore[no-any-return]
