"""What LiteLLM raised, as a `Failure`: its kind, one line without secrets, status and Retry-After.

LiteLLM's types alone mislead (measured on 1.106.2 and 1.109.1: a refused OpenAI connection, a missing OpenAI key and
Anthropic's 529 all arrive as InternalServerError 500, an Anthropic 413 as 400), so status and message decide too.
Nothing here imports LiteLLM: its exceptions are known by the names of their classes.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from modelrouter.catalog.known_providers import known
from modelrouter.catalog.target import Target
from modelrouter.completion import Kind
from modelrouter.planning.exchange import Failure
from modelrouter.redaction import one_line, shown_address

_STATUS_KINDS = {
    401: Kind.AUTH,
    402: Kind.QUOTA,
    403: Kind.PERMISSION,
    404: Kind.NOT_FOUND,
    408: Kind.TIMEOUT,
    409: Kind.SERVER,  # a lock that somebody else holds: the providers' own clients try again
    413: Kind.CONTEXT_WINDOW,
    424: Kind.SERVER,
    429: Kind.RATE_LIMIT,
}
_NAMES = {
    "AuthenticationError": Kind.AUTH,
    "ContextWindowExceededError": Kind.CONTEXT_WINDOW,
    "ContentPolicyViolationError": Kind.CONTENT_POLICY,
    "NotFoundError": Kind.NOT_FOUND,
    "UnsupportedParamsError": Kind.UNSUPPORTED,
}
"""Of LiteLLM's exceptions, for what status and words leave open."""

_CLIENT_SIDE: Sequence[tuple[tuple[int, ...], str, Kind]] = (
    # Groq says 413 for a prompt that is more than a minute's tokens; Gemini calls its limit per minute a quota.
    ((413, 429), r"rate_limit_exceeded|rate limit reached|(tokens|requests) per (min|minute|day)", Kind.RATE_LIMIT),
    ((413, 429), r"please (retry|try again) in", Kind.RATE_LIMIT),
    # A function called get_context_window is not a prompt that is too long.
    ((400,), r"^\W*invalid (schema|mime type)|invalid_function_parameters", Kind.BAD_REQUEST),
    ((400, 402, 403, 429), r"insufficient_quota|exceeded your current quota|billing[_ ]hard[_ ]limit", Kind.QUOTA),
    ((400, 402, 403, 429), r"credit balance is too low|api usage limits", Kind.QUOTA),
    ((400, 413, 422), r"context.{0,3}length|context.{0,3}window|maximum context", Kind.CONTEXT_WINDOW),
    ((400, 413, 422), r"exceeds? the (available )?context", Kind.CONTEXT_WINDOW),
    ((400, 413, 422), r"prompt is too long|input is too long|request_too_large", Kind.CONTEXT_WINDOW),
    ((400, 403, 422), r"content[_ ]policy|content management policy", Kind.CONTENT_POLICY),
    ((400, 403, 422), r"content_filter|content filtering", Kind.CONTENT_POLICY),
    ((400,), r"api key (not valid|expired)|(incorrect|invalid) api key|locate credentials", Kind.AUTH),
    ((400,), r"organization (has been disabled|must be verified)", Kind.PERMISSION),
    ((400,), r"model .{0,80}does not exist|not a valid model|invalid model\b", Kind.NOT_FOUND),
    ((400,), r"model identifier is invalid|llm provider not provided", Kind.NOT_FOUND),
    ((400,), r"tool_use_failed|json_validate_failed|failed_generation", Kind.EMPTY_RESPONSE),
    ((400, 422), r"does(n.{1,3}t| not) support|(is|are)(n.{1,3}t| not) supported", Kind.UNSUPPORTED),
    ((400, 422), r"unsupported[ _](value|param|model)|does not have access to model", Kind.UNSUPPORTED),
    ((400, 422), r"supports at most|maximum allowed number of output|may only be set to", Kind.UNSUPPORTED),
    ((400, 422), r"decommissioned|(has been|is) deprecated|no longer available|not yet available", Kind.UNSUPPORTED),
)
"""What providers say under which statuses, in the order in which it is looked for; a status alone comes after. About
this model, and not the request: another may well answer."""

_NO_KEY = re.compile(r"api_key client option must be set|missing credentials|missing .{0,30}api key", re.IGNORECASE)
_NO_PACKAGE = re.compile(r"No module named '([\w.]+)'")
_PACKAGES = {"google": "google-auth", "vertexai": "google-cloud-aiplatform"}
"""Modules that come in a package of another name; PyPI's ``google`` is somebody else's."""
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


def classify(error: BaseException, target: Target, secrets: Sequence[str], *, unsent: bool = False) -> Failure:
    """Why `target` gave no answer, out of the exception that came instead of one. Never raises. Unsent: it came before
    a request was sent."""
    try:
        failure = _classified(error, target, secrets)
        return _refused(failure, error, target, secrets) if unsent else failure
    except Exception as strange:  # noqa: BLE001 - an answer so odd must not end the call: the next model may do better
        said = f"the answer cannot be made out ({type(error).__name__}, {type(strange).__name__})"
        return Failure(Kind.SERVER, said, raised=type(error).__name__)


def _classified(error: BaseException, target: Target, secrets: Sequence[str]) -> Failure:
    raised = type(error).__name__
    said = _said(error)
    address = shown_address(target.api_base) or f"the address of {target.provider}"
    if (package := _NO_PACKAGE.search(said)) is not None:
        needed = _PACKAGES.get(package[1].partition(".")[0], package[1])
        message = f"LiteLLM needs the package {needed!r} for it; run 'pip install {needed}'"
        return Failure(Kind.UNSUPPORTED, message, raised=raised)
    status = _status(error)
    if raised == "APIConnectionError" or ((status or 500) >= 500 and _NOT_JSON.search(said)):
        status = None  # LiteLLM makes one up where there was no answer, or one that it could not read
    retry_after = _retry_after(error, said)
    kind = _kind(raised, status, f"{said} {_code(error)}")
    refused = kind is Kind.CONNECTION and any(_REFUSED.search(str(link)) for link in _chain(error))
    shortened = one_line(_shortened(said), secrets)
    provider = known(target.provider)
    if refused:
        message = provider.silent(address)
    elif kind is Kind.CONNECTION:
        message = f"the connection to {address} was lost: {shortened}"
    elif kind is Kind.NOT_FOUND and provider.pull is not None:
        message = f"model {target.label!r} is not pulled; run '{provider.pull} {target.label}'"
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
        lasting=refused and provider.start is not None,
    )


def _refused(failure: Failure, error: BaseException, target: Target, secrets: Sequence[str]) -> Failure:
    """Of what LiteLLM itself could not send. That says nothing about the provider, and another one's form may do."""
    if failure.kind in (Kind.SERVER, Kind.BAD_REQUEST, Kind.UNSUPPORTED):
        said = one_line(_shortened(_said(error)), secrets)
        message = f"LiteLLM can make no request in {target.provider}'s form of it: {said}"
        failure = replace(failure, kind=Kind.UNSUPPORTED, message=message)
    return replace(failure, status=None, unsent=True)


def _kind(raised: str, status: int | None, said: str) -> Kind:
    if raised in ("Timeout", "APITimeoutError", "TimeoutError"):
        return Kind.SERVER if status == 504 else Kind.TIMEOUT
    if _NO_KEY.search(said):
        return Kind.MISSING_KEY
    if status is None or status >= 500:
        if raised in ("ContextWindowExceededError", "ContentPolicyViolationError"):
            return _NAMES[raised]
        return Kind.CONNECTION if _DROPPED.search(said) else Kind.SERVER
    if "overloaded_error" in said:
        return Kind.SERVER
    plain = _shortened(said)
    for statuses, pattern, kind in _CLIENT_SIDE:
        # In the envelope are codes; out of it, the words begin at the beginning and nothing is escaped.
        if status in statuses and any(re.search(pattern, text, re.IGNORECASE) for text in (said, plain)):
            return kind
    if status in _STATUS_KINDS:
        return _STATUS_KINDS[status]
    return _NAMES.get(raised, Kind.BAD_REQUEST)


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


def _code(error: BaseException) -> str:
    """The provider's code, such as ``content_policy_violation``, which OpenAI's client keeps beside its words."""
    for link in _chain(error):
        body = getattr(link, "body", None)
        inner = body.get("error", body) if isinstance(body, dict) else None
        codes = getattr(link, "code", None), inner.get("code") if isinstance(inner, dict) else None
        if (found := next((code for code in codes if isinstance(code, str)), None)) is not None:
            return found
    return ""


_PREFIX = re.compile(r"^(litellm\.)?[A-Za-z_]*(Error|Exception|Timeout)( Error| Timeout)?\s*(:|-|$)\s*")
_ADVICE = re.compile(r"\s*Handle with `litellm\.\w+`\.?|Error (receiving|parsing) chunk( from stream)?: ")


def _shortened(said: str) -> str:
    """What the provider said, without LiteLLM's names of classes and advice around it, and out of its JSON envelope."""
    said = _ADVICE.sub("", said.partition("Traceback (most recent call last)")[0]).strip()
    while (shorter := _PREFIX.sub("", said)) != said:
        said = shorter
    start = said.find("{")
    if start < 0:
        return said
    try:
        body, _ = json.JSONDecoder().raw_decode(said, start)
    except (ValueError, RecursionError):
        return said
    error = body.get("error", body)
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) and message else said


def _status(error: BaseException) -> int | None:
    """The first real HTTP status in the chain. LiteLLM replaces some of the providers' own (an Anthropic 413 by
    400)."""
    chain = list(_chain(error))
    if any(type(link) is Exception and getattr(link, "status_code", None) == 422 for link in chain):
        return None  # LiteLLM's own, for an error in an answer of status 200 that has no code
    said = [*(getattr(link, "response", None) for link in reversed(chain)), error]
    statuses = (getattr(each, "status_code", None) for each in said)
    return next((status for status in statuses if isinstance(status, int) and 400 <= status < 600), None)


def _retry_after(error: BaseException, said: str) -> float | None:
    """Seconds that the provider asked to wait: delta-seconds or a date (RFC 9110, 10.2.3), OpenAI's retry-after-ms, or
    what the message says."""
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
                with contextlib.suppress(ValueError, OverflowError):  # a year that no calendar has
                    return max(0.0, email.utils.mktime_tz(date) - time.time())
    if (words := _WAIT.search(said)) is None or not any(parts := words.group("h", "m", "s")):
        return None
    hours, minutes, seconds_said = (float(part or 0) for part in parts)
    return 3600 * hours + 60 * minutes + seconds_said / (1000 if words["ms"] else 1)


_WAIT = re.compile(
    r"""(?:(?:try\ again|retry)\ in|"retryDelay":\ *")\ *
    (?:(?P<h>\d+)\ *h(?:ours?)?\ *)? (?:(?P<m>\d+)\ *m(?:in(?:ute)?s?)?(?![a-z])\ *)?
    (?:(?P<s>\d+(?:\.\d+)?)(?:(?P<ms>ms)|\ *s))?""",
    re.IGNORECASE | re.VERBOSE,
)
"""``Please try again in 14m24.5s``, ``in 5 minutes``, ``retry in 200ms``, Google's ``"retryDelay": "12s"``."""


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < float("inf") else None
