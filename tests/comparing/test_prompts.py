"""The prompts of a comparison: three kinds of files, and where a mistake in one is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelrouter import InvalidRequest
from modelrouter.comparing.prompts import Prompt, read, taken


def written(name: str, text: str | bytes) -> Path:
    path = Path(name)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_line_of_text_is_a_prompt() -> None:
    prompts = read(written("p.txt", "\ufeffWhy?\r\n\n  How, and \u2028when?  \n"))
    assert [(each.id, each.text, each.place) for each in prompts] == [
        ("1", "Why?", "p.txt:1"),
        ("2", "How, and \u2028when?", "p.txt:3"),
    ]


def test_jsonl_has_messages_ids_and_what_is_expected() -> None:
    lines = [
        '{"prompt": "2 + 2?", "expected": 4, "id": "sum"}',
        '{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]}',
    ]
    first, second = read(written("p.jsonl", "\n".join(lines)))
    assert (first.id, first.expected, first.messages) == ("sum", 4, ({"role": "user", "content": "2 + 2?"},))
    assert (second.id, second.text) == ("2", "system: Be brief.\n\nuser: Hi")


def test_csv_has_the_same_as_columns_and_lines_within_cells() -> None:
    prompts = read(written("p.csv", 'expected,prompt,note\r\n4,"2 + 2,\r\nor more?",x\r\n\r\n,Why?,y\r\n'))
    assert [(each.text, each.expected, each.place) for each in prompts] == [
        ("2 + 2,\r\nor more?", "4", "p.csv:2"),
        ("Why?", None, "p.csv:5"),
    ]


def test_programs_give_texts_mappings_or_prompts() -> None:
    prompts = taken(["Why?", {"prompt": "How?", "expected": "so"}])
    assert [(each.text, each.place) for each in prompts] == [("Why?", "prompts[0]"), ("How?", "prompts[1]")]
    assert taken(prompts) == prompts


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.jsonl", '{"prompt": "a"}\n{"promt": "b"}', ["p.jsonl:2: unknown key 'promt'. Did you mean 'prompt'?"]),
        ("p.jsonl", '\n{"prompt": ', ["p.jsonl:2: this is no JSON"]),
        ("p.jsonl", "[1]\n7", ["2 problems in p.jsonl", "p.jsonl:1: a prompt is", "not a list", "p.jsonl:2", "number"]),
        ("p.jsonl", '{"id": "x"}', ["p.jsonl:1: either 'prompt' or 'messages' is needed."]),
        ("p.jsonl", '{"prompt": "a", "messages": []}', ["p.jsonl:1: either 'prompt' or 'messages'", "not both"]),
        ("p.jsonl", '{"prompt": " "}', ["p.jsonl:1: 'prompt' is a text with something in it"]),
        ("p.jsonl", '{"messages": []}', ["p.jsonl:1: 'messages' is a list of at least one"]),
        ("p.jsonl", '{"messages": [{"role": "user"}]}', ["p.jsonl:1: each of 'messages' is an object"]),
        ("p.jsonl", '{"prompt":"a","id":1}\n{"prompt":"b","id":"1"}', ["p.jsonl:2: the id '1' is that of p.jsonl:1"]),
        ("p.csv", "question\nWhy?", ["p.csv:1: the first line has to name the columns"]),
        ("p.csv", "prompt,expected\nWhy?", ["p.csv:2: 1 cells, and 2 columns"]),
        ("p.csv", 'prompt\nWhy?\n"How', ["p.csv:3: this is no CSV"]),
        ("p.csv", "messages\n[", ["p.csv:2: 'messages' is no JSON"]),
        ("p.txt", b"fine\n\xff\xfe", ["p.txt:2: this is not UTF-8.\n  Save"]),
        ("p.txt", "\n \n", ["p.txt: there is no prompt in it.\n  Write one"]),
        ("p.json", "[]", ["p.json: one JSON document is no list of prompts.\n  Write JSONL"]),
        ("p.jsonl", "7\n" * 20, ["20 problems in p.jsonl", "and 8 more"]),
    ],
)
def test_a_mistake_is_told_by_file_and_line(name: str, text: Any, said: list[str]) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read(written(name, text))
    assert [each for each in said if each not in str(raised.value)] == []


def test_a_file_that_cannot_be_read_or_a_list_of_nothing() -> None:
    with pytest.raises(InvalidRequest, match=r"none.txt cannot be read: No such file"):
        read("none.txt")
    for given, said in (([], "there is no prompt"), ([3], r"prompts\[0\]: a prompt is a text or an object")):
        with pytest.raises(InvalidRequest, match=said):
            taken(given)
    assert Prompt("1", ({"role": "user", "content": [{"type": "text"}]},)).text == '[{"type": "text"}]'
