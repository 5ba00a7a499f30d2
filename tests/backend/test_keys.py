"""Keys and headers that cannot be right: nothing is sent, and it is said which variable or header is meant."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import CANARY, WriteCatalog
from servers import Reply, ScriptedServer

from modelrouter import AllModelsFailed, InvalidCatalog, InvalidEnvironment, InvalidRequest, Router, environment
from modelrouter.cli.app import main
from modelrouter.completion import Kind

pytestmark = pytest.mark.heavy

BROKEN = {
    f"{CANARY}\nOPENAI": "has a line break in it",
    f"{CANARY}\rabc": "has a line break in it",
    f"{CANARY}\u2028abc": "has a line break in it",
    f"\u201c{CANARY}\u201d": "has a typographic quotation mark (U+201C) in it",
    f"{CANARY}\u200b": "has an invisible character (U+200B) in it",
    f"\ufeff{CANARY}": "has an invisible character (U+FEFF) in it",
    f"{CANARY}\x00abc".replace("\x00", "\x01"): "has a control character (U+0001) in it",
    f"{CANARY}\u00e9": "has a character that is not ASCII (U+00E9) in it",
    f"{CANARY}\u2026": "has a character that is not ASCII (U+2026) in it",
    f'"{CANARY}"': "has quotation marks around it",
    f"'{CANARY}'": "has quotation marks around it",
    f"{CANARY} abc": "has a space in it",
    f"{CANARY}\tabc": "has a space in it",
    f"Bearer {CANARY}": "begins with the name of a header or scheme",
    f"Authorization: {CANARY}": "begins with the name of a header or scheme",
    f"export OPENAI_API_KEY={CANARY}": "begins with the name of a variable",
    f"ANTHROPIC_API_KEY={CANARY}": "begins with the name of a variable",
    f"{CANARY}\\n": "has a line break written out in it",
}
MEND = "; paste the key again, alone and on one line"


@pytest.mark.parametrize("key", BROKEN, ids=ascii)
def test_a_key_that_cannot_be_right_is_named(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert environment.flaw("OPENAI_API_KEY") == f"OPENAI_API_KEY {BROKEN[key]}{MEND}"


@pytest.mark.parametrize(
    "key",
    [
        "",
        " ",
        CANARY,
        f" {CANARY}\r\n",
        "sk-proj-A_b-C",
        "c2VjcmV0S0VZ==",
        "AIzaSy:x",
        "a$b!c%d&e",
        "none",
        "YWJjS0VZ==",
    ],
)
def test_a_key_that_may_be_right_is_not(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert environment.flaw("OPENAI_API_KEY") is None


WIRES = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "groq": "GROQ_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "together_ai": "TOGETHERAI_API_KEY",
    "azure": "AZURE_API_KEY",
}


async def _apieces(router: Router) -> str:
    return "".join([piece async for piece in router.astream("Well?")])


@pytest.mark.parametrize("provider", WIRES)
def test_the_next_model_is_asked_and_nothing_sent(
    catalog: WriteCatalog,
    server: ScriptedServer,
    router: Router,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    provider: str,
) -> None:
    base = {"api_base": server.openai_base, "price": {"input": 1, "output": 2}}
    catalog(
        {
            "first": {"model": f"{provider}/first", **base},
            "own": {"model": f"{provider}/own", "api_key_env": "MY_OWN", **base},
            "second": {**server.openai("second"), "api_key_env": "OTHER_KEY"},
        },
        cache=False,
    )
    server.script("second", Reply("Four."))
    monkeypatch.setenv("OTHER_KEY", CANARY)
    monkeypatch.setenv(WIRES[provider], f"{CANARY}\n{CANARY}")
    monkeypatch.setenv("MY_OWN", f"\u201c{CANARY}\u201d")
    answer = router.complete("Well?")
    assert (answer.model, len(server.ledger)) == ("second", 1)
    assert [(each.outcome, each.error_kind) for each in answer.attempts[:2]] == [("skipped", Kind.AUTH)] * 2
    assert answer.attempts[0].error == f"{WIRES[provider]} has a line break in it{MEND}"
    assert answer.attempts[1].error == f"MY_OWN has a typographic quotation mark (U+201C) in it{MEND}"
    assert asyncio.run(router.acomplete("Well?")).model == "second"
    assert "".join(router.stream("Well?")) == asyncio.run(_apieces(router)) == "Four."
    assert len(server.ledger) == 4
    with pytest.raises(AllModelsFailed, match=f"{WIRES[provider]} has a line break") as caught:
        router.complete("Well?", model="first")
    assert CANARY not in f"{caught.value} {caplog.text}"


@pytest.mark.parametrize("value", [f"{CANARY}\n{CANARY}", f"\u201c{CANARY}\u201d", f"{CANARY}\n"], ids=ascii)
@pytest.mark.parametrize(
    ("variable", "litellm_model"),
    [
        ("HF_TOKEN", "huggingface/meta/first"),
        ("FRIENDLI_TOKEN", "friendliai/first"),
        ("OPENAI_ORGANIZATION", "openai/first"),
    ],
)
def test_what_litellm_reads_by_itself_is_named_too(
    catalog: WriteCatalog,
    server: ScriptedServer,
    router: Router,
    keys: str,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    litellm_model: str,
    value: str,
) -> None:
    first = {"model": litellm_model, "api_base": f"{server.openai_base}/{len(value)}"}  # a client of its own
    catalog({"first": first, "second": server.openai("second")}, cache=False)
    monkeypatch.setenv("AWS_REGION_NAME", "eu-central-1")
    monkeypatch.setenv(variable, value)
    with pytest.raises(AllModelsFailed) as caught:
        router.complete("Well?", model="first")
    (attempt,) = caught.value.attempts
    what = "a typographic quotation mark (U+201C)" if "\u201c" in value else "a line break"
    assert (attempt.outcome, attempt.error_kind) == ("skipped", Kind.AUTH)
    assert f"{variable} has {what} in it; paste it again" in (attempt.error or "")
    assert CANARY not in str(caught.value)
    assert server.ledger == []


def test_check_and_explain_show_it(
    catalog: WriteCatalog, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog({"first": server.openai("first"), "second": {"model": "groq/second"}, "third": server.ollama("third")})
    Path(".env").write_text(f'OPENAI_API_KEY="{CANARY}\\n{CANARY}"\nGROQ_API_KEY={CANARY} x\n')
    assert main(["explain"]) == 0
    shown = capsys.readouterr().out
    assert "OPENAI_API_KEY has a line break in it  " in shown
    assert "GROQ_API_KEY has a space in it  " in shown
    assert main(["explain", "--json"]) == 0
    explained = json.loads(capsys.readouterr().out)["chain"]
    assert [each["key"] and each["key"]["problem"] for each in explained] == [
        f"OPENAI_API_KEY has a line break in it{MEND}",
        f"GROQ_API_KEY has a space in it{MEND}",
        None,
    ]
    main(["check"])
    checked = capsys.readouterr().out
    assert f"model 'first': OPENAI_API_KEY has a line break in it{MEND}" in checked
    assert CANARY not in shown + checked + json.dumps(explained)


# -- headers and addresses

HEADERS: list[tuple[dict[str, Any], str]] = [
    ({"X-Trace": "a\nb"}, "the value of X-Trace has a line break in it"),
    ({"X-Trace": f"{CANARY}\r\nInjected: 1"}, "the value of X-Trace has a line break in it"),
    ({"X-Trace": "\u00fc"}, "the value of X-Trace has a character that is not ASCII (U+00FC) in it"),
    ({"X-Trace": "a\x01"}, "the value of X-Trace has a control character (U+0001) in it"),
    ({"X-Trace": 5}, "the value of X-Trace is no text but int"),
    ({"X-Trace": None}, "the value of X-Trace is no text but NoneType"),
    ({"X Trace": "a"}, "'X Trace' is no name for one"),
    ({"X-Trace\n": "a"}, "'X-Trace\\n' is no name for one"),
    ({"": "a"}, "'' is no name for one"),
]


@pytest.mark.parametrize("name", ["extra_headers", "headers"])
@pytest.mark.parametrize(("headers", "said"), HEADERS, ids=ascii)
def test_a_header_that_cannot_be_sent_is_the_callers_to_mend(
    catalog: WriteCatalog, server: ScriptedServer, router: Router, keys: str, name: str, headers: Any, said: str
) -> None:
    catalog({"first": server.openai("first")})
    for ask in router.complete, router.stream, lambda *a, **b: asyncio.run(router.acomplete(*a, **b)):
        with pytest.raises(InvalidRequest) as caught:
            ask("Well?", **{name: headers})
        assert str(caught.value) == f"{name}= cannot be sent as headers: {said}."
    assert not server.ledger
    catalog({"first": {**server.openai("first"), "params": {name: headers}}})
    with pytest.raises(InvalidCatalog) as refused:
        Router().catalog  # noqa: B018
    assert f"{name}: cannot be sent as headers: {said}" in str(refused.value)
    assert CANARY not in str(refused.value)


def test_a_header_that_can_be_sent_is(catalog: WriteCatalog, server: ScriptedServer, router: Router, keys: str) -> None:
    catalog({"first": {**server.openai("first"), "params": {"extra_headers": {"X-Model": "a b"}}}})
    router.complete("Well?")
    router.complete("Well?", extra_headers={"X-Call": 'a, b;c="d"\te'})
    assert [(r.headers.get("x-model"), r.headers.get("x-call")) for r in server.requests()] == [
        ("a b", None),
        (None, 'a, b;c="d"\te'),
    ]


@pytest.mark.parametrize("variable", ["OPENAI_BASE_URL", "ANTHROPIC_API_BASE", "OLLAMA_URL"])
@pytest.mark.parametrize("address", ["http://127.0.0.1:1/\nv1", "http://127.0.0.1:1/ v1", "http://127.0.0.1\r:1"])
def test_an_address_with_a_line_break(
    catalog: WriteCatalog, router: Router, monkeypatch: pytest.MonkeyPatch, variable: str, address: str
) -> None:
    catalog({"first": {"model": "openai/first"}})
    monkeypatch.setenv(variable, address)
    with pytest.raises(InvalidEnvironment, match=f"{variable}: expected an address without a space or a line break"):
        router.complete("Well?")
    monkeypatch.delenv(variable)
    catalog({"first": {"model": "openai/first", "api_base": address}})
    with pytest.raises(InvalidCatalog, match="api_base: expected an address without a space or a line break"):
        router.complete("Well?")
