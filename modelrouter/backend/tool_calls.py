"""The tool calls in a stream, gathered."""

from __future__ import annotations

import json
from typing import Any

from modelrouter.completion import ToolCall

from .answers import function_arguments, new_id


def text_of(arguments: Any) -> str:
    """Of a tool call; some servers send an object."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments)


class ToolCalls:
    """The tool calls of a stream, gathered whole."""

    def __init__(self) -> None:
        self._calls: list[list[str]] = []
        """Of each its id, name and arguments."""
        self._places: dict[object, list[str]] = {}
        self.only_functions = True
        """None of OpenAI's other tools, and not its older form."""

    @property
    def text(self) -> str:
        return "".join(arguments for _, _, arguments in self._calls)

    def take(self, delta: Any) -> None:
        for position, call in enumerate(delta.tool_calls or ()):
            # Some servers count no index, and some begin another call at the same one.
            index = getattr(call, "index", None)
            place = position if index is None else index
            function, custom = getattr(call, "function", None), getattr(call, "custom", None)
            if function is not None:
                self._add(place, call.id or "", function.name or "", function.arguments)
            elif custom is not None:
                said = custom if isinstance(custom, dict) else vars(custom)
                self.only_functions = False
                self._add(place, call.id or "", said.get("name") or "", said.get("input"))
        if (older := getattr(delta, "function_call", None)) is not None:
            self.only_functions = False
            self._add("function_call", "", older.name or "", older.arguments)

    def _add(self, place: object, id_: str, name: str, arguments: Any) -> None:
        parts, text = self._places.get(place), text_of(arguments)
        if (
            parts is None
            or (id_ and parts[0] and parts[0] != id_)
            or (name and parts[1] and text and _is_json(parts[2]))  # Ollama's calls are whole, and may have no id
        ):
            parts = self._places[place] = ["", "", ""]
            self._calls.append(parts)
        parts[0] = parts[0] or id_
        if name != parts[1]:  # some say it in every chunk
            parts[1] += name
        parts[2] += text

    def whole(self) -> tuple[ToolCall, ...]:
        if self.only_functions:
            return tuple(ToolCall(id_ or new_id(), name, function_arguments(text)) for id_, name, text in self._calls)
        return tuple(ToolCall(id_, name, text or "{}") for id_, name, text in self._calls)  # the older form has no ids


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
