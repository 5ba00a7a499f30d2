"""LiteLLM's completion without what our calls do not need: its callbacks, cost calculation, retries, cache and budget.
modelrouter does its own."""

from __future__ import annotations

import copy
import datetime
import functools
import inspect
import platform
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

_SWITCHES = ("max_budget", "pre_call_rules", "post_call_rules", "custom_provider_map")
_CALLBACKS = (
    "callbacks input_callback success_callback failure_callback _async_success_callback _async_failure_callback"
).split()


def logging_object(litellm_model: str, *, stream: bool) -> Any:
    """What LiteLLM reports a call to, and keeps nothing."""
    quiet = _logging()(
        model=litellm_model,
        messages=[],
        stream=stream,
        call_type="acompletion",
        start_time=datetime.datetime.now(),  # noqa: DTZ005 - LiteLLM's own are naive, and it subtracts them
        litellm_call_id="modelrouter",
        function_id="",
        kwargs={},
    )
    quiet.stream_options = {"include_usage": True} if stream else None
    return quiet


def reading(litellm_model: str, said: Callable[[Mapping[str, Any]], None]) -> Any:
    """A `logging_object` for a config that reads one whole answer, which `said` hears. Making one takes as long as
    reading a short answer, so it is a copy, and that of which it is one stays as it was."""
    quiet = copy.copy(_unused(litellm_model))
    quiet.model_call_details = dict(quiet.model_call_details)
    quiet.logger_fn = said
    return quiet


@functools.lru_cache(maxsize=256)
def _unused(litellm_model: str) -> Any:
    return logging_object(litellm_model, stream=False)


def overheard() -> bool:
    """Whether other code has hooked into LiteLLM in a way that would be passed by."""
    import litellm

    return any(getattr(litellm, name) for name in _SWITCHES) or any(map(_foreign, _CALLBACKS))


@functools.cache
def bare(*, direct: bool) -> Callable[..., Awaitable[Any]]:
    """`litellm.acompletion` without the decorator that logs, caches and retries around it.

    Direct, for providers whose request it makes ready without waiting for anything: without the thread, too, on which
    it has that done. The thread costs more than it saves, and of a call that is cancelled meanwhile, the request is a
    coroutine that nobody ever awaits: Python warns of it.
    """
    import litellm

    if not direct:
        bare: Callable[..., Awaitable[Any]] = inspect.unwrap(litellm.acompletion)
        return bare
    prepare: Callable[..., Any] = inspect.unwrap(litellm.completion)

    async def completion(**arguments: Any) -> Any:
        try:
            pending = prepare(**arguments, acompletion=True)
            return await pending if inspect.isawaitable(pending) else pending
        except Exception as error:
            raise translated(error, arguments["model"], arguments) from error

    return completion


def rehearse() -> None:
    """Have LiteLLM make what it only makes, and import what it only imports, when it is first called. Nothing is sent.
    A fork that came in the middle of that would find it half done."""
    import litellm

    asked: dict[str, Any] = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    prepare: Callable[..., Any] = inspect.unwrap(litellm.completion)
    prepare(
        **asked,
        api_key="none",
        temperature=0,
        mock_response="hi",
        litellm_logging_obj=logging_object(asked["model"], stream=False),
    )
    platform.platform()  # OpenAI's client asks on a thread, where Python waits for a lock


def translated(error: Exception, litellm_model: str, arguments: Mapping[str, Any]) -> Exception:
    """LiteLLM's exception for what a client of its raised: `classify` knows those."""
    import litellm

    try:
        made: Exception = litellm.exception_type(
            model=litellm_model,
            custom_llm_provider=litellm_model.partition("/")[0],
            original_exception=error,
            completion_kwargs=dict(arguments),
        )
    except Exception as raised:  # noqa: BLE001 - which is its way to return it
        return raised
    return made


def _foreign(name: str) -> bool:
    """Whether a list of LiteLLM's callbacks has one that wants to hear of our calls. A `litellm.Router` puts its own
    there, which pass over calls that are not its own; LiteLLM's code for Gemini has a cache for itself, which registers
    as if it were everybody's (that one is `litellm.cache`)."""
    import litellm

    return any(
        callback != "cache"
        and not isinstance(getattr(callback, "__self__", None), litellm.Router)  # type: ignore[attr-defined] # lazy
        and not getattr(callback, "meters_for_modelrouter", False)
        for callback in getattr(litellm, name)
    )


@functools.cache
def _logging() -> type[Any]:
    from litellm.litellm_core_utils.litellm_logging import Logging

    def nothing(self: Any, *args: Any, **kwargs: Any) -> None:
        """Take what LiteLLM reports about a call, and keep nothing."""

    def told(self: Any, original_response: Any = None, **_: Any) -> None:
        """Hand on the answer as it came."""
        if (logger := getattr(self, "logger_fn", None)) is not None:
            logger({"original_response": original_response})

    async def anothing(self: Any, *args: Any, **kwargs: Any) -> None:
        """The same, awaited."""

    methods: dict[str, Any] = {
        **dict.fromkeys(("pre_call", "success_handler", "failure_handler"), nothing),
        "post_call": told,
        **dict.fromkeys(("handle_sync_success_callbacks_for_async_calls", "response_cost_calculator"), nothing),
        **dict.fromkeys(("async_success_handler", "async_failure_handler"), anothing),
        "_response_cost_calculator_async": anothing,
        "claim_async_success_log": lambda _: False,
    }
    return type("QuietLogging", (Logging,), methods)
