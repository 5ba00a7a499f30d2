"""The budgets of a catalog, and how they stand, for `check` and `explain`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from modelrouter.catalog.target import Budget, Resolved
from modelrouter.metering.budgets import Budgets
from modelrouter.metering.money import dollars

from .screen import Screen, usd


@dataclass(frozen=True, slots=True)
class BudgetReport:
    scope: str
    """A module, or ``(all)``."""
    per: str
    hard: bool
    usd: Decimal
    spent_usd: Decimal
    reserved_usd: Decimal
    left_usd: Decimal
    resets_at: datetime
    source: str


def described(budget: Budget) -> str:
    """``$5 a day``."""
    return f"${budget.usd:f} a {budget.per}{'' if budget.hard else ', not hard'}"


def of(chosen: Iterable[Resolved]) -> tuple[Budget, ...]:
    """All budgets of these modules, each once."""
    return tuple(dict.fromkeys(budget for resolved in chosen for budget in resolved.budgets))


def report(ledger: Budgets, budgets: Sequence[Budget]) -> Iterator[BudgetReport]:
    """How they stand. Raises `StoreError`."""
    for budget, (balance, resets_at) in ledger.standing(budgets).items():
        spent, reserved = dollars(balance.spent), dollars(balance.reserved)
        left = max(Decimal(0), budget.usd - spent - reserved)
        amounts = budget.usd, spent, reserved, left
        yield BudgetReport(budget.scope, budget.per, budget.hard, *amounts, resets_at, budget.source)


def table(screen: Screen, budgets: Sequence[BudgetReport]) -> None:
    """One row for each."""
    headings = ("BUDGET OF", "PER", "MAY BE SPENT", "SPENT", "RESERVED", "LEFT", "BEGINS ANEW", "FROM")
    rows = []
    for each in budgets:
        amounts = (each.usd, each.spent_usd, each.reserved_usd, each.left_usd)
        per = each.per if each.hard else f"{each.per}, not hard"
        anew = f"{each.resets_at:%Y-%m-%d %H:%M} UTC"
        rows.append((each.scope, per, *(usd(amount) if amount else "$0" for amount in amounts), anew, each.source))
    screen.table(headings, rows, right=headings[2:6])
