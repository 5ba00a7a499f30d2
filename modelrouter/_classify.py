"""What LiteLLM raised, as a `Failure`: its kind, one line without secrets, status and Retry-After.

LiteLLM's types alone mislead (measured on 1.106.2 and 1.109.1: a refused OpenAI connection, a missing OpenAI key and
Anthropic's 529 all arrive as InternalServerError 500, an Anthropic 413 as 400), so status and message decide too.
Nothing here imports LiteLLM: its exceptions are known by the names of their classes.
"""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Iterator, Sequence

from .types import Failure, Kind, Target

__all__ = ["classify", "one_line"]

_LONGEST = 300

_STATUS_KINDS = {
    401: Kind.AUTH,
    402: Kind.QUOTA,
    403: Kind.PERMISSION,
    404: Kind.NOT_FOUND,
    408: Kind.TIMEOUT,
    413: Kind.CONTEXT_WINDOW,
    429: Kind.RATE_LIMIT,
}

_PATTERNS: Sequence[tuple[Kind, re.Pattern[str]]] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (Kind.QUOTA, r"insufficient_quota|exceeded your current quota|billing|credit balance is too low"),
        (
            Kind.CONTEXT_WINDOW,
            (
                r"context.{0,3}length|context.{0,3}window|prompt is too long|input is too long|request_too_large|"
                r"maximum context|exceeds? the (available )?context"
            ),
        ),
        (Kind.CONTENT_POLICY, r"content_policy|content policy|content_filter|content management policy"),
    )
)
"""Said by providers under several statuses; looked for in errors of the client's side (4xx) alone."""

_NO_KEY = re.compile(r"api_key client option must be set|missing credentials|missing .{0,30}api key", re.IGNORECASE)
_BEYOND_THE_MODEL = re.compile(
    r"does not support|doesn't support|not supported|unsupported[ _](value|parameter|model)|decommissioned|"
    r"has been deprecated|is deprecated|no longer available|does not have access to model",
    re.IGNORECASE,
)
"""A 400 about this model, not about the request: another model may well take it."""

_DROPPED = re.compile(
    r"connection error|connect(ion)? (refused|reset|aborted|closed)|cannot connect|connecterror|server disconnected|"
    r"all connection attempts failed|name or service not known|peer closed connection|without sending|readerror|"
    r"remoteprotocolerror|broken pipe|getaddrinfo|payload is not completed|incompleteread",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"refused|cannot connect|connect call failed|all connection attempts failed", re.IGNORECASE)
_NOT_JSON = re.compile(
    r"expecting (value|property name|',' delimiter|':' delimiter)|unterminated string|extra data: line|json response|"
    r"invalid response from llm endpoint|is not json",
    re.IGNORECASE,
)
_KEY_SHAPED = re.compile(r"\b(sk|pk|rk|gsk|key|xai)-[A-Za-z0-9_\-*.]{6,}|(?i:bearer)\s+[A-Za-z0-9_\-.~+/=]{6,}")


def one_line(text: str, secrets: Sequence[str]) -> str:
    """`text` on one line, of readable length, with every secret (and whatever looks like a key) blotted out."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = " ".join(_KEY_SHAPED.sub("***", text).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def classify(error: BaseException, target: Target, secrets: Sequence[str]) -> Failure:
    """Why `target` gave no answer, out of the exception that came instead of one."""
    raised = type(error).__name__
    said = _said(error)
    # LiteLLM makes up a status where there was no answer, or one that it could not read.
    status = None if raised == "APIConnectionError" or _NOT_JSON.search(said) else _status(error)
    retry_after = _retry_after(error)
    kind = _kind(raised, status, said)
    refused = kind is Kind.CONNECTION and any(_REFUSED.search(str(link)) for link in _chain(error))
    shortened = one_line(_shortened(said), secrets)
    address = target.api_base or f"the address of {target.provider}"
    if refused:
        message = f"nothing answers at {address}"
        if target.provider == "ollama":
            message += "; start it with 'ollama serve'"
    elif kind is Kind.CONNECTION:
        message = f"the connection to {address} was lost: {shortened}"
    elif kind is Kind.NOT_FOUND and target.provider == "ollama":
        message = f"model {target.label!r} is not pulled; run 'ollama pull {target.label}'"
    elif status is None:
        message = f"the answer of {address} is not what was expected: {shortened}"
    else:
        message = f"{status}, {shortened}"
    if kind is Kind.RATE_LIMIT and retry_after is not None:
        message += f" (retry after {retry_after:g} s)"
    return Failure(
        kind=kind,
        message=message,
        status=None if kind is Kind.CONNECTION else status,
        retry_after=retry_after,
        raised=raised,
        # A hosted provider's refused connection may pass; a local server that is not running will not start by itself.
        lasting=refused and target.provider == "ollama",
    )


def _kind(raised: str, status: int | None, said: str) -> Kind:
    if raised in ("Timeout", "APITimeoutError", "TimeoutError"):
        return Kind.SERVER if status == 504 else Kind.TIMEOUT
    by_name = {
        "ContextWindowExceededError": Kind.CONTEXT_WINDOW,
        "ContentPolicyViolationError": Kind.CONTENT_POLICY,
        "UnsupportedParamsError": Kind.UNSUPPORTED,
    }.get(raised)
    if by_name is not None:
        return by_name
    if _NO_KEY.search(said):
        return Kind.MISSING_KEY
    if status is None or status >= 500:
        return Kind.CONNECTION if _DROPPED.search(said) else Kind.SERVER
    for kind, pattern in _PATTERNS:
        if pattern.search(said):
            return kind
    if status == 400 and "overloaded_error" in said:
        return Kind.SERVER
    if status in _STATUS_KINDS:
        return _STATUS_KINDS[status]
    if status in (400, 422) and _BEYOND_THE_MODEL.search(said):
        return Kind.UNSUPPORTED
    return Kind.BAD_REQUEST


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _said(error: BaseException) -> str:
    message = getattr(error, "message", None)
    return message if isinstance(message, str) and message else str(error)


_PREFIX = re.compile(r"^(litellm\.)?[A-Za-z_]*(Error|Exception|Timeout)( Error| Timeout)?\s*(:|-|$)\s*")
_ADVICE = re.compile(r"\s*Handle with `litellm\.\w+`\.?|Error (receiving|parsing) chunk( from stream)?: ")


def _shortened(said: str) -> str:
    """What the provider said, without LiteLLM's names of classes and advice around it, and out of its JSON envelope."""
    said = _ADVICE.sub("", said.partition("\nTraceback")[0]).strip()
    while (shorter := _PREFIX.sub("", said)) != said:
        said = shorter
    start = said.find("{")
    if start < 0:
        return said
    try:
        body, _ = json.JSONDecoder().raw_decode(said, start)
    except ValueError:
        return said
    error = body.get("error", body)
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) and message else said


def _status(error: BaseException) -> int | None:
    """The first real HTTP status in the chain. LiteLLM replaces some of the providers' own (an Anthropic 413 by
    400)."""
    for link in reversed(list(_chain(error))):
        response = getattr(link, "response", None)
        status = getattr(response, "status_code", None)
        if isinstance(status, int) and 400 <= status < 600:
            return status
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) and 400 <= status < 600 else None


def _retry_after(error: BaseException) -> float | None:
    """Seconds that the provider asked to wait: delta-seconds or a date (RFC 9110, 10.2.3), or OpenAI's
    retry-after-ms."""
    for link in _chain(error):
        response = getattr(link, "response", None)
        for headers in (getattr(link, "litellm_response_headers", None), getattr(response, "headers", None)):
            if not headers or not hasattr(headers, "get"):
                continue
            if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
                return milliseconds / 1000
            value = headers.get("retry-after")
            if (seconds := _number(value)) is not None:
                return seconds
            if isinstance(value, str) and (date := email.utils.parsedate_tz(value)) is not None:
                return max(0.0, email.utils.mktime_tz(date) - time.time())
    return None


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < float("inf") else None
