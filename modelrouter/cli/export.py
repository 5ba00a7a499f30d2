"""``modelrouter export``: the catalog for other programs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelrouter import environment

from .screen import Config, Screen
from .writing import write

if TYPE_CHECKING:
    from modelrouter.export.litellm_proxy import Export

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Write the catalog for another program."""


@app.command("litellm-proxy")
def litellm_proxy(
    context: typer.Context,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write it. Left out: stdout.")
    ] = None,
    _: Config = None,
) -> None:
    """Write the catalog, as the environment makes it, as the configuration of LiteLLM Proxy.

    Clients in any language then ask the proxy, with OpenAI's client, for a module by its name, or for a model or an
    alias. No key is in the file: it refers to variables, and those that are not set are named on stderr.

    What the proxy cannot do, or does otherwise, is a comment at its place in the file, and said on stderr.

    \b
    Example:
      modelrouter export litellm-proxy --output config.yaml
      litellm --config config.yaml --host 127.0.0.1
    """
    from modelrouter.export.litellm_proxy import export
    from modelrouter.store.default import default_store

    screen: Screen = context.obj.screen
    redis = environment.secret(environment.STORE) is not None
    with context.obj.router(logging.ERROR) as router:
        made = export(router.catalog, redis=redis)
    if redis:
        default_store().close()  # refuses an address that is none
    if output is None:
        screen.say(made.text.rstrip("\n"))
    else:
        write(output, made.text, option="--output")
    _summary(screen, made)
    if output is not None:
        screen.note(f"Written: {output}")


def _summary(screen: Screen, made: Export) -> None:
    from modelrouter.export.differences import GENERAL

    screen.note("What the proxy cannot do, or does otherwise:")
    places: dict[tuple[str, str], list[str]] = {}
    for remark in made.remarks:
        places.setdefault((remark.about, remark.text), []).append(remark.place)
    for (about, text), where in places.items():
        screen.note(f"  {about} ({', '.join(where)}): {text}")
    for about, text in GENERAL.items():
        screen.note(f"  {about}: {text}")
    unset = [name for name in made.variables if environment.value(name) is None]
    if unset:
        screen.note("Not set here, and needed where the proxy runs:")
    for name in unset:
        what = made.variables[name]
        screen.note(f"  {name}{f': {what}' if what else ''}")
