"""YAML as data that knows its lines: what ``yaml.safe_load`` gives, where each key stands, and what it lets pass.

PyYAML forgets lines, takes the last of two equal keys, follows an anchor into itself, and ends the process on ten
thousand opening brackets; a file that people edit by hand deserves a sentence for each of these.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

LARGEST = 10 * 1024 * 1024
"""Bytes of the largest file that is read."""

_DEEPEST = 50
_TOO_DEEP = f"more than {_DEEPEST} levels, one inside the other"
_MOST_VALUES = 500_000
"""With every alias written out: some hundred bytes of anchors can stand for billions of values."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAP, _SEQUENCE, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "merge"))

Path = tuple[str | int, ...]
"""Keys and positions from the top of the file: ``("modules", "default", "chain", 0)``."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says. With problems in it, `value` has what could be read, or None."""

    value: Any
    lines: Mapping[Path, int] = field(default_factory=dict)
    """Where each key and each item of a list stands, from 1."""
    problems: Sequence[tuple[int, str]] = ()
    """Line, and what is wrong there."""
    unread: Collection[Path] = ()
    """Where there is a problem, so that what `value` has there means nothing."""

    def line(self, path: Path) -> int:
        """The line of `path`, or of what surrounds it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def dotted(path: Path) -> str:
    """A path as messages write it: ``modules.default.chain[0]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def read(data: bytes) -> Document:
    """Reads one YAML document. Raises nothing: whatever is wrong is in ``problems``."""
    if len(data) > LARGEST:
        return _unreadable(1, f"the file has {len(data):,} bytes; at most {LARGEST:,} are read")
    reader = _Reader()
    try:
        _check_depth(data)
        root = yaml.compose(data, Loader=_LOADER)
        if root is None:
            return _unreadable(1, "the file is empty")
        value = reader.value(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(filter(None, [error.context, error.problem]))
        what = f"not valid YAML: {said}; look here and just above for an indentation, a bracket or a colon"
        if "maximum nesting depth" in said:  # PyYAML's own limit
            what = _TOO_DEEP
        return _unreadable(mark.line + 1 if mark else 1, what)
    except (yaml.YAMLError, UnicodeDecodeError):  # the reader's own: bytes that are no text
        return _unreadable(1, "this is not a text file in UTF-8")
    except _TooMuchError as error:
        return _unreadable(*error.args)
    return Document(value, reader.lines, reader.problems, reader.unread)


def _unreadable(line: int, what: str) -> Document:
    return Document(None, problems=[(line, what)])


def _line(thing: yaml.Node | yaml.Event) -> int:
    return thing.start_mark.line + 1 if thing.start_mark else 1


class _TooMuchError(Exception):
    """Line, and what there is too much of."""


def _check_depth(data: bytes) -> None:
    """Looks at the flat stream of events first: the C composer calls itself for each level until the stack is gone."""
    depth = 0
    for event in yaml.parse(data, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                raise _TooMuchError(_line(event), _TOO_DEEP)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Reader:
    """Nodes to data, each key's line written down on the way."""

    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self.problems: list[tuple[int, str]] = []
        self.unread: set[Path] = set()
        self._scalars = yaml.constructor.SafeConstructor()
        self._values = 0
        self._open: set[int] = set()
        """The collections being read just now: an anchor that is met inside itself is one of them."""

    def value(self, node: yaml.Node, path: Path) -> Any:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise _TooMuchError(_line(node), f"with its aliases written out, the file has over {_MOST_VALUES:,} values")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            return self._problem(node, path, "the anchor is used inside itself")
        if node.tag not in (_MAP, _SEQUENCE):
            return self._problem(node, path, f"the tag {node.tag!r} is not allowed")
        self._open.add(id(node))
        try:
            return self._list(node, path) if isinstance(node, yaml.SequenceNode) else self._mapping(node, path)
        finally:
            self._open.remove(id(node))

    def _problem(self, node: yaml.Node, path: Path, what: str) -> None:
        self.unread.add(path)
        self.problems.append((_line(node), f"{dotted(path)}: {what}" if path else what))

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError):  # an unknown tag, a 31st of February, ten thousand digits
            return self._problem(node, path, f"cannot be read as {node.tag.rpartition(':')[2]}")

    def _list(self, node: yaml.SequenceNode, path: Path) -> list[Any]:
        items = []
        for position, item in enumerate(node.value):
            here = (*path, position)
            self.lines[here] = _line(item)
            items.append(self.value(item, here))
        return items

    def _mapping(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        inherited = [value for key, value in node.value if key.tag == _MERGE]
        sources = [each for value in inherited for each in (value.value if value.tag == _SEQUENCE else [value])]
        for source in reversed(sources):  # they are below the mapping's own keys, the first above the next
            merged = self.value(source, path)
            if isinstance(merged, dict):
                entries |= merged
            elif path not in self.unread:
                self._problem(source, path, "'<<' takes a mapping")
        own: set[str] = set()
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self._scalar(key_node, path) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                written = repr(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "here"
                self._problem(key_node, path, f"the key {written} is not text; put it in quotes")
                continue
            here = (*path, key)
            if key in own:
                self._problem(key_node, here, f"is there twice, first in line {self.lines[here]}")
                continue
            own.add(key)
            self.lines[here] = _line(key_node)
            entries[key] = self.value(value_node, here)
        return entries
