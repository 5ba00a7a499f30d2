"""Requests without LiteLLM's front, which takes two thirds of a call to look up parameters and models.

For each shape of a request, which is all of it but the messages, the front is asked once what it would send. A request
of that shape is from then on made, and its answer read, by LiteLLM's config for the provider alone: the contract that
it asks of everyone who adds one. Where the two do not make the same of it, all goes through the front.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from modelrouter.backend.copies import copied
from modelrouter.parameters import having
from modelrouter.process.forks import process_lock

from . import connections, quiet
from .blocks import iterator

SHAPES = 256
"""Which are remembered."""
AFTER = 1
"""Requests of a shape that go through the front before it is asked: some shapes come once."""

_ROLES = ("system", "user", "assistant")
_OURS = frozenset(
    "model messages timeout max_retries litellm_call_id api_base api_key extra_headers extra_body "
    "allowed_openai_params _skip_mcp_handler".split()
)
_PER_CALL = ("messages", "timeout", "litellm_call_id", "max_retries", "drop_params")
_SETTINGS = ("api_base", "api_key", "headers", "modify_params", "organization")
"""Of LiteLLM's own, which the front puts into requests."""
_CREDENTIALS = ("authorization", "x-api-key", "api-key")
_OF_ONE_CALL = (b"content-length", b"transfer-encoding", b"x-stainless-read-timeout")
_GIVEN = ("optional_params", "litellm_params")

_CONTRACT = {
    "transform_request": ("model", "messages", *_GIVEN, "headers"),
    "transform_response": (
        *("model", "raw_response", "model_response", "logging_obj", "request_data", "messages", *_GIVEN),
        *("encoding", "api_key", "json_mode"),
    ),
    "get_error_class": ("error_message", "status_code", "headers"),
    "get_model_response_iterator": ("streaming_response", "sync_stream", "json_mode"),
}
"""The methods of a config that are called, and how."""

Front: TypeAlias = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Shape:
    """How requests of a shape are made."""

    config: Any
    """LiteLLM's, of the provider."""
    model: str
    """As the config is given it."""
    given: Mapping[str, Any] = field(repr=False)
    """What else it is given: ``optional_params`` and ``litellm_params``."""
    url: Any
    """httpx's."""
    headers: Any = field(repr=False)
    """httpx's, the key among them."""
    added: Mapping[str, Any]
    """What LiteLLM puts into the body that the config does not."""
    left_out: frozenset[str]

    def body(self, messages: Iterable[Any]) -> dict[str, Any]:
        """What is sent for these."""
        made = transformed(self.config, self.model, messages, self.given)
        kept = {name: value for name, value in made.items() if name not in self.left_out}
        return {**kept, **copied(self.added)}


class _Recorded(BaseException):
    """The request would be sent now. No client takes it for an error, to be translated at length."""


@dataclass(slots=True)
class Recorder:
    """What the front makes of a request."""

    request: Any = None
    config: Any = None
    given: dict[str, Any] = field(default_factory=dict)


_recorder: ContextVar[Recorder] = ContextVar("modelrouter_recorder")
_shapes: OrderedDict[bytes, Shape | int | None] = OrderedDict()
"""None: the front alone makes these; a number: so many of them have been sent."""
_lock = process_lock()


async def shape(arguments: Mapping[str, Any], front: Front) -> Shape | None:
    """How a request with these arguments is made without the front; None: it is not. `front` takes the arguments."""
    if not arguments.keys() <= _sent_on() or not _plain(arguments["messages"]) or (key := _key(arguments)) is None:
        return None
    with _lock:
        known = _shapes.get(key, 0)
        if isinstance(known, int) and known < AFTER:
            _keep(key, known + 1)
            return None
    if not isinstance(known, int):
        return known
    learnt = await _learnt(arguments, front)
    with _lock:
        _keep(key, learnt)
    return learnt


def forget() -> None:
    """Learn all of them anew."""
    _shapes.clear()


def _keep(key: bytes, value: Shape | int | None) -> None:
    _shapes[key] = value
    _shapes.move_to_end(key)
    while len(_shapes) > SHAPES:
        _shapes.popitem(last=False)


def _plain(messages: Iterable[Any]) -> bool:
    """Whether the front leaves them as they are."""
    return all(
        message.keys() == {"role", "content"}
        and message["role"] in _ROLES
        and isinstance(message["content"], str)
        and message["content"].strip()
        and _has_bytes(message["content"])
        for message in messages
    )


@functools.cache
def _sent_on() -> frozenset[str]:
    """Arguments that the front puts into a request as they are; by others it may rewrite the messages."""
    return having("litellm") | having("droppable") | _OURS


def _has_bytes(text: str) -> bool:
    """Whether it is without halves of surrogate pairs, which clients take in different ways."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _key(arguments: Mapping[str, Any]) -> bytes | None:
    import litellm

    said = {name: value for name, value in arguments.items() if name not in _PER_CALL}
    with contextlib.suppress(TypeError, ValueError):
        settings = [repr(getattr(litellm, name, None)) for name in _SETTINGS]
        variables = getattr(os.environ, "_data", os.environ)  # not decoded, one by one
        text = json.dumps([said, settings, hash(frozenset(variables.items()))])
        return hashlib.sha256(text.encode()).digest()  # there is a key in it
    return None


# -- learning


async def _learnt(arguments: Mapping[str, Any], front: Front) -> Shape | None:
    """None where the front and the config do not make the same of it."""
    try:
        recorder = await recorded(arguments, front)
        if recorder.config is None or recorder.request is None or recorder.request.method != "POST":
            return None
        return _of(recorder, arguments)
    except Exception:  # noqa: BLE001 - it is as it may be: some configs make no requests
        return None


def _of(recorder: Recorder, arguments: Mapping[str, Any]) -> Shape | None:
    import httpx

    config, request = recorder.config, recorder.request
    model, given = recorder.given["model"], {name: recorder.given[name] for name in _GIVEN}
    given["litellm_params"] = {name: value for name, value in given["litellm_params"].items() if name != "logger_fn"}
    bind(config)
    sent = json.loads(request.content)
    made = transformed(config, model, arguments["messages"], given)
    # An answer that a handler of LiteLLM's reads as something else: a schema's, asked for as a tool's; a tool's of
    # another name.
    renamed = given["litellm_params"].get("_anthropic_tool_name_map")
    forced = "tools" in sent and ("tools" not in arguments or "response_format" in arguments)
    other = forced or ("stream" in arguments and (renamed or iterator(config, None) is None))
    retried = getattr(config, "max_retry_on_unprocessable_entity_error", 0)  # without what a server refuses
    same = all(sent[name] == made[name] for name in sent.keys() & made.keys())
    if other or retried or not same or not _has_our_key(request.headers, arguments):
        return None
    return Shape(
        config,
        model,
        given,
        request.url,
        httpx.Headers([(name, value) for name, value in request.headers.raw if name.lower() not in _OF_ONE_CALL]),
        {name: sent[name] for name in sent.keys() - made.keys()},
        frozenset(made.keys() - sent.keys()),
    )


def _has_our_key(headers: Mapping[str, str], arguments: Mapping[str, Any]) -> bool:
    """Whether no other credential is sent: those that LiteLLM gets by itself end, and are got anew for each request."""
    ours = [arguments.get("api_key"), *(arguments.get("extra_headers") or {}).values()]
    sent = [value for name, value in headers.items() if name.lower() in _CREDENTIALS]
    return all(any(one and str(one) in value for one in ours) for value in sent)


async def recorded(arguments: Mapping[str, Any], front: Front) -> Recorder:
    """What the front would send with these arguments, and what it is made of; nothing is sent."""
    provider, _, model = arguments["model"].partition("/")
    if (config := config_of(provider, model)) is not None:
        _listen(type(config))  # type: ignore[arg-type] # a class is hashable
    token = _recorder.set(recorder := Recorder())
    try:
        client = await connections.client(arguments, transport=_RECORDING)
        logging_object = quiet.logging_object(arguments["model"], stream="stream" in arguments)
        with contextlib.suppress(_Recorded, Exception):
            await front(**copied(dict(arguments)), **client, litellm_logging_obj=logging_object)
    finally:
        _recorder.reset(token)
    return recorder


def bind(config: Any) -> None:
    """Look at what requests are made by. Raises TypeError for what is not as it was, by its name."""
    for name, arguments in _CONTRACT.items():
        try:
            inspect.signature(getattr(config, name)).bind(**dict.fromkeys(arguments))
        except (AttributeError, TypeError, ValueError) as error:
            raise TypeError(f"{type(config).__name__}.{name}: {error}") from None


def config_of(provider: str, model: str) -> Any:
    from litellm.types.utils import LlmProviders
    from litellm.utils import ProviderConfigManager

    try:
        return ProviderConfigManager.get_provider_chat_config(model=model, provider=LlmProviders(provider))
    except ValueError:
        return None


@functools.cache
def _listen(config: type[Any]) -> None:
    """Have the class tell what its requests are made of."""
    for name in ("transform_request", "async_transform_request"):
        setattr(config, name, _telling(getattr(config, name)))


def _telling(transform: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(transform)

    @functools.wraps(transform)
    def told(*args: Any, **kwargs: Any) -> Any:
        recorder = _recorder.get(None)
        if recorder is not None and recorder.config is None:
            given = dict(signature.bind(*args, **kwargs).arguments)
            recorder.config = given.pop("self")
            recorder.given = {
                name: copied(value) if name == "optional_params" else value for name, value in given.items()
            }
        return transform(*args, **kwargs)

    return told


def transformed(config: Any, model: str, messages: Iterable[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = config.transform_request(
        model=model,
        messages=copied(list(messages)),
        optional_params=copied(given["optional_params"]),
        litellm_params=dict(given["litellm_params"]),
        headers={},
    )
    return made


class _Recording:
    """The transport of a client that sends nothing."""

    async def handle_async_request(self, request: Any) -> Any:
        if (recorder := _recorder.get(None)) is not None:
            await request.aread()
            recorder.request = request
        raise _Recorded

    async def aclose(self) -> None:
        """Nothing is open."""


_RECORDING = _Recording()
