"""Money in counters, which are whole numbers of picodollars: no usual price has more digits."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from modelrouter.completion import EXACT

_DIGITS = 12


def picodollars(amount: Decimal) -> int:
    """The amount, rounded up."""
    return int(EXACT.scaleb(amount, _DIGITS).to_integral_value(ROUND_CEILING, EXACT))


def dollars(picodollars: int) -> Decimal:
    """The amount of a counter."""
    return EXACT.scaleb(Decimal(picodollars), -_DIGITS).normalize(EXACT)


def exactly(name: str, amount: Decimal) -> dict[str, int]:
    """The amount to 24 digits, as odd prices can have them: in two counters, the second for those that one cannot
    have."""
    whole, rest = divmod(int(EXACT.scaleb(amount, 2 * _DIGITS)), 10**_DIGITS)
    return {name: whole} | ({f"{name}_rest": rest} if rest else {})


def amount_in(counts: dict[str, int], name: str) -> Decimal:
    """What `exactly` has counted."""
    rest = EXACT.scaleb(Decimal(counts.get(f"{name}_rest", 0)), -2 * _DIGITS)
    return EXACT.add(dollars(counts.get(name, 0)), rest).normalize(EXACT)
