"""Whether what came is an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modelrouter.completion import Kind, ToolCall
from modelrouter.errors import ModelRouterError

from .effects import Interrupted
from .endings import broke
from .exchange import Failure, Reply, Request


def judge(outcome: Reply | Failure | Interrupted, request: Request) -> tuple[Failure | None, Any]:
    """Why this outcome is not an answer, or None when it is one, with the object that was asked for."""
    if isinstance(outcome, Failure):
        return outcome, None
    if isinstance(outcome, Interrupted):
        error = outcome.error
        said = str(error) if isinstance(error, ModelRouterError) else f"the caller went away ({type(error).__name__})"
        return Failure(Kind.CANCELLED, said), None
    if broke(outcome.finish_reason):
        return Failure(Kind.SERVER, f"the answer broke off: its finish_reason is {outcome.finish_reason!r}"), None
    if outcome.finish_reason == "content_filter":
        return Failure(Kind.CONTENT_POLICY, "the provider filtered the answer"), None
    cut, limit = outcome.finish_reason == "length", request.params.get("max_tokens")
    if outcome.tool_calls:
        if (request.mends and not cut) or all(_callable(call, request, cut=cut) for call in outcome.tool_calls):
            return None, None
        if cut:
            return Failure(Kind.MAX_TOKENS, f"a tool call was cut off {_at(limit)} and cannot be made; raise it"), None
        return Failure(Kind.EMPTY_RESPONSE, "the arguments of a tool call are no JSON object"), None
    if outcome.other and not outcome.text:
        return None, None
    if not outcome.text.strip():
        if cut:
            spent = f"all of max_tokens={limit}" if limit else "the whole limit of tokens"
            return Failure(Kind.MAX_TOKENS, f"{spent} went into reasoning and none into text; raise max_tokens"), None
        return Failure(Kind.EMPTY_RESPONSE, "the answer has no text and no tool call"), None
    if request.parse is None:
        return None, None
    try:
        return None, request.parse(outcome.text)
    except Exception as error:  # noqa: BLE001 - a validator of the caller's may raise anything
        if cut:
            said = f"the answer was cut off {_at(limit)} and does not validate; raise it"
            return Failure(Kind.MAX_TOKENS, said), None
        problem = " ".join(str(error).split())[:200]
        return Failure(Kind.EMPTY_RESPONSE, f"the answer does not validate as the response_format: {problem}"), None


def _at(limit: Any) -> str:
    return f"at max_tokens={limit}" if limit else "at the limit of tokens"


def _callable(call: ToolCall, request: Request, *, cut: bool) -> bool:
    """Whether a tool can be called so: its arguments are a JSON object. In an answer that was cut off, one with all
    that the tool requires: Claude's server and Ollama's make an object of as much as has come."""
    tool = _tool(call.name, request)
    if "custom" in tool:  # its argument is free text, which is whole or not
        return not cut
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return False
    if not isinstance(arguments, dict):
        return False
    function = tool.get("function", tool)
    parameters = function.get("parameters") if isinstance(function, Mapping) else None
    if not cut or not isinstance(parameters, Mapping):
        return True
    required = parameters.get("required")
    if not isinstance(required, list) or not required:
        return bool(arguments) or not parameters.get("properties")
    return set(map(str, required)) <= arguments.keys()


def _tool(name: str, request: Request) -> Mapping[str, Any]:
    """The tool of this name, as the request has it; empty without one."""
    for tool in (*(request.params.get("tools") or ()), *(request.params.get("functions") or ())):
        if isinstance(tool, Mapping):
            inner = tool.get(str(tool.get("type")), tool)
            if isinstance(inner, Mapping) and inner.get("name") == name:
                return tool
    return {}
