"""What ``modelrouter check`` finds out: problems of the catalog, of the environment and of what both point at, and how
long and how dear one call of each module can become."""

from __future__ import annotations

import urllib.error
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from typing import Literal

from modelrouter import environment
from modelrouter.backend.current import current
from modelrouter.backend.insides import way
from modelrouter.backend.unreached import unreached
from modelrouter.catalog import prices
from modelrouter.catalog.catalog import Catalog
from modelrouter.catalog.known_providers import Provider, known
from modelrouter.catalog.target import ModuleSettings, Resolved, Target, broken_key, missing_key
from modelrouter.completion import EXACT, add
from modelrouter.embedded import server as embedded
from modelrouter.errors import InvalidCatalog, InvalidEnvironment, StoreError
from modelrouter.metering.budgets import Budgets
from modelrouter.planning.attempt import LONGEST_WAIT
from modelrouter.planning.call import Call
from modelrouter.planning.exchange import Request
from modelrouter.redaction import shown_address
from modelrouter.store.default import default_store

from . import budgets, gateways
from .addresses import NoJSON, ask
from .budgets import BudgetReport

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that somebody has to see to (an error), or should know of (a warning)."""

    level: Level
    where: str
    what: str


@dataclass(frozen=True, slots=True)
class ModuleReport:
    """What one call of a module can come to."""

    module: str
    models: int
    usable: int
    """Models of the chain that nothing known keeps from answering."""
    requests: int
    """Sent to providers by one call, at most."""
    attempts_s: float
    """Seconds that these requests and the waits between them would take with no deadline."""
    deadline_s: float
    longest_s: float
    """The lesser of the two: a call takes no longer."""
    highest_usd: Decimal | None
    """A call costs no more. None: not known."""
    unknown: str | None
    """Why the highest price is not known."""


@dataclass(frozen=True, slots=True)
class Report:
    catalog: str
    findings: tuple[Finding, ...]
    modules: tuple[ModuleReport, ...] = ()
    budgets: tuple[BudgetReport, ...] = ()
    embedded: str | None = None
    """What keeps the embedded model from running here; None: nothing."""
    litellm: str | None = None
    """Its version, and which way it is called."""

    def count(self, level: Level) -> int:
        return sum(finding.level == level for finding in self.findings)


def broken(error: InvalidCatalog | InvalidEnvironment) -> Report:
    """The report when there is no catalog to look at, because it or the environment is wrong."""
    path = error.path if isinstance(error, InvalidCatalog) else ""
    found = (Finding("error", f"{path} {each.where}".lstrip(), each.what) for each in error.problems)
    return Report(path or "the environment", tuple(found))


def check(
    catalog: Catalog, module: str | None = None, *, prompt_tokens: int | None = None, ledger: Budgets | None = None
) -> Report:
    """Look at a catalog, or at one module of it, and at what it points at: keys, addresses, prices.

    Sends nothing but questions to each Ollama and each gateway, which models they have. Needs LiteLLM loaded, for its
    prices.
    `prompt_tokens`: of the prompt whose highest price is wanted; None: as many as each model takes. `ledger`: has what
    is spent of budgets.

    Raises `UnknownModule`.
    """
    chosen = [catalog.resolve(name) for name in ([module] if module is not None else catalog.modules)]
    tags = cache(_tags)
    in_use = {target.name: target for resolved in chosen for target in resolved.chain}
    unusable = {name: why for name, target in in_use.items() if (why := _unusable(target, tags)) is not None}
    through, told = gateways.unusable({name: target for name, target in in_use.items() if name not in unusable})
    unusable |= through
    priced = in_use if module is not None else {**catalog.models, **in_use}
    findings = [
        *_without_models(chosen, unusable),
        *(Finding("warning", catalog.path, warning) for warning in catalog.warnings),
        *(Finding("warning", "the gateway", warning) for warning in told),
        *_without_an_answer(chosen, unusable),
        *_of_the_cache(chosen),
        *(finding for target in priced.values() for finding in _of_price(target)),
    ]
    modules = tuple(_module(resolved, unusable, prompt_tokens) for resolved in chosen)
    findings += _beyond_budgets(chosen, modules)
    standing: tuple[BudgetReport, ...] = ()
    try:
        standing = tuple(budgets.report(ledger, budgets.of(chosen))) if ledger is not None else ()
    except StoreError as error:
        findings.append(Finding("warning", "budgets", f"what is spent of them is not known: {error}"))
    return Report(
        catalog.path,
        tuple(findings),
        modules,
        standing,
        embedded.present(gguf=environment.gguf()),
        way.described(),
    )


# -- whether a model can be called


def _unusable(target: Target, tags: Callable[[Provider, str], frozenset[str] | str]) -> str | None:
    """What keeps the model from answering, or None."""
    if (variable := missing_key(target)) is not None:
        return f"{variable} is not set"
    if (broken := broken_key(target)) is not None:
        return broken[1]
    if target.gateway is not None:
        return None
    if target.provider == "embedded":
        return embedded.present(gguf=environment.gguf())
    row = known(target.provider)
    if row.tags is not None and target.api_base is not None:
        names = tags(row, target.api_base)
        if isinstance(names, str):
            return names
        if not {target.label, f"{target.label}:latest"} & names:
            return f"it is not pulled at {shown_address(target.api_base)}; run '{row.pull} {target.label}'"
    return None


def _tags(row: Provider, api_base: str) -> frozenset[str] | str:
    """The names of the models that this server has, or what is wrong with it."""
    shown, name = shown_address(api_base) or api_base, row.name.capitalize()
    try:
        return frozenset(model["name"] for model in ask(f"{api_base.rstrip('/')}{row.tags}")["models"])
    except urllib.error.HTTPError as error:
        return f"what answers at {shown} is not {name}: status {error.code} to GET {row.tags}"
    except OSError as error:
        cause = getattr(error, "reason", None)
        chain = [error, *([cause] if isinstance(cause, Exception) else [])]
        if (found := unreached(chain, shown, row)) is not None:
            return found.message
        lost = not any(isinstance(link, TimeoutError) for link in chain)
        return f"the connection to {shown} was lost: {cause or error}" if lost else row.silent(shown)
    except (NoJSON, KeyError, TypeError):
        return f"what answers at {shown} is not {name}"


def _without_models(chosen: Sequence[Resolved], unusable: Mapping[str, str]) -> Iterator[Finding]:
    """An error for each module that nobody can answer."""
    for resolved in chosen:
        if all(target.name in unusable for target in resolved.chain):
            why = "; ".join(f"{target.name}: {unusable[target.name].splitlines()[0]}" for target in resolved.chain)
            yield Finding("error", f"module {resolved.module!r}", f"no model of its chain can be called ({why})")


def _without_an_answer(chosen: Sequence[Resolved], unusable: Mapping[str, str]) -> Iterator[Finding]:
    """A warning for each model that is of no use to modules that have another one."""
    chains = {resolved.module: {target.name for target in resolved.chain} for resolved in chosen}
    for name, why in unusable.items():
        if modules := [module for module, names in chains.items() if name in names and names - unusable.keys()]:
            yield Finding("warning", f"model {name!r}", f"{why} (in the chain of {', '.join(modules)})")


def _of_the_cache(chosen: Sequence[Resolved]) -> Iterator[Finding]:
    """That nothing can be remembered, as far as anything is to be."""
    if any(resolved.settings.cache for resolved in chosen):
        try:
            with closing(default_store()) as store:
                store.stats()
        except StoreError as error:
            yield Finding("warning", "the cache", f"answers are not remembered: {error}")


# -- prices


def _of_price(target: Target) -> Iterator[Finding]:
    """How the catalog's price and LiteLLM's do not agree."""
    where, theirs = f"model {target.name!r}", current().price(replace(target, price=None))
    if target.price is None:
        if theirs is None:
            what = "has no price in the catalog and none in LiteLLM's list: what it costs will be unknown"
            yield Finding("warning", where, what)
    elif theirs is not None and (different := prices.differences(target.price, theirs)):
        pairs = (f"{name} is {_number(a)} here and {_number(b)} there" for name, (a, b) in different.items())
        what = f"its price differs from LiteLLM's list: {', '.join(pairs)} (US dollars per million tokens)"
        yield Finding("warning", where, what)


def _number(value: Decimal | None) -> str:
    return "nothing" if value is None else f"{value.normalize(EXACT):f}"


# -- what a call can come to


def _beyond_budgets(chosen: Sequence[Resolved], modules: Sequence[ModuleReport]) -> Iterator[Finding]:
    """A warning for each budget that one call alone can exceed, and an error for one that cannot be held."""
    for resolved, each in zip(chosen, modules, strict=True):
        for budget in resolved.budgets:
            if unpriced := [t.name for t in resolved.chain if budget.hard and current().price(t) is None]:
                what = f"cannot be held: {', '.join(unpriced)} has no price, so no call of it is sent; give it one"
                yield Finding("error", budget.source, f"{budget} {what}")
            elif each.highest_usd is not None and each.highest_usd > budget.usd:
                highest = f"one call of {resolved.module!r} can cost up to ${_number(each.highest_usd)}"
                yield Finding("warning", budget.source, f"{highest}, which is more than {budget}")


def limits_of(target: Target, settings: ModuleSettings) -> tuple[float, int | None]:
    """Of one attempt of this model in a module with these settings: seconds, and tokens of its answer (None: no limit
    is sent)."""
    call = Call("", (target,), Request(()), settings)
    params = call.request_to(target).params
    tokens = params.get("max_completion_tokens", params.get("max_tokens"))
    return call.timeout_of(target), tokens if isinstance(tokens, int) else None


def _module(resolved: Resolved, unusable: Mapping[str, str], prompt_tokens: int | None) -> ModuleReport:
    limits = resolved.settings
    tries = 1 + limits.retries
    attempts_s = sum(tries * limits_of(t, limits)[0] + limits.retries * LONGEST_WAIT for t in resolved.chain)
    highest, unknown = _highest(resolved, prompt_tokens)
    return ModuleReport(
        module=resolved.module,
        models=len(resolved.chain),
        usable=sum(target.name not in unusable for target in resolved.chain),
        requests=tries * len(resolved.chain),
        attempts_s=attempts_s,
        deadline_s=limits.deadline,
        longest_s=min(attempts_s, limits.deadline),
        highest_usd=highest,
        unknown=unknown,
    )


def _highest(resolved: Resolved, prompt_tokens: int | None) -> tuple[Decimal | None, str | None]:
    """The most that one call can be billed, or why that is not known.

    A model is billed once for an answer that is turned down, or not waited for, before the next one is asked; the last
    one that can be called is asked again after a timeout, each time for money.
    """
    bills = []
    for target in resolved.chain:
        price = current().price(target)
        if price is None:
            return None, f"{target.name} has no price"
        if prices.is_free(price):
            bills.append(Decimal(0))
            continue
        window = current().context_window(target)
        size = min((n for n in (prompt_tokens, window) if n is not None), default=None)
        answer = limits_of(target, resolved.settings)[1] or window
        if size is None or answer is None:
            return None, f"{target.name} has no known context window; give --prompt-tokens"
        bills.append(prices.most(price, size, answer))
    return add([*bills, EXACT.multiply(max(bills), resolved.settings.retries)]), None
