"""The keyword arguments of LiteLLM's completion."""

from __future__ import annotations

import functools
import uuid
from base64 import b64encode
from typing import Any

from pydantic import SecretStr

from modelrouter.catalog.known_providers import of_string
from modelrouter.catalog.target import Target
from modelrouter.parameters import having
from modelrouter.planning.exchange import Request
from modelrouter.redaction import without_password

from . import gateway, schemas
from .abilities import needs, passed, taken, takes
from .copies import copied
from .thinking import make_room

OWN_CALLS = "modelrouter-"
"""What the ids of our own calls begin with, where LiteLLM tells its callbacks of them."""


def arguments_of(
    target: Target, request: Request, key: SecretStr | None, within: float, *, stream: bool
) -> dict[str, Any]:
    """What asks `target` for this, once. LiteLLM has to be loaded."""
    provider = of_string(target.litellm_model)
    if provider.on_this_machine and target.gateway is None:
        _register(target.litellm_model, provider.string)
    # Copies, because LiteLLM rewrites messages, tools and metadata in place for some providers; the next model, and the
    # caller, need them as they were.
    arguments: dict[str, Any] = {name: copied(value) for name, value in request.params.items()}
    by_name = passed(target.litellm_model)
    for name in request.optional:
        if not takes(target, name, request.params[name]):
            del arguments[name]
    arguments |= {
        "model": target.litellm_model,
        "messages": copied(list(request.messages)),
        # Ours ends the attempt; LiteLLM's is there for what it does on other threads.
        "timeout": within + 5,
        "max_retries": 0,
        # Of what a model does not take, LiteLLM drops sampling parameters alone: `lacks` has seen to the others.
        "drop_params": True,
        "litellm_call_id": f"{OWN_CALLS}{uuid.uuid4()}",
    }
    make_room(arguments, request.settled)
    if target.gateway is None:
        schemas.fit(arguments)
    else:
        gateway.route(arguments, target.served_as, within)
    if target.address is not None:
        arguments["api_base"], password = without_password(target.address)
        if password is not None:
            # As a header: clients that send a key refuse a password in the address.
            basic = b64encode(password.encode()).decode()
            arguments["extra_headers"] = {"Authorization": f"Basic {basic}", **(arguments.get("extra_headers") or {})}
            if target.gateway is not None and key is not None:  # which would be in the same header
                arguments["extra_headers"]["x-litellm-api-key"] = f"Bearer {key.get_secret_value()}"
    if key is not None:
        arguments["api_key"] = key.get_secret_value()
    elif provider.wants_key or target.gateway is not None:
        arguments["api_key"] = "none"
    if provider.most_tokens is not None and not arguments.keys() & having("limit"):
        # Where one is set for the reasoning alone, LiteLLM adds to it.
        arguments["max_tokens"] = provider.most_tokens
    able = (taken(target) or frozenset()) - having("droppable")
    able |= {name for name in needs(request) if target.supports.get(name)}
    # What LiteLLM says that a model of this name takes it puts into the provider's form; the rest goes as it is.
    if forced := sorted(able & arguments.keys() - (by_name or frozenset())):
        where = arguments if target.gateway is None else arguments["extra_body"]
        where["allowed_openai_params"] = [*where.get("allowed_openai_params", ()), *forced]
    if "tools" in arguments:
        # 1.106.2 imports the optional package mcp for any call with tools, unless told not to.
        arguments["_skip_mcp_handler"] = True
    if stream:
        arguments |= {"stream": True, "stream_options": {"include_usage": True}}
    return arguments


@functools.cache
def _register(litellm_model: str, litellm_provider: str) -> None:
    """Put a model of one's own server into LiteLLM's map, or it asks for it at Ollama's usual address, whatever the
    catalog says. `litellm.register_model` would ask, too."""
    import litellm

    row = {
        "litellm_provider": litellm_provider,
        "mode": "chat",
        "input_cost_per_token": 0.0,
        "output_cost_per_token": 0.0,
        "supports_function_calling": True,
    }
    litellm.model_cost.setdefault(litellm_model, row)
