"""How good an answer is, 0 to 1: by comparison with what was expected, by a JSON schema, or by a function."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

from modelrouter.errors import InvalidRequest
from modelrouter.hints import did_you_mean, nearest

from .prompts import Prompt

Function: TypeAlias = Callable[[str, Any], Any]
"""Takes an answer's text and what was expected; gives a bool, or a number from 0 to 1."""

_MINUS = "\N{MINUS SIGN}"
_NUMBER = re.compile(rf"[-+{_MINUS}]?(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+{_MINUS}]?\.\d+")
_CLOSE = 1e-6
"""Of a number: so far, relatively, it may be from the one that was expected."""
_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Scorer:
    """A way to score."""

    name: str
    """``exact``, or ``package.module:function``."""
    function: Function
    needs_expected: bool = False

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raises InvalidRequest where a prompt has nothing to score against."""
        if self.needs_expected and (bare := [each for each in prompts if each.expected is None]):
            more = f", and in {len(bare) - 1:,} more" if len(bare) > 1 else ""
            raise InvalidRequest(
                f"{bare[0].place}: there is no 'expected', which --score {self.name} needs{more}.\n"
                "  Add it to each line of a JSONL or CSV file."
            )
        for each in prompts:
            if self.name == "regex":
                _pattern(each)
            elif self.name == "numeric" and _numbers(str(each.expected)) == []:
                raise InvalidRequest(f"{each.place}: 'expected' has no number in it: {each.expected!r}.")

    def score(self, text: str, prompt: Prompt) -> float:
        """Of one answer. Raises InvalidRequest when the function fails, or gives no score."""
        try:
            given = self.function(text, prompt.expected)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise InvalidRequest(
                f"the scorer {self.name} failed on an answer to {prompt.place}: {said}\n"
                "  Mend it and run the same again: what was answered is remembered."
            ) from error
        with contextlib.suppress(TypeError, ValueError):
            if not isinstance(given, str) and 0 <= (value := float(given)) <= 1:
                return value
        raise InvalidRequest(
            f"the scorer {self.name} gave {given!r} for an answer to {prompt.place}.\n"
            "  It has to give True or False, or a number from 0 to 1."
        )


def scorer(
    score: str | None = None, *, schema: Path | str | Mapping[str, Any] | None = None, function: Any = None
) -> Scorer | None:
    """The one way to score that was named; None: none was. Raises InvalidRequest for what is none, and for two."""
    if function is not None and (score is not None or schema is not None):
        raise InvalidRequest("a scorer of your own is the whole score.\n  Leave out --score and --schema beside it.")
    if function is not None:
        return _own(function)
    if schema is not None:
        if score not in (None, "json"):
            raise InvalidRequest(f"a schema is for JSON, and the score is {score!r}.\n  Leave out one of the two.")
        return Scorer("schema", _by_schema(schema))
    if score is None:
        return None
    if (found := SCORES.get(score)) is None:
        names = ", ".join(SCORES)
        raise InvalidRequest(f"no score {score!r}.{did_you_mean(nearest(score, SCORES))} There are {names}.")
    return Scorer(score, found, needs_expected=score != "json")


# -- those that are here


def _exact(text: str, expected: Any) -> bool:
    return text.strip() == str(expected).strip()


def _contains(text: str, expected: Any) -> bool:
    wanted = expected if isinstance(expected, list) else [expected]
    return all(str(each).casefold() in text.casefold() for each in wanted)


def _regex(text: str, expected: Any) -> bool:
    return re.search(str(expected), text, re.MULTILINE) is not None


def _json(text: str, expected: Any) -> bool:
    found = parsed(text)
    if found is _NONE:
        return False
    if isinstance(expected, str):  # a cell of CSV is text
        wanted = parsed(expected)
        return bool(found == (expected if wanted is _NONE else wanted))
    return expected is None or bool(found == expected)


def _numeric(text: str, expected: Any) -> bool:
    found, wanted = _numbers(text), _numbers(str(expected))
    return bool(found) and bool(wanted) and math.isclose(found[-1], wanted[-1], rel_tol=_CLOSE, abs_tol=1e-12)


SCORES: Mapping[str, Function] = {
    "exact": _exact,
    "contains": _contains,
    "regex": _regex,
    "json": _json,
    "numeric": _numeric,
}
"""What ``--score`` takes: the same text; the text or all of a list of texts in it, in any case; a regular expression
that is found in it; JSON, equal to what is expected if that is there; the last number, to one in a million."""

_NONE = object()


def parsed(text: str) -> Any:
    """The JSON that the text is, a fence around it left out; `_NONE`: it is none."""
    if (fenced := _FENCE.match(text)) is not None:
        text = fenced[1]
    try:
        return json.loads(text)
    except ValueError:
        return _NONE


def _numbers(text: str) -> list[float]:
    return [float(Decimal(found.replace(",", "").replace(_MINUS, "-"))) for found in _NUMBER.findall(text)]


def _pattern(prompt: Prompt) -> None:
    try:
        re.compile(str(prompt.expected))
    except re.error as error:
        raise InvalidRequest(f"{prompt.place}: 'expected' is no regular expression ({error}).") from None


def _by_schema(given: Path | str | Mapping[str, Any]) -> Function:
    import jsonschema

    where = "schema"
    schema: Any = given
    if not isinstance(given, Mapping):
        where = str(given)
        try:
            schema = json.loads(Path(given).read_text(encoding="utf-8"))
        except OSError as error:
            raise InvalidRequest(f"{where} cannot be read: {error.strerror}.\n  Name a JSON schema.") from None
        except UnicodeDecodeError:
            raise InvalidRequest(f"{where}: this is not UTF-8.\n  Save the schema as UTF-8 text.") from None
        except json.JSONDecodeError as error:
            raise InvalidRequest(f"{where}:{error.lineno}: this is no JSON ({error.msg}).") from None
    checker: Any = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        checker.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InvalidRequest(f"{where}: this is no JSON schema: {error.message} (at {error.json_path}).") from None
    valid = checker(schema)

    def score(text: str, expected: Any) -> bool:
        found = parsed(text)
        if found is _NONE or not valid.is_valid(found):
            return False
        return expected is None or _json(text, expected)

    return score


def _own(function: Any) -> Scorer:
    if callable(function):
        name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', repr(function))}"
        return Scorer(name, function)
    module, _, attribute = str(function).partition(":")
    if not module or not attribute:
        raise InvalidRequest(f"--scorer takes package.module:function, not {function!r}.")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a console script, unlike `python -m`, does not look where it was started
    try:
        found = importlib.import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise InvalidRequest(
            f"the scorer {function} cannot be loaded: {said}\n  Name one that Python finds from here."
        ) from error
    if not callable(found):
        raise InvalidRequest(f"the scorer {function} is no function.")
    return Scorer(str(function), found)
