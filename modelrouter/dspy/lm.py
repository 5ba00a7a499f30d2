"""The `dspy.LM` that asks a module's chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import dspy
from dspy.clients.base_lm import LM_CLASS_STATE_KEY

from modelrouter.backend import current as backends
from modelrouter.completion import add
from modelrouter.errors import InvalidRequest
from modelrouter.metering import track as tracking
from modelrouter.parameters import having
from modelrouter.planning.arguments import Arguments, request_from
from modelrouter.redaction import holds_secrets
from modelrouter.router.default import get_router

from .calls import Call, current
from .engine import AsyncEngine, Engine, takes


class _Direct:
    """`forward` or `aforward`, called by itself, with all that `__call__` knows. To DSPy it has to look untouched: it
    takes an LM whose `forward` is another one for its own engine."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, lm: RouterLM | None, owner: type[RouterLM]) -> Any:
        original = getattr(dspy.LM, self._name)
        if lm is None:
            return original
        if (call := current.get()) is not None and call.lm is lm:
            return original.__get__(lm)

        return partial(_aforward if self._name == "aforward" else _forward, lm)


def _forward(lm: RouterLM, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
    with lm._calling(kwargs) as kept:
        return dspy.LM.forward(lm, prompt, _heard(messages), **kept)


async def _aforward(lm: RouterLM, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
    with lm._calling(kwargs) as kept:
        return await dspy.LM.aforward(lm, prompt, _heard(messages), **kept)


def _heard(messages: Any) -> Any:
    """With sounds called mp3 that `dspy.Audio.from_path` calls mpeg, after their media type: DSPy's own request knows
    only the one name."""
    if not isinstance(messages, list):
        return messages
    messages[:] = map(_with_names, messages)  # in the very list by which DSPy knows its own messages
    return messages


def _with_names(message: Any) -> Any:
    parts = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(parts, list):
        return message
    named = list(map(_named, parts))
    return message if named == parts else {**message, "content": named}


def _named(part: Any) -> Any:
    sound = part.get("input_audio") if isinstance(part, Mapping) else None
    if isinstance(sound, Mapping) and sound.get("format") == "mpeg":
        return {**part, "input_audio": {**sound, "format": "mp3"}}
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
        _check({"temperature": temperature, "max_tokens": max_tokens, **overrides})
        pinned = _pinned(model)
        limits, beside, kwargs = _split(overrides)
        chain = get_router().catalog.resolve(module, pinned).chain
        self.module = module
        super().__init__(
            chain[0].litellm_model,
            engine=Engine(module, pinned),
            async_engine=AsyncEngine(module, pinned),
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
        self._limits = {**getattr(self, "_limits", {}), "retries": count}

    def _get_initial_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        # DSPy has rules of its own for OpenAI's reasoning models; LiteLLM has them for all, when it knows who is asked.
        if kwargs.get("rollout_id") is None:
            kwargs.pop("rollout_id", None)
        return kwargs

    forward = _Direct("forward")
    aforward = _Direct("aforward")

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        with self._calling(kwargs) as kept:
            return super().__call__(prompt, messages=_heard(messages), **kept)

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        with self._calling(kwargs) as kept:
            return await super().acall(prompt, messages=_heard(messages), **kept)

    @contextmanager
    def _calling(self, kwargs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """A call under way: puts aside what DSPy does not hand on to an engine; what remains is DSPy's."""
        limits, beside, kept = _split(kwargs)
        put_later, beside_later, _ = _split(self.kwargs)
        cache = kept.get("cache", None if self.cache is True else self.cache)
        rollout = kept.get("rollout_id", self.kwargs.get("rollout_id"))
        limits = {**self._limits, **put_later, **limits}
        beside = {**self._beside, **beside_later, **beside}
        call = Call(self, {"cache": cache, **limits, **beside}, rollout, beside=beside)
        token = current.set(call)
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
            current.reset(token)

    def update_history(self, entry: dict[str, Any]) -> None:
        """Put what DSPy cannot know into its entry: the cost, who answered, and every attempt."""
        call = current.get()
        if call is not None and call.answers:
            answers = call.answers
            entry["response_model"] = answers[-1].litellm_model
            entry["cached"] = all(answer.cached for answer in answers)
            entry["fallback"] = any(answer.fallback for answer in answers)
        if call is not None and call.costs:
            costs = call.costs
            entry["cost"] = None if None in costs else float(add(cost for cost in costs if cost is not None))
            if entry["cost"] is not None:
                entry.pop("cost_details", None)
        if call is not None:  # what went past DSPy, but for what may hold a key
            beside = {name: value for name, value in call.beside.items() if not holds_secrets(name)}
            entry["kwargs"] = {**entry.get("kwargs", {}), **beside}
        if call is not None and call.attempts:
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
        return set(
            having("litellm") if takes(self._engine_spec.primary, _SCHEMA) else having("litellm") - {"response_format"}
        )

    def copy(self, **kwargs: Any) -> RouterLM:
        """As `dspy.LM.copy`; ``module=`` names another one, ``model=`` pins a model or a chain."""
        pinned, module = kwargs.pop("model", self._engine_spec.pinned), kwargs.pop("module", self.module)
        _check(kwargs)
        limits, beside, kept = _split(kwargs)
        copied: RouterLM = super().copy(**kept)
        copied._limits = {**self._limits, **limits}
        copied._beside = {**self._beside, **beside}
        copied.module = module
        copied._bind(_pinned(pinned))
        get_router().catalog.resolve(module, copied._engine_spec.pinned)
        return copied

    def dump_state(self) -> dict[str, Any]:
        """The module's name and the overrides. Headers and keys are left out."""
        state = {
            LM_CLASS_STATE_KEY: f"{type(self).__module__}.{type(self).__qualname__}",
            "module": self.module,
            "model": self._engine_spec.pinned,
            "cache": self.cache,
            **self._limits,
            **self._beside,
            **self.kwargs,
            "finetuning_model": self.finetuning_model,
        }
        return {name: value for name, value in state.items() if value is not None and not holds_secrets(name)}

    @classmethod
    def load_state(cls, state: dict[str, Any], **_: Any) -> RouterLM:
        """What `dump_state` gave, on the catalog of the day. Raises `UnknownModule` when that has no such module."""
        return cls(**{name: value for name, value in state.items() if name != LM_CLASS_STATE_KEY})


_LIMITS = {"num_retries": "retries", "retries": "retries", "timeout": "timeout", "deadline": "deadline"}
"""What bounds a call, by DSPy's name or ours."""

_NO_PARAMETERS = frozenset(
    """
    cache rollout_id n num_generations prompt_cache request callbacks history model_type use_developer_role provider
    finetuning_model launch_kwargs train_kwargs
    """.split()
)
"""What DSPy takes for itself."""


def _split(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The limits, what goes past DSPy, and what DSPy takes."""
    limits = {_LIMITS[name]: value for name, value in kwargs.items() if name in _LIMITS}
    kept = {name: value for name, value in kwargs.items() if name in having("dspy") or name in _NO_PARAMETERS}
    beside = {name: value for name, value in kwargs.items() if name not in kept and name not in _LIMITS}
    return limits, beside, kept


def _check(overrides: Mapping[str, Any]) -> None:
    """Refuse a misspelt override now, as a call would, and what cannot be another's."""
    for name, (ours, why) in _NOT_TO_CHOOSE.items():
        if overrides.get(name) not in (None, ours):
            raise InvalidRequest(f"{name}= cannot be chosen: {why}. Leave it out.")
    request_from(
        Arguments(
            "-",
            timeout=overrides.get("timeout"),
            deadline=overrides.get("deadline"),
            retries=overrides.get("num_retries", overrides.get("retries")),
            params={name: value for name, value in overrides.items() if name not in {*_NO_PARAMETERS, *_LIMITS}},
        )
    )


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


_SCHEMA = {"type": "json_schema"}

tracking.carry()  # a `track` block that is open already, for the threads that DSPy starts
