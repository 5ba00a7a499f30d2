"""The configuration of LiteLLM Proxy that is made of a catalog: all of it is there, or said not to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import CANARY

from modelrouter import environment
from modelrouter.catalog import schema
from modelrouter.catalog.binding import load
from modelrouter.export.differences import GENERAL, SENTENCES
from modelrouter.export.litellm_proxy import Export, export

ROOT = Path(__file__).parents[2]

SMALL = """
providers:
  ollama: {api_base: "${OLLAMA_URL:-http://localhost:11434}"}
models:
  luna:
    model: openai/gpt-6-luna
    price:
      {input: 0.1, output: 0.5, cache_read: 0.01, cache_write: 0.125, cache_write_long: 0.25,
       above: {tokens: 272000, input: 0.2, output: 0.75}}
  ours: {model: openai/ours, api_base: "http://localhost:8080/v1", timeout: 60, max_tokens: 100, params: {seed: 7}}
  llama2: {model: ollama_chat/llama2, price: free}
aliases: {fast: luna}
modules:
  default: {chain: [fast, ours, llama2], temperature: 0.5, max_tokens: 200, timeout: 20}
  scorer: {chain: [ours], temperature: 0, retries: 0}
"""


def made(text: str, *, redis: bool = False) -> Export:
    return export(load(text.encode(), shown="models.yaml"), redis=redis)


def loaded(text: str, *, redis: bool = False) -> Any:
    return yaml.safe_load(made(text, redis=redis).text)


def groups(text: str, *, redis: bool = False) -> dict[str, dict[str, Any]]:
    """Each with its ``litellm_params``."""
    return {each["model_name"]: each["litellm_params"] for each in loaded(text, redis=redis)["model_list"]}


def said(of: Export) -> set[tuple[str, str]]:
    """About what, and where."""
    return {(remark.about, remark.place) for remark in of.remarks}


def test_a_small_catalog_as_a_whole() -> None:
    prices = {
        "input_cost_per_token": 1e-07,
        "output_cost_per_token": 5e-07,
        "cache_read_input_token_cost": 1e-08,
        "cache_creation_input_token_cost": 1.25e-07,
        "cache_creation_input_token_cost_above_1hr": 2.5e-07,
        "cache_creation_input_token_cost_above_12hr": 2.5e-07,
        "input_cost_per_token_above_272k_tokens": 2e-07,
        "output_cost_per_token_above_272k_tokens": 7.5e-07,
        "cache_read_input_token_cost_above_272k_tokens": 2e-07,
        "cache_creation_input_token_cost_above_272k_tokens": 2e-07,
        "cache_creation_input_token_cost_above_1hr_above_272k_tokens": 2e-07,
        "cache_creation_input_token_cost_above_12hr_above_272k_tokens": 2e-07,
    }
    free = {name: 0 for name in prices if not name.endswith("_tokens")}
    luna = {"model": "openai/gpt-6-luna", "api_key": "os.environ/OPENAI_API_KEY", "max_retries": 0}
    ours = {"model": "openai/ours", "api_base": "http://localhost:8080/v1", "api_key": "none", "max_retries": 0}
    ours |= {"timeout": 60, "stream_timeout": 60, "max_tokens": 100, "seed": 7}
    llama = {"model": "ollama_chat/llama2", "api_base": "http://localhost:11434", "max_retries": 0}
    default = {"temperature": 0.5, "max_tokens": 200, "timeout": 20, "stream_timeout": 20}
    entries = [
        ("default", luna | default, "default luna", prices),
        ("default/2", ours | {"temperature": 0.5}, "default/2 ours", {}),
        ("default/3", llama | default, "default/3 llama2", free),
        ("scorer", ours | {"temperature": 0}, "scorer ours", {}),
        ("luna", luna, "luna luna", prices),
        ("ours", ours, "ours ours", {}),
        ("llama2", llama, "llama2 llama2", free),
    ]
    names = ("Authentication", "BadRequest", "ContentPolicyViolation", "NotFound", "RateLimit", "Timeout")
    retries = {f"{name}ErrorRetries": 0 for name in names} | {"DefaultRetries": 2}
    assert loaded(SMALL) == {
        "model_list": [
            {"model_name": name, "litellm_params": asked, "model_info": {"id": id_, **costs}}
            for name, asked, id_, costs in entries
        ],
        "router_settings": {
            "num_retries": 0,
            "retry_policy": {"DefaultRetries": 0},
            "model_group_retry_policy": dict.fromkeys(["default", "default/2", "default/3"], retries),
            "retry_after": 0,
            "disable_cooldowns": True,
            "max_fallbacks": 5,
            "fallbacks": [{"default": ["default/2", "default/3"]}],
            "model_group_alias": {"fast": "luna"},
        },
        "litellm_settings": {
            "num_retries": 0,
            "request_timeout": 20,
            "drop_params": True,
            "telemetry": False,
            "turn_off_message_logging": True,
        },
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
    }


def test_the_same_input_gives_the_same_bytes() -> None:
    shipped = (ROOT / "config" / "models.yaml").read_text()
    assert made(shipped) == made(shipped)
    assert max(map(len, made(shipped).text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("input: 0.1,", "input: 0.4,", ["input_cost_per_token: 1.0e-07"] * 2),
        ("timeout: 60", "timeout: 61", ["timeout: 60", "stream_timeout: 60"] * 3),
        ("localhost:8080", "localhost:8081", ["api_base: http://localhost:8080/v1"] * 3),
        ("fast: luna", "fast: llama2", ["fast: luna"]),
        ("temperature: 0,", "temperature: 1,", ["temperature: 0.0"]),
    ],
)
def test_a_change_of_the_catalog_changes_its_lines_alone(before: str, after: str, lines: list[str]) -> None:
    edited = SMALL.replace("default: {chain: [fast,", "default: {chain: [luna,")
    old, new = (made(text).text.splitlines() for text in (edited, edited.replace(before, after)))
    differing = [line for line in difflib.ndiff(old, new) if line[0] in "+-"]
    gone = [line[2:].strip() for line in differing if line[0] == "-"]
    assert [line for line in gone if not line.startswith("#")] == lines
    assert all("deadline" in line or "pauses" in line for line in gone if line.startswith("#"))


def test_a_model_more_adds_lines_alone() -> None:
    more = SMALL.replace(
        "aliases:", "  more: {model: openai/more, api_base: 'http://localhost:1/v1', price: free}\naliases:"
    )
    changes = difflib.ndiff(made(SMALL).text.splitlines(), made(more).text.splitlines())
    assert {line[0] for line in changes} == {" ", "+"}


# -- names


def test_a_module_has_its_name_before_a_model_and_an_alias_and_says_so() -> None:
    text = """
models:
  scorer: {model: openai/a, price: free}
  scorer/2: {model: openai/b, price: free}
aliases: {judge: scorer, sorter: scorer/2}
modules:
  default: {chain: [scorer, scorer/2]}
  scorer: {chain: [scorer/2, scorer]}
  judge: {chain: [scorer]}
"""
    file, found = yaml.safe_load(made(text).text), groups(text)
    assert {name: asked["model"] for name, asked in found.items()} == {
        "default": "openai/a",
        "default/2": "openai/b",
        "scorer": "openai/b",
        "scorer/2_": "openai/a",
        "judge": "openai/a",
        "model/scorer": "openai/a",
        "scorer/2": "openai/b",
    }
    assert file["router_settings"]["fallbacks"] == [{"default": ["default/2"]}, {"scorer": ["scorer/2_"]}]
    assert file["router_settings"]["model_group_alias"] == {"sorter": "scorer/2"}
    assert {("name", "models.scorer"), ("name", "aliases.judge")} <= said(made(text))
    assert len({each["model_info"]["id"] for each in file["model_list"]}) == len(file["model_list"])


def test_what_the_catalog_does_not_list_has_a_group_by_its_string() -> None:
    text = """
aliases: {mine: ollama/mine}
modules:
  default: {chain: [groq/llama-3.3-70b-versatile]}
"""
    assert [*groups(text)] == ["default", "ollama_chat/mine", "groq/llama-3.3-70b-versatile"]
    assert loaded(text)["router_settings"]["model_group_alias"] == {"mine": "ollama_chat/mine"}
    assert ("key", "models.groq/llama-3.3-70b-versatile") in said(made(text))


def test_odd_names_stay_on_their_lines_and_fit_into_a_header() -> None:
    text = """
models:
  größe-模型%: {model: openai/a, price: free}
modules:
  default: {chain: [größe-模型%]}
  "two\\nlines: [": {chain: [größe-模型%]}
"""
    file = yaml.safe_load(made(text).text)
    assert [each["model_name"] for each in file["model_list"]] == ["default", "two\nlines: [", "größe-模型%"]
    ids = [each["model_info"]["id"] for each in file["model_list"]]
    assert all(each.isascii() and each.isprintable() for each in ids)
    assert ids[0] == "default gr%C3%B6%C3%9Fe-%E6%A8%A1%E5%9E%8B%25"


def test_the_embedded_model_is_left_out_with_a_word() -> None:
    text = """
models:
  smollm2: {model: embedded/smollm2, price: free}
  a: {model: openai/a, price: free}
aliases: {small: smollm2}
modules:
  default: {chain: [smollm2, a]}
  local: {chain: [smollm2]}
"""
    assert [*groups(text)] == ["default", "a"]
    assert loaded(text)["router_settings"]["model_group_alias"] == {}
    places = ("modules.default.chain, smollm2", "modules.local.chain, smollm2", "models.smollm2", "aliases.small")
    assert {("no model", "modules.local"), *(("embedded", place) for place in places)} <= said(made(text))


# -- keys, addresses, limits


SECRETS = """
models:
  password: {{model: openai/a, api_base: "https://me:{0}-password@llm.example.org/v1", price: free}}
  another: {{model: openai/b, api_base: "https://you:{0}-another@llm.example.org/v1", price: free}}
  query: {{model: openai/c, api_base: "https://llm.example.org/v1?api_key={0}-query", price: free}}
  path: {{model: openai/d, api_base: "https://llm.example.org/${{THEIR_TOKEN}}/v1", price: free}}
  params: {{model: openai/e, params: {{extra_headers: {{X-Team: "{0}-team"}}, seed: 7}}, price: free}}
  named: {{model: openai/f, api_key_env: OUR_KEY, price: free}}
modules:
  default: {{chain: [password, another, query, path, params, named], max_tokens: 5}}
"""


def test_what_the_proxy_would_read_otherwise_is_written_so_that_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNED", "https://llm.example.org/v1?sig=zzz&api-version=1")
    text = r"""
models:
  odd: {model: openai/odd, params: {stop: ["a\u2028b", "c\x85d"], seed: 1}, api_base: "${SIGNED}"}
  variable: {model: openai/v, params: {stop: os.environ/HOME, seed: 2}}
modules: {default: {chain: [odd, variable]}}
"""
    found = groups(text)
    assert found["odd"]["stop"] == ["a\u2028b", "c\x85d"]
    assert found["odd"]["api_base"] == "os.environ/ADDRESS_LLM_EXAMPLE_ORG"
    assert "stop" not in found["variable"]
    assert ("params", "models.variable, stop") in said(made(text))


def test_no_secret_is_in_the_file(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    monkeypatch.setenv("THEIR_TOKEN", f"{CANARY}-path")
    monkeypatch.setenv("TEAM_SECRET", f"{CANARY}-team")
    monkeypatch.setenv("OUR_KEY", f"{CANARY}-ours")
    monkeypatch.setenv(environment.STORE, f"redis://:{CANARY}@localhost/0")
    text = SECRETS.format(CANARY)
    whole = made(text, redis=True)
    assert CANARY not in whole.text + str(whole.variables) + str(whole.remarks)
    found = groups(text, redis=True)
    assert found["password"]["api_base"] == "https://llm.example.org/v1"
    headers = {name: found[name]["extra_headers"]["Authorization"] for name in ("password", "another")}
    assert headers == {
        "password": "os.environ/BASIC_AUTH_LLM_EXAMPLE_ORG",
        "another": "os.environ/BASIC_AUTH_LLM_EXAMPLE_ORG_2",
    }
    addresses = {name: found[name]["api_base"] for name in ("query", "path")}
    assert addresses == {
        "query": "os.environ/ADDRESS_LLM_EXAMPLE_ORG",
        "path": "os.environ/ADDRESS_LLM_EXAMPLE_ORG_2",
    }
    assert "extra_headers" not in found["params"]
    assert found["params"]["seed"] == 7
    assert ("params", "models.params, extra_headers") in said(whole)
    assert set(whole.variables) == {
        "ADDRESS_LLM_EXAMPLE_ORG",
        "ADDRESS_LLM_EXAMPLE_ORG_2",
        "BASIC_AUTH_LLM_EXAMPLE_ORG",
        "BASIC_AUTH_LLM_EXAMPLE_ORG_2",
        "LITELLM_MASTER_KEY",
        "MODELROUTER_STORE",
        "OPENAI_API_KEY",
        "OUR_KEY",
    }
    assert all(f"# - {name}" in whole.text for name in whole.variables)


def test_a_key_is_a_reference_and_who_is_given_none_is_given_none(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
providers: {openai: {api_base: "http://localhost:8080/v1"}}
models:
  moved: {model: openai/a, price: free}
  named: {model: openai/b, api_key_env: OUR_KEY, price: free}
  groq: {model: groq/c, api_base: "http://localhost:8080/v1", price: free}
  local: {model: ollama_chat/d}
  claude: {model: anthropic/e}
modules:
  default: {chain: [moved]}
"""

    def keys_of() -> dict[str, str | None]:
        return {name: asked.get("api_key") for name, asked in groups(text).items() if name != "default"}

    named = {"named": "os.environ/OUR_KEY", "local": None, "claude": "os.environ/ANTHROPIC_API_KEY"}
    assert keys_of() == {"moved": "none", "groq": "none", **named}
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setenv("GROQ_API_KEY", CANARY)
    assert keys_of() == {"moved": "os.environ/OPENAI_API_KEY", "groq": "os.environ/GROQ_API_KEY", **named}


def test_addresses_and_chains_are_as_the_environment_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_URL", "http://127.0.0.1:1/")
    monkeypatch.setenv("SCORER_LLM_MODEL", "llama2")
    monkeypatch.setenv("SCORER_LLM_TIMEOUT", "7")
    found = groups(SMALL)
    assert found["llama2"]["api_base"] == "http://127.0.0.1:1"
    assert (found["scorer"]["model"], found["scorer"]["timeout"]) == ("ollama_chat/llama2", 7)


def test_limits_are_those_of_a_call() -> None:
    text = """
models:
  claude: {model: anthropic/a}
  capped: {model: openai/b, max_tokens: 50, params: {temperature: 1}}
  own: {model: openai/c, params: {max_completion_tokens: 9}}
modules:
  default: {chain: [claude, capped, own], temperature: 0.5}
  short: {max_tokens: 10}
"""
    names = ("max_tokens", "temperature", "max_completion_tokens")
    found = {group: {name: asked[name] for name in names if name in asked} for group, asked in groups(text).items()}
    assert found == {
        "default": {"max_tokens": 4096, "temperature": 0.5},  # or LiteLLM asks for 128,000
        "default/2": {"max_tokens": 50, "temperature": 1},
        "default/3": {"max_completion_tokens": 9, "temperature": 0.5},
        "short": {"max_tokens": 10, "temperature": 0.5},
        "short/2": {"max_tokens": 10, "temperature": 1},
        "short/3": {"max_completion_tokens": 9, "temperature": 0.5},
        "claude": {"max_tokens": 4096},
        "capped": {"max_tokens": 50, "temperature": 1},
        "own": {"max_completion_tokens": 9},
    }


def test_answers_are_remembered_where_a_redis_is_and_the_module_has_it_so() -> None:
    text = f"{SMALL}  fresh: {{cache: false}}\n  brief: {{cache: {{ttl: 5}}}}\n"
    found = {name: asked.get("cache") for name, asked in groups(text, redis=True).items()}
    seconds = {name: cache["ttl"] for name, cache in found.items() if cache is not None and cache["use-cache"]}
    hour = dict.fromkeys(["default", "default/2", "default/3", "scorer"], 3600)
    assert seconds == hour | dict.fromkeys(["brief", "brief/2", "brief/3"], 5)
    assert loaded(text, redis=True)["litellm_settings"]["cache_params"] == {
        "type": "redis",
        "url": "os.environ/MODELROUTER_STORE",
        "namespace": "litellm",
        "mode": "default_off",
        "max_messages": None,
    }
    assert not any("cache" in asked for asked in groups(text).values())
    assert "cache" not in loaded(text)["litellm_settings"]
    none = SMALL.replace("retries: 0", "cache: false").replace("timeout: 20", "cache: false")
    assert "cache" not in loaded(none, redis=True)["litellm_settings"]


def test_the_longest_chain_is_gone_through() -> None:
    models = "".join(f"  m{number}: {{model: openai/m, price: free}}\n" for number in range(9))
    chain = ", ".join(f"m{number}" for number in range(9))
    assert (
        loaded(f"models:\n{models}modules:\n  default: {{chain: [{chain}]}}\n")["router_settings"]["max_fallbacks"] == 9
    )


# -- nothing is left out in silence


FULL = """
budget: {usd: 700, per: month, hard: false}
providers:
  openai: {api_base: "http://localhost:8080/v1", api_key_env: OPENAI_KEY_OF_OURS, default_model: gpt-6-luna}
models:
  full:
    model: openai/full
    price:
      {input: 1, output: 2, cache_read: 3, cache_write: 4, cache_write_long: 5,
       above: {tokens: 7500, input: 11, output: 12, cache_read: 13, cache_write: 14, cache_write_long: 15}}
    api_base: "http://localhost:8081/v1"
    api_key_env: KEY_OF_FULL
    timeout: 17
    max_tokens: 23
    params: {seed: 42}
    context_window: 4711
    retired: 2020-02-02
    successor: full
    checked: 2020-02-01
    note: a note
    supports: {tools: true, response_format: true, images: true, reasoning: true}
  moved: {model: openai/moved, price: free}
aliases: {other: full}
modules:
  default:
    chain: [full]
    env_prefix: PREFIX
    max_tokens: 31
    temperature: 0.25
    timeout: 18
    deadline: 91
    retries: 4
    cache: {ttl: 77}
    budget: {usd: 500, per: day, hard: false}
    baseline: moved
    split: {full: 9, moved: 1}
    accept: json:loads
    accept_last: true
    note: another
"""

SHOWS: Mapping[str, str] = {
    "providers": "api_base: http://localhost:8080/v1",
    "providers.api_base": "api_base: http://localhost:8080/v1",
    "providers.api_key_env": "os.environ/OPENAI_KEY_OF_OURS",
    "providers.default_model": GENERAL["for people"],
    "models": "model_name: full",
    "models.model": "model: openai/full",
    "models.price": "input_cost_per_token: 1.0e-06",
    "models.price.input": "input_cost_per_token: 1.0e-06",
    "models.price.output": "output_cost_per_token: 2.0e-06",
    "models.price.cache_read": "cache_read_input_token_cost: 3.0e-06",
    "models.price.cache_write": "cache_creation_input_token_cost: 4.0e-06",
    "models.price.cache_write_long": "cache_creation_input_token_cost_above_1hr: 5.0e-06",
    "models.price.above": "input_cost_per_token_above_7500_tokens: 1.1e-05",
    "models.price.above.tokens": "input_cost_per_token_above_7500_tokens: 1.1e-05",
    "models.price.above.input": "input_cost_per_token_above_7500_tokens: 1.1e-05",
    "models.price.above.output": "output_cost_per_token_above_7500_tokens: 1.2e-05",
    "models.price.above.cache_read": "cache_read_input_token_cost_above_7500_tokens: 1.3e-05",
    "models.price.above.cache_write": "cache_creation_input_token_cost_above_7500_tokens: 1.4e-05",
    "models.price.above.cache_write_long": "cache_creation_input_token_cost_above_1hr_above_7500_tokens: 1.5e-05",
    "models.api_base": "api_base: http://localhost:8081/v1",
    "models.api_key_env": "os.environ/KEY_OF_FULL",
    "models.timeout": "timeout: 17",
    "models.max_tokens": "max_tokens: 23",
    "models.params": "seed: 42",
    "models.context_window": GENERAL["long prompts"],
    "models.retired": f"2020-02-02, {SENTENCES['retired']}",
    "models.successor": GENERAL["for people"],
    "models.checked": GENERAL["for people"],
    "models.note": GENERAL["for people"],
    "models.supports": GENERAL["abilities"],
    "models.supports.tools": GENERAL["abilities"],
    "models.supports.response_format": GENERAL["abilities"],
    "models.supports.images": GENERAL["abilities"],
    "models.supports.reasoning": GENERAL["abilities"],
    "aliases": "other: full",
    "modules": "model_name: default",
    "modules.chain": "id: default full",
    "modules.env_prefix": GENERAL["for people"],
    "modules.max_tokens": "max_tokens: 23",
    "modules.temperature": "temperature: 0.25",
    "modules.timeout": "request_timeout: 18",
    "modules.deadline": f"91 s, {SENTENCES['deadline']} 175 s",
    "modules.retries": "DefaultRetries: 4",
    "modules.cache": "use-cache: true",
    "modules.cache.ttl": "ttl: 77",
    "modules.budget": f"$500 a day, {SENTENCES['budget']}",
    "modules.budget.usd": f"$500 a day, {SENTENCES['budget']}",
    "modules.budget.per": f"$500 a day, {SENTENCES['budget']}",
    "modules.budget.hard": SENTENCES["budget"],
    "modules.split": SENTENCES["split"],
    "modules.accept": f"json:loads, {SENTENCES['accept']}",
    "modules.accept_last": SENTENCES["accept"],
    "modules.baseline": f"moved, {SENTENCES['baseline']}",
    "modules.note": GENERAL["for people"],
    "budget": f"$700 a month, {SENTENCES['budget']}",
    "budget.usd": f"$700 a month, {SENTENCES['budget']}",
    "budget.per": f"$700 a month, {SENTENCES['budget']}",
    "budget.hard": SENTENCES["budget"],
    **dict.fromkeys(("gateway", *(f"gateway.{name}" for name in schema.keys_at(("gateway",)))), GENERAL["gateway"]),
}
"""Each key of the catalog, and what an export has of it: its value, or the word that it is not there."""


def _keys() -> Iterator[str]:
    for path, entry in schema._ENTRIES.items():
        yield from (".".join(part for part in (*map(str, path), key) if part != "*") for key in entry.model_fields)


def test_every_key_of_the_catalog_is_there_or_said_not_to_be() -> None:
    assert sorted(set(_keys())) == sorted(SHOWS), "decide what the export has of a new key"
    words = " ".join(made(FULL, redis=True).text.replace("# ", " ").split())
    assert [key for key, shown in SHOWS.items() if shown not in words] == []
