"""What the four ways to call have in common: the types of their arguments, and the parameters that editors complete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from modelrouter.completion import Completion, Parsed

Text: TypeAlias = str | None
Number: TypeAlias = float | None
Count: TypeAlias = int | None
Models: TypeAlias = str | Sequence[str] | None
"""A catalog name, an alias, a LiteLLM string, or a list of those in place of the module's chain."""
Messages: TypeAlias = Iterable[Any] | None
"""In OpenAI's form: mappings, or objects with ``model_dump``."""
Caching: TypeAlias = bool | Literal["refresh"] | None
Seconds: TypeAlias = float | None
Accept: TypeAlias = Callable[[Completion[Any]], "bool | str | Awaitable[bool | str]"] | Literal[False] | None
"""What an answer has to pass."""
Format: TypeAlias = type[Parsed] | Mapping[str, Any] | None
"""A pydantic model, of which `Completion.parsed` is an object then, or a mapping in OpenAI's form."""
Tools: TypeAlias = Sequence[Any] | None
Choice: TypeAlias = str | Mapping[str, Any] | None
Stop: TypeAlias = str | Sequence[str] | None

COMMON = ("response_format", "temperature", "max_tokens", "tools", "tool_choice", "stop", "seed", "reasoning_effort")
"""LiteLLM's parameters that everybody uses; all others are taken too, by their names."""

_NONE = (None,) * len(COMMON)


def plus(params: dict[str, Any], *values: Any) -> dict[str, Any]:
    """The parameters of a call: `params`, and those of `values`, which are of `COMMON`, that were given."""
    if values != _NONE:
        params.update({name: value for name, value in zip(COMMON, values, strict=True) if value is not None})
    return params
