"""The listings of the command line: a catalog's models, what a module calls, what `check` found."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from modelrouter.catalog.catalog import Catalog
from modelrouter.catalog.known_providers import known
from modelrouter.catalog.prices import own_price
from modelrouter.catalog.target import Budget, Target, broken_key
from modelrouter.environment import secret
from modelrouter.redaction import shown_address

from . import budgets
from .check import Report, limits_of
from .screen import Screen, per_million, seconds, usd


def models(screen: Screen, catalog: Catalog, *, as_json: bool) -> None:
    """Every model of the catalog."""
    aliases: dict[str, list[str]] = {name: [] for name in catalog.models}
    for alias, name in catalog.aliases.items():
        aliases.setdefault(name, []).append(alias)  # it may also stand for a LiteLLM string
    if as_json:
        records = [_facts(target) | {"aliases": aliases[name]} for name, target in catalog.models.items()]
        screen.document({"catalog": catalog.path, "models": records})
        return
    rows = [
        (
            name,
            target.litellm_model,
            per_million(own_price(target)),
            f"{target.context_window:,}" if target.context_window else "",
            _retirement(target),
            ", ".join(aliases[name]),
        )
        for name, target in catalog.models.items()
    ]
    screen.table(("NAME", "LITELLM", "IN / OUT PER M", "CONTEXT", "RETIRED", "ALIASES"), rows, right=("CONTEXT",))


def chain_of(screen: Screen, catalog: Catalog, module: str, *, as_json: bool) -> None:
    """Every value in effect for a module, and where it comes from."""
    resolved = catalog.resolve(module)
    settings = {each.name: getattr(resolved.settings, each.name) for each in fields(resolved.settings)}
    values: dict[str, Any] = {"chain": [target.name for target in resolved.chain]}
    if resolved.split:
        values["split"] = dict(zip(values["chain"], resolved.split, strict=False))
    values |= settings
    sources = {name: resolved.sources.get(name, "built in") for name in values} | {"split": resolved.sources["chain"]}
    of_all = [budget for budget in resolved.budgets if budget.module is None]
    chain = [(target, *limits_of(target, resolved.settings)) for target in resolved.chain]
    if as_json:
        records = [
            _facts(target)
            | {"key": _key(target), "api_base": shown_address(target.address), "gateway": target.gateway is not None}
            | {"timeout": timeout, "max_tokens": max_tokens, "params": target.params}
            for target, timeout, max_tokens in chain
        ]
        settings = {name: {"value": value, "source": sources[name]} for name, value in values.items()}
        for budget in of_all:
            settings["budget of all"] = {"value": budget, "source": budget.source}
        screen.document({"module": resolved.module, "catalog": catalog.path, "settings": settings, "chain": records})
        return
    lines = [(name, _shown(name, value), sources[name]) for name, value in values.items()]
    lines += [("budget of all", budgets.described(each), each.source) for each in of_all]
    screen.table(("SETTING", "VALUE", "FROM"), lines)
    screen.say("")
    rows = [
        (
            str(number),
            target.name,
            target.litellm_model,
            target.provider,
            _key_shown(target),
            (shown_address(target.address) or "the provider's") + (" (gateway)" if target.gateway is not None else ""),
            per_million(own_price(target)),
            seconds(timeout),
            _shown("max_tokens", max_tokens),
            _retirement(target),
        )
        for number, (target, timeout, max_tokens) in enumerate(chain, start=1)
    ]
    headings = ["#", "MODEL", "LITELLM", "PROVIDER", "KEY", "ADDRESS", "IN / OUT PER M", "TIMEOUT", "MAX_TOKENS"]
    if any(target.retired for target in resolved.chain):
        headings.append("RETIRED")
    screen.table(headings, [row[: len(headings)] for row in rows])


def findings(screen: Screen, report: Report, *, prompt_tokens: int | None) -> None:
    """What `check` has found, and what one call of each module can come to."""
    for finding in report.findings:
        screen.say(f"{finding.level}: {finding.where}: {finding.what}")
    if report.modules:
        if report.findings:
            screen.say("")
        headings = ("MODULE", "USABLE", "REQUESTS", "LONGEST", "HIGHEST PRICE")
        rows = [
            (
                each.module,
                f"{each.usable} of {each.models}",
                str(each.requests),
                seconds(each.longest_s),
                usd(each.highest_usd) if each.unknown is None else f"unknown: {each.unknown}",
            )
            for each in report.modules
        ]
        screen.table(headings, rows, right=headings[2:4])
        prompt = "as long as each model takes" if prompt_tokens is None else f"of {prompt_tokens:,} tokens"
        screen.say(
            f"""
USABLE         models that have their key and can be reached
REQUESTS       of one call, when every model fails and every retry is used
LONGEST        the deadline of one call, or less when all its requests take less
HIGHEST PRICE  of one call: a prompt {prompt} and an answer of max_tokens, billed
               by every model of the chain and, for each retry, by the dearest one
"""
        )
        if report.budgets:
            screen.say("")
            budgets.table(screen, report.budgets)
        screen.say(f"\nThe small model on this machine: {(report.embedded or 'ready').splitlines()[0]}")
        screen.say(f"{report.litellm}")
    counts = (report.count("error"), "error"), (report.count("warning"), "warning")
    told = ", ".join(f"{count} {word}{'s' if count != 1 else ''}" for count, word in counts)
    screen.say(f"{report.catalog}: {told}")


# -- a model


def _facts(target: Target) -> dict[str, Any]:
    priced = replace(target, price=own_price(target))
    names = ("name", "litellm_model", "provider", "price", "context_window", "retired", "successor")
    return {name: getattr(priced, name) for name in names}


def _key(target: Target) -> dict[str, Any] | None:
    broken = broken_key(target)
    variable, required = target.key
    if (name := variable or (broken and broken[0])) is None:
        return None
    facts = {"variable": name, "set": secret(name) is not None, "required": required}
    return facts | {"problem": broken and broken[1]}


def _key_shown(target: Target) -> str:
    if (broken := broken_key(target)) is not None:
        return broken[1].partition(";")[0]
    variable, required = target.key
    if variable is None:
        return "none" if known(target.provider).on_this_machine else "the provider's way"
    missing = "NOT SET" if required else "not set, not needed"
    return f"{variable} {'set' if secret(variable) is not None else missing}"


def _retirement(target: Target) -> str:
    return f"{target.retired or ''}{f', use {target.successor}' if target.successor else ''}"


def _shown(name: str, value: object) -> str:
    match value:
        case None:
            return "none" if name in ("accept", "baseline", "budget") else "the model's own"
        case Budget():
            return budgets.described(value)
        case list():
            return ", ".join(value)
        case dict():
            return ", ".join(f"{name} {weight:g}" for name, weight in value.items())
        case bool():
            return "on" if value else "off"
        case float() if name != "temperature":
            return seconds(value)
    return str(value)
