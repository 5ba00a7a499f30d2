"""How the command line asks: LiteLLM loaded visibly, and a model on this machine where nothing at all is set up."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

from modelrouter import environment
from modelrouter.backend.current import current
from modelrouter.catalog.catalog import Catalog
from modelrouter.catalog.known_providers import known
from modelrouter.catalog.target import Resolved, missing_key
from modelrouter.completion import Completion, Kind
from modelrouter.embedded import server as embedded
from modelrouter.errors import AllModelsFailed
from modelrouter.planning.arguments import Arguments, request_from
from modelrouter.router.router import Router

from .screen import Screen

PATIENCE: Mapping[str, Any] = {"timeout": 120.0, "deadline": 300.0}
"""Seconds for the model on this machine: it makes 2 tokens a second when the machine is busy."""


def load(screen: Screen) -> None:
    """Load LiteLLM, and say so on a terminal: it takes seconds."""
    if current().ready():
        return
    with screen.busy("Loading LiteLLM"):
        current().load()
    gc.freeze()  # here it stays to the end


def ask(
    screen: Screen, router: Router, prompt: str, *, module: str | None, model: list[str] | None, system: str | None
) -> Completion:
    """The answer; the small model's where, and only where, nothing at all is set up. Raises what `Router.complete`
    does."""
    request_from(Arguments(prompt, system=system))  # a mistake is told before LiteLLM takes its time
    if not all(map(missing_key, router.catalog.resolve(module, model).chain)):
        load(screen)
    try:
        with screen.busy("Waiting for the answer"):
            return router.complete(prompt, module=module, model=model, system=system)
    except AllModelsFailed as error:
        if model is not None:
            raise
        small = small_model(screen, router.catalog, error, module)
    load(screen)
    with screen.busy("The small model on this machine is writing"):
        return router.complete(prompt, module=module, model=small, system=system, **PATIENCE)


def small_model(screen: Screen, catalog: Catalog, error: AllModelsFailed, module: str | None) -> str:
    """The name of the model on this machine, when nothing else is set up; a note says so, and what to set for a better
    one. Else raises `error`."""
    resolved = catalog.resolve(module)
    if not _nothing_is_set_up(catalog, resolved, error):
        raise error
    if (missing := embedded.present(gguf=environment.gguf())) is not None:
        error.add_note(f"With no key and no Ollama, a small model could answer, but {missing}")
        raise error
    keys = sorted({variable for target in resolved.chain if (variable := missing_key(target))})
    ways = [f"set {' or '.join(keys)} (.env is read)"] if keys else []
    starts = {row.start: row.name for target in resolved.chain if (row := known(target.provider)).start}
    ways += [f"start {name.capitalize()} ({command!r})" for command, name in starts.items()]
    screen.note(
        "No key is set and no Ollama answers, so the small model on this machine does. "
        f"For a better one {', or '.join(ways)}."
    )
    return next((name for name, target in catalog.models.items() if target.provider == "embedded"), "embedded/smollm2")


def _nothing_is_set_up(catalog: Catalog, resolved: Resolved, error: AllModelsFailed) -> bool:
    """Whether a user who has set up nothing made this call: no key for any model, nothing listening as Ollama, and a
    chain that comes from the file, not from a variable with which somebody chose."""
    return resolved.sources["chain"].startswith(f"{catalog.path}:") and all(
        attempt.error_kind is Kind.MISSING_KEY
        or (known(attempt.provider).start is not None and attempt.error_kind is Kind.CONNECTION)
        for attempt in error.attempts
    )
