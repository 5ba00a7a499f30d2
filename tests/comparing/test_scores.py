"""How answers are scored, and what a judge's two verdicts come to."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from modelrouter import InvalidRequest
from modelrouter.comparing.judge import contradicts, preference, question, rubric
from modelrouter.comparing.prompts import Prompt
from modelrouter.comparing.scores import scorer


def prompt(expected: Any = None) -> Prompt:
    return Prompt("1", ({"role": "user", "content": "?"},), expected, "p.jsonl:7")


@pytest.mark.parametrize(
    ("score", "text", "expected", "value"),
    [
        ("exact", " Paris\n", "Paris", 1),
        ("exact", "Paris.", "Paris", 0),
        ("exact", "71", 71, 1),
        ("contains", "It is PARIS, in France.", "paris", 1),
        ("contains", "It is Paris, in France.", ["Paris", "France"], 1),
        ("contains", "It is Paris.", ["Paris", "France"], 0),
        ("regex", "order 66\n", r"^order \d+$", 1),
        ("regex", "order", r"\d", 0),
        ("json", '{"a": 1}', None, 1),
        ("json", '```json\n{"a": 1, "b": 2}\n```', {"b": 2, "a": 1}, 1),
        ("json", '{"a": 1}', '{"a": 1.0}', 1),
        ("json", '"x"', "x", 1),
        ("json", '{"a": 1}', {"a": 2}, 0),
        ("json", "a: 1", None, 0),
        ("numeric", "So it is 1,250.50 dollars.", 1250.5, 1),
        ("numeric", "first 3, then \N{MINUS SIGN}4", "-4", 1),
        ("numeric", "1.5e3", 1500, 1),
        ("numeric", "0.333", 1 / 3, 0),
        ("numeric", "none", 1, 0),
    ],
)
def test_the_scores_that_are_here(score: str, text: str, expected: Any, value: float) -> None:
    found = scorer(score)
    assert found is not None
    found.check([prompt(1 if expected is None else expected)])
    assert found.score(text, prompt(expected)) == value


def test_a_schema_is_what_an_answer_has_to_be_valid_under() -> None:
    schema = {"type": "object", "required": ["score"], "properties": {"score": {"type": "integer", "maximum": 100}}}
    Path("schema.json").write_text(json.dumps(schema))
    for given in (schema, "schema.json"):
        found = scorer("json", schema=given)
        assert found is not None
        texts = ['{"score": 71}', '{"score": 101}', "{}", "71"]
        assert [found.score(text, prompt()) for text in texts] == [1, 0, 0, 0]
        assert found.score('{"score": 71}', prompt({"score": 72})) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"score": "exakt"}, "no score 'exakt'. Did you mean 'exact'? There are exact, contains"),
        ({"score": "exact", "schema": {}}, "a schema is for JSON, and the score is 'exact'"),
        ({"schema": "none.json"}, "none.json cannot be read"),
        ({"schema": "broken.json"}, "broken.json:2: this is no JSON"),
        ({"schema": {"type": "objekt"}}, "schema: this is no JSON schema"),
        ({"score": "exact", "function": len}, "is the whole score"),
        ({"function": "module"}, "takes package.module:function, not 'module'"),
        ({"function": "no_such_module:f"}, "no_such_module:f cannot be loaded: ModuleNotFoundError"),
        ({"function": "json:none"}, "json:none cannot be loaded: AttributeError"),
        ({"function": "json:__name__"}, "is no function"),
    ],
)
def test_what_is_no_score(arguments: dict[str, Any], said: str) -> None:
    Path("broken.json").write_text('{\n"a": }')
    with pytest.raises(InvalidRequest) as raised:
        scorer(**arguments)
    assert said in str(raised.value)


def test_a_function_of_ones_own_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("my_scores.py").write_text("def half(text, expected):\n    return 0.5 if text == expected else False\n")
    found = scorer(function="my_scores:half")
    assert found is not None
    assert (found.name, found.score("x", prompt("x")), found.score("y", prompt("x"))) == ("my_scores:half", 0.5, 0)
    sys.modules.pop("my_scores")


@pytest.mark.parametrize("given", [7, -0.1, float("nan"), "1", None])
def test_what_a_function_gives_is_a_score(given: Any) -> None:
    found = scorer(function=lambda text, expected: given)
    assert found is not None
    with pytest.raises(InvalidRequest, match=r"for an answer to p.jsonl:7.\n  It has to give True or False, or"):
        found.score("x", prompt())


def test_a_function_that_fails_is_named_with_the_prompt() -> None:
    found = scorer(function=lambda text, expected: expected["x"])
    assert found is not None
    with pytest.raises(InvalidRequest, match=r"failed on an answer to p.jsonl:7: TypeError: .*\n.*is remembered"):
        found.score("x", prompt())


@pytest.mark.parametrize(
    ("score", "expected", "said"),
    [
        ("exact", None, "p.jsonl:7: there is no 'expected', which --score exact needs, and in 1 more."),
        ("regex", "(", "p.jsonl:7: 'expected' is no regular expression"),
        ("numeric", "none", "p.jsonl:7: 'expected' has no number in it"),
    ],
)
def test_what_is_expected_is_looked_at_before_anything_is_sent(score: str, expected: Any, said: str) -> None:
    found = scorer(score)
    assert found is not None
    with pytest.raises(InvalidRequest) as raised:
        found.check([prompt(expected), prompt(expected)])
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("forwards", "backwards", "score", "contradiction"),
    [
        ("B", "A", 1, False),
        ("A", "B", 0, False),
        ("tie", "tie", 0.5, False),
        ("A", "A", 0.5, True),
        ("B", "B", 0.5, True),
        ("A", "tie", 0.5, True),
        ("tie", "A", 0.5, True),
    ],
)
def test_a_judge_that_contradicts_itself_says_nothing(
    forwards: str, backwards: str, score: float, contradiction: bool
) -> None:
    assert preference(forwards, backwards) == score
    assert contradicts(forwards, backwards) is contradiction


def test_a_judge_is_shown_the_answers_as_material() -> None:
    Path("rubric.md").write_text("Prefer {brevity}.\n")
    system, user = question(rubric("rubric.md"), prompt("x"), 'a "quoted" one', "b")
    assert system["content"].endswith("Rubric:\nPrefer {brevity}.")
    assert json.loads(user["content"]) == {
        "request": "?",
        "answer A": 'a "quoted" one',
        "answer B": "b",
        "what was expected": "x",
    }
    Path("empty.md").write_text(" ")
    for name, said in (("empty.md", "there is no rubric in it"), ("none.md", "cannot be read")):
        with pytest.raises(InvalidRequest, match=said):
            rubric(name)
