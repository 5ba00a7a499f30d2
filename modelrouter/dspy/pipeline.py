"""The guide's program in DSPy: a recruiter's message is read, scored against a profile, and answered.

::

    from modelrouter.dspy import configure_dspy
    from modelrouter.dspy.pipeline import get_pipeline

    configure_dspy()
    result = get_pipeline()(message="...", recruiter_name="Maria", profile="...")
    print(result.fit.score, result.fit.verdict, result.reply.text)

Programs of one's own are made of the same `Stage`: a predictor that asks the module whose name it has, and so has that
module's models, limits and cache.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, Literal

import dspy
from pydantic import BaseModel, Field

from . import get_lm
from .lm import check

__all__ = [
    "AnalyzeMessage",
    "BareAdapter",
    "Fit",
    "Offer",
    "Pipeline",
    "Reply",
    "ScoreOffer",
    "Stage",
    "WriteReply",
    "get_pipeline",
]

# The limits hold the smallest models to the point: where a model's output is held to a schema, it cannot ramble on.
Words = Annotated[str, Field(min_length=2, max_length=60)]
Sentence = Annotated[str, Field(min_length=10, max_length=200)]


class Offer(BaseModel):
    """What a message offers, in its own words."""

    summary: Sentence = Field(description="one sentence")
    company: Words
    role: Words
    seniority: Literal["junior", "mid", "senior", "lead", "not said"]
    stack: list[Words] = Field(min_length=1, max_length=6, description="languages, databases, tools")
    place: Words = Field(description="where, and how much of it remote")
    pay: Words = Field(description="range and currency, or 'not said'")


class Fit(BaseModel):
    """How an offer fits a candidate."""

    reason: Sentence = Field(description="what decides it, in one sentence")
    score: int = Field(ge=0, le=100, description="0: nothing fits; 100: everything does")
    verdict: Literal["decline", "ask first", "accept the call"]


class Reply(BaseModel):
    """A message to the recruiter."""

    text: str = Field(min_length=20, max_length=700, description="two to five sentences, with greeting and signature")


class AnalyzeMessage(dspy.Signature):  # type: ignore[misc]
    """Say what a recruiter's message offers. Take everything from the message and make nothing up."""

    message: str = dspy.InputField()
    offer: Offer = dspy.OutputField()


class ScoreOffer(dspy.Signature):  # type: ignore[misc]
    """Judge how well an offer fits what a candidate can do, wants and does not want."""

    offer: Offer = dspy.InputField()
    profile: str | dict[str, Any] | BaseModel = dspy.InputField(desc="the candidate")
    fit: Fit = dspy.OutputField()


class WriteReply(dspy.Signature):  # type: ignore[misc]
    """Answer the recruiter in the candidate's name, friendly and honest, in line with the verdict."""

    recruiter_name: str = dspy.InputField()
    offer: Offer = dspy.InputField()
    fit: Fit = dspy.InputField()
    profile: str | dict[str, Any] | BaseModel = dspy.InputField(desc="the candidate, who signs")
    reply: Reply = dspy.OutputField()


class BareAdapter(dspy.JSONAdapter):  # type: ignore[misc]
    """For very small models, which copy a page about the answer's form in place of an answer. The form is sent all the
    same, as the schema that a server like llama.cpp holds every word to."""

    def format_system_message(self, signature: Any) -> str:
        """The task."""
        return str(signature.instructions)

    def user_message_output_requirements(self, _: Any) -> str:
        """Nothing beside the inputs."""
        return ""


class Stage(dspy.Module):  # type: ignore[misc]
    """A predictor that asks a module of the catalog, whatever LM is configured.

    The LM goes along with each call: one that is set on the predictor would be lost in an optimizer, and could not be
    saved. Where somebody sets one all the same, that one is asked.

    Args:
        module: The module's name.
        signature: DSPy's.
        **overrides: As those of `get_lm`.
    """

    def __init__(self, module: str, signature: Any, **overrides: Any) -> None:
        super().__init__()
        check(overrides)
        self.module = module
        self.overrides = overrides
        self.predict = dspy.Predict(signature)

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """What the predictor gives."""
        lm = self._lm()
        with _adapted(lm):
            return self.predict(**inputs, lm=lm)

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """`forward` for asynchronous callers, who await ``stage.acall(...)``."""
        lm = self._lm()
        with _adapted(lm):
            return await self.predict.acall(**inputs, lm=lm)

    def _lm(self) -> Any:
        own = self.predict.lm
        if own is not None and "rollout_id" not in own.kwargs:
            return own
        # Optimizers and BestOfN ask for another answer by a copy of the configured LM with another rollout_id.
        asked = getattr(own or dspy.settings.lm, "kwargs", {})
        rollout = {name: asked[name] for name in ("rollout_id", "temperature") if name in asked}
        lm = get_lm(self.module, **self.overrides)
        return lm.copy(**rollout) if "rollout_id" in rollout else lm


def _adapted(lm: Any) -> AbstractContextManager[None]:
    small = lm.model.startswith("embedded/")
    return dspy.context(adapter=BareAdapter()) if small else nullcontext()


class Pipeline(dspy.Module):  # type: ignore[misc]
    """Analyzer, scorer, response generator, each on the module of its name.

    Args:
        **overrides: As those of `get_lm`, for all stages: ``model="gpt-4"`` has that model answer everything.
    """

    def __init__(self, **overrides: Any) -> None:
        super().__init__()
        self.analyzer = Stage("analyzer", AnalyzeMessage, **overrides)
        self.scorer = Stage("scorer", ScoreOffer, **overrides)
        self.response_generator = Stage("response_generator", WriteReply, **overrides)

    def forward(self, *, message: str, recruiter_name: str, profile: Any) -> dspy.Prediction:
        """`offer`, `fit` and `reply`. The profile is text, a dictionary or a pydantic object."""
        offer = self.analyzer(message=message).offer
        fit = self.scorer(offer=offer, profile=profile).fit
        written = self.response_generator(recruiter_name=recruiter_name, offer=offer, fit=fit, profile=profile)
        return dspy.Prediction(offer=offer, fit=fit, reply=written.reply)

    async def aforward(self, *, message: str, recruiter_name: str, profile: Any) -> dspy.Prediction:
        """`forward` for asynchronous callers, who await ``pipeline.acall(...)``."""
        offer = (await self.analyzer.acall(message=message)).offer
        fit = (await self.scorer.acall(offer=offer, profile=profile)).fit
        written = await self.response_generator.acall(
            recruiter_name=recruiter_name, offer=offer, fit=fit, profile=profile
        )
        return dspy.Prediction(offer=offer, fit=fit, reply=written.reply)


def get_pipeline(**overrides: Any) -> Pipeline:
    """The pipeline. `overrides` are `get_lm`'s, for all of its stages."""
    return Pipeline(**overrides)
