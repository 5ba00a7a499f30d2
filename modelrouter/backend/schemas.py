"""Schemas for Claude. Its structured outputs take no recursion, while the input of a tool may be recursive
(https://platform.claude.com/docs/en/build-with-claude/structured-outputs). LiteLLM writes the parts of a schema into
the places of their ``$ref``, and leaves what refers to itself referring to nothing; for older models, all of them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

_SPOKEN_TO = ("anthropic/", "azure_ai/claude", "vertex_ai/claude")
"""What the strings of models begin with that LiteLLM speaks to in Anthropic's form."""
_WITHOUT = ("bedrock/",)
"""What LiteLLM writes the schemas of tools out for, too."""
_MAPS = frozenset(("properties", "patternProperties", "dependentSchemas"))
"""Whose values are schemas, and whose keys are names."""
_DATA = frozenset(("const", "default", "enum", "examples"))
_PARTS = ("$defs", "definitions")
_MOST = 20_000
"""Parts of a schema that are written out; one that comes to more is left with its references."""


class _Endless(Exception):
    """The schema refers to itself, or comes to too much."""


def refused(litellm_model: str, params: Mapping[str, Any]) -> str | None:
    """Why the model cannot be asked for what the schema of these parameters describes, if it cannot."""
    if not litellm_model.startswith((*_SPOKEN_TO, *_WITHOUT)):
        return None
    schema = schema_of(params.get("response_format"))
    if schema is None or not _refers(schema) or written_out(schema) is not None:
        return None
    if litellm_model.startswith(_WITHOUT):
        return "it takes no response_format that refers to itself"
    return "it takes no response_format that refers to itself together with tools" if params.get("tools") else None


def fit(arguments: dict[str, Any]) -> None:
    """Put the schemas in LiteLLM's arguments for Claude into a form that arrives whole."""
    if not arguments["model"].startswith(_SPOKEN_TO):
        return
    for tool in arguments.get("tools") or ():
        function = tool.get("function")
        if isinstance(function, dict) and isinstance(parameters := function.get("parameters"), Mapping):
            function["parameters"] = _rooted(parameters) if {"$ref", "definitions"} & parameters.keys() else parameters
    schema = schema_of(arguments.get("response_format"))
    if schema is None or not _refers(schema):
        return
    if (flat := written_out(schema)) is not None:
        named = {"name": str(flat.get("title") or "answer"), "schema": flat, "strict": True}
        arguments["response_format"] = {"type": "json_schema", "json_schema": named}
        return
    # As LiteLLM does for models without structured outputs; `json_mode` has it give the tool's input as the text.
    from litellm import constants

    tool = {"name": constants.RESPONSE_FORMAT_TOOL_NAME, "parameters": _rooted(schema)}
    del arguments["response_format"]
    arguments["tools"] = [{"type": "function", "function": tool}]
    if not arguments.keys() & {"reasoning_effort", "thinking"}:  # which exclude that a tool is demanded
        arguments["tool_choice"] = {"type": "function", "function": {"name": tool["name"]}}
    arguments["json_mode"] = True


def schema_of(response_format: Any) -> Mapping[str, Any] | None:
    """The schema that is asked for, by a pydantic model or in OpenAI's form."""
    schema: Any
    if isinstance(response_format, type):
        schema = _of_class(response_format)
    else:
        named = response_format.get("json_schema") if isinstance(response_format, Mapping) else None
        schema = named.get("schema") if isinstance(named, Mapping) else None
    return schema if isinstance(schema, Mapping) else None


@functools.lru_cache(maxsize=256)
def _of_class(model: Any) -> Any:
    return model.model_json_schema()


def written_out(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema without references; None: it refers to itself, or would be too large."""
    left = _MOST

    def written(part: Any, within: tuple[str, ...], *, names: bool = False) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise _Endless
        if isinstance(part, list):
            return [written(each, within) for each in part]
        if not isinstance(part, Mapping):
            return part
        if not names and (target := _target(schema, part)) is not None:
            if part["$ref"] in within:
                raise _Endless
            beside = {key: value for key, value in part.items() if key != "$ref"}
            name = part["$ref"].rpartition("/")[2]  # which says something, too
            return written({"title": name, **target, **beside}, (*within, part["$ref"]))
        return {
            key: value if key in _DATA and not names else written(value, within, names=key in _MAPS and not names)
            for key, value in part.items()
            if names or key not in _PARTS
        }

    try:
        found: dict[str, Any] = written(schema, ())
    except _Endless:
        return None
    return found


def _rooted(schema: Mapping[str, Any]) -> dict[str, Any]:
    """With a type at the top, where pydantic has a reference for what is recursive, and its parts in ``$defs``: LiteLLM
    hands nothing else on."""
    rooted: dict[str, Any] = json.loads(json.dumps(schema).replace('"#/definitions/', '"#/$defs/'))
    rooted["$defs"] = {**rooted.pop("definitions", {}), **rooted.get("$defs", {})}
    for _ in range(10):  # one may refer to the next
        if (target := _target(rooted, rooted)) is None:
            break
        del rooted["$ref"]
        rooted = {**target, **rooted}
    return rooted


def _target(root: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a part refers to (RFC 6901) in its own document."""
    reference = part.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found: Any = root
    for step in reference[1:].split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _refers(part: Any) -> bool:
    values = part.values() if isinstance(part, Mapping) else part if isinstance(part, list) else ()
    return (isinstance(part, Mapping) and isinstance(part.get("$ref"), str)) or any(map(_refers, values))
