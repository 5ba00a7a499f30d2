"""What a call reports, as it happens. An `Attempt` is an event too."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal, TypeAlias

from modelrouter.catalog.target import Budget, Target
from modelrouter.completion import Attempt, Kind

from .exchange import Failure

CacheResult: TypeAlias = Literal["hit", "miss", "coalesced", "error"]
CallOutcome: TypeAlias = Literal["success", "error", "bad_request", "cancelled"]


@dataclass(frozen=True, slots=True)
class FellOver:
    """A model gave no answer and another one is asked, or its remembered answer is taken."""

    module: str
    from_model: str
    to_model: str
    """Catalog names, both."""
    reason: Kind
    provider: str = field(default="", compare=False, repr=False)
    """Of the other."""


@dataclass(frozen=True, slots=True)
class FirstToken:
    """A stream's first piece of text has come."""

    target: Target
    seconds: float


@dataclass(frozen=True, slots=True)
class ModelLeft:
    """A call is done with a model, its retries included: what its health is judged by."""

    target: Target
    failure: Failure | None
    """None: it answered."""
    cut_short: bool = False
    """It had less time than its own limit, so that running out of it says nothing about the model."""


@dataclass(frozen=True, slots=True)
class CacheUsed:
    """What the cache was good for in a call; reported once per call, but for an ``error`` of the store."""

    result: CacheResult
    saved_usd: Decimal | None = None
    """What the answer had cost when it was made."""
    target: Target | None = None
    """Whose answer it was."""


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call is over: what its module is billed."""

    outcome: CallOutcome
    cost_usd: Decimal | None
    error: type[BaseException] | None = field(default=None, compare=False, repr=False)
    """What it raises; None: it was answered, or its stream was closed early."""


@dataclass(frozen=True, slots=True)
class BudgetSeen:
    """How a budget stands, as a request has to fit into it."""

    budget: Budget
    spent_usd: Decimal
    reserved_usd: Decimal
    over: bool
    """The request does not fit."""
    resets_at: datetime
    """When it begins anew."""


Event: TypeAlias = Attempt | FellOver | FirstToken | ModelLeft | CacheUsed | CallEnded | BudgetSeen
