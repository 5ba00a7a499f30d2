"""A value as stores keep it: one text, which is a checksum of eight characters and the value's JSON."""

from __future__ import annotations

import json
import zlib
from typing import Any

from modelrouter.errors import StoreError


class Damaged(Exception):
    """A value that is not what was written."""


class Refused(ValueError):
    """A value that nobody here has written."""


def to_text(key: str, value: Any) -> str:
    """Raises StoreError for a value that is not JSON."""
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        return _checksum(key, text) + text
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError("not_json", f"the value is not JSON: {error}.") from error


def from_text(key: str, kept: str | None) -> Any:
    """The value in a text, None in none. Raises `Damaged` or `Refused`."""
    if kept is None:
        return None
    text = kept[8:]
    if kept[:8] != _checksum(key, text):
        raise Damaged
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Refused("it is not JSON") from None


def _checksum(key: str, text: str) -> str:
    """Tells a damaged value, or another key's, from this one."""
    return f"{zlib.crc32(text.encode(), zlib.crc32(key.encode())):08x}"
