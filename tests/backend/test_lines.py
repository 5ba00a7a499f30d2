"""Streams as they come: cut into lines as their formats say, and whole only when their provider says so."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from types import AsyncGeneratorType

import httpx
import pytest
from conftest import CANARY, WriteCatalog
from hypothesis import given
from hypothesis import strategies as st
from servers import ScriptedServer
from servers.raw import RawServer
from servers.streams import STREAMS, Frames, ollama, openai

from modelrouter import Router, StreamInterrupted
from modelrouter.backend.insides import lines
from modelrouter.completion import Kind
from modelrouter.process import event_loops

PIECES = ["one ", "a\u2028b\u2029c\u0085d", " \N{GRINNING FACE} é\u000b\u001e", "two"]
"""What JSON may hold as it is, and what `str.splitlines` would end a line at, too."""

each_provider = pytest.mark.parametrize("provider", STREAMS)


@pytest.fixture(scope="module")
def raw() -> Iterator[RawServer]:
    with RawServer() as server:
        yield server


@pytest.fixture
def frames(
    provider: str,
    catalog: WriteCatalog,
    raw: RawServer,
    server: ScriptedServer,
    keys: str,
    litellms_litter: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Frames:
    """How `provider` streams. Model a is its, and answers what `raw` says; model b is well."""
    monkeypatch.setenv(f"{provider.upper()}_API_KEY", CANARY)
    model, frames = STREAMS[provider]
    catalog(
        {"a": {"model": model, "api_base": raw.base, "price": {"input": 1, "output": 2}}, "b": server.openai("b")},
        retries=0,
        cache=False,
    )
    return frames


def each_data_line(change: Callable[[str], str]) -> Callable[[Sequence[str]], str]:
    return lambda frames: "".join(
        f"{change(line)}\n" if line.startswith("data:") else f"{line}\n" for line in "".join(frames).split("\n")[:-1]
    )


EVENTS: dict[str, Callable[[Sequence[str]], str]] = {
    "CRLF": lambda frames: "".join(frames).replace("\n", "\r\n"),
    "CR": lambda frames: "".join(frames).replace("\n", "\r"),
    "a byte order mark": lambda frames: "\ufeff" + "".join(frames),
    "no space after the colon": each_data_line(lambda line: line.replace("data: ", "data:")),
    "data of several lines": each_data_line(lambda line: line.replace("{", "{\ndata: ", 1)),
    "comments and other fields": lambda frames: ": hello\n\n" + "".join(f"id: 1\nretry: 5\n{f}:\n\n" for f in frames),
    "no empty lines": lambda frames: "".join(frames).replace("\n\n", "\n"),
    "no end of the last line": lambda frames: "".join(frames).rstrip("\n"),
}
LINES: dict[str, Callable[[Sequence[str]], str]] = {
    "CRLF": lambda frames: "".join(frames).replace("\n", "\r\n"),
    "CR for a space": lambda frames: "".join(frames).replace(', "', ',\r"'),
    "a byte order mark": lambda frames: "\ufeff" + "".join(frames),
    "empty lines": lambda frames: "\n" + "\n".join(frames),
    "no end of the last line": lambda frames: "".join(frames).rstrip("\n"),
}


@each_provider
@pytest.mark.parametrize("of_type", ["its type", "another type"])
def test_a_line_ends_where_its_format_says(
    provider: str, of_type: str, frames: Frames, router: Router, raw: RawServer
) -> None:
    text = "".join(PIECES)
    type_ = "application/x-ndjson" if frames is ollama else "text/event-stream; charset=ISO-8859-1"
    for name, form in (LINES if frames is ollama else EVENTS).items():
        # The last two are no JSON by rights, where they are not escaped; a line they do not end all the same.
        said = form(frames(PIECES, True)).replace("\\u000b", "\u000b").replace("\\u001e", "\u001e")
        raw.says(said, content_type=type_ if of_type == "its type" else "application/json")
        with router.stream("hi") as pieces:
            assert "".join(pieces) == text, name
        assert (pieces.answer.model, pieces.answer.text, pieces.answer.finish_reason) == ("a", text, "stop"), name


@pytest.mark.parametrize("frames", [openai, ollama])
@given(st.data())
def test_it_does_not_matter_how_a_stream_is_cut_into_chunks(frames: Frames, data: st.DataObject) -> None:
    form = data.draw(st.sampled_from([*(LINES if frames is ollama else EVENTS).values()]))
    sent = form(frames(["a\u2028b", "é"], True)).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=12)))

    class Chunks(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for begin, end in itertools.pairwise([0, *cuts, len(sent)]):
                yield sent[begin:end]

    async def read(*, by_lines: bool) -> list[str]:
        response = httpx.Response(200, stream=Chunks())
        await lines.mend(response)
        if by_lines:
            return [line async for line in response.aiter_lines()]
        return "".join([text async for text in response.aiter_text()]).split("\n")

    def said(lines: Iterable[str]) -> list[object]:
        each = (line.removeprefix("data: ").strip() for line in lines)
        return [json.loads(line) if line != "[DONE]" else line for line in each if line]

    expected = said("".join(frames(["a\u2028b", "é"], True)).split("\n"))
    for by_lines in (True, False):
        assert said(asyncio.run(read(by_lines=by_lines))) == expected


ENDS = [
    (provider, end)
    for provider, (_, frames) in STREAMS.items()
    for end in ("early", "cut off", "in a line", *(["[DONE]"] if frames is openai else []))
]


@pytest.mark.parametrize(("provider", "end"), ENDS)
def test_a_stream_is_whole_only_when_its_provider_says_so(
    provider: str, end: str, either_way: None, frames: Frames, router: Router, raw: RawServer
) -> None:
    kind = Kind.CONNECTION if end == "cut off" else Kind.TRUNCATED
    said = "".join(frames(["one ", "two"], False))
    said = {"in a line": said[:-15], "[DONE]": f"{said}data: [DONE]\n\n"}.get(end, said)
    raw.says(said, cut=end == "cut off", content_type="text/event-stream")
    with pytest.raises(StreamInterrupted) as caught:
        list(router.stream("hi"))
    assert [attempt.error_kind for attempt in caught.value.attempts] == [kind]
    assert caught.value.partial_text == ("one " if end == "in a line" else "one two")

    raw.says("".join(frames([], False)), cut=end == "cut off", content_type="text/event-stream")
    with router.stream("hi") as pieces:
        assert list(pieces) == ["ok"], "nobody has said anything yet, so the next model answers"
    assert [attempt.error_kind for attempt in pieces.answer.attempts] == [kind, None]


@each_provider
def test_a_connection_that_is_lost_after_the_end_is_of_no_interest(
    provider: str, either_way: None, frames: Frames, router: Router, raw: RawServer
) -> None:
    said = "".join(frames(["one ", "two"], True)).removesuffix("data: [DONE]\n\n")
    raw.says(said, cut=True, content_type="text/event-stream")
    with router.stream("hi") as pieces:
        assert "".join(pieces) == "one two"
    assert (pieces.answer.model, pieces.answer.finish_reason) == ("a", "stop")


@each_provider
def test_a_line_that_is_not_json_is_the_servers_mistake(
    provider: str, either_way: None, frames: Frames, router: Router, raw: RawServer
) -> None:
    said = frames(["one ", "two", " three"], True)
    strange = next(frame for frame in said if "two" in frame).replace("two", 'two"')
    raw.says("".join(said).replace(said[-1], strange + said[-1]), content_type="text/event-stream")
    with pytest.raises(StreamInterrupted) as caught:
        list(router.stream("hi"))
    assert [attempt.error_kind for attempt in caught.value.attempts] == [Kind.SERVER]


def _left_open() -> list[str]:
    """What of httpx's reads a stream and has not ended."""
    found = [each for each in gc.get_objects() if isinstance(each, AsyncGeneratorType) and each.ag_frame is not None]
    return [each.__qualname__ for each in found if each.__qualname__.startswith("Response.aiter")]


@each_provider
@pytest.mark.parametrize("end", ["closed", "read", "cut off"])
def test_nothing_of_a_stream_is_left_to_the_garbage_collector(
    provider: str, end: str, either_way: None, frames: Frames, router: Router, raw: RawServer
) -> None:
    """It would end generators and those inside of others at a time, on any thread."""
    raw.says("".join(frames(["one", "two"], end != "cut off")), cut=end == "cut off", content_type="text/event-stream")
    gc.collect()
    gc.disable()
    try:
        stream = router.stream("hi")
        next(stream)
        assert _left_open()
        with stream, contextlib.suppress(StreamInterrupted, StopIteration):
            while end != "closed":
                next(stream)
        for _ in range(20):  # one by one, each on a turn of the loop
            event_loops.run(asyncio.sleep(0))
        assert _left_open() == []
    finally:
        gc.enable()
