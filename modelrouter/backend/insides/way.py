"""Which way LiteLLM is called: the quick one, on its insides, or its plain call."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from itertools import chain
from typing import Any

from modelrouter import environment
from modelrouter.backend.chunks import Chunks, Wrapped
from modelrouter.backend.said import Said
from modelrouter.catalog.known_providers import of_string

from . import below, connections, listening, lookups, quiet, redirects, shapes, wire

logger = logging.getLogger("modelrouter")

_plain: str | None = None


def described() -> str:
    """For people, once LiteLLM is loaded."""
    reason = "the quick way" if _plain is None else f"its plain call, which takes longer: {_plain}"
    return f"LiteLLM {version('litellm')}, {reason}"


def choose() -> None:
    """Decide, once LiteLLM is loaded: MODELROUTER_LITELLM=plain is the operator's word, else it is as `probe` finds."""
    global _plain
    _plain = None
    said = environment.value("MODELROUTER_LITELLM")
    if said == "plain":
        _plain = "MODELROUTER_LITELLM=plain"
        return
    if said is not None:
        logger.warning("litellm_way MODELROUTER_LITELLM=%r decides nothing: the only value is 'plain'", said)
    try:
        probe()
        quiet.rehearse()
    except Exception as error:  # noqa: BLE001 - whatever has changed there
        _give_up(error)


def probe() -> None:
    """Make once what the quick way makes for each call, and look at what it reads. Raises what is not as it was."""
    import litellm

    for direct in (True, False):
        quiet.bare(direct=direct)
    quiet.logging_object("openai/probe", stream=True)
    quiet.overheard()
    inspect.signature(litellm.exception_type).bind(
        model="", custom_llm_provider="", original_exception=None, completion_kwargs={}
    )
    below.kinds()
    listening.probe()
    connections.probe()
    lookups.probe()
    redirects.probe()


def _give_up(error: Exception) -> None:
    global _plain
    _plain = f"it is not as modelrouter knows it ({type(error).__name__}: {error})"
    logger.warning("litellm_plain %s", described())


async def completion(arguments: Mapping[str, Any]) -> tuple[Callable[..., Awaitable[Any]], dict[str, Any]]:
    """What to call with these arguments, and those that go with them.

    Where other code has hooked into LiteLLM in a way that the quick way would pass by, the plain call is made.
    """
    import litellm

    extra: dict[str, Any] = {}
    if litellm.cache is not None:
        # Somebody's cache of LiteLLM's: answers are remembered by us, and a hit there would be billed as an answer.
        extra = {"caching": False, "cache": {"no-cache": True, "no-store": True}}
    if _plain is None:
        try:
            client = await connections.client(arguments)
            if extra or quiet.overheard():
                return litellm.acompletion, extra | client
            front = quiet.bare(direct=_is_ready(arguments))
            if client and (shape := await shapes.shape(arguments, front)) is not None:
                return functools.partial(wire.send, shape), {}
            logging_object = quiet.logging_object(arguments["model"], stream="stream" in arguments)
            extra = {**client, "litellm_logging_obj": logging_object}
        except (AttributeError, ImportError, TypeError) as error:
            _give_up(error)
        else:
            return front, extra
    return litellm.acompletion, extra


def _is_ready(arguments: Mapping[str, Any]) -> bool:
    """Whether LiteLLM makes the request ready without waiting for anything: files by their address it fetches."""
    contents = (message.get("content") for message in arguments["messages"])
    parts = chain.from_iterable(content for content in contents if isinstance(content, list))
    return of_string(arguments["model"]).proven and not any(part.get("type") == "file" for part in parts)


def is_alone(litellm_model: str) -> bool:
    """Whether a call of this model's leaves nothing behind on its loop: no callback of somebody's that is under way."""
    return _plain is None and of_string(litellm_model).proven and not quiet.overheard()


def chunks(wrapper: Any, litellm_model: str, said: Said, *, quick: bool) -> Chunks:
    """The chunks of a stream that LiteLLM has opened; quick as `is_quick` says."""
    if isinstance(wrapper, wire.Opened):
        return wrapper.chunks
    try:
        listening.listen(wrapper, said)  # also to a stream of the plain call, which stays as it is
        if _plain is None and quick and (found := below.read(wrapper, litellm_model, said)) is not None:
            return found
    except (AttributeError, ImportError, TypeError) as error:
        if _plain is None:
            _give_up(error)
    return Wrapped(wrapper, said)


def is_quick(extra: Mapping[str, Any]) -> bool:
    """Whether what `completion` gave is the quick way."""
    return "litellm_logging_obj" in extra
