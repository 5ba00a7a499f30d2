"""The command line: ask a model, and see what a catalog says, what is wrong with it and what it costs.

Answers and listings go to stdout, everything about them to stderr. Whatever is slow to import is imported by the
commands that need it, so that ``--help`` is quick.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelrouter.errors import CallFailed, InvalidCatalog, InvalidEnvironment, ModelRouterError

from . import cache as _cache_command
from . import compare as _compare_command
from . import export as _export_command
from . import spend as _spend_command
from .screen import Config, Json, Screen, attempt_lines, summary
from .streams import guarded

if TYPE_CHECKING:
    from modelrouter.router.router import Router

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass(frozen=True, slots=True)
class _State:
    """What every command is given."""

    screen: Screen
    config: Path | None

    @contextmanager
    def router(self, level: int = logging.INFO) -> Iterator[Router]:
        """This command's router; its log lines are shown from `level`."""
        from modelrouter.router.router import Router

        with self.screen.logging(level), Router(self.config) as router:
            yield router


def _print_version(wanted: bool) -> None:
    if wanted:
        Screen().say(f"modelrouter {version('modelrouter')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Config = None,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One YAML file decides which language model each part of an application calls, what happens when it fails, and
    what it costs.

    \b
    Examples:
      modelrouter demo
      modelrouter ask "Why is the sky blue?"
      modelrouter explain scorer
      modelrouter check
      modelrouter --config other.yaml models --json

    Keys are read from the environment or from .env in this directory: OPENAI_API_KEY, ANTHROPIC_API_KEY and others.

    Exit codes: 0; 1 when there is no answer, or 'check' found errors; 2 when the command, the catalog or the
    environment has to be mended.
    """
    context.obj = _State(Screen(), config)


# -- asking


@app.command()
def ask(
    context: typer.Context,
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="The question; '-', or left out in a pipe: read it from stdin."),
    ] = None,
    module: Annotated[
        str | None, typer.Option(metavar="NAME", help="A module of the catalog. Left out: default.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="Ask this model in place of the module's chain: a catalog name, an alias or a LiteLLM string. "
            "Several times: one after the other, until one answers.",
        ),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", metavar="TEXT", help="The system message.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer, and errors; nothing else.")] = False,
    as_json: Json = False,
    _: Config = None,
) -> None:
    """Ask a module's models in order until one answers.

    \b
    Examples:
      modelrouter ask "Name three uses of a paper clip."
      modelrouter ask "Score this offer: ..." --module scorer
      modelrouter ask "Hello" --model gpt-4 --model ollama/mistral
      git diff | modelrouter ask --system "Write a commit message." --quiet

    The answer goes to stdout; who gave it, tokens, time and cost, and what failed before it, go to stderr.

    When no key is set for any of the models, no Ollama answers and you named no model, the small model on this
    machine answers, and says so.
    """
    state: _State = context.obj
    with state.screen.busy("Loading"):
        from . import asking
    question = _stdin() if prompt is None or prompt == "-" else prompt
    with state.router(logging.ERROR if quiet else logging.INFO) as router:
        answer = asking.ask(state.screen, router, question, module=module, model=model or None, system=system)
    if as_json:
        state.screen.document(answer)
    else:
        state.screen.say(answer.text)
    if not quiet:
        for line in summary(answer), *attempt_lines(answer.attempts):
            state.screen.note(line)


def _stdin() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        raise typer.BadParameter("a question is needed, as an argument or from a pipe.", param_hint="PROMPT")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"what stdin gives is not text: {error}.", param_hint="PROMPT") from None
    except OSError as error:
        raise typer.BadParameter(f"stdin cannot be read: {error}.", param_hint="PROMPT") from None


@app.command()
def demo(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no log lines.")] = False,
    _: Config = None,
) -> None:
    """Have a DSPy program of three stages, each a module of its own, read, score and answer a recruiter's message.

    Then one stage again with its first model down, the whole once more out of the cache, and a table of what each took.
    The model that is down is a closed port of this machine, so that a real connection is refused.

    The models that are set up here answer; with no key and no Ollama, the small model on this machine. Exit code 1 when
    no model answers, or one not in the form that was asked for.
    """
    from modelrouter.router.default import configure, get_router

    state: _State = context.obj
    with state.screen.logging(logging.ERROR if quiet else logging.INFO):
        configure(state.config)
        try:
            with state.screen.busy("Loading DSPy"):
                from .demo import run
            if not run(state.screen, state.config):
                raise typer.Exit(1)
        finally:
            get_router().close()  # not the one of before: the demonstration makes others


# -- listings


@app.command()
def models(context: typer.Context, as_json: Json = False, _: Config = None) -> None:
    """List the catalog's models and their prices.

    Prices are US dollars per million tokens; '+' means that a long prompt costs more, and "LiteLLM's list" that the
    catalog leaves the price to it.
    """
    from . import listings as _listings

    state: _State = context.obj
    with state.router() as router:
        _listings.models(state.screen, router.catalog, as_json=as_json)


@app.command()
def explain(
    context: typer.Context,
    module: Annotated[str, typer.Argument(metavar="MODULE", help="A module of the catalog.")] = "default",
    as_json: Json = False,
    _: Config = None,
) -> None:
    """Show whom a module calls, how, and why.

    Every value in effect is shown with the line or the variable that it comes from, and every model of the chain.

    Of a key, its variable is shown and whether it is set, never the key.

    \b
    Example:
      SCORER_LLM_MODEL=gpt-4 modelrouter explain scorer
    """
    from . import listings as _listings

    state: _State = context.obj
    with state.router() as router:
        _listings.chain_of(state.screen, router.catalog, module, as_json=as_json)


@app.command()
def check(
    context: typer.Context,
    module: Annotated[
        str | None, typer.Argument(metavar="MODULE", help="A module of the catalog. Left out: all.")
    ] = None,
    prompt_tokens: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="The highest price is for a prompt of N tokens, not the longest one."),
    ] = None,
    as_json: Json = False,
    _: Config = None,
) -> None:
    """Look for problems, and for what a call can cost.

    Looked at are the catalog, the environment, keys, retired models, prices (against LiteLLM's list), Ollama (is it
    there, is the model pulled), the cache and the model on this machine. No model is asked, so nothing is spent.

    A module that no model can answer is an error; one that has some models left is warned about. Exit code 1 when
    there are errors.
    """
    from . import check as _check
    from . import listings as _listings
    from .asking import load

    state: _State = context.obj
    # The catalog's warnings are findings here, and not log lines as well.
    with state.router(logging.ERROR) as router:
        try:
            catalog = router.catalog
        except (InvalidCatalog, InvalidEnvironment) as error:
            report = _check.broken(error)
        else:
            catalog.resolve(module)
            load(state.screen)
            with state.screen.busy("Checking"):
                report = _check.check(catalog, module, prompt_tokens=prompt_tokens, ledger=router.performer.budgets)
    if as_json:
        state.screen.document(report)
    else:
        _listings.findings(state.screen, report, prompt_tokens=prompt_tokens)
    if report.count("error"):
        raise typer.Exit(1)


app.add_typer(_cache_command.app, name="cache")
app.add_typer(_export_command.app, name="export")
app.command()(_spend_command.spend)
app.command()(_compare_command.compare)


# -- serving


@app.command()
def metrics(
    context: typer.Context,
    host: Annotated[str, typer.Option(metavar="NAME", help="0.0.0.0: every network, with no password.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    _: Config = None,
) -> None:
    """Serve metrics to Prometheus until Ctrl-C.

    Processes share their metrics in the directory that PROMETHEUS_MULTIPROC_DIR names; set it for them and for this
    command. Without it, only this process is shown, which calls no model. An application can also serve its own:
    modelrouter.start_metrics_server() or modelrouter.metrics_app().

    \b
    Example:
      PROMETHEUS_MULTIPROC_DIR=/run/myapp modelrouter metrics --port 9100
      curl http://127.0.0.1:9100/api/v1/metrics
    """
    from modelrouter.metering.metrics import multiprocess
    from modelrouter.metering.server import start_metrics_server

    state: _State = context.obj
    with state.router() as router:
        router.catalog  # noqa: B018 - its modules' series start at 0
        with start_metrics_server(port, host) as server:
            if multiprocess() is None:
                state.screen.note("PROMETHEUS_MULTIPROC_DIR is not set, so no other process's metrics are shown.")
            state.screen.say(server.url)
            threading.Event().wait()


# -- the command itself


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `argv`, by default that of the process, and return its exit code."""
    return guarded(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    if "" not in sys.path:
        sys.path.append("")  # here: the catalog may name a function of the application's
    try:
        app(argv, prog_name="modelrouter")  # Typer itself ends with 130 after Ctrl-C
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 1
    except ModelRouterError as error:
        Screen().note("\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]))
        return 1 if isinstance(error, CallFailed) else 2
    return 0
