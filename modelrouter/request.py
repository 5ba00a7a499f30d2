"""The call's own arguments, checked before anything is sent, as one `Request`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .errors import InvalidRequest, nearest
from .types import Request, nothing

__all__ = ["KNOWN", "build"]

KNOWN = frozenset(
    """
    functions function_call temperature top_p n stream stream_options stop max_tokens max_completion_tokens modalities
    prediction audio presence_penalty frequency_penalty logit_bias user response_format seed tools tool_choice
    parallel_tool_calls logprobs top_logprobs reasoning_effort verbosity thinking web_search_options
    include_server_side_tool_invocations service_tier safety_identifier prompt_cache_key prompt_cache_retention store
    metadata context_management extra_headers extra_body api_version allowed_openai_params additional_drop_params
    drop_params
    """.split()
)
"""The parameters that LiteLLM's completion takes, by name: a misspelt one reaches the wire and is ignored there.
Written down because looking them up loads LiteLLM, which a cached answer does not need; a test compares them with the
installed version."""

_OTHERS = frozenset(
    """
    top_k min_p top_a typical_p repetition_penalty repeat_penalty mirostat num_ctx num_predict num_gpu keep_alive think
    best_of stop_sequences safety_settings reasoning extra_query cache_control system_prompt
    """.split()
)
"""Parameters of single providers that look like a slip of one of LiteLLM's, and are none."""

_OURS: Mapping[str, str] = {
    "stream": "use modelrouter.stream(...) or modelrouter.astream(...)",
    "stream_options": "usage always comes with a stream",
    "api_key": "keys come from the environment; 'api_key_env' in the catalog names another variable",
    "api_base": "set 'api_base' of the model or of its provider in the catalog",
    "base_url": "set 'api_base' of the model or of its provider in the catalog",
    "max_retries": "use retries=",
    "num_retries": "use retries=",
    "fallbacks": "list the models in the module's chain, or pass model=[...]",
    "context_window_fallbacks": "list the models in the module's chain, or pass model=[...]",
    "request_timeout": "use timeout= for one attempt, deadline= for the whole call",
    "caching": "use cache=",
    "drop_params": "what a model does not take of sampling is dropped, and a model that cannot do the rest skipped",
    "custom_llm_provider": "name the provider in the model string, such as 'openai/gpt-4'",
}

_ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function"))


def build(
    prompt: str | None,
    messages: Iterable[Any] | None,
    system: str | None,
    params: Mapping[str, Any],
) -> Request:
    """Check what the caller passed and make the request of it.

    `messages` are OpenAI's: mappings (or objects with ``model_dump``) with a ``role`` and a ``content``.

    Raises:
        InvalidRequest: naming the argument and the mend.
    """
    checked = _params(params)
    return Request(
        messages=_messages(prompt, messages, system),
        params=checked,
        parse=_parser(checked.get("response_format")),
    )


def _params(params: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, value in params.items():
        if name in _OURS:
            raise InvalidRequest(f"{name}= is not a parameter of a call: {_OURS[name]}.")
        if name == "n" and value not in (None, 1):
            raise InvalidRequest(f"n={value!r}: one call gives one answer. Call in a loop for more of them.")
        if name not in KNOWN and name not in _OTHERS and (meant := nearest(name, KNOWN - _OURS.keys())):
            raise InvalidRequest(
                f"{name}= is not a parameter that LiteLLM knows. Did you mean {meant}=?\n"
                "  A parameter of a provider's own can be passed in extra_body={...}."
            )
    # None is LiteLLM's own default for each of them; left out, equal calls are equal.
    given = {name: value for name, value in params.items() if value is not None and name != "n"}
    return given or nothing()


def _messages(prompt: str | None, messages: Iterable[Any] | None, system: str | None) -> tuple[Mapping[str, Any], ...]:
    if (prompt is None) == (messages is None):
        given = "neither" if prompt is None else "both"
        raise InvalidRequest(f"a call takes a prompt or messages=, and was given {given}.")
    if system is not None and not isinstance(system, str):
        raise InvalidRequest(f"system= takes a string, not {type(system).__name__}.")
    head = ({"role": "system", "content": system},) if system else ()
    if messages is None:
        if not isinstance(prompt, str):
            raise InvalidRequest(
                f"the prompt is a string, not {type(prompt).__name__}. Pass a list of messages as messages=[...]."
            )
        if not prompt.strip():
            raise InvalidRequest("the prompt is empty.")
        return (*head, {"role": "user", "content": prompt})
    if isinstance(messages, (str, Mapping)) or not isinstance(messages, Iterable):
        raise InvalidRequest(
            f"messages= takes a list such as [{{'role': 'user', 'content': '...'}}], not {type(messages).__name__}."
        )
    checked = tuple(_message(number, message) for number, message in enumerate(messages))
    if not checked:
        raise InvalidRequest("messages= is empty.")
    return (*head, *checked)


def _message(number: int, message: Any) -> Mapping[str, Any]:
    where = f"messages[{number}]"
    if not isinstance(message, Mapping) and hasattr(message, "model_dump"):
        message = message.model_dump(exclude_none=True)
    if not isinstance(message, Mapping):
        raise InvalidRequest(
            f"{where} is not a message but {type(message).__name__}. A message is {{'role': 'user', 'content': '...'}}."
        )
    role = message.get("role")
    if role not in _ROLES:
        said = f"has the role {role!r}" if "role" in message else "has no 'role'"
        raise InvalidRequest(f"{where} {said}. Roles: {', '.join(sorted(_ROLES))}.")
    content = message.get("content")
    if content is None and not (role == "assistant" and (message.get("tool_calls") or message.get("function_call"))):
        raise InvalidRequest(f"{where} has no 'content'.")
    if content is not None and not isinstance(content, (str, list)):
        raise InvalidRequest(f"{where}: 'content' is a string or a list of parts, not {type(content).__name__}.")
    if isinstance(content, list):
        for index, part in enumerate(content):
            if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
                raise InvalidRequest(
                    f"{where}: content[{index}] is no part. A part is {{'type': 'text', 'text': '...'}} "
                    "or another type of OpenAI's form."
                )
    return dict(message)


def _parser(response_format: Any) -> Callable[[str], Any] | None:
    """What turns a text into the pydantic object that was asked for."""
    if response_format is None or isinstance(response_format, Mapping):
        return None
    validate: Callable[[str], Any] | None = getattr(response_format, "model_validate_json", None)
    if not isinstance(response_format, type) or validate is None:
        raise InvalidRequest(
            f"response_format= takes a pydantic model or a mapping such as {json.dumps({'type': 'json_object'})}, "
            f"not {response_format!r}."
        )
    return validate
