"""One of those who ask, in a process and an environment of its own: ``python peer.py NAME ADDRESS``.

It takes lines from stdin, ``sync N``, ``async N`` or ``flock N``, and prints how many seconds N calls took; of a flock
64 are under way at any time. Needs nothing of ours but for ``modelrouter`` itself.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

IN_FLIGHT = 64
MODEL = "gpt-4o-mini"
FIXED: dict[str, Any] = {"max_tokens": 50, "temperature": 0}
MESSAGES = [{"role": "user", "content": "hi"}]

Calls = tuple[Callable[[], Any], Callable[[], Awaitable[Any]]]


def openai(base: str) -> Calls:
    import openai

    fixed: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, **FIXED}
    client = openai.OpenAI(base_url=base, api_key="none", max_retries=0)
    asynchronous = openai.AsyncOpenAI(base_url=base, api_key="none", max_retries=0)
    return lambda: client.chat.completions.create(**fixed), lambda: asynchronous.chat.completions.create(**fixed)


def litellm(base: str) -> Calls:
    import litellm

    litellm.suppress_debug_info = True
    fixed = {"model": f"openai/{MODEL}", "messages": MESSAGES, "api_base": base, "api_key": "none", **FIXED}
    return lambda: litellm.completion(**fixed), lambda: litellm.acompletion(**fixed)


def modelrouter(base: str) -> Calls:
    import modelrouter

    path = Path(tempfile.mkdtemp()) / "models.yaml"
    path.write_text(
        f"models:\n  first: {{model: openai/{MODEL}, api_base: '{base}', price: {{input: 1, output: 2}}}}\n"
        f"  second: {{model: openai/other, api_base: '{base}', price: {{input: 1, output: 2}}}}\n"
        "modules:\n  default: {chain: [first, second], max_tokens: 50, temperature: 0, cache: false}\n"
    )
    router = modelrouter.Router(path)
    return lambda: router.complete("hi"), lambda: router.acomplete("hi")


def langchain(base: str) -> Calls:
    """With a fallback."""
    from langchain_openai import ChatOpenAI

    def chat(model: str) -> Any:
        return ChatOpenAI(model=model, base_url=base, api_key="none", **FIXED)

    chain = chat(MODEL).with_fallbacks([chat("other")])
    return lambda: chain.invoke("hi"), lambda: chain.ainvoke("hi")


def pydantic_ai(base: str) -> Calls:
    from pydantic_ai import direct
    from pydantic_ai.messages import ModelRequest
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.settings import ModelSettings

    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=base, api_key="none"))
    said = [ModelRequest.user_text_prompt("hi")]
    settings = ModelSettings(**FIXED)
    return (
        lambda: direct.model_request_sync(model, said, model_settings=settings),
        lambda: direct.model_request(model, said, model_settings=settings),
    )


def any_llm(base: str) -> Calls:
    from any_llm import AnyLLM

    fixed: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, **FIXED}
    ones = [AnyLLM.create("openai", api_base=base, api_key="none") for _ in range(2)]  # each for one event loop
    return lambda: ones[0].completion(**fixed), lambda: ones[1].acompletion(**fixed)


def main() -> None:
    """As above."""
    os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "OPENAI_API_KEY": "none"}
    name, address = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever is printed otherwise
    call, acall = globals()[name](f"{address}/v1")
    with asyncio.Runner() as runner:

        async def asynchronous(count: int, at_once: int) -> None:
            left = iter(range(count))

            async def several() -> None:
                for _ in left:
                    await acall()

            await asyncio.gather(*(several() for _ in range(at_once)))

        call()
        runner.run(asynchronous(2, 1))
        print("ready", file=answers, flush=True)
        for line in sys.stdin:
            how, count = line.split()
            began = time.perf_counter()
            if how == "sync":
                for _ in range(int(count)):
                    call()
            else:
                runner.run(asynchronous(int(count), IN_FLIGHT if how == "flock" else 1))
            print(time.perf_counter() - began, file=answers, flush=True)
    os._exit(0)  # clients that are kept open are not worth a farewell


if __name__ == "__main__":
    main()
