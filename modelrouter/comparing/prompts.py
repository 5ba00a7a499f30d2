"""The prompts of a comparison: read from text, JSONL or CSV, with the line of every mistake."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelrouter.completion import Record
from modelrouter.errors import InvalidRequest, Problem
from modelrouter.hints import did_you_mean, nearest

_KEYS = ("prompt", "messages", "expected", "id")
_SHOWN = 12
"""Mistakes of a file that are told one by one."""


@dataclass(frozen=True, slots=True)
class Prompt(Record):
    """One request, and what a good answer to it has."""

    id: str
    """Its own name, or its number among the prompts, from 1."""
    messages: tuple[Mapping[str, Any], ...]
    """In OpenAI's form."""
    expected: Any = None
    """What an answer is scored against; None: nothing."""
    place: str = ""
    """``offers.jsonl:12``, or ``prompts[11]``."""

    @property
    def text(self) -> str:
        """As people read it: the messages, each after its role, where there is more than one."""
        if len(self.messages) == 1:
            return _content(self.messages[0])
        return "\n\n".join(f"{message.get('role')}: {_content(message)}" for message in self.messages)


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)


def read(path: Path | str) -> tuple[Prompt, ...]:
    """The prompts of a file: ``.jsonl`` has an object in each line (`prompt` or `messages`, and perhaps `expected` and
    `id`), ``.csv`` these as columns, and any other file a prompt in each line. Empty lines are left out.

    Raises InvalidRequest with every mistake, by file and line.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.\n  Name a file of prompts.") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise InvalidRequest(f"{path}:{line}: this is not UTF-8.\n  Save the file as UTF-8 text.") from None
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            entries = _json_lines(text)
        case ".json":
            raise InvalidRequest(f"{path}: one JSON document is no list of prompts.\n  Write JSONL: an object a line.")
        case ".csv":
            entries = _csv(path, text)
        case _:
            entries = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    return _made(str(path), ((f"{path}:{line}", f"line {line}", entry) for line, entry in entries))


def taken(prompts: Iterable[Any]) -> tuple[Prompt, ...]:
    """Prompts that a program gives: texts, mappings with the keys of JSONL, or `Prompt`. Raises InvalidRequest."""
    entries = list(prompts)
    if entries and all(isinstance(each, Prompt) for each in entries):
        return tuple(entries)
    return _made("prompts", ((f"prompts[{at}]", f"prompts[{at}]", entry) for at, entry in enumerate(entries)))


def _json_lines(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                yield number, Problem("", f"this is no JSON ({error}). Write one object in a line.")


def _csv(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    head: list[str] | None = None
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise InvalidRequest(f"{path}:{line}: this is no CSV ({error}).\n  Close every quotation mark.") from None
        if not any(cell.strip() for cell in row):
            continue
        if head is None:
            head = [name.strip() for name in row]
            if "prompt" not in head and "messages" not in head:
                said = f"the first line has to name the columns, 'prompt' among them, and has {', '.join(head)}."
                raise InvalidRequest(f"{path}:{line}: {said}")
            continue
        if len(row) != len(head):
            yield line, Problem("", f"{len(row)} cells, and {len(head)} columns are named in the first line.")
            continue
        entry: dict[str, Any] = {name: cell for name, cell in zip(head, row, strict=True) if name in _KEYS and cell}
        if "messages" in entry:
            try:
                entry["messages"] = json.loads(entry["messages"])
            except ValueError as error:
                yield line, Problem("", f"'messages' is no JSON ({error}).")
                continue
        yield line, entry


def _made(where: str, entries: Iterable[tuple[str, str, Any]]) -> tuple[Prompt, ...]:
    found: dict[str, Prompt] = {}
    problems: list[Problem] = []
    for place, shown, entry in entries:
        prompt = _prompt(place, str(len(found) + 1), entry)
        if isinstance(prompt, Prompt) and (other := found.get(prompt.id)) is not None:
            prompt = f"the id {prompt.id!r} is that of {other.place} too. Give each prompt an id of its own."
        if isinstance(prompt, str):
            problems.append(Problem(shown, prompt))
        else:
            found[prompt.id] = prompt
    if problems:
        more = [f"  and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        head = f"{len(problems)} problem{'s' if len(problems) != 1 else ''} in {where}"
        told = (f"  {where}:{each.where.removeprefix('line ')}: {each.what}" for each in problems[:_SHOWN])
        if where == "prompts":
            told = (f"  {each}" for each in problems[:_SHOWN])
        raise InvalidRequest("\n".join([head, *told, *more]))
    if not found:
        raise InvalidRequest(f"{where}: there is no prompt in it.\n  Write one in each line.")
    return tuple(found.values())


def _prompt(place: str, number: str, entry: Any) -> Prompt | str:
    """Or what is wrong."""
    if isinstance(entry, Problem):
        return entry.what
    if isinstance(entry, str):
        entry = {"prompt": entry}
    if not isinstance(entry, Mapping):
        return f"a prompt is a text or an object with 'prompt' or 'messages', not {_kind(entry)}."
    if strange := [str(name) for name in entry if name not in _KEYS]:
        return f"unknown key {strange[0]!r}.{did_you_mean(nearest(strange[0], _KEYS))} There are {', '.join(_KEYS)}."
    prompt, messages = entry.get("prompt"), entry.get("messages")
    if (prompt is None) == (messages is None):
        return "either 'prompt' or 'messages' is needed" + (", and not both." if prompt is not None else ".")
    if messages is None:
        if not isinstance(prompt, str) or not prompt.strip():
            return f"'prompt' is a text with something in it, not {prompt!r}."
        messages = [{"role": "user", "content": prompt}]
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        return "'messages' is a list of at least one message."
    if not all(isinstance(each, Mapping) and {"role", "content"} <= each.keys() for each in messages):
        return "each of 'messages' is an object with 'role' and 'content'."
    return Prompt(str(entry.get("id", number)), tuple(messages), entry.get("expected"), place)


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", type(None): "null"}
    return names.get(type(value), type(value).__name__)
