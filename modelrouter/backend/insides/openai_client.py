"""OpenAI's asynchronous client, whose chat completions are sent as they are.

The original walks through every parameter for names and values to translate, of which chat completions have none: an
eighth of a call.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any


@functools.cache
def openai_client() -> type[Any]:
    """The class."""
    import openai
    from openai import AsyncStream
    from openai.resources.chat import AsyncChat, AsyncCompletions
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    class Answer(ChatCompletion):
        def model_dump(self, **given: Any) -> dict[str, Any]:
            """Without a warning of what some servers put where the type has something else, such as a list for text."""
            return super().model_dump(**{"warnings": False, **given})

    class Completions(AsyncCompletions):
        async def create(  # type: ignore[override] # the same in fewer words
            self,
            *,
            extra_headers: Mapping[str, str] | None = None,
            extra_query: Mapping[str, object] | None = None,
            extra_body: object = None,
            timeout: Any = None,
            stream: bool = False,
            **body: Any,
        ) -> Any:
            given = {"headers": extra_headers, "params": extra_query, "extra_json": extra_body, "timeout": timeout}
            post: Any = self._client.post  # its overloads want to know beforehand whether it is a stream
            return await post(
                "/chat/completions",
                body=body | {"stream": True} if stream else body,
                options={name: value for name, value in given.items() if value is not None},
                cast_to=ChatCompletion,
                stream=stream,
                stream_cls=AsyncStream[ChatCompletionChunk],
            )

    class Chat(AsyncChat):
        @functools.cached_property
        def completions(self) -> Completions:
            return Completions(self._client)

    class AsyncOpenAI(openai.AsyncOpenAI):  # the name goes into the header User-Agent
        @functools.cached_property
        def chat(self) -> Chat:
            return Chat(self)

        async def post(self, path: str, *, cast_to: Any, **given: Any) -> Any:
            return await super().post(path, cast_to=Answer if cast_to is ChatCompletion else cast_to, **given)

    return AsyncOpenAI
