"""What ``modelrouter spend`` shows, be it as a table, as JSON or as a page: sums of the books, and sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from modelrouter.backend.current import current
from modelrouter.catalog.catalog import Catalog
from modelrouter.catalog.prices import own_price
from modelrouter.catalog.target import Price
from modelrouter.completion import EXACT, Sums
from modelrouter.metering.spend import By, Compared, Line, Spending, compared

from .screen import usd


@dataclass(frozen=True, slots=True)
class Row(Sums):
    """One row, or all of them."""

    spending: Spending = field(default_factory=Spending)
    compared: Compared = field(default_factory=Compared)


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a module's tokens are compared with."""

    name: str | None
    price: Price | None = None
    missing: str = ""
    """Why they are not."""


def baselines(catalog: Catalog, modules: Iterable[str], load: Callable[[], None]) -> dict[str, Baseline]:
    """Each module's. `load` is called when a price has to be looked up in LiteLLM's list."""
    found = {}
    for module in modules:
        if module not in catalog.modules:
            found[module] = Baseline(None, missing="no longer in the catalog")
        elif (name := catalog.resolve(module).settings.baseline) is None:
            found[module] = Baseline(None, missing="no baseline")
        else:
            (target,) = catalog.resolve(module, name).chain
            if own_price(target) is None and target.own_address:
                load()
            price = current().price(target)
            missing = f"the price of {target.name} is not known" if price is None else ""
            found[module] = Baseline(target.name, price, missing)
    return found


class Report:
    """The lines of some days, added up by one of their names."""

    def __init__(
        self, days: Sequence[date], lines: Iterable[Line], by: By, baselines: Callable[[set[str]], dict[str, Baseline]]
    ) -> None:
        self.days, self.by = days, by
        self.lines = list(lines)
        self.baselines = baselines({line.module for line in self.lines if line.spending.requests})
        """By module, of those that have asked a model."""
        self.total = sum((self._row(line) for line in self.lines), Row())
        # What names no model, misses, is nobody's by model.
        rows = self.sums(lambda line: str(getattr(line, by)) if line.model or by in ("day", "module") else None)
        self.rows = dict(sorted(rows.items(), key=(lambda row: row[0]) if by == "day" else _dearest_first))
        """Days in their order, all else with the dearest first."""

    def sums(self, key: Callable[[Line], str | None]) -> dict[str, Row]:
        """By a name of each line; None: it is left out."""
        sums: dict[str, Row] = {}
        for line in self.lines:
            if (name := key(line)) is not None:
                sums[name] = sums.get(name, Row()) + self._row(line)
        return sums

    def bar(self, row: Row) -> float:
        """How long the bar of a row is, 0 to 1 for the dearest one."""
        return _part(row, max(self.rows.values(), key=lambda each: each.spending.cost_usd))

    def _shared(self, row: Row) -> bool:
        """Whether it can be said which part of the whole cost it is."""
        return bool(self.total.spending.cost_usd) and (bool(row.spending.cost_usd) or not row.spending.unknown)

    def _row(self, line: Line) -> Row:
        baseline = self.baselines.get(line.module, Baseline(None))
        return Row(line.spending, compared(line.spending, baseline.price))

    def columns(self) -> dict[str, list[str]]:
        """Heading -> a value for each row, and for all of them at last. What is nothing in every row is left out."""
        rows = [*self.rows.values(), self.total]
        spent = [row.spending for row in rows]

        def numbers(counts: Iterable[int]) -> list[str]:
            return [f"{count:,}" for count in counts]

        columns = {
            "COST": [cost_of(each) for each in spent],
            "SHARE": [percent(_part(row, self.total)) if self._shared(row) else "" for row in rows],
            "UNKNOWN": numbers(each.unknown for each in spent),
            "REQUESTS": numbers(each.requests for each in spent),
            "FALLBACKS": numbers(each.fallbacks for each in spent),
            "TOKENS IN": numbers(each.usage.input_tokens for each in spent),
            "OUT": numbers(each.usage.output_tokens for each in spent),
            "SAVED": [money(each.saved_usd) for each in spent],
            "BASELINE": [money(row.compared.baseline_usd) if row.compared.requests else "" for row in rows],
            "AGAINST IT": [against(row.compared) for row in rows],
        }
        always = ("COST", "REQUESTS", "TOKENS IN", "OUT")
        nothing = {"", "0", "$0"}
        return {name: cells for name, cells in columns.items() if name in always or not {*cells} <= nothing}

    # -- in words

    @property
    def period(self) -> str:
        """Which days these are."""
        first, last = self.days[0], self.days[-1]
        return f"{first}, the day in UTC" if first == last else f"{first} to {last}, whole days in UTC"

    @property
    def comparison(self) -> tuple[str, str] | None:
        """The bill beside that of the baselines, in two parts: ``61% less``, ``than gpt-4 everywhere: ...``. None:
        nothing can be compared."""
        both, asked = self.total.compared, self.total.spending.requests
        if not both.requests:
            return None
        names = self._names()
        what = next(iter(names)) if len(names) == 1 else "on the modules' baselines"
        if len(names) == 1 and both.requests == asked:
            what += " everywhere"
        of = "." if both.requests == asked else f", in {both.requests:,} of {asked:,} requests."
        paid, other = money(both.cost_usd), money(both.baseline_usd)
        word = "as" if both.less == 0 else "than"
        return against(both), f"{word} {what}: {paid} in place of {other} for the same tokens{of}"

    def sentences(self) -> Iterator[str]:
        """The comparison, and what has to be known of the figures."""
        if self.comparison is not None:
            said = " ".join(self.comparison)
            yield said[0].upper() + said[1:]
        yield from self.notes()

    def notes(self) -> Iterator[str]:
        """What has to be known of the figures."""
        all_ = self.total.spending
        if free := all_.hits + all_.coalesced:
            said = counted(free, "call was", "calls were")
            yield f"{said} answered by the cache, which saved {money(all_.saved_usd)}; no other figure has that in it."
        if all_.unknown:
            yield f"{counted(all_.unknown, 'answer is', 'answers are')} of unknown cost, and in no sum of money."
        for name, price in self._names().items():
            if price.above is not None:
                yield (
                    f"{name} costs more when a prompt has more than {price.above.tokens:,} tokens. How long each was "
                    "cannot be known from sums, so the lower price is compared."
                )
        why = [f"{module} ({each.missing})" for module, each in sorted(self.baselines.items()) if each.missing]
        known = [line for line in self.lines if line.spending.unknown and not self.baselines[line.module].missing]
        why += [
            f"what {model} answered on some days (unknown cost)" for model in sorted({each.model for each in known})
        ]
        if why:
            yield f"Not compared with a baseline: {', '.join(why)}."

    def _names(self) -> dict[str, Price]:
        """The baselines that anything is compared with."""
        used = {line.module for line in self.lines if self._row(line).compared.requests}
        found = (self.baselines[module] for module in sorted(used))
        return {each.name: each.price for each in found if each.name is not None and each.price is not None}


def _dearest_first(item: tuple[str, Row]) -> tuple[Decimal, Decimal, str]:
    name, row = item
    return -row.spending.cost_usd, -row.spending.saved_usd, name


def _part(row: Row, whole: Row) -> float:
    """Of a cost, 0 to 1."""
    cost = whole.spending.cost_usd
    return float(EXACT.divide(row.spending.cost_usd, cost)) if cost else 0.0


def cost_of(spending: Spending) -> str:
    """The known cost; ``unknown`` where nothing of it is known."""
    return "unknown" if spending.unknown and not spending.cost_usd else money(spending.cost_usd)


def against(both: Compared) -> str:
    """``61% less``, ``12% more``, ``as much``; nothing where nothing is compared."""
    if not both.requests:
        return ""
    if both.less is None:
        return "more" if both.cost_usd else "as much"
    return f"{percent(abs(both.less))} {'less' if both.less > 0 else 'more'}" if both.less else "as much"


def counted(number: int, one: str, many: str) -> str:
    """``1 call``, ``1,200 calls``."""
    return f"{number:,} {one if number == 1 else many}"


def money(amount: Decimal) -> str:
    """A sum: ``$1.50``, ``$0.0213``, ``$0``."""
    return "$0" if not amount else f"${amount:.4f}" if Decimal("0.01") <= amount < 1 else usd(amount)


def percent(part: float) -> str:
    """``61%``; never none where there is some, and never all where some is missing."""
    return "<1%" if 0 < part < 0.01 else ">99%" if 0.99 < part < 1 else f"{part:.0%}"
