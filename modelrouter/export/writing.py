"""YAML with comments between its blocks: the same values make the same lines."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from urllib.parse import quote

import yaml

_WIDTH = 110
"""Columns of a comment."""


class _Dumper(yaml.SafeDumper):
    """Lists stand under their keys, indented; what is there twice is written twice."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow)

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """YAML ends lines where JSON and Python's strings do not."""
        odd = any(each in data for each in "\x85\u2028\u2029")
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if odd else None)

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


_Dumper.add_representer(str, _Dumper.represent_str)


def dumped(value: object, indent: str = "") -> Iterator[str]:
    """The lines of a block of YAML."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)
    return (f"{indent}{line}" if line else line for line in text.removesuffix("\n").split("\n"))


def commented(paragraphs: Iterable[str], indent: str = "") -> Iterator[str]:
    """The lines of a comment; a paragraph that begins with ``- `` is one of a list."""
    for paragraph in paragraphs:
        hanging = "  " if paragraph.startswith("- ") else ""
        lines = textwrap.wrap(
            plain(paragraph),
            _WIDTH - len(indent),
            subsequent_indent=hanging,
            break_long_words=False,
            break_on_hyphens=False,
        )
        yield from (f"{indent}# {line}".rstrip() for line in lines or [""])


def plain(text: str) -> str:
    """The text, on one line whatever is in it."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def header(name: str) -> str:
    """The name as a header of HTTP can hold it, which takes ASCII alone."""
    return quote(name, safe="".join(map(chr, range(32, 127))).replace("%", ""))


def number(value: float) -> float:
    """``30`` for 30.0."""
    return int(value) if value == int(value) else value
