"""A server that answers at once, in a process of its own: ``python server.py`` prints its port and ends with its stdin.

The quickest that asyncio can be (no HTTP library, answers made beforehand), so that what is measured is the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys

PIECES = 50
OPENAI = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "bench",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello there"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17},
}
ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "bench",
    "content": [{"type": "text", "text": "hello there"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 12, "output_tokens": 5},
}
OLLAMA = {
    "model": "bench",
    "created_at": "2026-01-01T00:00:00Z",
    "message": {"role": "assistant", "content": "hello there"},
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 12,
    "eval_count": 5,
}


def whole(status: str, body: object) -> bytes:
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
    return head.encode() + text


def streamed(kind: str, frames: list[str]) -> bytes:
    """A piece a chunk, and all at once."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
    return head.encode() + b"".join(f"{len(frame):x}\r\n{frame}\r\n".encode() for frame in frames) + b"0\r\n\r\n"


def openai_stream() -> bytes:
    def chunk(choices: list[object], **more: object) -> str:
        common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "bench"}
        return f"data: {json.dumps({**common, 'choices': choices, **more})}\n\n"

    def choice(delta: object, finish: str | None = None) -> str:
        return chunk([{"index": 0, "delta": delta, "finish_reason": finish}])

    pieces = [choice({"content": f"word{number} "}) for number in range(PIECES)]
    ends = [choice({}, "stop"), chunk([], usage=OPENAI["usage"]), "data: [DONE]\n\n"]
    return streamed("text/event-stream", [choice({"role": "assistant", "content": ""}), *pieces, *ends])


def anthropic_stream() -> bytes:
    def event(kind: str, **fields: object) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"

    def piece(number: int) -> str:
        return event("content_block_delta", index=0, delta={"type": "text_delta", "text": f"word{number} "})

    starts = [
        event("message_start", message={**ANTHROPIC, "content": [], "stop_reason": None}),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    ]
    ends = [
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=ANTHROPIC["usage"]),
        event("message_stop"),
    ]
    return streamed("text/event-stream", [*starts, *map(piece, range(PIECES)), *ends])


def ollama_stream() -> bytes:
    def line(text: str, **more: object) -> str:
        common = {"model": "bench", "created_at": OLLAMA["created_at"], "done": False}
        return json.dumps({**common, "message": {"role": "assistant", "content": text}, **more}) + "\n"

    counts = {name: OLLAMA[name] for name in ("prompt_eval_count", "eval_count", "done_reason")}
    pieces = [line(f"word{number} ") for number in range(PIECES)]
    return streamed("application/x-ndjson", [*pieces, line("", **counts, done=True)])


DOWN = whole("503 Service Unavailable", {"error": {"message": "down", "type": "server_error"}})
ANSWERS = {
    b"/v1/chat/completions": whole("200 OK", OPENAI),
    b"/v1/messages": whole("200 OK", ANTHROPIC),
    b"/api/chat": whole("200 OK", OLLAMA),
    b"/api/show": whole("200 OK", {"template": "", "model_info": {}, "details": {}}),
}
STREAMS = {
    b"/v1/chat/completions": openai_stream(),
    b"/v1/messages": anthropic_stream(),
    b"/api/chat": ollama_stream(),
}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            path = head.split(b" ", 2)[1]
            _, _, after = head.partition(b"content-length:")
            body = await reader.readexactly(int(after.split(b"\r\n", 1)[0])) if after else b""
            wants_stream = b'"stream":true' in body or b'"stream": true' in body
            writer.write(DOWN if b'down"' in body else (STREAMS if wants_stream else ANSWERS)[path])
            await writer.drain()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # connections that are kept alive are not worth a farewell


if __name__ == "__main__":
    asyncio.run(main())
