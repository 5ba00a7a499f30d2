"""What pydantic found wrong, in the words of modelrouter's messages: ``expected a number, got 'soon'``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import ErrorDetails

from modelrouter.redaction import shown

AS_IT_IS = "as_it_is"
"""The type of a `PydanticCustomError` whose message is complete: the value is not added to it."""

_EXPECTED = {
    "bool": "true or false",
    "date": "a date such as 2026-11-22",
    "decimal": "a number",
    "dict": "a mapping of keys to values",
    "finite": "a number",
    "float": "a number",
    "int": "a whole number",
    "is": "a number",  # is_instance_of: Decimal is the only class that anything has to be an instance of
    "list": "a list such as [best, llama2]",
    "model": "a mapping of keys to values",
    "string": "text",
}
"""By the first word of pydantic's name for the error: ``float_parsing``, ``float_type`` ..."""

_NUMBER = re.compile(r"[-+]?[0-9][0-9_.]*([eE][-+]?[0-9]+)?")


def what_is_wrong(error: ErrorDetails) -> str:
    """One of `ValidationError.errors()` in a few words, without where it is."""
    kind, value = error["type"], error["input"]
    context: Mapping[str, Any] = error.get("ctx", {})
    match kind:
        case "missing":
            return "is missing"
        case "too_short" | "string_too_short":
            return "is empty"
        case _ if kind == AS_IT_IS:
            return error["msg"]
        case "literal_error":
            said = f"expected {context['expected']}"
        case "string_pattern_mismatch":
            said = "expected one word"
        case "greater_than":
            said = f"must be more than {context['gt']:g}"
        case "greater_than_equal":
            said = f"must not be less than {context['ge']:g}"
        case "less_than_equal":
            said = f"must not be more than {context['le']:,.10g}"
        case _ if expected := _EXPECTED.get(kind.partition("_")[0]):
            said = f"expected {expected}"
        case _:
            said = error["msg"]
    # In the environment all is text, and text that cannot be read gives another kind of error: ..._parsing.
    text = kind in ("float_type", "int_type", "is_instance_of") and isinstance(value, str) and _NUMBER.fullmatch(value)
    hint = ", which YAML reads as text: leave out quotes, and write an exponent as in 1.0e-7" if text else ""
    return f"{said}, got {shown(value)}{hint}"
