"""Functions of the application's that the catalog names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache, reduce
from typing import Any


@cache
def imported(reference: str) -> Callable[..., Any]:
    """The function that ``package.module:function`` names. Raises ValueError with what is wrong."""
    module, _, name = reference.partition(":")
    try:
        found = reduce(getattr, name.split("."), importlib.import_module(module))
    except Exception as error:
        raise ValueError(f"{reference!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"{reference!r} is no function but {type(found).__name__}")  # noqa: TRY004 - in a file
    return found
