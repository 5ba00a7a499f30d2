"""What looks like a secret, in one list, and text without it: nothing that is shown, logged or kept goes past here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qs, unquote, urlsplit

_KEYS = (
    r"\b((sk|pk|rk|gsk|xai)-|(gsk|hf|ghp|github_pat)_|AIza|AKIA)[A-Za-z0-9_\-*.]{6,}"
    r"|(?i:bearer)\s+[A-Za-z0-9_\-.~+/=]{6,}"
)
"""What providers' keys look like."""
_IN_PROSE = re.compile(rf"{_KEYS}|\bkey-[A-Za-z0-9_\-*.]{{6,}}")  # in a catalog a name may begin so
_AS_VALUE = re.compile(rf"{_KEYS}|^[A-Za-z0-9+_-]{{40}}")
_PASSWORD = re.compile(r"[^/\s:@]*:[^/\s@]+@")
"""In an address, with the name before it."""
_NAMES = re.compile(
    r"(key|token|secret|password|credentials?|authorization)(_id|_?\d+|_bedrock)?$|^MODELROUTER_STORE$", re.IGNORECASE
)
_NO_SECRETS = frozenset(("bos_token", "cache_key", "eos_token", "pad_token", "prompt_cache_key"))
_CONTAINERS = re.compile(r"headers$|^extra_", re.IGNORECASE)
_LONGEST_VALUE = 60
_LONGEST_LINE = 300


def is_secret(name: str) -> bool:
    """Whether a variable, or a parameter, of this name holds a secret: ``OPENAI_API_KEY``, ``aws_session_token``."""
    return name not in _NO_SECRETS and _NAMES.search(name) is not None


def holds_secrets(name: str) -> bool:
    """Whether a parameter of this name is a secret, or may have one inside, as headers have."""
    return is_secret(name) or _CONTAINERS.search(name) is not None


def shown(value: object) -> str:
    """A value as a message may show it: short, and never what could be an API key that landed in the wrong place."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case bool():
            return str(value).lower()
        case str() if _AS_VALUE.search(value):
            return "what looks like an API key"
        case str():
            value = _PASSWORD.sub("***@", value)
            return repr(value) if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]!r}..."
        case _:
            return str(value)


def one_line(text: str, secrets: Sequence[str]) -> str:
    """`text` on one line, of readable length, with every secret (and whatever looks like a key) blotted out."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = " ".join(_IN_PROSE.sub("***", text).split())
    return text if len(text) <= _LONGEST_LINE else text[: _LONGEST_LINE - 1] + "…"


def without_password(url: str) -> tuple[str, str | None]:
    """An address without the ``user:password`` in it, and these."""
    parts = urlsplit(url)
    said, at, host = parts.netloc.rpartition("@")
    return (parts._replace(netloc=host).geturl(), unquote(said)) if at else (url, None)


def passwords(text: str) -> set[str]:
    """The password in an address, as it stands there and as it is sent; nothing in other text."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return set()
    said = parts.netloc.rpartition("@")[0].partition(":")[2]
    return {said, unquote(said), *parse_qs(parts.query).get("password", ())} - {""}


def shown_address(url: str | None) -> str | None:
    """An address without the password and the query that may stand in it."""
    if not url:
        return None
    parts = urlsplit(url)
    _, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"***@{host}" if at else host, query="").geturl()
