"""What was probably meant, where a name is wrong."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, TypeVar


def nearest(name: str, known: Collection[str], *, cutoff: float = 0.7) -> str | None:
    """The known name that `name` was probably meant to be, or None. `cutoff` is from 0 (anything) to 1 (the same)."""
    import difflib  # here, because only a mistake needs it

    close = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return close[0] if close else None


def did_you_mean(match: str | None) -> str:
    """The end of a message that names what was probably meant."""
    return f" Did you mean {match!r}?" if match else ""


Function = TypeVar("Function", bound=Callable[..., Any])


def hinting(function: Function) -> Function:
    """Have the TypeError of a keyword that `function` does not take say which one was probably meant. Python itself
    does from 3.13 on."""
    code = inspect.unwrap(function).__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if name not in names:
                takes = ", ".join(f"{each}=" for each in names if each != "self")
                what = f"{function.__qualname__}() takes no {name}=."
                raise TypeError(f"{what}{did_you_mean(nearest(name, names))} It takes {takes}.")
        return function(*args, **kwargs)

    return called  # type: ignore[return-value]
