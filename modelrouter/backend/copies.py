"""Copies of what LiteLLM is given, which it may rewrite in place."""

from __future__ import annotations

import copy
from typing import Any

_AS_THEY_ARE = (str, int, float, type(None), type)


def copied(value: Any) -> Any:
    """Of JSON, and of whatever else a caller passes. `copy.deepcopy` takes several times as long for JSON."""
    if isinstance(value, _AS_THEY_ARE):
        return value
    if type(value) is dict:
        return {name: copied(one) for name, one in value.items()}
    return [copied(one) for one in value] if type(value) is list else copy.deepcopy(value)
