"""Every mistake that config/models.yaml can have by itself, found in one go, each with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from modelrouter.errors import InvalidCatalog, Problem
from modelrouter.hints import nearest
from modelrouter.parameters import having
from modelrouter.redaction import shown as quoted

from .gates import imported
from .known_providers import known as known_provider
from .known_providers import litellm_string, mistyped
from .schema import TAGS, CatalogFile, keys_at
from .wording import what_is_wrong
from .yaml_lines import Document, dotted
from .yaml_lines import read as read_yaml

_SEARCHES = 50
"""How many lost names are compared with all others: in a catalog of thousands each takes a tenth of a second."""


def check(data: bytes, shown: str) -> tuple[CatalogFile, Document]:
    """What the file says, and where. Raises InvalidCatalog with every problem there is."""
    document = read_yaml(data)
    problems = list(document.problems)
    file = None
    if isinstance(document.value, dict):
        try:
            file = CatalogFile.model_validate(document.value)
        except ValidationError as error:
            problems += _misfits(error, document)
        problems += [(document.line(path), f"{dotted(path)}: {what}") for path, what in _dangling(document.value)]
    elif not problems:
        problems.append((1, f"expected the keys {', '.join(keys_at(()))}, got {quoted(document.value)}"))
    if problems or file is None:
        raise InvalidCatalog(shown, [Problem(f"line {line}", what) for line, what in sorted(dict.fromkeys(problems))])
    return file, document


def _misfits(error: ValidationError, document: Document) -> Iterator[tuple[int, str]]:
    for each in error.errors(include_url=False):
        branch = next((part for part in each["loc"] if part in TAGS), None)
        path = tuple(part for part in each["loc"] if part not in TAGS and part != "[key]")
        if path in document.unread:
            continue
        if each["type"] == "extra_forbidden":
            known = keys_at(path[:-1])
            others = having("litellm") if path[0] == "models" and len(path) == 3 else ()
            what = f"unknown key. Known: {', '.join(known)}."
            if match := nearest(str(path[-1]), (*known, *others)):
                what = f"unknown key. Did you mean {match!r}{'' if match in known else ' in params'}?"
        elif branch is not None and TAGS[str(branch)]:
            what = f"expected {TAGS[str(branch)]}, got {quoted(each['input'])}"
        else:
            what = what_is_wrong(each)
        yield document.line(path), f"{dotted(path)}: {what}"


def _dangling(value: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Names that lead nowhere, or of which there are two: in the file as it is, however wrong the rest of it may be."""
    sections = (value.get(key) for key in ("providers", "models", "aliases", "modules"))
    providers, models, aliases, modules = (each if isinstance(each, dict) else {} for each in sections)
    names = {*models, *aliases}
    searches = iter(range(_SEARCHES))

    def lost(name: object) -> str | None:
        if not isinstance(name, str) or name in names:
            return None
        if string := litellm_string(name):
            return no_provider(string.partition("/")[0])
        match = nearest(name, names) if next(searches, None) is not None else None
        return f"no model {quoted(name)}." + (f" Did you mean {match!r}?" if match else "")

    def no_provider(name: str) -> str | None:
        match = mistyped(name)
        return f"no provider {name!r}. Did you mean {match!r}?" if match else None

    for name in providers:
        own = known_provider(name).name
        if what := f"this is provider {own!r}" if own != name else no_provider(name):
            yield ("providers", name), what
    for name, entry in models.items():
        if not isinstance(entry, dict):
            continue
        if what := no_provider(str(entry.get("model")).partition("/")[0]):
            yield ("models", name, "model"), what
        if what := lost(entry.get("successor")):
            yield ("models", name, "successor"), what
    for alias, name in aliases.items():
        if alias in models:
            yield ("aliases", alias), "is the name of a model too"
        elif circle := _circle(alias, aliases):
            yield ("aliases", alias), f"goes round in a circle: {' -> '.join(circle)}"
        elif what := lost(name):
            yield ("aliases", alias), what
    gateway = value.get("gateway")
    through = gateway.get("models") if isinstance(gateway, dict) else None
    for position, item in enumerate(through if isinstance(through, list) else []):
        if what := lost(item):
            yield ("gateway", "models", position), what
    prefixes: dict[str, str] = {}
    for name, entry in modules.items():
        settings = entry if isinstance(entry, dict) else {}
        chain = settings.get("chain")
        for position, item in enumerate(chain if isinstance(chain, list) else []):
            if what := lost(item):
                yield ("modules", name, "chain", position), what
        accept = settings.get("accept")
        if isinstance(accept, str) and ":" in accept:
            try:
                imported(accept)
            except ValueError as error:
                yield ("modules", name, "accept"), str(error)
        split = settings.get("split")
        for item in split if isinstance(split, dict) else ():
            if what := lost(item):
                yield ("modules", name, "split", item), what
        if what := lost(settings.get("baseline")):
            yield ("modules", name, "baseline"), what
        prefix = _prefix(settings.get("env_prefix") or name)
        other = prefixes.setdefault(prefix, name)
        if other != name:
            yield ("modules", name), f"has the prefix {prefix}, as {other!r} has; give one of them another env_prefix"
        if name == "default" and chain is None:
            yield ("modules", name), "has no chain; it is what the modules without one use"
    if "default" not in modules and isinstance(value.get("modules"), dict):
        yield ("modules",), "'default' is missing; calls that name no module use it, and the others inherit from it"


def _circle(alias: str, aliases: Mapping[str, object]) -> list[str]:
    """The names of the circle that `alias` is in, for the first of them alone; else none."""
    seen, name = [alias], aliases[alias]
    while isinstance(name, str) and name in aliases and name not in seen:
        seen.append(name)
        name = aliases[name]
    return [*seen, alias] if name == alias == min(seen) else []


def prefixes_of(file: CatalogFile) -> dict[str, str]:
    """Module -> what its variables begin with: ``response_generator`` -> ``RESPONSE``."""
    return {name: _prefix(entry.env_prefix or name) for name, entry in file.modules.items()}


def _prefix(name: object) -> str:
    """What the variables of a module begin with, before ``_LLM_``: ``response-generator`` -> ``RESPONSE_GENERATOR``."""
    return re.sub(r"[^A-Z0-9]", "_", str(name).upper())
