"""The one door to LiteLLM: load it quietly, send one request, classify what comes back, look into its tables.

LiteLLM takes seconds to import, so nothing here does it before `load`. Each attempt is one request: no retries,
fallbacks, cache, callbacks or cost calculation of LiteLLM's are used, because modelrouter decides, remembers and meters
by itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - it has a lock of its own held over forks, see _lock
import copy
import functools
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from pydantic import SecretStr

from modelrouter import environment
from modelrouter.catalog.prices import row_of
from modelrouter.types import Failure, Kind, Piece, Reply, Request, Target

from . import connections as _connections
from .answers import reply
from .failures import classify
from .insides import quiet as _quiet
from .stream import Stream

__all__ = [
    "OWN_CALLS",
    "aopen",
    "asend",
    "context_window",
    "lacks",
    "load",
    "loaded",
    "rebuild",
    "rows",
    "warm",
]

OWN_CALLS = "modelrouter-"
"""What the ids of our own calls begin with, where LiteLLM tells its callbacks of them."""

_BEFORE_IMPORT = {
    # No fetching of price maps and headers at import, no reading of the project's .env behind our back, no noise.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "true",
    "LITELLM_OFFLINE_MODE": "true",
    "LITELLM_MODE": "PRODUCTION",
}

_MAY_BE_DROPPED = frozenset(
    "temperature top_p top_k min_p frequency_penalty presence_penalty seed "
    "user metadata prompt_cache_key prompt_cache_retention safety_identifier service_tier store parallel_tool_calls "
    "max_tokens max_completion_tokens extra_headers extra_body api_version additional_drop_params "
    "allowed_openai_params".split()
)
"""What may be left out for a model that does not take it: sampling, and hints that change no answer. (Limits and
LiteLLM's own arguments are in it because it translates them for every model.) All else is a requirement."""


class StandIn(Protocol):
    """What can stand in the door in place of LiteLLM: ``modelrouter.testing`` puts a scripted provider there.

    Meanwhile keys are the stand-in's, what a model can do and costs is the catalog's alone, nothing is waited for
    between two tries, and the embedded model is not started.
    """

    cache: bool
    """Whether answers are remembered and looked for."""

    def missing_key(self, target: Target) -> str | None:
        """As `environment.missing_key`."""

    async def asend(self, target: Target, request: Request, *, within: float) -> Reply | Failure:
        """As `asend` below."""

    async def aopen(self, target: Target, request: Request, *, within: float) -> Piece | Reply | Failure:
        """As `aopen` below."""


stand_in: StandIn | None = None

# Held over a fork: a child that is forked in the middle of the import could never load LiteLLM. A lock that others
# register while a fork waits here is released untaken; so concurrent.futures.thread, which has one, is imported first.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)

_litellm: Any = None
_rows: Mapping[str, Mapping[str, Any]] = {}


def loaded() -> bool:
    """Whether a request can be sent at once: LiteLLM is imported, or not needed."""
    return _litellm is not None or stand_in is not None


def load() -> None:
    """Import LiteLLM, once, without letting it fetch, print or read files of the project. Takes seconds the first
    time."""
    global _litellm, _rows
    if loaded():
        return
    with _lock:
        if loaded():
            return
        environment.export_dotenv()
        for name, value in _BEFORE_IMPORT.items():
            os.environ.setdefault(name, value)
        import litellm

        litellm.suppress_debug_info = True  # its banner goes to stdout
        litellm.telemetry = False
        litellm.disable_hf_tokenizer_download = True
        if "LITELLM_LOG" not in os.environ:
            # Failures of our calls are told once, by us.
            for noisy in ("LiteLLM", "LiteLLM Router"):
                logging.getLogger(noisy).setLevel(logging.ERROR)
        # As shipped: what is registered later is about deployments, and not LiteLLM's knowledge of models.
        _rows = {name: dict(row) for name, row in litellm.model_cost.items()}
        _litellm = litellm


async def warm() -> None:
    """Do once what makes a process's first call slower than its second. Sends nothing. Needs `load` first."""
    target = Target("warm-up", "openai/warm-up", "openai")
    request = Request(({"role": "user", "content": "hi"},), {"mock_response": "hi"})
    arguments = _arguments(target, request, None, within=30.0)
    completion, quiet = _quiet.completion(target.litellm_model, stream=False)
    await completion(**arguments, **await _connections.client(arguments), **quiet)


async def asend(target: Target, request: Request, *, key: SecretStr | None, within: float) -> Reply | Failure:
    """Send one request and wait for the whole answer, `within` seconds at most; then the connection is closed.

    Never raises but for cancellation. Needs `load` first.
    """
    if stand_in is not None:
        return await stand_in.asend(target, request, within=within)
    client, sent = {}, _connections.watch()
    try:
        async with asyncio.timeout(within):
            arguments = _arguments(target, request, key, within)
            completion, quiet = _quiet.completion(target.litellm_model, stream=False)
            client = await _connections.client(arguments)
            response = await completion(**arguments, **client, **quiet)
        return reply(response)
    except TimeoutError:
        return Failure(Kind.TIMEOUT, f"timeout after {within:.3g} s", raised="TimeoutError")
    except Exception as error:  # noqa: BLE001 - providers' clients raise whatever they like; all of it is a failure
        return _failure(error, target, key, unsent=bool(client) and not sent)


async def aopen(
    target: Target, request: Request, *, key: SecretStr | None, within: float, thinking: bool = False
) -> Piece | Reply | Failure:
    """Send one request for a stream and wait for its first piece, `within` seconds at most. Thinking: pieces of the
    model's reasoning are pieces too.

    A `Reply` when the answer has no text to stream. Never raises but for cancellation. Needs `load` first.
    """
    if stand_in is not None:
        return await stand_in.aopen(target, request, within=within)
    began = time.monotonic()
    client, sent = {}, _connections.watch()
    try:
        async with asyncio.timeout(within):
            arguments = _arguments(target, request, key, within)
            arguments |= {"stream": True, "stream_options": {"include_usage": True}}
            completion, quiet = _quiet.completion(target.litellm_model, stream=True)
            client = await _connections.client(arguments)
            chunks = await completion(**arguments, **client, **quiet)
        stream = Stream(
            target,
            request,
            chunks,
            quiet="litellm_logging_obj" in quiet,
            thinking=thinking,
            failed=lambda error: _failure(error, target, key),
        )
    except TimeoutError:
        return Failure(Kind.TIMEOUT, f"timeout after {within:.3g} s", raised="TimeoutError")
    except Exception as error:  # noqa: BLE001 - as above
        return _failure(error, target, key, unsent=bool(client) and not sent)
    try:
        left = max(0.0, within - (time.monotonic() - began))
        return await stream.next(left, first=True)
    except BaseException:
        await stream.close()
        raise


def _failure(error: Exception, target: Target, key: SecretStr | None, *, unsent: bool = False) -> Failure:
    secrets = environment.secret_values()
    if key is not None and key.get_secret_value():
        secrets.append(key.get_secret_value())
    return classify(error, target, secrets, unsent=unsent)


def _arguments(target: Target, request: Request, key: SecretStr | None, within: float) -> dict[str, Any]:
    """The keyword arguments of LiteLLM's completion."""
    # Copies, because LiteLLM rewrites messages, tools and metadata in place for some providers; the next model, and the
    # caller, need them as they were.
    arguments: dict[str, Any] = {
        name: value if isinstance(value, type) else copy.deepcopy(value) for name, value in request.params.items()
    }
    for name in request.optional:
        if lacks(target, Request((), {name: request.params[name]})) is not None:
            del arguments[name]
    arguments |= {
        "model": target.litellm_model,
        "messages": copy.deepcopy(list(request.messages)),
        # Ours ends the attempt; LiteLLM's is there for what it does on other threads.
        "timeout": within + 5,
        "max_retries": 0,
        # Of what a model does not take, LiteLLM drops sampling parameters alone: `lacks` has seen to the others.
        "drop_params": True,
        "litellm_call_id": f"{OWN_CALLS}{uuid.uuid4()}",
    }
    if target.api_base is not None:
        arguments["api_base"] = target.api_base
    if key is not None:
        arguments["api_key"] = key.get_secret_value()
    elif target.provider in ("openai", "anthropic"):
        # A server of one's own that wants no key; the clients refuse to start without one.
        arguments["api_key"] = "none"
    limited = arguments.keys() & {"max_tokens", "max_completion_tokens", "thinking", "reasoning_effort"}
    if target.provider == "anthropic" and not limited:
        # Anthropic demands a limit, and LiteLLM sends 128,000 for a model that it does not know. For one that reasons
        # it adds to the reasoning's.
        arguments["max_tokens"] = 4096
    taken = _taken(target.litellm_model) or ()
    # What LiteLLM says that the model takes it puts into the provider's form; the rest goes as it is.
    if forced := [name for name in _needs(request) if target.supports.get(name) and name in arguments.keys() - taken]:
        arguments["allowed_openai_params"] = [*arguments.get("allowed_openai_params", ()), *forced]
    if "tools" in arguments:
        # 1.106.2 imports the optional package mcp for any call with tools, unless told not to.
        arguments["_skip_mcp_handler"] = True
    if target.provider == "ollama":
        _register_ollama(target.litellm_model)
    return arguments


@functools.cache
def _register_ollama(litellm_model: str) -> None:
    # For a model that is not in its map LiteLLM asks Ollama twice more (/api/show) with every call.
    if litellm_model not in _litellm.model_cost:
        _litellm.register_model(
            {
                litellm_model: {
                    "litellm_provider": "ollama_chat",
                    "mode": "chat",
                    "input_cost_per_token": 0.0,
                    "output_cost_per_token": 0.0,
                    "supports_function_calling": True,
                }
            }
        )


# LiteLLM's tables


def rows() -> Mapping[str, Mapping[str, Any]]:
    """LiteLLM's bundled map of prices and abilities, as shipped; empty until `load`, and with a stand-in."""
    return _rows if stand_in is None else {}


def _row(target: Target) -> Mapping[str, Any] | None:
    found = row_of(rows(), target.litellm_model)
    return found[1] if found is not None else None


def context_window(target: Target) -> int | None:
    """The largest prompt in tokens: the catalog's, else the bundled map's."""
    if target.context_window is not None:
        return target.context_window
    row = _row(target)
    size = row.get("max_input_tokens") if row is not None else None
    return size if isinstance(size, int) else None


def _needs(request: Request) -> tuple[str, ...]:
    """Which of the abilities that models differ in the request asks for."""
    needs = [name for name in ("tools", "response_format") if request.params.get(name)]
    return (*needs, "images") if any(_images(request)) else tuple(needs)


def _images(request: Request) -> Iterator[str]:
    """The addresses of the pictures in the messages."""
    for message in request.messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if part.get("type") == "image_url":
                image = part.get("image_url")
                yield str(image.get("url") if isinstance(image, Mapping) else image)


_ABILITY_COLUMNS = {"tools": "supports_function_calling", "images": "supports_vision"}


def lacks(target: Target, request: Request) -> str | None:
    """What the request needs and the model is known not to have: ``takes no images``. Unknown counts as able.

    The catalog's ``supports`` decides; then LiteLLM's tables, once it is loaded.
    """
    if request.optional:
        required = {name: value for name, value in request.params.items() if name not in request.optional}
        request = Request(request.messages, required)
    row = _row(target) if target.own_address else None
    for need in _needs(request):
        able = target.supports.get(need)
        if able is None and row is not None and (column := _ABILITY_COLUMNS.get(need)) is not None:
            able = row.get(column)
        if able is False:
            return f"it takes no {need}"
    if _litellm is None or stand_in is not None:
        return None
    wants = request.params.get("response_format")
    if target.provider == "anthropic" and isinstance(wants, Mapping) and wants.get("type") == "json_object":
        # LiteLLM leaves it out: only a schema can be asked of Anthropic.
        return "it takes no response_format without a schema"
    if target.provider == "ollama" and any(url.startswith("http") for url in _images(request)):
        return "it takes no images by their address; pass them as data: URLs"
    taken = _taken(target.litellm_model)
    if taken is None:
        return None
    choice = request.params.get("tool_choice")
    if target.provider == "ollama" and choice not in (None, "auto"):
        return "it takes no tool_choice"  # LiteLLM says that it does, and leaves it out
    forced = {name for name, able in target.supports.items() if able}
    allowed = {*_MAY_BE_DROPPED, *request.params.get("allowed_openai_params", ()), *forced}
    for name, value in request.params.items():
        asked = value or name == "web_search_options"  # {} is: search, with nothing more to say about it
        if asked and name in _openai_params() and name not in taken | allowed:
            return f"it takes no {name}"
    return None


@functools.lru_cache(maxsize=4096)
def _taken(litellm_model: str) -> frozenset[str] | None:
    """The OpenAI parameters that LiteLLM can pass to this model, or None when it does not say."""
    provider, _, bare = litellm_model.partition("/")
    taken = _litellm.get_supported_openai_params(model=bare, custom_llm_provider=provider)
    return frozenset(taken) if taken is not None else None


@functools.cache
def _openai_params() -> frozenset[str]:
    from litellm.constants import DEFAULT_CHAT_COMPLETION_PARAM_VALUES

    return frozenset(DEFAULT_CHAT_COMPLETION_PARAM_VALUES)


def rebuild(response: dict[str, Any]) -> Any:
    """LiteLLM's ``ModelResponse`` out of what was kept of one."""
    load()
    return _litellm.ModelResponse(**response)
