"""DSPy programs on the catalog: `get_lm` gives a `dspy.LM` that asks a module's chain, and so has its cache, fallbacks,
limits, prices and metrics.

::

    from modelrouter.dspy import configure_dspy, get_lm

    configure_dspy()                                  # every predictor asks the module ``default``
    with dspy.context(lm=get_lm("scorer")): ...       # these ask the module ``scorer``
    predict.set_lm(get_lm("scorer", temperature=0.2)) # this one, and a bit warmer

The router plans, retries, remembers and meters; DSPy's own cache and retries are off, so that there is one of each.
What users set in DSPy keeps its meaning: ``cache=False``, ``num_retries``, ``rollout_id`` (another one, another
answer), ``n``, ``temperature``, ``max_tokens``, ``stop``, tools, response formats.

DSPy refuses two things before anybody is asked: a `dspy.File` that has a filename, and Anthropic's ``document`` blocks.
``api_key`` and ``api_base`` are refused here: they belong in the environment and in the catalog. A stream's reasoning
comes in one piece, after its text.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import dspy
from dspy import lm15
from dspy.clients.base_lm import LM_CLASS_STATE_KEY

from . import tracking
from .errors import CallFailed, ConfigurationError, ModelRouterError
from .request import KNOWN, Ask, build
from .types import Attempt, Completion, Kind, Request, Target

if TYPE_CHECKING:
    from .router import Router

__all__ = ["RouterLM", "configure_dspy", "get_lm"]

logger = logging.getLogger("modelrouter")


def get_lm(module: str = "default", *, model: str | Sequence[str] | None = None, **overrides: Any) -> RouterLM:
    """A `dspy.LM` that asks what `module` names in the catalog.

    Args:
        model: In place of the module's chain, as in `Router.complete`.
        **overrides: In place of the module's settings: ``temperature``, ``max_tokens`` and LiteLLM's other parameters,
            ``cache``, ``num_retries``, ``timeout``, ``deadline``, and DSPy's own ``rollout_id`` and ``callbacks``.

    What DSPy asks of a model's abilities (native tools, JSON schemas, reasoning) is answered for the first of the
    chain, by the catalog's ``supports``, else by LiteLLM's tables; a model in neither counts as unable.

    Raises:
        UnknownModule, UnknownModel: neither is in the catalog.
        InvalidRequest: an override is no parameter, or belongs in the catalog.
    """
    return RouterLM(module, model, **overrides)


def configure_dspy(
    module: str = "default", *, provider_type: str | None = None, model_name: str | None = None
) -> RouterLM:
    """Make a module's chain, or one provider and model, what DSPy programs ask unless they say otherwise.

    ``provider_type`` alone means the provider's default model; ``model_name`` alone finds its provider by itself. As
    with `dspy.configure`, only the thread that configured first may do it again; handlers use ``dspy.context``.

    Raises:
        UnknownModule, UnknownModel: there is no such thing in the catalog.
    """
    from .performer import announce

    catalog = _router().catalog
    pinned = catalog.provider_model(provider_type, model_name) if provider_type or model_name else None
    lm = get_lm(module, model=pinned)
    dspy.configure(lm=lm)
    primary = catalog.resolve(module, pinned).chain[0]
    announce(primary)
    logger.info("dspy_configured_successfully provider=%s model=%s", primary.provider, primary.label)
    return lm


def _router() -> Router:
    # Loaded with the first LM, and not with this file: importing it is to cost what importing DSPy costs.
    from .router import get_router

    return get_router()


# -- the LM


class RouterLM(dspy.LM):  # type: ignore[misc]  # DSPy has no types
    """What `get_lm` gives. It holds the module's name and the overrides, no key and no connection: so it can be copied,
    pickled and saved, and follows the catalog as that changes."""

    # DSPy's cache: ours has the same answers, for all of an application.
    _cache_responses: ClassVar[bool] = False

    def __init__(
        self,
        module: str = "default",
        model: str | Sequence[str] | None = None,
        *,
        cache: bool | str | None = True,
        callbacks: list[Any] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        **overrides: Any,
    ) -> None:
        _check({"temperature": temperature, "max_tokens": max_tokens, **overrides})
        pinned = model if model is None or isinstance(model, str) else tuple(model)
        limits, beside, kwargs = _split(overrides)
        chain = _router().catalog.resolve(module, pinned).chain
        self.module = module
        super().__init__(
            chain[0].litellm_model,
            engine=_Engine(module, pinned),
            async_engine=_AsyncEngine(module, pinned),
            cache=cache,
            callbacks=callbacks,
            temperature=temperature,
            max_tokens=max_tokens,
            num_retries=0,
            **kwargs,
        )
        self._bind(pinned)  # DSPy has pinned the model of the moment
        self._limits: Mapping[str, Any] = limits
        self._beside: Mapping[str, Any] = beside

    def _bind(self, pinned: str | tuple[str, ...] | None) -> None:
        self._engine_spec = _Engine(self.module, pinned)
        self._async_engine_spec = _AsyncEngine(self.module, pinned)

    @property
    def model(self) -> str:
        """LiteLLM's string for the first model of the chain, as the catalog is now."""
        return self._engine_spec.primary.litellm_model

    @model.setter
    def model(self, name: str) -> None:
        self._bind(name)

    @property
    def num_retries(self) -> int:
        """How often DSPy retries: never. The router does, as often as the module or ``num_retries=`` says."""
        return 0

    @num_retries.setter
    def num_retries(self, count: int) -> None:
        self._limits = {**getattr(self, "_limits", {}), "retries": count}

    def _get_initial_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        # DSPy has rules of its own for OpenAI's reasoning models; LiteLLM has them for all, when it knows who is asked.
        if kwargs.get("rollout_id") is None:
            kwargs.pop("rollout_id", None)
        return kwargs

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        with self._calling(kwargs) as kept:
            return super().__call__(prompt, messages=messages, **kept)

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        with self._calling(kwargs) as kept:
            return await super().acall(prompt, messages=messages, **kept)

    @contextmanager
    def _calling(self, kwargs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """A call under way: puts aside what DSPy does not hand on to an engine; what remains is DSPy's."""
        limits, beside, kept = _split(kwargs)
        cache = kept.get("cache", None if self.cache is True else self.cache)
        rollout = kept.get("rollout_id", self.kwargs.get("rollout_id"))
        call = _Call({"cache": cache, **self._limits, **limits, **self._beside, **beside}, rollout)
        token = _current.set(call)
        try:
            if dspy.settings.usage_tracker is None:
                yield kept
            else:
                with dspy.context(usage_tracker=_Tracker(dspy.settings.usage_tracker, call)):
                    yield kept
        except dspy.LMError as error:
            error.attempts = tuple(call.attempts)
            raise
        finally:
            _current.reset(token)

    def update_history(self, entry: dict[str, Any]) -> None:
        """Put what DSPy cannot know into its entry: the cost, who answered, and every attempt."""
        call = _current.get()
        if call is not None and call.answers:
            answers = call.answers
            costs = [answer.cost_usd for answer in answers]
            entry["cost"] = None if None in costs else float(sum(cost for cost in costs if cost is not None))
            if entry["cost"] is not None:
                entry.pop("cost_details", None)
            entry["response_model"] = answers[-1].litellm_model
            entry["cached"] = all(answer.cached for answer in answers)
            entry["fallback"] = any(answer.fallback for answer in answers)
            entry["attempts"] = tuple(call.attempts)
        super().update_history(entry)

    @property
    def supports_function_calling(self) -> bool:
        return _able(self._engine_spec.primary, "tools", "supports_function_calling")

    @property
    def supports_reasoning(self) -> bool:
        return _able(self._engine_spec.primary, "reasoning", "supports_reasoning")

    @property
    def supports_response_schema(self) -> bool:
        return _able(self._engine_spec.primary, "response_format", "supports_response_schema")

    @property
    def supported_params(self) -> set[str]:
        return set(KNOWN if _takes(self._engine_spec.primary, _SCHEMA) else KNOWN - {"response_format"})

    def copy(self, **kwargs: Any) -> RouterLM:
        """As `dspy.LM.copy`; ``model=`` pins another one."""
        pinned = kwargs.pop("model", None)
        _check(kwargs)
        limits, beside, kept = _split(kwargs)
        copied: RouterLM = super().copy(**kept)
        copied._limits = {**self._limits, **limits}
        copied._beside = {**self._beside, **beside}
        if pinned is not None:
            copied._bind(pinned if isinstance(pinned, str) else tuple(pinned))
        return copied

    def dump_state(self) -> dict[str, Any]:
        """The module's name and the overrides. Headers are left out: they may have keys in them."""
        state = {
            LM_CLASS_STATE_KEY: f"{type(self).__module__}.{type(self).__qualname__}",
            "module": self.module,
            "model": self._engine_spec.pinned,
            "cache": self.cache,
            **self._limits,
            **self._beside,
            **self.kwargs,
        }
        return {name: value for name, value in state.items() if value is not None and name != "extra_headers"}

    @classmethod
    def load_state(cls, state: dict[str, Any], **_: Any) -> RouterLM:
        """What `dump_state` gave, on the catalog of the day. Raises `UnknownModule` when that has no such module."""
        return cls(**{name: value for name, value in state.items() if name != LM_CLASS_STATE_KEY})


_LIMITS = {"num_retries": "retries", "retries": "retries", "timeout": "timeout", "deadline": "deadline"}
"""What bounds a call, by DSPy's name or ours."""

_DSPYS = frozenset(
    """
    temperature top_p top_k max_tokens max_completion_tokens stop seed presence_penalty frequency_penalty logit_bias
    user logprobs top_logprobs response_format tools tool_choice parallel_tool_calls functions function_call
    reasoning_effort verbosity prediction metadata store service_tier prompt_cache_key prompt_cache_retention
    """.split()
)
"""The parameters that DSPy's canonical request can carry. The others that LiteLLM knows go past it."""

_NO_PARAMETERS = frozenset(
    """
    cache rollout_id n num_generations prompt_cache request callbacks history model_type use_developer_role provider
    finetuning_model launch_kwargs train_kwargs engine async_engine
    """.split()
)
"""What DSPy takes for itself."""


def _split(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The limits, what goes past DSPy, and what DSPy takes."""
    limits = {_LIMITS[name]: value for name, value in kwargs.items() if name in _LIMITS}
    kept = {name: value for name, value in kwargs.items() if name in _DSPYS or name in _NO_PARAMETERS}
    beside = {name: value for name, value in kwargs.items() if name not in kept and name not in _LIMITS}
    return limits, beside, kept


def _check(overrides: Mapping[str, Any]) -> None:
    """Refuse a misspelt override now, as a call would."""
    build(
        Ask(
            "-",
            timeout=overrides.get("timeout"),
            deadline=overrides.get("deadline"),
            retries=overrides.get("num_retries", overrides.get("retries")),
            params={name: value for name, value in overrides.items() if name not in {*_NO_PARAMETERS, *_LIMITS}},
        )
    )


@dataclass
class _Call:
    """What an engine has to know of a call beyond the request, and what comes of it."""

    arguments: dict[str, Any] = field(default_factory=dict)
    """The router's, beside the messages."""
    rollout: Any = None
    candidate: int = 0
    """Of ``n``: DSPy asks once for each, with the same request."""
    answers: list[Completion] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)


_current: ContextVar[_Call | None] = ContextVar("modelrouter_dspy_call", default=None)


class _Tracker:
    """A usage tracker that books tokens on the model that answered; DSPy books them on the one that was asked."""

    def __init__(self, tracker: Any, call: _Call) -> None:
        self._tracker = tracker
        self._call = call

    def add_usage(self, lm: str, usage: dict[str, Any]) -> None:
        answers = self._call.answers
        self._tracker.add_usage(answers[-1].litellm_model if answers else lm, usage)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracker, name)


def _able(target: Target, what: str, column: str) -> bool:
    """Whether a model can do it: the catalog says, else LiteLLM's tables. DSPy wants not known to count as no."""
    from . import _litellm as door
    from .pricing import row_of

    said = target.supports.get(what)
    if said is None:
        door.load()
        found = row_of(door.rows(), target.litellm_model)
        said = found is not None and found[1].get(column) is True
    return said


def _takes(target: Target, response_format: Mapping[str, Any]) -> bool:
    """Whether a model can be asked for this form of answer."""
    from . import _litellm as door

    door.load()
    return door.lacks(target, Request((), {"response_format": response_format})) is None


_SCHEMA = {"type": "json_schema"}
_JSON_MODE = {"type": "json_object"}


# -- the engines


@dataclass(frozen=True)
class _Base:
    """One request in, one answer out: DSPy's contract for engines."""

    module: str
    pinned: str | tuple[str, ...] | None

    @property
    def primary(self) -> Target:
        return _router().catalog.resolve(self.module, self.pinned).chain[0]

    def arguments(self, request: lm15.Request, call: _Call) -> dict[str, Any]:
        extra = None
        if call.rollout is not None or call.candidate:
            extra = f"dspy rollout {call.rollout} candidate {call.candidate}"
        call.candidate += 1
        asked = _asked(request)
        if asked.get("response_format") == _JSON_MODE and not _takes(self.primary, _JSON_MODE):
            # DSPy's prompt asks for JSON in words too; LiteLLM would leave it out in silence, and the router refuse it.
            del asked["response_format"]
        return {"module": self.module, "model": self.pinned, "cache_key": extra, **asked, **call.arguments}


class _Engine(_Base):
    def complete(self, request: lm15.Request) -> lm15.Response:
        call = _current.get() or _Call()
        with _as_dspy_knows_it(call):
            return _response(_router().complete(**self.arguments(request, call)), call)

    def stream(self, request: lm15.Request) -> Iterator[Any]:
        call = _current.get() or _Call()
        yield lm15.StreamStartEvent(model=request.model)
        with _as_dspy_knows_it(call), _router().stream(**self.arguments(request, call)) as pieces:
            for text in pieces:
                yield _text(text)
            response = _response(pieces.answer, call)
        yield from _rest(response)

    def close(self) -> None:
        """The router stays open: it is the whole process's."""


class _AsyncEngine(_Base):
    async def complete(self, request: lm15.Request) -> lm15.Response:
        call = _current.get() or _Call()
        with _as_dspy_knows_it(call):
            return _response(await _router().acomplete(**self.arguments(request, call)), call)

    async def stream(self, request: lm15.Request) -> AsyncIterator[Any]:
        call = _current.get() or _Call()
        yield lm15.StreamStartEvent(model=request.model)
        with _as_dspy_knows_it(call):
            async with _router().astream(**self.arguments(request, call)) as pieces:
                async for text in pieces:
                    yield _text(text)
                response = _response(pieces.answer, call)
        for event in _rest(response):
            yield event

    async def aclose(self) -> None:
        """The router stays open: it is the whole process's."""


# -- requests and answers, in DSPy's form

_codec = lm15.OpenAIChatLM(api_key="-", transport=None)  # sends nothing: it only knows OpenAI's form


def _asked(request: lm15.Request) -> dict[str, Any]:
    """The messages and parameters of a request."""
    aside: list[dict[str, Any]] = []
    request = replace(request, messages=tuple(_without_media(message, aside) for message in request.messages))
    body: dict[str, Any] = json.loads(_codec.build_request(request, stream=False).body)
    del body["model"]
    for part in _parts(body["messages"]) if aside else ():
        url = part["image_url"]["url"] if part.get("type") == "image_url" else ""
        if url.startswith(_ASIDE):
            del part["image_url"]
            part.update(aside[int(url.removeprefix(_ASIDE))])
    if "max_completion_tokens" in body:
        body["max_tokens"] = body.pop("max_completion_tokens")
    if request.config.top_k is not None:  # OpenAI has none
        body["top_k"] = request.config.top_k
    return body


_ASIDE = "aside:"


def _without_media(message: Any, aside: list[dict[str, Any]]) -> Any:
    """The message with a picture in place of each sound and file, for which lm15's form of OpenAI has no place."""

    def keep(part: Any) -> Any:
        match part:
            case lm15.AudioPart(data=str(data), media_type=media_type):
                form = {"audio/mpeg": "mp3"}.get(media_type) or media_type.partition("/")[2]
                aside.append({"type": "input_audio", "input_audio": {"data": data, "format": form}})
            case lm15.DocumentPart(data=str(data), media_type=media_type):
                aside.append({"type": "file", "file": {"file_data": f"data:{media_type};base64,{data}"}})
            case lm15.DocumentPart(file_id=str(file_id)) | lm15.DocumentPart(url=str(file_id)):
                aside.append({"type": "file", "file": {"file_id": file_id}})
            case _:
                return part
        return lm15.ImagePart(url=f"{_ASIDE}{len(aside) - 1}")

    return replace(message, parts=tuple(map(keep, message.parts)))


def _parts(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for message in messages:
        if isinstance(message.get("content"), list):
            yield from message["content"]


def _response(answer: Completion, call: _Call) -> lm15.Response:
    call.answers.append(answer)
    call.attempts += answer.attempts
    response = lm15.response_from_openai_chat(answer.body or _body(answer), model=answer.litellm_model)
    usage = lm15.Usage() if answer.cached else response.usage  # as with DSPy's own cache: nothing was used
    return replace(response, model=answer.litellm_model, usage=usage)


def _body(answer: Completion) -> dict[str, Any]:
    """An answer that no provider has given, in OpenAI's form."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in answer.tool_calls
    ]
    message = {"role": "assistant", "content": answer.text or None, "tool_calls": calls or None}
    used = answer.usage
    return {
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason}],
        "usage": {
            "prompt_tokens": used.input_tokens,
            "completion_tokens": used.output_tokens,
            "total_tokens": used.input_tokens + used.output_tokens,
        },
    }


_THINKING, _TEXT, _TOOLS = range(3)
"""Where the parts of a streamed answer stand in it; each tool call has its own place, from the last on."""


def _text(text: str) -> Any:
    return lm15.StreamDeltaEvent(lm15.TextDelta(text, part_index=_TEXT))


def _rest(response: lm15.Response) -> Iterator[Any]:
    """What a stream has beside its text."""
    tools = _TOOLS
    for part in response.message.parts:
        match part:
            case lm15.ThinkingPart():
                yield lm15.StreamDeltaEvent(lm15.ThinkingDelta(part.text, part_index=_THINKING))
            case lm15.ToolCallPart():
                text = json.dumps(part.input)
                yield lm15.StreamDeltaEvent(lm15.ToolCallDelta(text, part_index=tools, id=part.id, name=part.name))
                tools += 1
    yield lm15.StreamEndEvent(response.finish_reason, response.usage, response.provider_data)


# -- errors, in DSPy's form

_ERRORS: Mapping[Kind, Any] = {
    Kind.RATE_LIMIT: lm15.RateLimitError,
    Kind.CONNECTION: lm15.TransportError,
    Kind.SERVER: lm15.ServerError,
    Kind.TIMEOUT: lm15.TimeoutError,
    Kind.MISSING_KEY: lm15.NotConfiguredError,
    Kind.AUTH: lm15.AuthError,
    Kind.PERMISSION: lm15.AuthError,
    Kind.QUOTA: lm15.BillingError,
    Kind.NOT_FOUND: lm15.UnsupportedModelError,
    Kind.UNSUPPORTED: lm15.UnsupportedFeatureError,
    Kind.CONTEXT_WINDOW: lm15.ContextLengthError,
    Kind.CONTENT_POLICY: lm15.InvalidRequestError,
    Kind.EMPTY_RESPONSE: lm15.ProviderError,
    Kind.MAX_TOKENS: lm15.ProviderError,
    Kind.BAD_REQUEST: lm15.InvalidRequestError,
    Kind.TRUNCATED: lm15.StreamAssemblyError,
}


@contextmanager
def _as_dspy_knows_it(call: _Call) -> Iterator[None]:
    try:
        yield
    except ModelRouterError as failure:
        call.attempts += getattr(failure, "attempts", ())
        raise _translated(failure) from failure


def _translated(failure: ModelRouterError) -> Exception:
    if isinstance(failure, CallFailed):
        decisive = _decisive(failure)
        known = _ERRORS.get(decisive.error_kind) if decisive.error_kind is not None else None
        error = (known or lm15.ProviderError)(
            provider=decisive.provider, status=decisive.status, retry_after=decisive.retry_after
        )
        error.attempts = failure.attempts
    else:
        error = (lm15.ConfigurationError if isinstance(failure, ConfigurationError) else lm15.InvalidRequestError)()
    # lm15 puts advice of its own into a message, about arguments that are not here; ours says what to do.
    error.message = str(failure)
    error.args = (error.message,)
    return error  # type: ignore[no-any-return]


def _decisive(failure: CallFailed) -> Attempt:
    """Whose error a call's is: the last one's, but for a prompt that is too long, which DSPy's agents know how to
    shorten."""
    failed = [each for each in failure.attempts if each.outcome == "error"] or list(failure.attempts)
    too_long = [each for each in failed if each.error_kind is Kind.CONTEXT_WINDOW]
    return (too_long or failed)[-1]


def __getattr__(name: str) -> Any:
    # The guide takes it from here. It stands on this file, so it is looked up when it is asked for.
    if name == "get_pipeline":
        return importlib.import_module(".pipeline", __package__).get_pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


tracking.carry()  # a `track` block that is open already, for the threads that DSPy starts
