"""What LiteLLM raised, as a `Failure`: its kind, one line without secrets, status and Retry-After.

LiteLLM's types alone mislead (measured on 1.106.2 and 1.109.1: a refused OpenAI connection, a missing OpenAI key and
Anthropic's 529 all arrive as InternalServerError 500, an Anthropic 413 as 400), so status and message decide too.
Nothing here imports LiteLLM: its exceptions are known by the names of their classes.
"""

from __future__ import annotations

import contextlib
import email.utils
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from modelrouter import environment
from modelrouter.catalog.known_providers import Provider, known
from modelrouter.catalog.target import Target
from modelrouter.completion import Kind
from modelrouter.planning.exchange import Failure
from modelrouter.redaction import one_line, shown_address

from .insides.redirects import Redirected
from .refusals import Refusal, taken_apart
from .unreached import Unreached, unreached, wants_password, wants_tls
from .wordings import kind_of

_STATUS_KINDS = {
    401: Kind.AUTH,
    402: Kind.QUOTA,
    403: Kind.PERMISSION,
    404: Kind.NOT_FOUND,
    408: Kind.TIMEOUT,
    410: Kind.NOT_FOUND,
    413: Kind.CONTEXT_WINDOW,
    419: Kind.AUTH,  # the session is over: Laravel's
    420: Kind.RATE_LIMIT,  # "enhance your calm"
    429: Kind.RATE_LIMIT,
    440: Kind.AUTH,  # the session is over: IIS's
    451: Kind.CONTENT_POLICY,  # StepFun's
    # The trouble of the provider, or of a proxy before it: the same request may be answered the next time.
    409: Kind.SERVER,  # a lock that somebody else holds: the providers' own clients try again
    421: Kind.SERVER,  # a connection to the wrong server: RFC 9110, 15.5.20
    423: Kind.SERVER,
    424: Kind.SERVER,
    425: Kind.SERVER,  # too early: RFC 8470
    444: Kind.SERVER,  # nginx: closed without an answer
    449: Kind.SERVER,  # "retry with": IIS's
    460: Kind.SERVER,  # AWS's load balancer: the client went away
    498: Kind.SERVER,  # Groq: no capacity in its flex tier
    499: Kind.SERVER,  # nginx, and Google's CANCELLED: the client went away, which is not us
}
_NAMES = {
    "AuthenticationError": Kind.AUTH,
    "ContextWindowExceededError": Kind.CONTEXT_WINDOW,
    "ContentPolicyViolationError": Kind.CONTENT_POLICY,
    "NotFoundError": Kind.NOT_FOUND,
    "UnsupportedParamsError": Kind.UNSUPPORTED,
}
"""Of LiteLLM's exceptions, for what status and words leave open."""
_BY_WORDS = ("ContextWindowExceededError", "ContentPolicyViolationError")

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
_NOT_JSON = re.compile(
    r"expecting (value|property name|',' delimiter|':' delimiter)|unterminated string|extra data: line|json response|"
    r"invalid response from llm endpoint|is not json",
    re.IGNORECASE,
)
_NO_HEADER = re.compile(
    r"control character detected in headers|illegal header (name|value)|invalid header", re.IGNORECASE
)
"""aiohttp's, h11's, http.client's."""


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
    chain = list(links(error))
    if (moved := next((link for link in chain if isinstance(link, Redirected)), None)) is not None:
        words = f"{address} redirects to {moved.where}, where nothing is sent; if that is right, set 'api_base' to it"
        message = one_line(f"{moved.status}, {words}", secrets)
        return Failure(Kind.NOT_FOUND, message, status=moved.status, raised="Redirected")
    if (package := _NO_PACKAGE.search(said)) is not None:
        needed = _PACKAGES.get(package[1].partition(".")[0], package[1])
        message = f"LiteLLM needs the package {needed!r} for it; run 'pip install {needed}'"
        return Failure(Kind.UNSUPPORTED, message, raised=raised)
    refusal = taken_apart(_body(error), said)
    if (why := _no_header(chain, target.provider)) is not None:
        return Failure(Kind.AUTH, why, raised=raised, unsent=True)
    answered = any(map(_answered, chain))
    status = _status(error)
    if (raised == "APIConnectionError" and not answered) or ((status or 500) >= 500 and _NOT_JSON.search(said)):
        status = None  # LiteLLM makes one up where there was no answer, or one that it could not read
    if refusal.enveloped and not answered:
        status = refusal.status  # of an error in a stream, or in an answer of status 200
    provider = known(target.provider)
    if (way := _way(chain, refusal, status, address, provider, answered=answered)) is not None:
        return Failure(Kind.CONNECTION, one_line(way.message, secrets), raised=raised, lasting=way.lasting)
    retry_after = _retry_after(error, said)
    kind = _kind(raised, status, refusal, answered=answered)
    shortened = one_line(refusal.shown, secrets)
    if kind is Kind.CONNECTION:
        message = f"the connection to {address} was lost: {one_line(_lost(chain), secrets)}"
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
    )


def _way(
    chain: Sequence[BaseException],
    refusal: Refusal,
    status: int | None,
    address: str,
    provider: Provider,
    *,
    answered: bool,
) -> Unreached | None:
    """What is wrong on the way to the provider."""
    if not answered:
        return unreached(chain, address, provider)
    if status == 407:
        return wants_password(address)
    return wants_tls(refusal.shown, address) if status == 400 else None


def _no_header(chain: Sequence[BaseException], provider: str) -> str | None:
    """Which variable LiteLLM has read by itself and put into a header that cannot be sent, and the mend."""
    for link in chain:
        encoding = isinstance(link, UnicodeEncodeError) and link.encoding in ("ascii", "latin-1")
        if encoding or (isinstance(link, ValueError) and _NO_HEADER.search(str(link))):
            odd = [f"{name} has {what} in it" for name, what in environment.unsendable().items()]
            where = "; ".join(odd) or f"a variable that LiteLLM reads for {provider} has a character that none can hold"
            return f"a header cannot be sent: {where}; paste it again, alone and on one line"
    return None


def _lost(chain: Sequence[BaseException]) -> str:
    """What the system says of a connection that is gone, else the innermost of the clients."""
    said = (getattr(link, "strerror", None) or str(link) for link in reversed(chain))
    return next(filter(None, said), "")


def _refused(failure: Failure, error: BaseException, target: Target, secrets: Sequence[str]) -> Failure:
    """Of what LiteLLM itself could not send. That says nothing about the provider, and another one's form may do."""
    if failure.kind in (Kind.SERVER, Kind.BAD_REQUEST, Kind.UNSUPPORTED):
        said = one_line(taken_apart(_body(error), _said(error)).shown, secrets)
        message = f"LiteLLM can make no request in {target.provider}'s form of it: {said}"
        failure = replace(failure, kind=Kind.UNSUPPORTED, message=message)
    return replace(failure, status=None, unsent=True)


def _kind(raised: str, status: int | None, said: Refusal, *, answered: bool) -> Kind:
    if raised in ("Timeout", "APITimeoutError", "TimeoutError"):
        return Kind.SERVER if status == 504 else Kind.TIMEOUT
    if _NO_KEY.search(said.words):
        return Kind.MISSING_KEY
    if "overloaded_error" in said.codes:
        return Kind.SERVER
    # Without a status it may be an error of this process, in words of its own; an envelope is the provider's.
    if (status is not None or said.enveloped) and (kind := kind_of(status, said)) is not None:
        return kind
    if status is None or status >= 500:
        if raised in _BY_WORDS:
            return _NAMES[raised]
        return Kind.CONNECTION if not answered and _DROPPED.search(said.words) else Kind.SERVER
    if status in _STATUS_KINDS:
        return _STATUS_KINDS[status]
    # LiteLLM looks for its words in the whole envelope, with what the user has written in it.
    return Kind.BAD_REQUEST if said.enveloped and raised in _BY_WORDS else _NAMES.get(raised, Kind.BAD_REQUEST)


def links(error: BaseException) -> Iterator[BaseException]:
    """An exception, and those that it came of."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _said(error: BaseException) -> str:
    message = getattr(error, "message", None)
    return message if isinstance(message, str) and message else str(error)


def _body(error: BaseException) -> Any:
    """The body of the provider's answer, which OpenAI's client keeps beside its words."""
    return next((body for link in links(error) if (body := getattr(link, "body", None))), None)


def _status(error: BaseException) -> int | None:
    """The first real HTTP status in the chain. LiteLLM replaces some of the providers' own (an Anthropic 413 by
    400)."""
    chain = list(links(error))
    if any(map(_unread, chain)):
        return None
    said = [*(getattr(link, "response", None) for link in reversed(chain)), error]
    statuses = (getattr(each, "status_code", None) for each in said)
    return next((status for status in statuses if isinstance(status, int) and 400 <= status < 600), None)


def _unread(link: BaseException) -> bool:
    """LiteLLM's own, for an error in an answer of status 200 that has no code."""
    return type(link) is Exception and getattr(link, "status_code", None) == 422


def _answered(link: BaseException) -> bool:
    """A client's, of an answer whose status is an error: not one that LiteLLM has made up."""
    client = any(kind.__name__ in ("HTTPStatusError", "APIStatusError") for kind in type(link).__mro__)
    return client and not type(link).__module__.startswith("litellm.exceptions")


def _retry_after(error: BaseException, said: str) -> float | None:
    """Seconds that the provider asked to wait: delta-seconds or a date (RFC 9110, 10.2.3), OpenAI's retry-after-ms,
    what LiteLLM's proxy passes on of either, or what the message says."""
    for link in links(error):
        response = getattr(link, "response", None)
        for headers in (getattr(link, "litellm_response_headers", None), getattr(response, "headers", None)):
            if not headers or not hasattr(headers, "get"):
                continue
            if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
                return milliseconds / 1000
            value = headers.get("retry-after") or headers.get("llm_provider-retry-after")
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
