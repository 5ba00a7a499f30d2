"""Whether what came is an answer."""

from __future__ import annotations

from typing import Any

from modelrouter.completion import Kind

from .effects import Interrupted
from .endings import broke
from .exchange import Failure, Reply, Request


def judge(outcome: Reply | Failure | Interrupted, request: Request) -> tuple[Failure | None, Any]:
    """Why this outcome is not an answer, or None when it is one, with the object that was asked for."""
    if isinstance(outcome, Failure):
        return outcome, None
    if isinstance(outcome, Interrupted):
        return Failure(Kind.CANCELLED, f"the caller went away ({type(outcome.error).__name__})"), None
    if broke(outcome.finish_reason):
        return Failure(Kind.SERVER, f"the answer broke off: its finish_reason is {outcome.finish_reason!r}"), None
    if outcome.finish_reason == "content_filter":
        return Failure(Kind.CONTENT_POLICY, "the provider filtered the answer"), None
    if outcome.tool_calls or (outcome.other and not outcome.text):
        return None, None
    limit = request.params.get("max_tokens")
    if not outcome.text.strip():
        if outcome.finish_reason == "length":
            spent = f"all of max_tokens={limit}" if limit else "the whole limit of tokens"
            return Failure(Kind.MAX_TOKENS, f"{spent} went into reasoning and none into text; raise max_tokens"), None
        return Failure(Kind.EMPTY_RESPONSE, "the answer has no text and no tool call"), None
    if request.parse is None:
        return None, None
    try:
        return None, request.parse(outcome.text)
    except Exception as error:  # noqa: BLE001 - a validator of the caller's may raise anything
        if outcome.finish_reason == "length":
            said = f"at max_tokens={limit}" if limit else "at the limit of tokens"
            return Failure(Kind.MAX_TOKENS, f"the answer was cut off {said} and does not validate; raise it"), None
        problem = " ".join(str(error).split())[:200]
        return Failure(Kind.EMPTY_RESPONSE, f"the answer does not validate as the response_format: {problem}"), None
