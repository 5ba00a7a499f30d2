"""Files that commands write: all of it or nothing, and what is no file stays what it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import typer

from modelrouter.cli.writing import write


def test_a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() -> None:
    Path("circle").symlink_to("circle")
    Path("page").write_text("of before")
    Path("link").symlink_to("page")
    for name in ("link", "circle"):
        write(Path(name), "größer", option="--to")
    assert Path("link").is_symlink()
    assert Path("page").read_text(encoding="utf-8") == "größer"
    assert sorted(path.name for path in Path().iterdir()) == ["circle", "link", "page"]


def test_a_pipe_stays_a_pipe() -> None:
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(Path("pipe"), "text", option="--to")
        assert os.read(reader, 100) == b"text"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)


@pytest.mark.parametrize("place", ["there/is/no/such", "directory", "/", "file/under", "x" * 5000])
def test_what_cannot_be_written_is_named(place: str) -> None:
    Path("directory").mkdir()
    Path("file").write_text("")
    with pytest.raises(typer.BadParameter, match="cannot be written") as caught:
        write(Path(place), "text", option="--to")
    assert caught.value.param_hint == "--to"
    assert sorted(path.name for path in Path().iterdir()) == ["directory", "file"]
