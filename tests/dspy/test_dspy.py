"""DSPy on the catalog: what a program can do with plain `dspy.LM` and LiteLLM it can do with ours, side by side; then
what only ours does."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from conftest import CANARY, WriteCatalog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel
from servers import Answer, Break, Fault, Hang, Known, Reply, ScriptedServer, ToolUse
from servers.raw import RawServer

from modelrouter import Router, UnknownModule, track
from modelrouter.backend.current import LITELLM
from modelrouter.errors import InvalidRequest

# Before DSPy is imported: it makes its cache's directory then, and looks a price map up when it is first asked.
os.environ.setdefault("DSPY_CACHEDIR", "/dev/null/nowhere")
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import dspy
from dspy.utils.callback import BaseCallback

from modelrouter.dspy import RouterLM, configure_dspy, get_lm
from modelrouter.dspy.pipeline import get_pipeline
from modelrouter.testing import Error, ScriptedProvider

pytestmark = pytest.mark.usefixtures("litellms_litter")

MODEL = "gpt-4o-mini"
"""A name that LiteLLM's tables know to take tools and schemas; DSPy asks them."""

Kind = Literal["plain", "ours"]
both = pytest.mark.parametrize("kind", ["plain", "ours"])


def chat(**fields: Any) -> Reply:
    """An answer in the form that DSPy's ChatAdapter asks for."""
    parts = [f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()]
    return Reply("\n\n".join([*parts, "[[ ## completed ## ]]"]))


def raw(message: dict[str, Any]) -> Fault:
    """An OpenAI body with a message of the test's own."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return Fault(
        200, body={"id": "x", "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage}
    )


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> Iterator[None]:
    """Each plain test ends with a collection of garbage; what is there before the first one need not be looked at."""
    LITELLM.load()
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


ABLE = {"tools": True, "response_format": True}
"""Said by the catalog: of a model at another address LiteLLM's tables say nothing."""


@pytest.fixture(autouse=True)
def router(
    router: Router,
    catalog: WriteCatalog,
    server: ScriptedServer,
    keys: str,
    process_router: Callable[[Router], None],
) -> Iterator[Router]:
    """The process's router, on a catalog with a module for each need."""
    catalog(
        {
            "primary": server.openai(MODEL, supports=ABLE),
            "second": server.openai("gpt-4o", context_window=1_000_000),
            "claude": server.anthropic("claude-sonnet-4-5", supports=ABLE | {"reasoning": True}),
            "thorough": server.anthropic(
                "claude-sonnet-4-5", params={"reasoning_effort": "high"}, supports=ABLE | {"reasoning": True}
            ),
            "elsewhere": server.openai("gpt-4o"),
            "unpriced": {"model": "openai/unpriced", "api_base": server.openai_base},
            "able": server.openai("able", supports=ABLE),
        },
        chain=["primary"],
        modules={
            "chained": {"chain": ["primary", "second"]},
            "claude": {"chain": ["claude"]},
            "mixed": {"chain": ["primary", "claude"]},
            "reasoning": {"chain": ["claude", "second"]},
            "thorough": {"chain": ["thorough"], "max_tokens": 9000},
            "unpriced": {"chain": ["unpriced"]},
            "able": {"chain": ["able"]},
            "uncached": {"cache": False},
        },
        max_tokens=300,
        retries=0,
    )
    process_router(router)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    dspy.cache.reset_memory_cache()
    yield router
    dspy.configure(lm=None)


@pytest.fixture
def swept(kind: Kind) -> Iterator[None]:
    yield
    if kind == "plain":
        # LiteLLM closes neither the loops that it makes nor the sockets of those that have ended.
        with warnings.catch_warnings(action="ignore"):
            sys.modules["litellm"].in_memory_llm_clients_cache.flush_cache()
            gc.collect()


@pytest.fixture
def lm(kind: Kind, server: ScriptedServer, swept: None) -> dspy.LM:
    return make(kind, server)


def make(kind: Kind, server: ScriptedServer, **settings: Any) -> dspy.LM:
    if kind == "ours":
        return get_lm(**settings)
    plain = {"api_base": server.openai_base, "api_key": CANARY, "max_tokens": 300, "num_retries": 0}
    return dspy.LM(f"openai/{MODEL}", engine="litellm", **plain | settings)


def claude(kind: Kind, server: ScriptedServer) -> dspy.LM:
    if kind == "ours":
        return get_lm("claude")
    plain = {"api_base": server.anthropic_base, "api_key": CANARY, "num_retries": 0}
    return dspy.LM("anthropic/claude-sonnet-4-5", engine="litellm", **plain)


# -- side by side


@both
def test_predict_and_chain_of_thought(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    server.script(MODEL, chat(answer="Paris"), chat(reasoning="It is.", answer="Lyon"))
    with dspy.context(lm=lm):
        assert dspy.Predict("question -> answer")(question="?").answer == "Paris"
        assert dspy.ChainOfThought("question -> answer")(question="?").toDict() == {
            "reasoning": "It is.",
            "answer": "Lyon",
        }


class City(BaseModel):
    name: str
    people: int


class Tagged(dspy.Signature):
    """Find the city."""

    text: str = dspy.InputField()
    city: City = dspy.OutputField()
    sure: bool = dspy.OutputField()


ANSWER = {"city": {"name": "Paris", "people": 2}, "sure": True}


@both
@pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])
def test_typed_outputs_in_each_form(kind: Kind, lm: dspy.LM, server: ScriptedServer, adapter: Any) -> None:
    answers = {
        dspy.ChatAdapter: chat(city=json.dumps(ANSWER["city"]), sure="True"),
        dspy.JSONAdapter: Reply(json.dumps(ANSWER)),
        dspy.XMLAdapter: Reply(f"<city>{json.dumps(ANSWER['city'])}</city><sure>True</sure>"),
    }
    server.script(MODEL, answers[adapter])
    with dspy.context(lm=lm, adapter=adapter()):
        found = dspy.Predict(Tagged)(text="Paris")
    assert (found.city, found.sure) == (City(name="Paris", people=2), True)
    [request] = server.requests()
    assert request.body.get("response_format", {}).get("type") == (
        "json_schema" if adapter is dspy.JSONAdapter else None
    )


@both
def test_react_with_tools_in_the_prompt(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    def weather(city: str) -> str:
        return f"rain in {city}"

    server.script(
        MODEL,
        chat(next_thought="look", next_tool_name="weather", next_tool_args='{"city": "Paris"}'),
        chat(next_thought="done", next_tool_name="finish", next_tool_args="{}"),
        chat(reasoning="so", answer="rain"),
    )
    with dspy.context(lm=lm):
        done = dspy.ReAct("question -> answer", tools=[weather])(question="weather?")
    assert done.answer == "rain"
    assert done.trajectory["observation_0"] == "rain in Paris"
    assert server.count() == 3


class Calling(dspy.Signature):
    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    calls: dspy.ToolCalls = dspy.OutputField()


def look_up(city: str) -> str:
    """Look a city up."""
    return city


@both
def test_native_function_calling(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    server.script(MODEL, Reply("", tools=[ToolUse("look_up", {"city": "Paris"})]))
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_native_function_calling=True)):
        found = dspy.Predict(Calling)(question="?", tools=[dspy.Tool(look_up)])
    [call] = found.calls.tool_calls
    assert (call.name, call.args) == ("look_up", {"city": "Paris"})
    assert server.requests()[0].body["tools"][0]["function"]["name"] == "look_up"


@both
def test_n_answers_are_distinct(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    server.script(MODEL, *(raw_or_three(kind)))
    with dspy.context(lm=lm):
        found = dspy.Predict("question -> answer", n=3)(question="?")
    assert found.completions.answer == ["1", "2", "3"]


def raw_or_three(kind: Kind) -> list[Answer]:
    """LiteLLM asks once with n=3, DSPy asks an engine of somebody's own three times."""
    answers = [chat(answer=n) for n in (1, 2, 3)]
    if kind == "ours":
        return list(answers)
    choices = [
        {"index": n, "finish_reason": "stop", "message": {"role": "assistant", "content": each.text}}
        for n, each in enumerate(answers)
    ]
    body = {"id": "x", "object": "chat.completion", "model": MODEL, "choices": choices}
    return [Fault(200, body=body | {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})]


@both
def test_best_of_n_asks_n_times(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    server.script(MODEL, *(chat(answer=n) for n in (1, 3, 2)))
    with dspy.context(lm=lm):
        best = dspy.BestOfN(dspy.Predict("question -> answer"), N=3, reward_fn=reward, threshold=9.0)
        assert best(question="?").answer == "3"
    assert [request.body["temperature"] for request in server.requests()] == [1.0] * 3


@both
def test_refine_takes_advice(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    advice = chat(discussion="too small", advice='{"self": "more"}')
    server.script(MODEL, chat(answer=1), advice, chat(answer=3))
    with dspy.context(lm=lm):
        refine = dspy.Refine(dspy.Predict("question -> answer"), N=3, reward_fn=reward, threshold=3.0)
        assert refine(question="?").answer == "3"
    assert server.count() == 3


def reward(arguments: Any, prediction: Any) -> float:
    return float(prediction.answer)


@both
@pytest.mark.parametrize("asynchronous", [False, True])
def test_streamify(kind: Kind, lm: dspy.LM, server: ScriptedServer, asynchronous: bool) -> None:
    server.script(MODEL, chat(answer="Paris is the one"))
    listener = dspy.streaming.StreamListener(signature_field_name="answer")
    program = dspy.Predict("question -> answer")
    if asynchronous:
        program = dspy.asyncify(program)

    async def run() -> list[Any]:
        streamed = dspy.streamify(program, stream_listeners=[listener] if not asynchronous else [])
        return [piece async for piece in streamed(question="?")]

    with dspy.context(lm=lm):
        pieces = asyncio.run(run())
    assert pieces[-1].answer == "Paris is the one"
    if not asynchronous:
        assert "".join(piece.chunk for piece in pieces[:-1]) == "Paris is the one"
    assert len(pieces) > 3
    assert server.requests()[0].body["stream"] is True


@both
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("listening", [False, True])
def test_of_a_remembered_answer_the_prediction_alone_is_streamed(
    kind: Kind, lm: dspy.LM, server: ScriptedServer, asynchronous: bool, listening: bool
) -> None:
    listeners = [dspy.streaming.StreamListener(signature_field_name="answer", allow_reuse=True)] if listening else []

    def pieces(question: str) -> list[Any]:
        async def run() -> list[Any]:
            program = dspy.Predict("question -> answer")
            streamed = dspy.streamify(program, stream_listeners=listeners, is_async_program=asynchronous)
            return [piece async for piece in streamed(question=question)]

        with dspy.context(lm=lm):
            return asyncio.run(run())

    server.script(MODEL, chat(answer="Paris is the one"))
    assert len(pieces("?")) > 1
    [prediction] = pieces("?")
    assert prediction.answer == "Paris is the one"
    assert server.count() == 1


@both
def test_a_remembered_answer_that_cannot_be_read_is_asked_for_anew(
    kind: Kind, lm: dspy.LM, server: ScriptedServer
) -> None:
    server.script(MODEL, Reply("no form at all"), Reply('{"answer": "yes"}'))

    async def run() -> list[Any]:
        return [piece async for piece in dspy.streamify(dspy.Predict("question -> answer"))(question="?")]

    with dspy.context(lm=lm):
        assert dspy.Predict("question -> answer")(question="?").answer == "yes"
        assert asyncio.run(run())[-1].answer == "yes"
    assert server.count() == 2


@both
def test_streams_tool_calls(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    server.script(MODEL, Reply("", tools=[ToolUse("look_up", {"city": "Paris"}), ToolUse("look_up", id="call_2")]))

    async def run() -> Any:
        streamed = dspy.streamify(dspy.Predict(Calling))
        return [piece async for piece in streamed(question="?", tools=[dspy.Tool(look_up)])][-1]

    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_native_function_calling=True)):
        found = asyncio.run(run())
    assert [(call.name, call.args) for call in found.calls.tool_calls] == [
        ("look_up", {"city": "Paris"}),
        ("look_up", {}),
    ]


@both
def test_acall_many_at_once(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    server.script(MODEL, chat(answer="yes"))

    async def run() -> list[Any]:
        predict = dspy.Predict("question -> answer")
        return await asyncio.gather(*(predict.acall(question=f"{n}?") for n in range(12)))

    with dspy.context(lm=lm):
        assert [each.answer for each in asyncio.run(run())] == ["yes"] * 12
    assert server.count() == 12


@both
def test_parallel_and_evaluate(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    server.script(MODEL, chat(answer="yes"))
    predict = dspy.Predict("question -> answer")
    examples = [dspy.Example(question=f"{n}?", answer="yes").with_inputs("question") for n in range(6)]
    with dspy.context(lm=lm):
        predict(question="0?")  # of threads that ask LiteLLM first, each makes a client, and all but one stay open
        found = dspy.Parallel(num_threads=3, disable_progress_bar=True)([(predict, each) for each in examples[:4]])
        assert [each.answer for each in found] == ["yes"] * 4
        evaluate = dspy.Evaluate(devset=examples, metric=exact, num_threads=3, display_progress=False)
        assert evaluate(predict).score == 100.0
    assert server.count() == 6  # four are remembered


def exact(example: Any, prediction: Any, trace: Any = None) -> bool:
    return bool(example.answer == prediction.answer)


TRAINSET = [dspy.Example(question=f"{n}?", answer="yes").with_inputs("question") for n in range(4)]


@both
def test_bootstrap_few_shot(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    server.script(MODEL, chat(answer="yes"))
    optimizer = dspy.BootstrapFewShot(metric=exact, max_bootstrapped_demos=2, max_labeled_demos=2)
    with dspy.context(lm=lm):
        compiled = optimizer.compile(dspy.Predict("question -> answer"), trainset=TRAINSET)
        assert server.count() == 2
        assert compiled(question="new?").answer == "yes"
    assert [demo["augmented"] for demo in compiled.demos] == [True, True]


@both
def test_copro(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    server.script(
        MODEL, chat(answer="yes", proposed_instruction="Say yes.", proposed_prefix_for_output_field="Answer:")
    )
    optimizer = dspy.COPRO(metric=exact, breadth=2, depth=1, prompt_model=lm)
    settings = {"num_threads": 1, "display_progress": False, "display_table": 0}
    with dspy.context(lm=lm):
        compiled = optimizer.compile(dspy.Predict("question -> answer"), trainset=TRAINSET, eval_kwargs=settings)
        assert compiled(question="new?").answer == "yes"
    assert server.count() == 1 + 2 * len(TRAINSET) + 1  # instructions, two of them on all examples, and the new one


TRAINSET = [dspy.Example(question=f"{n}?", answer="yes").with_inputs("question") for n in range(4)]


@both
def test_pictures_sounds_and_files(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    server.script(MODEL, chat(answer="seen"))
    signature = dspy.Signature("picture: dspy.Image, sound: dspy.Audio, file: dspy.File -> answer")
    things = {
        "picture": dspy.Image("data:image/png;base64,iVBORw0KGgo="),
        "sound": dspy.Audio(data="AAAA", audio_format="wav"),
        "file": dspy.File(file_data="data:application/pdf;base64,AAAA"),
    }
    with dspy.context(lm=lm):
        assert dspy.Predict(signature)(**things).answer == "seen"
    parts = {part["type"]: part for part in server.requests()[0].body["messages"][-1]["content"]}
    assert parts["image_url"]["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
    assert parts["input_audio"]["input_audio"] == {"data": "AAAA", "format": "wav"}
    assert parts["file"]["file"]["file_data"] == "data:application/pdf;base64,AAAA"


class Read(dspy.Signature):  # type: ignore[misc]
    files: list[dspy.File] = dspy.InputField()
    answer: str = dspy.OutputField()


@both
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_file_keeps_its_name(kind: Kind, lm: dspy.LM, server: ScriptedServer, asynchronous: bool) -> None:
    Path("a.pdf").write_bytes(b"paper")
    Path("b").write_bytes(b"others")
    files = [
        dspy.File.from_path("a.pdf"),
        dspy.File.from_path("b", filename="c.txt", mime_type="text/plain"),
        dspy.File.from_bytes(b"bytes", filename="d.pdf", mime_type="application/pdf"),
        dspy.File.from_file_id("file-1", filename="e.pdf"),
        dspy.File.from_file_id("file-2"),
    ]
    server.script(MODEL, chat(answer="seen"))
    predict = dspy.Predict(Read)
    with dspy.context(lm=lm):
        found = asyncio.run(predict.acall(files=files)) if asynchronous else predict(files=files)
    assert found.answer == "seen"
    parts = server.requests()[0].body["messages"][-1]["content"]
    assert [part["file"] for part in parts if part["type"] == "file"] == [
        {"file_data": "data:application/pdf;base64,cGFwZXI=", "filename": "a.pdf"},
        {"file_data": "data:text/plain;base64,b3RoZXJz", "filename": "c.txt"},
        {"file_data": "data:application/pdf;base64,Ynl0ZXM=", "filename": "d.pdf"},
        {"file_id": "file-1", "filename": "e.pdf"},
        {"file_id": "file-2"},
    ]
    assert files[0].filename == "a.pdf"


def test_a_file_with_a_name_reaches_claude_and_another_name_is_another_question(server: ScriptedServer) -> None:
    server.script("claude-sonnet-4-5", chat(answer="seen"))
    with dspy.context(lm=get_lm("claude")):
        for name in ("a.pdf", "a.pdf", "b.pdf"):
            dspy.Predict(Read)(files=[dspy.File.from_bytes(b"x", filename=name, mime_type="application/pdf")])
    assert server.count() == 2
    [document] = [part for part in server.requests()[0].body["messages"][-1]["content"] if part["type"] == "document"]
    assert document["source"] == {"type": "base64", "media_type": "application/pdf", "data": "eA=="}


@both
def test_native_reasoning(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    server.script(MODEL, raw({"content": "[[ ## answer ## ]]\n7", "reasoning_content": "3 + 4"}))
    with dspy.context(lm=lm):
        [output] = lm("3 + 4?")
    assert (output["text"], output["reasoning_content"]) == ("[[ ## answer ## ]]\n7", "3 + 4")


class Thinking(dspy.Signature):  # type: ignore[misc]
    """Answer."""

    question: str = dspy.InputField()
    reasoning: dspy.Reasoning = dspy.OutputField()
    answer: str = dspy.OutputField()


@both
@pytest.mark.usefixtures("swept")
def test_reasoning_is_streamed_as_it_comes(kind: Kind, server: ScriptedServer) -> None:
    server.script("claude-sonnet-4-5", replace(chat(answer="seven is it"), thoughts=("3 ", "and ", "4")))
    listeners = [dspy.streaming.StreamListener(signature_field_name=name) for name in ("reasoning", "answer")]

    async def run() -> list[Any]:
        streamed = dspy.streamify(dspy.Predict(Thinking), stream_listeners=listeners)
        return [piece async for piece in streamed(question="?")]

    with dspy.context(lm=claude(kind, server)):
        *pieces, last = asyncio.run(run())
    assert (str(last.reasoning), last.answer) == ("3 and 4", "seven is it")
    chunks = [(piece.signature_field_name, piece.chunk) for piece in pieces]
    assert [chunk for name, chunk in chunks if name == "reasoning"][:3] == ["3 ", "and ", "4"]
    assert "".join(chunk for name, chunk in chunks if name == "answer") == "seven is it"


@both
def test_history_has_the_parameters_that_dspy_does_not_know_too(kind: Kind, lm: dspy.LM) -> None:
    lm("hi", min_p=0.1, temperature=0.2)
    assert lm.history[0]["kwargs"].items() >= {"min_p": 0.1, "temperature": 0.2}.items()


@both
def test_forward_by_itself_takes_what_a_call_takes(kind: Kind, server: ScriptedServer, swept: None) -> None:
    server.script(MODEL, *(Reply(text) for text in "abc"))
    lm = make(kind, server, cache=False)
    answers = [lm.forward("hi", timeout=3), asyncio.run(lm.aforward("hi")), lm.forward("hi", min_p=0.1)]
    assert [answer.choices[0].message.content for answer in answers] == ["a", "b", "c"]
    assert server.requests()[-1].body["min_p"] == 0.1


@both
@pytest.mark.parametrize("asynchronous", [False, True])
def test_after_silence_a_program_asks_for_json(
    kind: Kind, lm: dspy.LM, server: ScriptedServer, asynchronous: bool
) -> None:
    server.script(MODEL, Reply(""), Reply('{"answer": "Paris"}'))
    predict = dspy.Predict("question -> answer")
    with dspy.context(lm=lm):
        found = asyncio.run(predict.acall(question="?")) if asynchronous else predict(question="?")
    assert (found.answer, server.count()) == ("Paris", 2)


def test_silence_hides_no_error(server: ScriptedServer) -> None:
    server.script(MODEL, Known("bad_key")).script("gpt-4o", Reply(""))
    with pytest.raises(dspy.LMProviderError, match="401"):
        get_lm("chained", cache=False)("hi")


def test_silence_has_its_price(server: ScriptedServer) -> None:
    server.script(MODEL, Reply("", input_tokens=7, output_tokens=3))
    lm = get_lm(cache=False)
    lm("hi")
    entry = lm.history[0]
    assert (entry["usage"]["prompt_tokens"], entry["usage"]["completion_tokens"]) == (7, 3)
    assert entry["cost"] == float(entry["attempts"][0].cost_usd) > 0


@both
def test_claudes_citations(kind: Kind, server: ScriptedServer, swept: None) -> None:
    citation = {"type": "char_location", "cited_text": "The sky is blue", "document_index": 0, "document_title": "Sky"}
    content = [{"type": "text", "text": "It is "}, {"type": "text", "text": "blue", "citations": [citation]}]
    usage = {"input_tokens": 10, "output_tokens": 5}
    body = {"id": "m", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": content}
    server.script("claude-sonnet-4-5", Fault(200, body=body | {"stop_reason": "end_turn", "usage": usage}))
    [output] = claude(kind, server)("?")
    assert output["text"] == "It is blue"
    assert [(each.get("text") or each["cited_text"]) for each in output["citations"]] == ["The sky is blue"]


@pytest.mark.parametrize("name", ["engine", "async_engine", "model_type"])
def test_what_cannot_be_chosen_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{name}= cannot be chosen"):
        get_lm(**{name: "responses"})


@pytest.mark.parametrize("nothing", [{"api_key": None}, {"base_url": None}, {"stream": False}, {"drop_params": True}])
def test_what_asks_for_nothing_else_is_taken(nothing: dict[str, Any], server: ScriptedServer) -> None:
    server.script(MODEL, Reply("yes"))
    assert get_lm(cache=False, **nothing)("hi", **nothing) == ["yes"]
    assert server.requests()[0].body.keys() == {"model", "messages", "max_tokens"}


def test_settings_may_be_put_into_kwargs_later(server: ScriptedServer) -> None:
    server.script(MODEL, Reply("yes"))
    lm = get_lm(cache=False)
    lm.kwargs["extra_headers"] = {"X-Team": "blue"}
    lm("hi")
    assert server.requests()[0].headers["x-team"] == "blue"


@both
def test_what_is_sent_is_the_same(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    server.script(MODEL, Reply("", tools=[ToolUse("look_up", {"city": "Paris"})]))
    asked = {
        "temperature": 0.5, "top_p": 0.9, "max_tokens": 50, "stop": ["END"], "seed": 3, "presence_penalty": 0.1,
        "frequency_penalty": 0.2, "logit_bias": {"1": 2}, "user": "me", "parallel_tool_calls": False, "logprobs": True,
        "top_logprobs": 2, "tool_choice": "required", "service_tier": "flex", "store": True,
        "tools": [dspy.Tool(look_up).format_as_litellm_function_call()],
        "response_format": {"type": "json_object"},
    }  # fmt: skip
    lm("hi", **asked)
    body = server.requests()[0].body
    assert {name: value for name, value in body.items() if name in asked} == asked
    assert set(body) == {"model", "messages", *asked}


@both
def test_an_explicit_request(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    server.script(MODEL, Reply("Paris"))
    config = dspy.lm15.Config(temperature=0.2, stop=("END",))
    request = dspy.lm15.Request(model=lm.model, messages=(dspy.lm15.Message.user("hi"),), config=config)
    response = lm(request)
    assert (response.text, response.finish_reason, response.usage.input_tokens) == ("Paris", "stop", 10)
    body = server.requests()[0].body
    assert (body["temperature"], body["stop"]) == (0.2, ["END"])


@pytest.mark.parametrize("adapter", [dspy.JSONAdapter(), dspy.ChatAdapter(use_native_function_calling=True)])
def test_both_send_the_same_bodies(server: ScriptedServer, adapter: Any) -> None:
    bodies = []
    for kind in ("plain", "ours"):
        before = server.count()
        server.script(MODEL, Reply(json.dumps(ANSWER), tools=[ToolUse("look_up", {"city": "Paris"})]))
        with dspy.context(lm=make(kind, server), adapter=adapter):  # type: ignore[arg-type]
            dspy.Predict(Calling)(question="?", tools=[dspy.Tool(look_up)])
            if isinstance(adapter, dspy.JSONAdapter):
                dspy.Predict(Tagged)(text="Paris", config={"temperature": 0.1})
        bodies.append([request.body for request in server.requests()[before:]])
    assert bodies[0] == bodies[1]


# -- state


@both
def test_history_usage_and_callbacks(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    seen: list[tuple[str, Any]] = []

    class Watch(BaseCallback):  # type: ignore[misc]
        def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
            seen.append(("start", instance))

        def on_lm_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
            seen.append(("end", outputs))

    server.script(MODEL, chat(answer="yes"))
    with dspy.context(lm=lm, callbacks=[Watch()], track_usage=True):
        predict = dspy.Predict("question -> answer")
        first, second = predict(question="?"), predict(question="?")
    assert [name for name, _ in seen] == ["start", "end"] * 2
    assert seen[0][1] is lm
    usage = first.get_lm_usage()[f"openai/{MODEL}"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (10, 5, 15)
    assert not second.get_lm_usage()  # remembered
    assert server.count() == 1
    entry = lm.history[0]
    assert (entry["model"], entry["usage"]["prompt_tokens"]) == (f"openai/{MODEL}", 10)
    assert entry["messages"][-1]["role"] == "user"
    assert entry["outputs"] == [chat(answer="yes").text]
    assert len(lm.history) == len(predict.history) == 2
    assert sum(each["cost"] for each in lm.history) >= 0


@both
def test_inspect_history_prints_the_conversation(
    kind: Kind, lm: dspy.LM, server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script(MODEL, chat(answer="Paris in print"))
    with dspy.context(lm=lm):
        dspy.Predict("question -> answer")(question="where in print?")
    dspy.inspect_history()
    lm.inspect_history()
    printed = capsys.readouterr().out
    assert printed.count("where in print?") == printed.count("Paris in print") == 2


@both
@pytest.mark.parametrize("way", ["copy", "deepcopy", "pickle", "state"])
def test_copies_answer_as_the_original(kind: Kind, server: ScriptedServer, way: str) -> None:
    server.script(MODEL, chat(answer="yes"))
    lm = make(kind, server, temperature=0.3, stop=["END"])
    lm("before")
    ways: dict[str, Callable[[dspy.LM], dspy.LM]] = {
        "copy": lambda lm: lm.copy(),
        "deepcopy": copy.deepcopy,
        "pickle": lambda lm: pickle.loads(pickle.dumps(lm)),  # noqa: S301 - our own
        "state": lambda lm: type(lm).load_state(lm.dump_state() | ({} if kind == "ours" else {"api_key": CANARY})),
    }
    other = ways[way](lm)
    assert type(other) is type(lm)
    assert (other.model, other.kwargs["temperature"]) == (lm.model, 0.3)
    other("after")
    body = server.requests()[-1].body
    assert (body["temperature"], body["stop"], body["max_tokens"]) == (0.3, ["END"], 300)
    assert len(lm.history) == 1


@both
@pytest.mark.parametrize("whole", [False, True])
def test_a_program_is_saved_and_loaded(kind: Kind, lm: dspy.LM, server: ScriptedServer, whole: bool) -> None:
    server.script(MODEL, chat(answer="yes"))
    predict = dspy.Predict("question -> answer")
    predict.set_lm(lm)
    predict(question="before?")
    if whole:
        predict.save("program", save_program=True)
        loaded = dspy.load("program", allow_pickle=True)
    else:
        predict.save("program.json")
        loaded = dspy.Predict("question -> answer")
        loaded.load("program.json", allow_unsafe_lm_state=True)
        assert CANARY not in Path("program.json").read_text()
        if kind == "plain":
            loaded.lm.kwargs["api_key"] = CANARY
    assert loaded(question="after?").answer == "yes"
    assert type(loaded.lm) is type(lm)


# -- errors


@both
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Known("context_window"), dspy.ContextWindowExceededError),
        (Known("bad_key"), dspy.LMAuthError),
        (Known("insufficient_quota"), dspy.LMBillingError),
        (Known("model_not_found"), dspy.LMUnsupportedModelError),
        (Fault(400, "what is this"), dspy.LMInvalidRequestError),
        (Fault(429, retry_after=7), dspy.LMRateLimitError),
        (Fault(503), dspy.LMServerError),
        (Fault(403), dspy.LMAuthError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_errors_are_dspys(
    kind: Kind, lm: dspy.LM, server: ScriptedServer, answer: Answer, error: type[Exception], asynchronous: bool
) -> None:
    server.script(MODEL, answer)
    with pytest.raises(error) as caught:
        asyncio.run(lm.acall("hi")) if asynchronous else lm("hi")
    assert server.count() == 1
    if kind == "ours":
        [attempt] = caught.value.attempts  # type: ignore[attr-defined]
        assert (attempt.outcome, attempt.retry_after) == ("error", getattr(answer, "retry_after", None))
        assert caught.value.retry_after == attempt.retry_after  # type: ignore[attr-defined]
        assert attempt.error in str(caught.value)
    assert CANARY not in str(caught.value)


@both
def test_an_agent_shortens_what_is_too_long(kind: Kind, lm: dspy.LM, server: ScriptedServer) -> None:
    step = chat(next_thought="look", next_tool_name="look_up", next_tool_args='{"city": "Paris"}')
    done = chat(next_thought="done", next_tool_name="finish", next_tool_args="{}")
    server.script(MODEL, step, step, Known("context_window"), done, chat(reasoning="so", answer="Paris"))
    with dspy.context(lm=lm):
        found = dspy.ReAct("question -> answer", tools=[look_up])(question="?")
    assert found.answer == "Paris"
    sizes = [len(json.dumps(request.body["messages"])) for request in server.requests()]
    assert sizes[3] < sizes[2]


# -- ours alone


def test_the_second_run_reaches_no_server_and_loads_no_litellm(server: ScriptedServer) -> None:
    server.script(MODEL, raw({"content": chat(answer="yes").text, "reasoning_content": "because"}))
    script = (
        "import sys, dspy\n"
        "from modelrouter.dspy import configure_dspy\n"
        "lm = configure_dspy()\n"
        "print(dspy.Predict('question -> answer')(question='?').answer, lm.history[-1]['cost'],"
        " lm.history[-1]['outputs'][0]['reasoning_content'], 'litellm' in sys.modules)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    assert runs == [["yes", "2e-05", "because", "True"], ["yes", "0.0", "because", "False"]]
    assert server.count() == 1


def test_importing_it_loads_neither_dspy_nor_litellm() -> None:
    script = "import sys, modelrouter.dspy; print('litellm' in sys.modules, 'dspy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


def test_what_makes_another_answer(server: ScriptedServer) -> None:
    server.script(MODEL, *(Reply(str(number)) for number in range(20)))
    lm = get_lm(temperature=1.0)

    def ask(lm: dspy.LM = lm, **settings: Any) -> str:
        [text] = lm("hi", **settings)
        return str(text)

    assert [ask(), ask()] == ["0", "0"]
    assert [ask(rollout_id=1), ask(rollout_id=1), ask(rollout_id=2)] == ["1", "1", "2"]
    assert [ask(lm.copy(rollout_id=1)), ask(lm.copy(rollout_id=3)), ask(temperature=0.9)] == ["1", "3", "4"]
    assert [ask(cache=False), ask(cache=False), ask(lm.copy(cache=False)), ask()] == ["5", "6", "7", "0"]
    assert ask(get_lm(temperature=1.0, cache=False)) == "8"
    assert [ask(get_lm("uncached")), ask(get_lm("uncached"))] == ["9", "10"]
    assert ask(cache="refresh") == ask() == "11"
    assert lm("hi", n=3) == lm("hi", n=3) == ["11", "12", "13"]
    assert lm("hi", n=2, rollout_id=1) == ["1", "14"]
    assert all("rollout_id" not in request.body and "n" not in request.body for request in server.requests())


def test_the_router_alone_retries(server: ScriptedServer) -> None:
    server.script(MODEL, Fault(503))
    assert get_lm().num_retries == 0
    for ask in (get_lm(num_retries=1), get_lm().copy(num_retries=1), lambda text: get_lm()(text, num_retries=1)):
        before = server.count()
        with pytest.raises(dspy.LMServerError) as caught:
            ask("hi")
        assert len(caught.value.attempts) == server.count() - before == 2


def test_time_is_limited_as_asked(server: ScriptedServer) -> None:
    server.script(MODEL, Hang())
    for ask in (get_lm(timeout=0.1), get_lm().copy(deadline=0.1), lambda text: get_lm()(text, timeout=0.1)):
        with pytest.raises(dspy.LMTimeoutError):
            ask("hi")


def test_who_answered_is_in_history_and_usage(server: ScriptedServer) -> None:
    server.script(MODEL, Fault(503)).script("gpt-4o", chat(answer="yes"))
    with dspy.context(lm=get_lm("chained"), track_usage=True):
        found = dspy.Predict("question -> answer")(question="?")
        [entry] = dspy.settings.lm.history
    assert (entry["model"], entry["response_model"]) == (f"openai/{MODEL}", "openai/gpt-4o")
    assert (entry["fallback"], entry["cached"], entry["cost"]) == (True, False, 2e-05)
    assert [(attempt.model, attempt.outcome) for attempt in entry["attempts"]] == [
        ("primary", "error"),
        ("second", "ok"),
    ]
    assert list(found.get_lm_usage()) == ["openai/gpt-4o"]


def test_a_cost_that_is_not_known_is_none(server: ScriptedServer) -> None:
    lm = get_lm("unpriced")
    assert lm("hi", n=2) == ["ok", "ok"]
    assert lm.history[-1]["cost"] is None


def test_an_edit_of_the_yaml_changes_the_model_of_a_program(
    server: ScriptedServer, catalog: WriteCatalog, eager_catalog: None
) -> None:
    lm = get_lm()
    lm("hi")
    catalog({"other": server.anthropic("claude-other")}, max_tokens=10)
    assert lm.model == "anthropic/claude-other"
    lm("hi")
    assert [request.model for request in server.requests()] == [MODEL, "claude-other"]
    assert [entry["model"] for entry in lm.history] == [f"openai/{MODEL}", "anthropic/claude-other"]


def test_a_model_is_pinned(server: ScriptedServer) -> None:
    assert get_lm("chained", model="claude").model == "anthropic/claude-sonnet-4-5"
    lm = get_lm(model=["second", "primary"]).copy(temperature=0.1)
    assert (lm.model, RouterLM.load_state(json.loads(json.dumps(lm.dump_state()))).model) == ("openai/gpt-4o",) * 2
    lm = lm.copy(model="claude")
    lm("hi")
    assert server.requests()[0].model == "claude-sonnet-4-5"


class Reasoned(dspy.Signature):  # type: ignore[misc]
    question: str = dspy.InputField()
    reasoning: dspy.Reasoning = dspy.OutputField()
    answer: str = dspy.OutputField()


class Facts(dspy.Signature):  # type: ignore[misc]
    question: str = dspy.InputField()
    facts: dict[str, str] = dspy.OutputField()


@pytest.mark.parametrize(
    ("module", "signature", "down", "answers", "hint"),
    [
        ("mixed", Facts, MODEL, Reply('{"facts": {"a": "b"}}'), "response_format"),
        ("reasoning", Reasoned, "claude-sonnet-4-5", Reply('{"answer": "Paris"}'), "reasoning_effort"),
    ],
)
def test_what_dspy_adds_for_the_first_model_keeps_no_other_from_answering(
    module: str, signature: type[dspy.Signature], down: str, answers: Reply, hint: str, server: ScriptedServer
) -> None:
    other = "gpt-4o" if module == "reasoning" else "claude-sonnet-4-5"
    server.script(down, Fault(503)).script(other, answers)
    with dspy.context(lm=get_lm(module, cache=False), adapter=dspy.JSONAdapter()):
        dspy.Predict(signature)(question="?")
    assert (server.count(down), server.count(other)) == (1, 1)
    assert hint not in server.requests(other)[0].body


def test_what_the_catalog_says_of_reasoning_goes_before_what_dspy_adds(server: ScriptedServer) -> None:
    server.script("claude-sonnet-4-5", chat(answer="Paris"))
    with dspy.context(lm=get_lm("thorough", cache=False)):
        dspy.Predict(Reasoned)(question="?")
    assert server.requests()[0].body["thinking"]["budget_tokens"] == 4096


@pytest.mark.filterwarnings("ignore:Passing OpenAI-style message:DeprecationWarning")
def test_a_models_reasoning_of_before_is_not_handed_on_as_its_words(server: ScriptedServer) -> None:
    before = {"role": "assistant", "content": "yes", "reasoning_content": "hm, no"}
    get_lm()(messages=[{"role": "user", "content": "?"}, before, {"role": "user", "content": "!"}])
    assert "hm" not in json.dumps(server.requests()[0].body)


@both
@pytest.mark.parametrize(
    ("arguments", "args"),
    [('{"city": "Par', {"city": "Par"}), ("{'city': 'P'}", {"city": "P"}), ("null", {}), ('["P"]', {}), ("", {})],
)
@pytest.mark.usefixtures("swept")
def test_what_models_write_for_a_tools_arguments_is_mended(
    kind: Kind, arguments: str, args: dict[str, Any], catalog: WriteCatalog
) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look_up", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    with RawServer() as raw:
        raw.says({"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
        catalog({"a": {"model": f"openai/{MODEL}", "api_base": raw.base}}, cache=False)
        lm = (
            get_lm(model="a")
            if kind == "ours"
            else dspy.LM(f"openai/{MODEL}", engine="litellm", api_base=raw.base, api_key=CANARY, cache=False)
        )
        with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_native_function_calling=True)):
            found = dspy.Predict(Calling)(question="?", tools=[dspy.Tool(look_up)])
    assert [call.args for call in found.calls.tool_calls] == [args]


class Heard(dspy.Signature):  # type: ignore[misc]
    sound: dspy.Audio = dspy.InputField()
    answer: str = dspy.OutputField()


def test_a_sound_out_of_a_file_is_called_mp3(server: ScriptedServer) -> None:
    Path("a.mp3").write_bytes(b"sound")
    server.script(MODEL, chat(answer="a bell"))
    with dspy.context(lm=get_lm()):
        dspy.Predict(Heard)(sound=dspy.Audio.from_path("a.mp3"))
    [sound] = [
        part["input_audio"]
        for part in server.requests()[0].body["messages"][-1]["content"]
        if part["type"] == "input_audio"
    ]
    assert sound["format"] == "mp3"


def test_a_cache_key_of_ones_own_leaves_each_candidate_its_own(server: ScriptedServer) -> None:
    server.script(MODEL, Reply("one"), Reply("two"))
    assert get_lm(cache_key="mine")("hi", n=2, temperature=1.0) == ["one", "two"]
    assert server.count() == 2


def test_a_call_may_ask_another_model(server: ScriptedServer) -> None:
    get_lm()("hi", model="claude")
    assert (server.count(MODEL), server.count("claude-sonnet-4-5")) == (0, 1)


def test_a_copy_may_be_another_modules(server: ScriptedServer) -> None:
    lm = get_lm("chained").copy(module="claude")
    assert (lm.module, lm.model) == ("claude", "anthropic/claude-sonnet-4-5")
    lm("hi")
    assert server.count("claude-sonnet-4-5") == 1
    with pytest.raises(UnknownModule):
        lm.copy(module="gone")


@pytest.mark.parametrize("name", ["prompt", "messages", "prompt_cache", "model_type", "engine"])
def test_what_cannot_be_chosen_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{name}= cannot be chosen"):
        get_lm(**{name: "x"})


@pytest.mark.parametrize("way", ["called", "awaited", "streamed", "streamed and awaited"])
def test_a_program_is_traced(
    way: str, server: ScriptedServer, provider: TracerProvider, exported: InMemorySpanExporter
) -> None:
    server.script(MODEL, chat(answer="Paris is the one"))
    program = dspy.Predict("question -> answer")

    async def run() -> Any:
        if way == "awaited":
            return await program.acall(question="?")
        streamed = dspy.streamify(dspy.asyncify(program) if "awaited" in way else program)
        return [piece async for piece in streamed(question="?")]

    work = provider.get_tracer("the application").start_as_current_span("work")
    with dspy.context(lm=get_lm(cache=False)), work:
        program(question="?") if way == "called" else asyncio.run(run())
    request, call, around = exported.get_finished_spans()
    assert [span.name for span in (request, call)] == [f"chat {MODEL}", "invoke_workflow default"]
    assert [span.parent for span in (request, call)] == [span.context for span in (call, around)]


def test_a_tracker_is_not_brought_back_by_a_dspy_context_that_ends_after_it(server: ScriptedServer) -> None:
    context = dspy.context(lm=get_lm(cache=False))
    with track() as spent:
        context.__enter__()
        dspy.settings.lm("counts")
    context.__exit__(None, None, None)
    get_lm(cache=False)("does not")
    assert spent.total.calls == 1


def test_a_limit_holds_in_the_threads_that_dspy_starts(server: ScriptedServer, catalog: WriteCatalog) -> None:
    catalog({"a": server.openai(MODEL, price={"input": 1, "output": 1000})}, max_tokens=10, retries=0, deadline=5)
    server.script(MODEL, Reply("fine", input_tokens=10, output_tokens=10))

    class Ask(dspy.Module):  # type: ignore[misc]
        def forward(self, number: int) -> Any:
            return dspy.settings.lm(str(number))

    with dspy.context(lm=get_lm(cache=False)), track(max_usd=0.0405) as spent:
        asks = [(Ask(), {"number": number}) for number in range(8)]
        dspy.Parallel(num_threads=4, max_errors=100, disable_progress_bar=True)(asks)
    assert spent.total.cost_usd == 4 * Decimal("0.01001")
    assert server.count(MODEL) == 4


def test_only_names_and_settings_are_saved() -> None:
    headers = {"authorization": CANARY}
    lm = get_lm("chained", temperature=0.5, num_retries=4, timeout=9, cache=False, keep_alive=3, extra_headers=headers)
    lm = lm.copy(headers=headers, extra_body={"api_key": CANARY}, aws_secret_access_key=CANARY, azure_ad_token=CANARY)
    state = lm.dump_state()
    assert state == {
        "_dspy_lm_class": "modelrouter.dspy.RouterLM",
        "module": "chained",
        "temperature": 0.5,
        "retries": 4,
        "timeout": 9,
        "cache": False,
        "keep_alive": 3,
    }
    assert CANARY not in str(pickle.dumps(get_lm()))
    assert RouterLM.load_state(state).dump_state() == state
    with pytest.raises(UnknownModule):
        RouterLM.load_state(state | {"module": "gone"})


@pytest.mark.parametrize("way", ["made", "copied"])
def test_what_a_model_is_trained_and_served_with_is_saved_and_no_secret_in_it(way: str) -> None:
    training = {
        "train_kwargs": {"epochs": 3, "eos_token": "</s>", "hub_token": CANARY},
        "launch_kwargs": {"port": 8000, "env": [{"HF_TOKEN": CANARY, "name": "x"}], "headers": {"x-auth": CANARY}},
        "finetuning_model": "openai/small",
        "use_developer_role": True,
    }
    lm = get_lm("chained").copy(**training) if way == "copied" else get_lm("chained", **training)
    predict = dspy.Predict("question -> answer")
    predict.set_lm(lm)
    predict.save("program.json")
    assert CANARY not in Path("program.json").read_text()
    loaded = dspy.Predict("question -> answer")
    loaded.load("program.json", allow_unsafe_lm_state=True)
    assert loaded.lm.train_kwargs == {"epochs": 3, "eos_token": "</s>"}
    assert loaded.lm.launch_kwargs == {"port": 8000, "env": [{"name": "x"}]}
    assert (loaded.lm.finetuning_model, loaded.lm.use_developer_role) == ("openai/small", True)
    assert lm.launch_kwargs["headers"], "the LM itself keeps them"


def test_what_is_saved_is_loaded_as_what_it_was() -> None:
    for make in (get_lm, get_lm().copy):
        with pytest.raises(InvalidRequest, match="_dspy_lm_class= cannot be chosen"):
            make(_dspy_lm_class="os.system")
    lm = get_lm("chained")
    later = {"_dspy_lm_class": "os.system", "module": "default", "model": "openai/gpt-4"}
    lm.kwargs.update(later)
    state = lm.dump_state()
    assert (state["_dspy_lm_class"], state["module"], state["cache"]) == ("modelrouter.dspy.RouterLM", "chained", True)
    assert "openai/gpt-4" not in state.values()


def test_parameters_that_dspy_cannot_carry_arrive(server: ScriptedServer) -> None:
    lm = get_lm(top_k=3, extra_headers={"x-mine": "1"}, extra_body={"vendor": True})
    lm.copy(min_p=0.1)("hi", safety_identifier="s", repetition_penalty=1.1)
    [request] = server.requests()
    assert request.headers["x-mine"] == "1"
    sent = {"top_k": 3, "vendor": True, "min_p": 0.1, "safety_identifier": "s", "repetition_penalty": 1.1}
    assert request.body.items() >= sent.items()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"temprature": 1}, "Did you mean temperature="),
        ({"modul": "scorer"}, "Did you mean module="),
        ({"rolout_id": 1}, "Did you mean rollout_id="),
        ({"num_retires": 1}, "Did you mean num_retries="),
        ({"retry": 0}, "use retries="),
        ({"provider": "openai"}, "use model="),
        ({"api_key": CANARY}, "keys come from the environment"),
        ({"api_base": "http://x"}, "in the catalog"),
        ({"num_retries": -1}, "whole number"),
    ],
)
def test_mistakes_are_refused_where_they_are_made(wrong: dict[str, Any], said: str) -> None:
    for refuse in (get_lm, get_lm().copy, get_pipeline):
        with pytest.raises(InvalidRequest, match=said):
            refuse(**wrong)
    with pytest.raises(UnknownModule, match="Did you mean 'chained'"):
        get_lm("chaned")


REFUSED = [
    {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}]},
    {"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "a"}}]},
    {"role": "user", "content": [{"type": "image_url", "image_url": "https://example.com/a.png"}]},
    {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "flac"}}]},
    {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
    {"role": "user", "content": "a", "name": "me"},
    {"role": "function", "content": "a", "name": "look_up"},
    {
        "role": "assistant",
        "content": "a",
        "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}],
    },
]
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


@pytest.mark.filterwarnings("ignore:Passing OpenAI-style message:DeprecationWarning")
@pytest.mark.parametrize(
    ("message", "settings"),
    [
        *((message, {}) for message in REFUSED),
        (None, {"tools": [{**TOOL, "function": {**TOOL["function"], "strict": True}}]}),
        (None, {"tools": [{**TOOL, "cache_control": {"type": "ephemeral"}}]}),
        (None, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        (None, {"reasoning_effort": {"effort": "low"}}),
        (None, {"logit_bias": {5: 1}}),
    ],
)
def test_what_dspys_own_request_has_no_place_for_is_refused_before_anybody_is_asked(
    message: Any, settings: dict[str, Any], server: ScriptedServer
) -> None:
    with pytest.raises((dspy.LMError, TypeError, ValueError)):
        get_lm()(messages=[message or {"role": "user", "content": "?"}], **settings)
    assert server.ledger == []


@pytest.mark.parametrize(
    ("arguments", "model", "logged"),
    [
        ({}, f"openai/{MODEL}", f"provider=openai model={MODEL}"),
        ({"module": "claude"}, "anthropic/claude-sonnet-4-5", "provider=anthropic model=claude-sonnet-4-5"),
        ({"provider_type": "ollama", "model_name": "mine"}, "ollama_chat/mine", "provider=ollama model=mine"),
        ({"model_name": "second"}, "openai/gpt-4o", "provider=openai model=gpt-4o"),
    ],
)
def test_configure_dspy(arguments: dict[str, Any], model: str, logged: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "modelrouter"):
        lm = configure_dspy(**arguments)
    assert dspy.settings.lm is lm
    assert lm.model == model
    assert caplog.messages[-1] == f"dspy_configured_successfully {logged}"


def test_what_a_model_can_do_is_the_catalogs_or_litellms_word(server: ScriptedServer) -> None:
    names = ("primary", "claude", "able", "unpriced", "elsewhere", f"openai/{MODEL}", "anthropic/claude-sonnet-4-5")
    lms = {name: get_lm(model=name) for name in names}
    for said in ("supports_function_calling", "supports_response_schema"):
        unable = {name for name, lm in lms.items() if not getattr(lm, said)}
        assert unable == {"unpriced", "elsewhere"}
    assert {name for name, lm in lms.items() if lm.supports_reasoning} == {"claude", "anthropic/claude-sonnet-4-5"}
    assert "response_format" in lms["claude"].supported_params


@pytest.mark.parametrize("asynchronous", [False, True])
def test_json_is_asked_for_in_words_alone_where_nobody_knows_of_a_json_mode(
    server: ScriptedServer, catalog: WriteCatalog, eager_catalog: None, asynchronous: bool
) -> None:
    # LiteLLM reaches the provider, and has no list of what that takes.
    unknown = {"model": "xinference/mine", "api_base": server.openai_base}
    catalog(
        {
            "unknown": unknown,
            "said": {**unknown, "model": "xinference/said", "supports": {"response_format": True}},
            "known": {"model": "hosted_vllm/mine", "api_base": server.openai_base},
            "down": server.openai("down"),
        },
        retries=0,
    )

    def asked(*chain: str) -> Any:
        for name in ("mine", "said"):
            server.script(name, Reply('{"facts": {"a": "b"}}'))
        with dspy.context(lm=get_lm(model=list(chain), cache=False), adapter=dspy.JSONAdapter()):
            predict = dspy.Predict("text -> facts: dict[str, str]")
            found = asyncio.run(predict.acall(text="?")) if asynchronous else predict(text="?")
        assert found.facts == {"a": "b"}
        return server.requests()[-1].body.get("response_format")

    assert asked("unknown") is None
    assert asked("known") == asked("said") == {"type": "json_object"}
    server.script("down", Fault(401))
    assert asked("down", "unknown") is None
    assert asked("down", "said") == {"type": "json_object"}
    assert get_lm(model="unknown").supports_response_schema is False


def test_json_for_a_model_without_a_json_mode(server: ScriptedServer) -> None:
    server.script("claude-sonnet-4-5", Reply('{"facts": {"a": "b"}}'))
    with dspy.context(lm=get_lm("claude"), adapter=dspy.JSONAdapter()):
        assert dspy.Predict("text -> facts: dict[str, str]")(text="?").facts == {"a": "b"}


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Reply(pieces=["[[ ## answer ## ]]\n", "Par", Break.CUT]), dspy.LMTransportError),
        (Reply(pieces=["[[ ## answer ## ]]\n", "Par", Break.END]), dspy.LMStreamAssemblyError),
        (Reply(""), dspy.LMProviderError),
    ],
    ids=["cut", "truncated", "empty"],
)
def test_a_stream_that_breaks(
    server: ScriptedServer, answer: Reply, error: type[Exception], asynchronous: bool
) -> None:
    server.script(MODEL, answer)
    with pytest.raises(error) as caught:
        streamed("question -> answer", asynchronous=asynchronous)
    assert [attempt.outcome for attempt in caught.value.attempts] == ["error"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream_falls_over_and_is_remembered(server: ScriptedServer, asynchronous: bool) -> None:
    server.script(MODEL, Fault(503)).script("gpt-4o", chat(answer="Paris it is"))
    lm = get_lm("chained")
    first = streamed("question -> answer", lm, asynchronous=asynchronous)
    assert lm.history[0]["response_model"] == "openai/gpt-4o"
    assert lm.history[0]["usage"]["prompt_tokens"] == 10
    before = server.count("gpt-4o")
    again = streamed("question -> answer", lm, asynchronous=asynchronous)
    assert first[-1].answer == again[-1].answer == "Paris it is"
    assert server.count("gpt-4o") == before
    assert lm.history[1]["usage"] == {}


def streamed(signature: str, lm: dspy.LM | None = None, *, asynchronous: bool) -> list[Any]:
    """All that streamify gives; an error by itself, not in the group that DSPy's task makes of it."""

    class Program(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.predict = dspy.Predict(signature)

        def forward(self, **inputs: Any) -> Any:
            return self.predict(**inputs)

        async def aforward(self, **inputs: Any) -> Any:
            return await self.predict.acall(**inputs)

    async def run() -> list[Any]:
        pieces = dspy.streamify(Program(), is_async_program=asynchronous)(question="?")
        return [piece async for piece in pieces]

    try:
        with dspy.context(lm=lm or get_lm()):
            return asyncio.run(run())
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            [error] = error.exceptions
        raise error from None


def test_a_scripted_provider_serves_programs_too() -> None:
    script = {"primary": ["[[ ## answer ## ]]\nParis", Error("context_window")]}
    with ScriptedProvider(script), dspy.context(lm=get_lm()):
        assert dspy.Predict("question -> answer")(question="?").answer == "Paris"
        with pytest.raises(dspy.ContextWindowExceededError):
            dspy.Predict("question -> answer")(question="?")


KINDS = {
    "rate_limit": dspy.LMRateLimitError,
    "connection": dspy.LMTransportError,
    "server": dspy.LMServerError,
    "timeout": dspy.LMTimeoutError,
    "auth": dspy.LMAuthError,
    "permission": dspy.LMAuthError,
    "quota": dspy.LMBillingError,
    "not_found": dspy.LMUnsupportedModelError,
    "unsupported": dspy.LMUnsupportedFeatureError,
    "context_window": dspy.ContextWindowExceededError,
    "content_policy": dspy.LMInvalidRequestError,
    "max_tokens": dspy.LMProviderError,
    "bad_request": dspy.LMInvalidRequestError,
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_error_has_its_type(kind: str) -> None:
    with ScriptedProvider({"primary": Error(kind)}), pytest.raises(dspy.LMError) as caught:
        get_lm()("hi")
    assert type(caught.value) is KINDS[kind]


def test_a_missing_key_and_a_missing_module(catalog: WriteCatalog, eager_catalog: None) -> None:
    lm = get_lm("chained")
    with ScriptedProvider(missing_keys={"OPENAI_API_KEY"}), pytest.raises(dspy.LMNotConfiguredError) as caught:
        get_lm(model="openai/gpt-4o")("hi")
    assert "needs OPENAI_API_KEY" in str(caught.value)
    catalog({"a": {"model": "openai/a"}})
    with pytest.raises(UnknownModule):
        lm("hi")


def test_too_long_for_one_model_is_too_long_for_the_call(server: ScriptedServer) -> None:
    server.script(MODEL, Known("context_window")).script("gpt-4o", Reply("read"), Fault(503))
    lm = get_lm("chained", cache=False)
    assert lm("long") == ["read"]
    with pytest.raises(dspy.ContextWindowExceededError) as caught:
        lm("long")
    assert [attempt.model for attempt in caught.value.attempts] == ["primary", "second"]
