"""Errors that leave modelrouter: their facts come along wherever they are sent."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from modelrouter import errors
from modelrouter.completion import Attempt, Kind
from modelrouter.errors import Problem

FAILED = [Attempt("a", "openai/a", "openai", "error", Kind.TIMEOUT, "timeout after 2 s", status=408)]
CALL = {"module": "scorer", "attempts": FAILED}

ERRORS = [
    errors.InvalidCatalog("models.yaml", [Problem("line 4", "unknown key")]),
    errors.InvalidEnvironment([Problem("LLM_TIMEOUT", "expected a number")]),
    errors.UnknownModule("scorr", "models.yaml", ["scorer"]),
    errors.UnknownModel("gpt-5", "models.yaml", ["gpt-4"]),
    errors.EmbeddedUnavailable("not installed"),
    errors.MetricsUnavailable("a problem", "a mend"),
    errors.CannotListen(host="127.0.0.1", port=80, reason="no", taken=True),
    errors.InvalidRequest("no prompt"),
    errors.AllModelsFailed(**CALL, models=1, elapsed=2.0),
    errors.MissingKey(**CALL, variable="OPENAI_API_KEY"),
    errors.DeadlineExceeded(**CALL, models=1, elapsed=2.0, deadline=2.0),
    errors.BudgetExceeded(
        **CALL,
        models=1,
        elapsed=2.0,
        limit="the budget of $5 a day of module 'scorer'",
        source="models.yaml:3",
        limit_usd=Decimal(5),
        spent_usd=Decimal("4.99"),
        reserved_usd=Decimal(0),
        resets_at=datetime(2026, 11, 27, tzinfo=UTC),
    ),
    errors.BadRequest(**CALL),
    errors.StreamInterrupted(**CALL, partial_text="so far"),
    errors.ProviderError(Kind.SERVER, "500", status=500),
    errors.CannotSend("OSError: [Errno 24] Too many open files"),
    errors.StoreError("busy", "the store is busy"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_and_copying(error: errors.ModelRouterError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301 - our own
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_every_error_is_among_them() -> None:
    public = {kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)}
    leaves = {kind for kind in public if issubclass(kind, Exception) and not kind.__subclasses__()}
    assert leaves <= {type(error) for error in ERRORS}
