"""Requests of a shape that is known, sent without LiteLLM's front, and their answers read by its config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from modelrouter.backend.copies import copied
from modelrouter.backend.said import Said

from . import connections, quiet
from .blocks import Blocks, iterator
from .shapes import Shape


class Opened:
    """A stream that has been opened."""

    def __init__(self, response: Any, chunks: Blocks) -> None:
        self._response = response
        self.chunks = chunks

    async def aclose(self) -> None:
        await self._response.aclose()


async def send(shape: Shape, *, logger_fn: Said, timeout: float, **arguments: Any) -> Any:
    """LiteLLM's ``ModelResponse``, or an `Opened` stream. Raises LiteLLM's exceptions."""
    stream = "stream" in arguments
    try:
        body = shape.body(arguments["messages"])
        response = await connections.post(shape.url, shape.headers, _encoded(body), timeout=timeout, stream=stream)
        _check(shape.config, response)
        if stream:
            return await _opened(shape, response, arguments["model"], logger_fn)
        return _read(shape, arguments, body, response, logger_fn)
    except Exception as error:
        raise quiet.translated(error, arguments["model"], arguments) from error


def _encoded(body: Any) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # a half of a surrogate pair has no other form than its escape
        return json.dumps(body, separators=(",", ":")).encode()


async def _opened(shape: Shape, response: Any, litellm_model: str, said: Said) -> Opened:
    try:
        return Opened(response, Blocks(response, litellm_model, said, partial(iterator, shape.config)))
    except BaseException:
        await response.aclose()
        raise


def _check(config: Any, response: Any) -> None:
    import httpx

    if response.is_success:
        return
    status, headers = response.status_code, response.headers
    refused = httpx.HTTPStatusError(response.text, request=response.request, response=response)
    raise config.get_error_class(error_message=response.text, status_code=status, headers=headers) from refused


class _Encoding:
    """LiteLLM's tokenizer, loaded when somebody counts with it: that takes a tenth of a second."""

    def __getattr__(self, name: str) -> Any:
        import litellm

        return getattr(litellm.encoding, name)  # type: ignore[attr-defined] # it is made when it is asked for


_ENCODING = _Encoding()


def _read(shape: Shape, arguments: Mapping[str, Any], body: dict[str, Any], response: Any, said: Said) -> Any:
    import litellm

    made = litellm.ModelResponse()
    made._hidden_params |= {"custom_llm_provider": arguments["model"].partition("/")[0], "region_name": None}
    return shape.config.transform_response(
        model=shape.model,
        raw_response=response,
        model_response=made,
        logging_obj=quiet.reading(arguments["model"], said),
        request_data=body,
        messages=arguments["messages"],
        optional_params=copied(shape.given["optional_params"]),
        litellm_params=dict(shape.given["litellm_params"]),
        encoding=_ENCODING,
        api_key=arguments.get("api_key"),
        json_mode=None,
    )
