"""What a request asks of a model, and what the model is known to be able to do."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from modelrouter.catalog.known_providers import of_string
from modelrouter.catalog.target import Target
from modelrouter.parameters import having
from modelrouter.planning.exchange import Request

from . import schemas
from .loading import loaded
from .tables import row

_COLUMNS = {"tools": "supports_function_calling", "images": "supports_vision"}


def lacks(target: Target, request: Request) -> str | None:
    """What the request needs and the model is known not to have: ``it takes no images``. Unknown counts as able.

    The catalog's ``supports`` decides; then LiteLLM's tables, once it is loaded.
    """
    request = _required(request)
    if (why := denied(target, request)) is not None or not loaded():
        return why
    known = row(target)
    for need in needs(request):
        if need not in target.supports and need in _COLUMNS and known.get(_COLUMNS[need]) is False:
            return f"it takes no {need}"
    sent = of_string(target.litellm_model).takes
    wants = request.params.get("response_format")
    if "json_object" not in sent and isinstance(wants, Mapping) and wants.get("type") == "json_object":
        return "it takes no response_format without a schema"
    if "picture_by_address" not in sent and any(url.startswith("http") for url in _images(request)):
        return "it takes no images by their address; pass them as data: URLs"
    if (why := schemas.refused(target.litellm_model, request.params)) is not None:
        return why
    passes = taken(target)
    if passes is None:
        return None
    if "tool_choice" not in sent and request.params.get("tool_choice") not in (None, "auto"):
        return "it takes no tool_choice"
    forced = {name for name, able in target.supports.items() if able}
    allowed = {*passes, *having("droppable"), *request.params.get("allowed_openai_params", ()), *forced}
    for name, value in request.params.items():
        asked = value or name == "web_search_options"  # {} is: search, with nothing more to say about it
        if asked and name in _openai_params() and name not in allowed:
            return f"it takes no {name}"
    return None


def takes(target: Target, name: str, value: Any) -> bool:
    """Whether the model is known to take a parameter that nobody has asked for but DSPy by itself. It is left out on a
    mere suspicion: of a provider of which LiteLLM says nothing, and of a model of a name that does not take it."""
    said = target.supports.get({"reasoning_effort": "reasoning"}.get(name, name))
    known = said or name in (passed(target.litellm_model) or ())
    return bool(known) and lacks(target, Request((), {name: value})) is None


def denied(target: Target, request: Request) -> str | None:
    """What the request needs and the catalog says that the model has not."""
    denials = (f"it takes no {need}" for need in needs(_required(request)) if target.supports.get(need) is False)
    return next(denials, None)


def needs(request: Request) -> tuple[str, ...]:
    """Which of the abilities that models differ in the request asks for."""
    asked = [name for name in ("tools", "response_format") if request.params.get(name)]
    return (*asked, "images") if any(_images(request)) else tuple(asked)


def taken(target: Target) -> frozenset[str] | None:
    """The OpenAI parameters that LiteLLM can pass to this model, or None when it does not say. It goes by the name,
    which says nothing of a model at another address: that takes what one of an unknown name does, too."""
    by_name = passed(target.litellm_model)
    if target.own_address or by_name is None:
        return by_name
    return by_name | (passed(f"{target.litellm_model.partition('/')[0]}/unknown") or frozenset())


@functools.lru_cache(maxsize=4096)
def passed(litellm_model: str) -> frozenset[str] | None:
    """The OpenAI parameters that LiteLLM passes to a model of this name, or None when it does not say."""
    import litellm

    provider, _, bare = litellm_model.partition("/")
    names = litellm.get_supported_openai_params(model=bare, custom_llm_provider=provider)
    return frozenset(names) if names is not None else None


@functools.cache
def _openai_params() -> frozenset[str]:
    from litellm.constants import DEFAULT_CHAT_COMPLETION_PARAM_VALUES

    return frozenset(DEFAULT_CHAT_COMPLETION_PARAM_VALUES)


def _required(request: Request) -> Request:
    """Without what it can be asked without."""
    if not request.optional:
        return request
    required = {name: value for name, value in request.params.items() if name not in request.optional}
    return Request(request.messages, required)


def _images(request: Request) -> Iterator[str]:
    """The addresses of the pictures in the messages."""
    for message in request.messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if part.get("type") == "image_url":
                image = part.get("image_url")
                yield str(image.get("url") if isinstance(image, Mapping) else image)
