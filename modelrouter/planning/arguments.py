"""The call's own arguments, checked before anything is sent, as one `Request`."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

from modelrouter.catalog.target import LONGEST, nothing
from modelrouter.errors import InvalidRequest
from modelrouter.hints import nearest
from modelrouter.parameters import HEADERS, MAPPINGS, OTHER_WORDS, OTHERS, REFUSED, having, header_flaw

from .exchange import Request

_AS_IT_IS = {"stream": False, "drop_params": True}
"""What asks for nothing else than a call is; and so does None, for any parameter."""

_ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function"))


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of a call, as they were passed."""

    prompt: str | None = None
    module: str | None = None
    model: str | Sequence[str] | None = None
    messages: Iterable[Any] | None = None
    system: str | None = None
    cache: bool | str | None = None
    cache_key: str | None = None
    timeout: float | None = None
    deadline: float | None = None
    retries: int | None = None
    params: Mapping[str, Any] = field(default_factory=nothing)
    optional: frozenset[str] = frozenset()
    """Parameters without which a model is asked that does not take them, or has another value of its own."""
    mends: bool = False
    """The caller mends arguments of a tool call that are no JSON."""
    accept: Any = None
    """A function that an answer is given, False: not that of the module; None: that one."""


NOT_SAID = frozenset(("params", "optional", "mends"))
"""Fields that are no argument of a call."""
_TAKEN = having("litellm") | {each.name for each in fields(Arguments)} - NOT_SAID
"""Names of a call's arguments, the parameters that LiteLLM knows among them."""


_MEANT = _TAKEN | having("meant")
_PROVIDERS_OWN = "\n  If it is one of the provider's own, put it into 'params' of the model in the catalog."


def _folded(name: str) -> str:
    return re.sub(r"[_-]", "", name).lower()


_FOLDED = {_folded(name): name for name in _MEANT}
_OTHER_WORDS = {_folded(name): why for name, why in OTHER_WORDS.items()}


@lru_cache(maxsize=256)
def _slip(name: str) -> str | None:
    """The argument that was probably meant: by temprature, cacheKey, sotp."""
    if name in _TAKEN or name in OTHERS:
        return None
    letters = sorted(name.lower())
    swapped = (known for known in sorted(_MEANT) if sorted(known) == letters)
    return _FOLDED.get(_folded(name)) or next(swapped, None) or nearest(name.lower(), _MEANT, cutoff=0.76)


def request_from(arguments: Arguments) -> Request:
    """Check what the caller passed and make the request of it. Raises `InvalidRequest`, with the argument and the mend.

    `messages` are OpenAI's: mappings (or objects with ``model_dump``) with a ``role`` and a ``content``.
    """
    _seconds("timeout", arguments.timeout)
    _seconds("deadline", arguments.deadline)
    if arguments.retries is not None and (
        isinstance(arguments.retries, bool) or not _is(arguments.retries, int) or arguments.retries < 0
    ):
        raise InvalidRequest(f"retries= takes a whole number from 0, not {arguments.retries!r}.")
    if not isinstance(arguments.model, str | None) and not (
        _is(arguments.model, Iterable) and all(_is(name, str) for name in arguments.model)
    ):
        raise InvalidRequest(f"model= takes a name or a list of names, not {arguments.model!r}.")
    if arguments.cache not in (None, True, False, "refresh"):
        raise InvalidRequest(f"cache= takes True, False or 'refresh', not {arguments.cache!r}.")
    if arguments.accept not in (None, False) and not callable(arguments.accept):
        raise InvalidRequest(f"accept= takes a function or False, not {reprlib.repr(arguments.accept)}.")
    if arguments.cache_key is not None and not _is(arguments.cache_key, str):
        raise InvalidRequest(f"cache_key= takes a string, not {type(arguments.cache_key).__name__}.")
    params = _params(arguments.params)
    messages = _messages(arguments.prompt, arguments.messages, arguments.system)
    _sendable("messages", messages)
    for name, value in params.items():
        if not isinstance(value, type):
            _sendable(f"{name}=", value)
        if name in HEADERS and (flaw := header_flaw(value)) is not None:
            raise InvalidRequest(f"{name}= cannot be sent as headers: {flaw}.")
    return Request(
        messages=messages,
        params=params,
        parse=_parser(params.get("response_format")),
        optional=arguments.optional & params.keys(),
        mends=arguments.mends,
    )


def _sendable(what: str, value: Any) -> None:
    """Providers are spoken to in JSON: what has no such form is the caller's to mend, and no provider's error."""
    try:
        _JSON.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{what} cannot be sent as JSON: {error}.") from None


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"it has a {type(value).__name__} in it")


_JSON = json.JSONEncoder(allow_nan=False, ensure_ascii=False, default=_plain)


def _is(value: object, kind: type) -> bool:
    """`isinstance`, for what a caller without a type checker may have passed."""
    return isinstance(value, kind)


def _seconds(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LONGEST:
        raise InvalidRequest(
            f"{name}= takes a number of seconds above 0 and up to {LONGEST:,}, not {reprlib.repr(value)}."
        )


def _params(params: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, value in params.items():
        if value is _AS_IT_IS.get(name):
            continue
        if name in REFUSED:
            raise InvalidRequest(f"{name}= is not a parameter of a call: {REFUSED[name]}.")
        instead = None if name in _TAKEN or name in OTHERS else _OTHER_WORDS.get(_folded(name))
        if instead is not None and not (name in MAPPINGS and isinstance(value, Mapping)):
            raise InvalidRequest(f"{name}= is not a parameter of a call: {instead}.{_PROVIDERS_OWN}")
        if name in ("tools", "functions") and not _of_mappings(value):
            raise InvalidRequest(f"{name}= takes a list of mappings in OpenAI's form, not {reprlib.repr(value)}.")
        if name == "n" and value != 1:
            raise InvalidRequest(f"n={value!r}: one call gives one answer. Call in a loop for more of them.")
        if (meant := _slip(name)) is not None:
            what = f"{name}= is no argument of a call, nor a parameter that LiteLLM knows. Did you mean {meant}=?"
            either = f" It is not one either: {REFUSED[meant]}." if meant in REFUSED else ""
            raise InvalidRequest(what + either + _PROVIDERS_OWN)
    # None is LiteLLM's own default for each of them; left out, equal calls are equal.
    given = {name: value for name, value in params.items() if value is not None and name not in ("n", *REFUSED)}
    return given or nothing()


def _of_mappings(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(each, Mapping) or hasattr(each, "model_dump") for each in value
    )


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
    if not isinstance(role, str) or role not in _ROLES:
        said = f"has the role {role!r}" if "role" in message else "has no 'role'"
        raise InvalidRequest(f"{where} {said}. Roles: {', '.join(sorted(_ROLES))}.")
    content = message.get("content")
    if content is None and not (role == "assistant" and (message.get("tool_calls") or message.get("function_call"))):
        raise InvalidRequest(f"{where} has no 'content'.")
    if content is not None and not isinstance(content, (str, list)):
        raise InvalidRequest(f"{where}: 'content' is a string or a list of parts, not {type(content).__name__}.")
    for index, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
            raise InvalidRequest(
                f"{where}: content[{index}] is no part. A part is {{'type': 'text', 'text': '...'}} "
                "or another type of OpenAI's form."
            )
    return _sent_back(dict(message)) if role == "assistant" else dict(message)


def _sent_back(message: dict[str, Any]) -> dict[str, Any]:
    """An answer without an empty text beside its tool calls, into which LiteLLM puts words of its own where it is sent
    to Claude, and without LiteLLM's own field where nothing is in it, which OpenAI's form does not have."""
    content, own = message.get("content"), message.get("provider_specific_fields")
    if message.get("tool_calls") and isinstance(content, str) and not content.strip():
        message["content"] = None
    if isinstance(own, Mapping) and all(value is None for value in own.values()):
        del message["provider_specific_fields"]
    return message


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
