"""Every error that leaves modelrouter. Each keeps its facts as attributes and builds its message from them: the
problem, the evidence, what to do. None carries a secret, nor a reference to an exception that might.

::

    ModelRouterError
    ├── ConfigurationError
    │   ├── InvalidCatalog (ValueError)         the YAML is wrong; every problem, with its line
    │   ├── InvalidEnvironment (ValueError)     a variable is wrong; every problem, with its name
    │   ├── UnknownModule (LookupError)
    │   ├── UnknownModel (LookupError)
    │   │   └── UnknownPair                     a provider and a model that name nothing together
    │   ├── EmbeddedUnavailable (RuntimeError)  the model on this machine is not installed or did not start
    │   ├── MetricsUnavailable (ValueError)     the registry, or multiprocess mode, is not as Prometheus needs it
    │   └── CannotListen (OSError)              the metrics server cannot have its port
    ├── InvalidRequest (ValueError)             the call's own arguments; raised before anything is sent
    ├── CallFailed                              a call that gave no answer; has .module, .attempts, .cost_usd
    │   ├── AllModelsFailed (RuntimeError)
    │   │   ├── MissingKey (LookupError)        the only model of the chain has no API key
    │   │   ├── DeadlineExceeded (TimeoutError) time ran out before the chain did
    │   │   └── BudgetExceeded                  no model is left that the money is enough for
    │   ├── BadRequest (ValueError)             a provider says that the request itself is wrong
    │   └── StreamInterrupted (ConnectionError) a stream broke after its first piece; has .partial_text
    ├── CannotSend (RuntimeError)               this process has nothing left to send a request with
    ├── ProviderError                           what one provider said; the ``__cause__`` of a CallFailed
    └── StoreError                              what a store could not do; it never fails a call
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .completion import known
from .hints import did_you_mean, nearest

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from .completion import Attempt, Kind

__all__ = [
    "AllModelsFailed",
    "BadRequest",
    "BudgetExceeded",
    "CallFailed",
    "CannotListen",
    "CannotSend",
    "ConfigurationError",
    "DeadlineExceeded",
    "EmbeddedUnavailable",
    "InvalidCatalog",
    "InvalidEnvironment",
    "InvalidRequest",
    "MetricsUnavailable",
    "MissingKey",
    "ModelRouterError",
    "ProviderError",
    "StreamInterrupted",
    "UnknownModel",
    "UnknownModule",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a file or in the environment."""

    where: str
    """``line 4`` of the file, or a variable's name."""
    what: str
    """``models.fast.temperture: unknown key. Did you mean 'temperature'?``"""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class ModelRouterError(Exception):
    """The root: catch it to catch all of modelrouter's errors. All of them can be pickled."""

    def __reduce__(self) -> tuple[object, ...]:
        # The constructors take facts by keyword and make the message, so the default, cls(*args), would not work.
        family = OSError if isinstance(self, OSError) else Exception  # `DeadlineExceeded.__new__` is RuntimeError's
        return family.__new__, (type(self), *self.args), {**self.__dict__, "args": self.args}


class ConfigurationError(ModelRouterError):
    """The catalog, the environment or the installation has to be mended; no request was sent."""


class _Problems(ConfigurationError):
    """What is wrong, all of it."""

    def __init__(self, place: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{count} problem{'s' if count != 1 else ''} in {place}"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))


class InvalidCatalog(_Problems, ValueError):
    """The YAML cannot be used. `problems` has all of them, in the order of their lines."""

    def __init__(self, path: str, problems: Sequence[Problem]) -> None:
        super().__init__(path, problems)
        self.path = path


class InvalidEnvironment(_Problems, ValueError):
    """Environment variables, or lines of .env, that cannot be used. `problems` has all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("the environment", problems)


class UnknownModule(ConfigurationError, LookupError):
    """No such module in the catalog."""

    def __init__(self, module: str, path: str, defined: Collection[str]) -> None:
        self.module = module
        self.path = path
        self.defined = tuple(sorted(defined))
        self.suggestion = nearest(module, defined)
        listing = ", ".join(self.defined[:12]) + (f" and {more} more" if (more := len(defined) - 12) > 0 else "")
        super().__init__(f"no module {module!r} in {path}.{did_you_mean(self.suggestion)}\n  Defined: {listing}.")


class UnknownModel(ConfigurationError, LookupError):
    """Neither a catalog name, nor an alias, nor a LiteLLM model string."""

    def __init__(self, model: str, path: str, defined: Collection[str], hint: str | None = None) -> None:
        self.model = model
        self.path = path
        self.suggestion = nearest(model, defined)
        super().__init__(
            f"no model {model!r} in {path}.{did_you_mean(self.suggestion)}\n  "
            + (hint or "Name a model or an alias of the catalog, or a LiteLLM string such as 'openai/gpt-4'.")
        )


class UnknownPair(UnknownModel):
    """A provider and a model that name nothing together, or a provider alone that has no default model."""

    def __init__(self, name: str, path: str, why: str) -> None:
        self.model = name
        self.path = path
        self.suggestion = None
        ConfigurationError.__init__(self, why)


class EmbeddedUnavailable(ConfigurationError, RuntimeError):
    """The embedded model cannot answer on this machine; the message names the lines that install it."""


class MetricsUnavailable(ConfigurationError, ValueError):
    """The series cannot be kept, or not be shown, as Prometheus is set up in this process."""

    def __init__(self, problem: str, mend: str) -> None:
        self.problem = problem
        self.mend = mend
        super().__init__(f"{problem}\n  {mend}")


class CannotListen(ConfigurationError, OSError):
    """The metrics server cannot have its port."""

    def __init__(self, *, host: str, port: int, reason: str, taken: bool) -> None:
        self.host = host
        self.port = port
        self.reason = reason
        mend = (
            "Another program has this port, or this one serves its metrics twice. Stop the one or take another port; "
            "port 0 takes a free one."
            if taken
            else "Take a host of this machine, such as 127.0.0.1, and a port from 1024 to 65535."
        )
        super().__init__(f"cannot serve metrics on port {port} of {host}: {reason}.\n  {mend}")


class InvalidRequest(ModelRouterError, ValueError):
    """The arguments of the call are wrong. Nothing was sent."""


class ProviderError(ModelRouterError):
    """What one provider said, in modelrouter's words: the cause of a `CallFailed`.

    It stands in for LiteLLM's exception, whose chain holds requests, headers and frames with the API key in them.
    """

    def __init__(self, kind: Kind, message: str, *, status: int | None = None, raised: str | None = None) -> None:
        self.kind = kind
        self.status = status
        self.raised = raised
        """The name of the exception type that LiteLLM raised."""
        super().__init__(f"{kind}: {message}" + (f" [{raised}]" if raised else ""))


class CallFailed(ModelRouterError):
    """A call ended without an answer."""

    def __init__(self, message: str, *, module: str, attempts: Sequence[Attempt]) -> None:
        self.module = module
        self.attempts = tuple(attempts)
        super().__init__(message)

    @property
    def cost_usd(self) -> Decimal:
        """What the attempts cost, as far as it is known."""
        return known(self.attempts)


class AllModelsFailed(CallFailed, RuntimeError):
    """No model of the chain gave an answer. `attempts` has every try and every skip, in order."""

    def __init__(
        self, *, module: str, models: int, attempts: Sequence[Attempt], elapsed: float, why: str | None = None
    ) -> None:
        tries = sum(a.outcome == "error" for a in attempts)
        self.models = models
        self.elapsed = elapsed
        head = (
            f"module {module!r}: no answer from {models} model{'s' if models != 1 else ''} in "
            f"{tries} attempt{'s' if tries != 1 else ''} ({elapsed:.1f} s)."
        )
        names = max((len(a.model) for a in attempts), default=0)
        strings = max((len(a.litellm_model) for a in attempts), default=0)
        lines = (
            f"  {n}. {a.model:<{names}}  {a.litellm_model:<{strings}}  {a}" for n, a in enumerate(attempts, start=1)
        )
        message = "\n".join([head + (f" {why}" if why else ""), *lines, f"  See 'modelrouter check {module}'."])
        super().__init__(message, module=module, attempts=attempts)


class MissingKey(AllModelsFailed, LookupError):
    """The only model that may be called needs an API key, and its variable is not set."""

    def __init__(self, *, module: str, variable: str, attempts: Sequence[Attempt]) -> None:
        self.variable = variable
        self.models = 1
        self.elapsed = 0.0
        attempt = attempts[-1]
        CallFailed.__init__(
            self,
            f"model {attempt.model!r} ({attempt.litellm_model}) needs {variable}, which is not set.\n"
            "  Export it or add it to .env (see .env.example).",
            module=module,
            attempts=attempts,
        )


class DeadlineExceeded(AllModelsFailed, TimeoutError):
    """The call's deadline passed before a model of the chain had answered."""

    def __init__(
        self, *, module: str, models: int, attempts: Sequence[Attempt], elapsed: float, deadline: float
    ) -> None:
        self.deadline = deadline
        super().__init__(
            module=module,
            models=models,
            attempts=attempts,
            elapsed=elapsed,
            why=f"The deadline of {deadline:g} s passed.",
        )


class BudgetExceeded(AllModelsFailed):
    """No model is left that what may still be spent is enough for."""

    def __init__(
        self,
        *,
        module: str,
        models: int,
        attempts: Sequence[Attempt],
        elapsed: float,
        limit: str,
        source: str,
        limit_usd: Decimal,
        spent_usd: Decimal,
        reserved_usd: Decimal,
        resets_at: datetime | None,
    ) -> None:
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self.reserved_usd = reserved_usd
        """By requests under way."""
        self.source = source
        """The file and the line of the budget; empty: the limit of a `track` block."""
        self.resets_at = resets_at
        """When it begins anew (UTC); None: not by itself."""
        where = f" ({source})" if source else ""
        anew = f"; it begins anew at {resets_at:%Y-%m-%d %H:%M} UTC" if resets_at is not None else ""
        super().__init__(
            module=module,
            models=models,
            attempts=attempts,
            elapsed=elapsed,
            why=f"Of {limit}{where} ${spent_usd:f} is spent and ${reserved_usd:f} reserved{anew}.",
        )


class BadRequest(CallFailed, ValueError):
    """A provider says that the request itself is wrong: another model would hide the mistake, so none was asked."""

    def __init__(self, *, module: str, attempts: Sequence[Attempt]) -> None:
        attempt = attempts[-1]
        super().__init__(
            f"{attempt.model!r} ({attempt.litellm_model}) refuses the request"
            f"{f' with status {attempt.status}' if attempt.status else ''}: {attempt.error}\n"
            "  The request has to be mended; no other model was asked.",
            module=module,
            attempts=attempts,
        )


class StreamInterrupted(CallFailed, ConnectionError):
    """A stream broke after its first piece. Nobody else was asked: two models' words are never mixed."""

    def __init__(self, *, module: str, attempts: Sequence[Attempt], partial_text: str) -> None:
        self.partial_text = partial_text
        """All pieces that came, joined; their cost is the last attempt's."""
        attempt = attempts[-1]
        super().__init__(
            f"the stream of {attempt.model!r} ({attempt.litellm_model}) broke after {len(partial_text)} characters: "
            f"{attempt}.\n  The error has them as partial_text; no other model was asked.",
            module=module,
            attempts=attempts,
        )


class CannotSend(ModelRouterError, RuntimeError):
    """This process can send no request at the moment: it has no file descriptor, thread or memory left, or is about to
    end. That is no model's failure, so no other model was asked."""

    def __init__(self, why: str) -> None:
        super().__init__(f"this process cannot send a request: {why}. No other model was asked.")


class StoreError(ModelRouterError):
    """The store could not do what it was asked to. It never fails a call."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        """A short name of what is wrong, such as ``busy`` or ``full``, to tell one failure from another."""
        super().__init__(message)
