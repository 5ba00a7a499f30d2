"""The `dspy.LM` that asks a module's chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import MethodType
from typing import Any, ClassVar

import dspy
from dspy.clients.base_lm import LM_CLASS_STATE_KEY

from modelrouter.backend import current as backends
from modelrouter.completion import add
from modelrouter.errors import InvalidRequest
from modelrouter.hints import nearest
from modelrouter.metering import track as tracking
from modelrouter.parameters import having
from modelrouter.planning.arguments import Arguments, request_from
from modelrouter.redaction import holds_secrets
from modelrouter.router.default import get_router

from .calls import Call, Gate, current
from .engine import AsyncEngine, Engine
from .translation import content_of


class _Direct:
    """`forward` or `aforward`, called by itself, with all that `__call__` knows. To DSPy it has to look untouched: it
    takes an LM whose `forward` is another one for its own engine."""

    def __init__(self, ours: Callable[..., Any]) -> None:
        self._ours = ours

    def __get__(self, lm: RouterLM | None, owner: type[RouterLM]) -> Any:
        original = getattr(dspy.LM, self._ours.__name__)
        if lm is None:
            return original
        under_way = (call := current.get()) is not None and call.lm is lm
        return MethodType(original if under_way else self._ours, lm)


def _fit(messages: Any) -> Any:
    """As DSPy's own request has a place for them: with sounds called mp3 that `dspy.Audio.from_path` calls mpeg, after
    their media type, and without the names of files, which the call under way keeps."""
    if isinstance(messages, list):
        call = current.get() or Call()
        # In the very list by which DSPy knows its own messages.
        messages[:] = [_fitted(each, call) for each in messages]
    return messages


def _fitted(message: Any, call: Call) -> Any:
    match message:
        case {"content": list(parts)} if (fitted := [_part(each, call) for each in parts]) != parts:
            return {**message, "content": fitted}
    return message


def _part(part: Any, call: Call) -> Any:
    match part:
        case {"input_audio": {"format": "mpeg"} as sound}:
            return {**part, "input_audio": {**sound, "format": "mp3"}}
        case {"file": {"filename": str(filename), **file}}:
            call.filenames[content_of(part["file"])] = filename
            return {**part, "file": file}
    return part


class RouterLM(dspy.LM):  # type: ignore[misc]  # DSPy has no types
    """What `get_lm` gives. It holds the module's name and the overrides, no key and no connection: so it can be copied,
    pickled and saved, and follows the catalog as that changes."""

    # DSPy's cache: ours has the same answers, for all of an application.
    _cache_responses: ClassVar[bool] = False

    # Saved programs and pickles name the class by its public home.
    __module__ = "modelrouter.dspy"

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
        settings = {"cache": cache, "callbacks": callbacks, "temperature": temperature, "max_tokens": max_tokens}
        check({**settings, **overrides})
        engine = Engine(module, _pinned(model))
        engines = {"engine": engine, "async_engine": AsyncEngine(module, engine.pinned)}
        aside, kwargs = _split(overrides)
        self.module = module
        super().__init__(engine.primary.litellm_model, num_retries=0, **engines, **settings, **kwargs)
        self._bind(engine.pinned)  # DSPy has pinned the model of the moment
        self._aside: Mapping[str, Any] = aside

    def _bind(self, pinned: str | tuple[str, ...] | None) -> None:
        self._engine_spec = Engine(self.module, pinned)
        self._async_engine_spec = AsyncEngine(self.module, pinned)

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
        self._aside = {**getattr(self, "_aside", {}), "retries": count}

    def _get_initial_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        # DSPy has rules of its own for OpenAI's reasoning models; LiteLLM has them for all, when it knows who is asked.
        return {name: value for name, value in kwargs.items() if name != "rollout_id" or value is not None}

    @_Direct
    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        with self._calling(kwargs) as kept:
            return dspy.LM.forward(self, prompt, _fit(messages), **kept)

    @_Direct
    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        with self._calling(kwargs) as kept:
            return await dspy.LM.aforward(self, prompt, _fit(messages), **kept)

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        with self._calling(kwargs) as kept:
            return super().__call__(prompt, messages=_fit(messages), **kept)

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        with self._calling(kwargs) as kept:
            return await super().acall(prompt, messages=_fit(messages), **kept)

    @contextmanager
    def _calling(self, kwargs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """A call under way: puts aside what DSPy does not hand on to an engine; what remains is DSPy's."""
        aside, kept = _split(kwargs)
        put_later, _ = _split(self.kwargs)
        cache = kept.get("cache", None if self.cache is True else self.cache)
        rollout = kept.get("rollout_id", self.kwargs.get("rollout_id"))
        call = Call(self, {"cache": cache, **self._aside, **put_later, **aside}, rollout)
        ours = {"usage_tracker": _Tracker, "send_stream": Gate}
        theirs = {name: getattr(dspy.settings, name) for name in ours}
        own = {name: made(theirs[name], call) for name, made in ours.items() if theirs[name] is not None}
        token = current.set(call)
        try:
            with dspy.context(**own) if own else nullcontext():
                yield kept
        except dspy.LMError as error:
            error.attempts = tuple(call.attempts)
            raise
        finally:
            current.reset(token)

    def update_history(self, entry: dict[str, Any]) -> None:
        """Put what DSPy cannot know into its entry: the cost, who answered, and every attempt."""
        call = current.get() or Call()
        if answers := call.answers:
            entry["response_model"] = answers[-1].litellm_model
            entry["cached"] = all(answer.cached for answer in answers)
            entry["fallback"] = any(answer.fallback for answer in answers)
        if costs := call.costs:
            entry["cost"] = None if None in costs else float(add(cost for cost in costs if cost is not None))
            if entry["cost"] is not None:
                entry.pop("cost_details", None)
        beside = call.arguments.keys() - {"cache", *_LIMITS}  # what went past DSPy, but for what may hold a key
        shown = {name: said for name, said in call.arguments.items() if name in beside and not holds_secrets(name)}
        entry["kwargs"] = {**entry.get("kwargs", {}), **shown}
        if call.attempts:
            entry["attempts"] = tuple(call.attempts)
        super().update_history(entry)

    @property
    def supports_function_calling(self) -> bool:
        return backends.current().able(self._engine_spec.primary, "tools")

    @property
    def supports_reasoning(self) -> bool:
        return backends.current().able(self._engine_spec.primary, "reasoning")

    @property
    def supports_response_schema(self) -> bool:
        return backends.current().able(self._engine_spec.primary, "response_format")

    @property
    def supported_params(self) -> set[str]:
        backend = backends.current()
        backend.load()
        json = backend.takes(self._engine_spec.primary, "response_format", {"type": "json_schema"})
        return {name for name in having("litellm") if json or name != "response_format"}

    def copy(self, **kwargs: Any) -> RouterLM:
        """As `dspy.LM.copy`; ``module=`` names another one, ``model=`` pins a model or a chain."""
        pinned, module = kwargs.pop("model", self._engine_spec.pinned), kwargs.pop("module", self.module)
        check(kwargs)
        aside, kept = _split(kwargs)
        copied: RouterLM = super().copy(**kept)
        copied._aside = {**self._aside, **aside}
        copied.module = module
        copied._bind(_pinned(pinned))
        get_router().catalog.resolve(module, copied._engine_spec.pinned)
        return copied

    def dump_state(self) -> dict[str, Any]:
        """The module's name and the overrides. Headers and keys are left out."""
        # What says whose state it is comes last: it is nobody's to overrule.
        state = {
            **self._aside,
            **self.kwargs,
            "finetuning_model": self.finetuning_model,
            "launch_kwargs": _without_secrets(self.launch_kwargs) or None,
            "train_kwargs": _without_secrets(self.train_kwargs) or None,
            "use_developer_role": self.use_developer_role or None,
            "cache": self.cache,
            "model": self._engine_spec.pinned,
            "module": self.module,
            LM_CLASS_STATE_KEY: f"{type(self).__module__}.{type(self).__qualname__}",
        }
        return {name: value for name, value in state.items() if value is not None and not holds_secrets(name)}

    @classmethod
    def load_state(cls, state: dict[str, Any], **_: Any) -> RouterLM:
        """What `dump_state` gave, on the catalog of the day. Raises `UnknownModule` when that has no such module."""
        return cls(**{name: value for name, value in state.items() if name != LM_CLASS_STATE_KEY})


def _without_secrets(value: Any) -> Any:
    """What a training or a server is started with, without the keys and headers in it."""
    match value:
        case Mapping():
            return {name: _without_secrets(each) for name, each in value.items() if not holds_secrets(str(name))}
        case list() | tuple():
            return [_without_secrets(each) for each in value]
    return value


_LIMITS = {"num_retries": "retries", "retries": "retries", "timeout": "timeout", "deadline": "deadline"}
"""What bounds a call, by DSPy's name or ours."""

_NO_PARAMETERS = frozenset(
    """
    cache rollout_id n num_generations prompt_cache request callbacks history model_type use_developer_role provider
    finetuning_model launch_kwargs train_kwargs
    """.split()
)
"""What DSPy takes for itself."""


_DSPYS_OWN = ("rollout_id", "callbacks", "num_retries", "launch_kwargs", "train_kwargs", "finetuning_model")
"""What no provider has a name like."""


def _split(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What goes past DSPy, the limits by our names, and what DSPy takes."""
    kept = {name: value for name, value in kwargs.items() if name in having("dspy") or name in _NO_PARAMETERS}
    for name in kwargs.keys() - kept.keys() - _LIMITS.keys():
        if (meant := nearest(name, _DSPYS_OWN, cutoff=0.8)) is not None:
            raise InvalidRequest(f"{name}= is no argument of DSPy's. Did you mean {meant}=?")
    return {_LIMITS.get(name, name): value for name, value in kwargs.items() if name not in kept}, kept


def check(overrides: Mapping[str, Any]) -> None:
    """Refuse a misspelt override now, as a call would, and what cannot be another's."""
    for name, (ours, why) in _NOT_TO_CHOOSE.items():
        if overrides.get(name) not in (None, ours):
            raise InvalidRequest(f"{name}= cannot be chosen: {why}. Leave it out.")
    if own := [name for name in overrides if name.startswith("_")]:
        raise InvalidRequest(
            f"{own[0]}= cannot be chosen: names that begin so are DSPy's in what it saves. Leave it out."
        )
    aside, kept = _split(overrides)
    limits = {name: aside.pop(name) for name in {*_LIMITS.values()} & aside.keys()}
    params = aside | {name: value for name, value in kept.items() if name not in _NO_PARAMETERS}
    if isinstance(overrides.get("provider"), str):  # DSPy's is an object that trains
        params["provider"] = overrides["provider"]
    request_from(Arguments("-", **limits, params=params))


_ITS_OWN = "the router asks, and in its provider's form for chat"
_NOT_TO_CHOOSE = {
    "engine": (None, _ITS_OWN),
    "async_engine": (None, _ITS_OWN),
    "model_type": ("chat", _ITS_OWN),
    "prompt_cache": (None, "DSPy has it for its own engines; LiteLLM takes cache_control_injection_points="),
    "prompt": (None, "each call has its own"),
    "messages": (None, "each call has its own"),
}


def _pinned(model: Any) -> str | tuple[str, ...] | None:
    """A model, or a chain of them, in place of the module's."""
    if model is None or isinstance(model, str):
        return model
    if not isinstance(model, Sequence) or not all(isinstance(name, str) for name in model):
        raise InvalidRequest(f"model= takes a name or a list of names, not {model!r}.")
    return tuple(model)


class _Tracker:
    """A usage tracker that books tokens on the model that answered; DSPy books them on the one that was asked."""

    def __init__(self, tracker: Any, call: Call) -> None:
        self._tracker = tracker
        self._call = call

    def add_usage(self, lm: str, usage: dict[str, Any]) -> None:
        answers = self._call.answers
        self._tracker.add_usage(answers[-1].litellm_model if answers else lm, usage)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracker, name)


tracking.carry()  # a `track` block that is open already, for the threads that DSPy starts
