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

What DSPy's canonical request has no place for, DSPy refuses for every engine but its own for LiteLLM, before anybody is
asked: sounds but mp3 and wav, ``video_url`` and Anthropic's ``document`` parts, an ``image_url`` that is a mere string
or has a ``format``, ``cache_control`` on parts and tools (``cache_control_injection_points=`` passes),
``thinking_blocks``, a ``name`` on a user's message, the role ``function``, ``strict`` tools, tools of the provider's
own, a ``reasoning_effort`` that is a mapping, and a ``logit_bias`` whose keys are numbers. The name of a `dspy.File`
goes past it.
``api_key`` and ``api_base`` are refused here: they belong in the environment and in the catalog.

``lm.model`` is the first of the chain as the file is now. An entry of ``lm.history`` has the cost (None when it is not
known), the model that answered, ``cached``, ``fallback`` and all ``attempts``; `dspy.track_usage` counts tokens for the
model that answered, and none for a remembered answer. A prompt that is too long for one model of the chain is reported
as too long, so that agents shorten it. Where no model has said a word, a program gets an empty answer, for which DSPy
asks once more; in a stream it is an error. JSON mode and reasoning, which DSPy asks for by itself, are left out for a
model that has none. Reasoning is streamed as it comes, and once some has been streamed, the next model is not asked any
more. Of a remembered answer nothing is streamed but the prediction, as DSPy does with its own cache.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any, Literal

from modelrouter.hints import hinting

if TYPE_CHECKING:
    from modelrouter.router.signature import Count, Models, Number, Seconds

    from .lm import RouterLM

__all__ = ["RouterLM", "configure_dspy", "get_lm"]

logger = logging.getLogger("modelrouter")


def get_lm(
    module: str = "default",
    *,
    model: Models = None,
    temperature: Number = None,
    max_tokens: Count = None,
    cache: bool | Literal["refresh"] = True,
    num_retries: Count = None,
    timeout: Seconds = None,
    deadline: Seconds = None,
    **overrides: Any,
) -> RouterLM:
    """A `dspy.LM` that asks what `module` names in the catalog.

    Args:
        model: In place of the module's chain, as in `Router.complete`; so, too, the parameters that follow it are in
            place of the module's settings.
        **overrides: LiteLLM's other parameters, and DSPy's own ``rollout_id`` and ``callbacks``.

    What DSPy asks of a model's abilities (native tools, JSON schemas, reasoning) is answered for the first of the
    chain, by the catalog's ``supports``, else by LiteLLM's tables; a model in neither, or at another address than its
    provider's own, counts as unable. JSON mode goes by what LiteLLM says that the provider takes, and a provider of
    which it says nothing counts as unable, too.

    Raises:
        UnknownModule, UnknownModel: neither is in the catalog.
        InvalidRequest: an override is no parameter, or belongs in the catalog.
    """
    from .lm import RouterLM

    given = {"num_retries": num_retries, "timeout": timeout, "deadline": deadline}
    overrides |= {name: value for name, value in given.items() if value is not None}
    return RouterLM(module, model, cache=cache, temperature=temperature, max_tokens=max_tokens, **overrides)


@hinting
def configure_dspy(
    module: str = "default", *, provider_type: str | None = None, model_name: str | None = None
) -> RouterLM:
    """Make a module's chain, or one provider and model, what DSPy programs ask unless they say otherwise.

    ``provider_type`` alone means the provider's default model; ``model_name`` alone finds its provider by itself. As
    with `dspy.configure`, only the thread that configured first may do it again; handlers use ``dspy.context``.

    Raises:
        UnknownModule, UnknownModel: there is no such thing in the catalog.
    """
    import dspy

    from modelrouter.router.default import get_router
    from modelrouter.router.performer import announce

    pinned = get_router().catalog.provider_model(provider_type, model_name) if provider_type or model_name else None
    lm = get_lm(module, model=pinned)
    dspy.configure(lm=lm)
    primary = lm.engine.primary
    announce(primary)
    logger.info("dspy_configured_successfully provider=%s model=%s", primary.provider, primary.label)
    return lm


def __getattr__(name: str) -> Any:
    # DSPy takes half a second to load, so it comes with the first LM and not with this file. The guide takes
    # `get_pipeline` from here; it stands on this file.
    homes = {"RouterLM": ".lm", "get_pipeline": ".pipeline"}
    if name in homes:
        return getattr(importlib.import_module(homes[name], __package__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
