"""What a refusal says: the provider's words and codes, out of the envelopes that they come in."""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_WITHIN = ("error", "errors", "detail", "message", "Message", "msg", "raw", "metadata", "innererror")
"""Where an envelope keeps words, or another envelope: ``raw`` is what OpenRouter was told. What the user has sent
(``input``, ``flagged_input``) is in none of them."""
_CODES = ("code", "type", "status", "error_type", "__type")

_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Of errors that come without one, inside a stream: https://docs.anthropic.com/en/api/errors and
https://platform.openai.com/docs/guides/error-codes."""

_QUOTED = re.compile(
    r"""(?<!\w) (['"`]) (?: (?!\1). | (?<=\w)\1(?=\w) )*? \s (?: (?!\1). | (?<=\w)\1(?=\w) )* \1 (?!\w)""",
    re.DOTALL | re.VERBOSE,
)
"""More than one word in quotation marks: what the user has written, most of all. The name of a parameter is one."""


_PREFIX = re.compile(r"^(litellm\.)?[A-Za-z_]*(Error|Exception|Timeout)( Error| Timeout)?\s*(:|-|$)\s*")
_BYTES = re.compile(r"""\bb(?P<quote>['"])[\[{].*(?P=quote)""", re.DOTALL)
"""An envelope as Python shows it: Gemini's, of a stream."""
_ADVICE = re.compile(r"\s*Handle with `litellm\.\w+`\.?|Error (receiving|parsing) chunk( from stream)?: ")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal, taken apart."""

    shown: str
    """The provider's own words, for people."""
    words: str
    """The same without what they quote."""
    codes: str = ""
    """``content_policy_violation invalid_request_error``; the words themselves where there is no envelope."""
    status: int | None = None
    """The HTTP status that is written in it."""
    enveloped: bool = False


def taken_apart(body: Any, text: str) -> Refusal:
    """The refusal in the body of an answer, else in the `text` that LiteLLM has made of it."""
    text = _bare(text)
    if not isinstance(body, dict | list | str):
        body = inside(text)
    found = list(_walk(body))
    shown = " ".join(filter(None, (said.strip() for name, said in found if name is None))) or text
    words = _QUOTED.sub(" ", shown).strip()
    if not any(map(str.isalpha, words)):
        words = shown
    codes = [said for name, said in found if name is not None]
    statuses = (int(code) if re.fullmatch(r"[45]\d\d", code) else _STATUSES.get(code) for code in codes)
    status = next(filter(None, statuses), None)
    return Refusal(shown, words, " ".join(codes) if found else words, status, enveloped=bool(found))


def _bare(text: str) -> str:
    """Without LiteLLM's names of classes and advice around it."""
    text = _ADVICE.sub("", text.partition("Traceback (most recent call last)")[0]).strip()
    while (shorter := _PREFIX.sub("", text)) != text:
        text = shorter
    if (shown := _BYTES.search(text)) is not None:
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            text = ast.literal_eval(shown[0]).decode(errors="replace")
    return text


def inside(text: str) -> dict[str, Any] | None:
    """The first JSON object in a text, or what Python shows of one."""
    body: Any = None
    with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        start = text.index("{")
        if text.startswith("{'", start):
            body = ast.literal_eval(text[start : text.rindex("}") + 1])
        else:
            body, _ = json.JSONDecoder().raw_decode(text, start)
    return body if isinstance(body, dict) else None


def _walk(body: Any, depth: int = 0) -> Iterator[tuple[str | None, str]]:
    """Words, under None, and codes, under their names."""
    if isinstance(body, str):
        body = _bare(body)  # of LiteLLM's proxy
        found = list(_walk(inside(body), depth + 1))  # a gateway repeats what it was told
        told = any(name is None for name, _ in found)
        yield (None, body.partition("{")[0] if told else body)
        yield from found if told else ()
    elif isinstance(body, list) and depth < 8:
        for each in body[:8]:
            yield from _walk(each, depth + 1)
    elif isinstance(body, dict) and depth < 8:
        for key in _WITHIN:
            yield from _walk(body.get(key), depth + 1)
        for key in _CODES:
            if isinstance(code := body.get(key), str | int):
                yield key, str(code)
