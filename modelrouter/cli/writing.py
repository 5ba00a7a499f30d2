"""Files that commands write."""

from __future__ import annotations

import os
from pathlib import Path

import typer


def write(path: Path, text: str, *, option: str) -> None:
    """All of it or nothing, whoever reads the file meanwhile. `option` is what named it, for the error."""
    path = Path(os.path.realpath(path))  # what a link leads to; Path.resolve raises RuntimeError for one in a circle
    try:
        if path.exists() and not path.is_file():  # a pipe, a terminal, /dev/null: they stay what they are
            path.write_text(text, encoding="utf-8")
            return
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}.", param_hint=option) from None
