"""A real LiteLLM Proxy with an exported file, and who asks it: OpenAI's client, by the catalog's names."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

import httpx
import openai
import pytest
import yaml
from conftest import CANARY, StartProxy
from servers import Known, ProxyServer, RedisServer, Reply, ScriptedServer

from modelrouter import Router
from modelrouter.catalog.binding import load
from modelrouter.environment import STORE
from modelrouter.export.differences import GENERAL
from modelrouter.export.litellm_proxy import export

pytestmark = pytest.mark.slow

README = (Path(__file__).parents[2] / "README.md").read_text()

CACHED = {"input": 2, "output": 10, "cache_read": 0.5, "cache_write": 2.5, "cache_write_long": 4}
LISTED = ("gpt-6-luna", "gpt-6.1-sol")
"""Models that LiteLLM's list has at other prices; the second is free here."""
PRICES = MappingProxyType({"t5500": 5500, "t100000": 100_000, "t272000": 272_000})
"""Models with another price above so many tokens."""


@pytest.fixture(scope="module")
def file(_scripted_server: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = _scripted_server
    password = at.openai_base.replace("//", "//me:secret%40word@")
    tiers = {
        name: at.openai(name, price={**CACHED, "above": {"tokens": tokens, "input": 4, "output": 15}})
        for name, tokens in PRICES.items()
    }
    content = {
        "models": {
            "o": at.openai("o", params={"seed": 7}),
            "a": at.anthropic("a", price=CACHED),
            "keyless": at.openai("keyless", api_key_env="A_KEY_THAT_IS_NOT_SET"),
            "password": at.openai("password", api_base=password),
            **{name: at.openai(name, price=price) for name, price in zip(LISTED, (CACHED, "free"), strict=True)},
            **tiers,
        },
        "aliases": {"best": "a"},
        "modules": {
            "default": {"chain": ["o", "best"], "temperature": 0.5, "max_tokens": 300, "cache": False},
            "scorer": {"chain": ["best", "o"], "temperature": 0},
            "kept": {"cache": {"ttl": 600}},
        },
    }
    path = tmp_path_factory.mktemp("catalog") / "models.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def proxy(litellm_proxy: StartProxy, _redis_server: RedisServer, file: Path) -> ProxyServer:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
            patch.setenv(name, CANARY)
        made = export(load(file.read_bytes(), shown="models.yaml"), redis=True)
    values = {
        "OPENAI_API_KEY": CANARY,
        "ANTHROPIC_API_KEY": CANARY,
        STORE: _redis_server.url,
        **{name: _basic() for name in made.variables if name.startswith("BASIC_AUTH_")},
    }
    assert values.keys() | {"LITELLM_MASTER_KEY", "A_KEY_THAT_IS_NOT_SET"} == made.variables.keys()
    return litellm_proxy(made.text, values)


def _basic() -> str:
    return f"Basic {base64.b64encode(b'me:secret@word').decode()}"


@pytest.fixture
def client(proxy: ProxyServer, server: ScriptedServer, redis_server: RedisServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=proxy.openai_base, api_key=proxy.key, max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, model: str, text: str = "Hello") -> httpx.Headers:
    """The headers of its answer."""
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.with_raw_response.create(model=model, messages=messages).headers  # type: ignore[arg-type]


def test_the_code_of_the_page_gets_an_answer_of_the_module(
    client: openai.OpenAI,
    proxy: ProxyServer,
    server: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = re.findall(r"```python\n([^`]*from openai import OpenAI[^`]*)```", README)
    monkeypatch.setenv("LITELLM_MASTER_KEY", proxy.key)
    server.script("a", Known("overloaded")).script("o", Reply("71"))
    exec(code.replace("http://localhost:4000", proxy.base), {"__name__": "__main__"})  # noqa: S102
    assert capsys.readouterr().out == "71\n"
    assert {request.model for request in server.requests()} == {"a", "o"}


def test_modules_models_and_aliases_answer_by_their_names(client: openai.OpenAI, server: ScriptedServer) -> None:
    listed = {model.id for model in client.models.list()}
    assert {"default", "scorer", "kept", "o", "a", "best", *PRICES} <= listed
    asked = {"scorer": ("scorer a", "a"), "default": ("default o", "o"), "best": ("a a", "a"), "o": ("o o", "o")}
    for name, (id_, model) in asked.items():
        assert ask(client, name)["x-litellm-model-id"] == id_
        assert server.requests()[-1].model == model
    with client.chat.completions.stream(model="scorer", messages=[{"role": "user", "content": "Hello"}]) as stream:
        assert stream.get_final_completion().choices[0].message.content == "ok"


def test_limits_and_parameters_are_sent_unless_the_client_says_otherwise(
    client: openai.OpenAI, server: ScriptedServer
) -> None:
    ask(client, "default")
    client.chat.completions.create(model="default", messages=[{"role": "user", "content": "Hello"}], temperature=0.1)
    bodies = [request.body for request in server.requests("o")]
    assert [(body["temperature"], body["max_tokens"], body["seed"]) for body in bodies] == [
        (0.5, 300, 7),
        (0.1, 300, 7),
    ]


def test_a_password_of_an_address_arrives_out_of_its_variable(client: openai.OpenAI, server: ScriptedServer) -> None:
    ask(client, "password")
    assert server.requests("password")[0].headers["authorization"] == _basic()


def test_for_a_key_that_is_not_set_another_is_sent(client: openai.OpenAI, server: ScriptedServer) -> None:
    ask(client, "keyless")
    assert server.requests("keyless")[0].headers["authorization"] == f"Bearer {CANARY}"
    assert "OPENAI_API_KEY" in GENERAL["missing key"]


@pytest.mark.parametrize(
    ("model", "reply"),
    [
        ("a", Reply(input_tokens=1000, output_tokens=100, cache_read_tokens=600)),
        ("a", Reply(input_tokens=1000, output_tokens=100, cache_write_tokens=500, cache_write_long_tokens=200)),
        *((name, Reply(input_tokens=300_000, output_tokens=100, cache_read_tokens=70)) for name in LISTED),
        *((name, Reply(input_tokens=tokens, output_tokens=100)) for name, tokens in PRICES.items()),
        *(
            (name, Reply(input_tokens=tokens + 1, output_tokens=100, cache_read_tokens=70))
            for name, tokens in PRICES.items()
        ),
    ],
)
def test_the_proxy_makes_it_the_same_cost(
    client: openai.OpenAI, server: ScriptedServer, file: Path, keys: str, model: str, reply: Reply
) -> None:
    server.script(model, reply)
    theirs = Decimal(ask(client, model)["x-litellm-response-cost"])
    with Router(file) as router:
        ours = router.complete("Hello", model=model).cost_usd
    assert ours is not None
    assert theirs == pytest.approx(ours, rel=Decimal("1e-9"))


def test_a_module_remembers_as_long_as_it_says_and_a_model_by_itself_never(
    client: openai.OpenAI, server: ScriptedServer, redis_server: RedisServer
) -> None:
    found = {name: ["x-litellm-cache-key" in ask(client, name) for _ in range(2)] for name in ("kept", "default", "o")}
    assert found == {"kept": [False, True], "default": [False, False], "o": [False, False]}
    assert [request.model for request in server.requests()] == ["o"] * 5
    (kept,) = (key for key in list(redis_server.keys()) if key.startswith(b"litellm:"))
    assert 590 <= redis_server.ask("TTL", kept) <= 600


def test_a_client_that_decides_by_itself_has_each_model_asked_once(
    client: openai.OpenAI, server: ScriptedServer
) -> None:
    server.script("a", Known("overloaded"))
    body = {"disable_fallbacks": True, "num_retries": 0}
    for name in ("a", "scorer"):
        with pytest.raises(openai.APIStatusError):
            client.chat.completions.create(model=name, messages=[{"role": "user", "content": "Hello"}], extra_body=body)
    assert [request.model for request in server.requests()] == ["a", "a"]
