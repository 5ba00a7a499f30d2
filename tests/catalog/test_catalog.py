"""config/models.yaml: what it may say, what is said about each mistake in it, and what the shipped one holds."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from modelrouter.catalog import live
from modelrouter.catalog import schema as _schema
from modelrouter.catalog.binding import load as load_catalog
from modelrouter.catalog.catalog import Catalog
from modelrouter.catalog.overrides import Environment, Overrides
from modelrouter.catalog.prices import rate
from modelrouter.catalog.target import Price, PriceTier
from modelrouter.errors import InvalidCatalog, InvalidRequest, UnknownModel, UnknownModule

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "config/models.yaml"
NOTHING_SET = Environment(Overrides("LLM_"))
MODULES = "modules: {default: {chain: [openai/a]}}\n"


def load(text: str, environment: Environment = NOTHING_SET) -> Catalog:
    return load_catalog(text.encode(), shown="models.yaml", environment=environment)


def setting(**variables: str) -> Environment:
    return Environment(Overrides("LLM_"), values=variables.get)


def problems(data: str | bytes) -> list[str]:
    with pytest.raises(InvalidCatalog) as caught:
        load_catalog(data if isinstance(data, bytes) else data.encode(), shown="models.yaml", environment=NOTHING_SET)
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture(scope="module")
def shipped() -> Catalog:
    return load_catalog(SHIPPED.read_bytes(), shown="config/models.yaml", environment=NOTHING_SET)


# -- mistakes


def test_all_problems_come_at_once_with_lines_and_nearest_names() -> None:
    text = """
models:
  gpt: {model: openai/gpt-4, temperture: 1, price: {input: -1, output: 2, cached: 1}}
  bad: {model: gpt-4, price: cheap, timeout: soon, retired: "2026-01-01", successor: gpd}
aliases: {a: b, b: a, gpt: bad, best: gpt-4}
modules:
  default: {chain: [gtp, opnai/gpt-4, 4], retries: 1.5, temprature: 0, baseline: gppt}
  empty: {chain: [], cache: 60, baseline: opnai/gpt-4}
  Empty: {max_tokens: true, timeout: 0}
modul: {}
"""
    assert problems(text) == [
        "line 3: models.gpt.price.cached: unknown key. Did you mean 'cache_read'?",
        "line 3: models.gpt.price.input: must not be less than 0, got -1",
        "line 3: models.gpt.temperture: unknown key. Did you mean 'temperature' in params?",
        "line 4: models.bad.model: expected a LiteLLM string, provider/model, such as 'openai/gpt-4', got 'gpt-4'",
        "line 4: models.bad.price: expected free, or a mapping with input and output, got 'cheap'",
        "line 4: models.bad.retired: expected a date such as 2026-11-22, got '2026-01-01'",
        "line 4: models.bad.successor: no model 'gpd'.",
        "line 4: models.bad.timeout: expected a number, got 'soon'",
        "line 5: aliases.a: goes round in a circle: a -> b -> a",
        "line 5: aliases.best: no model 'gpt-4'. Did you mean 'gpt'?",
        "line 5: aliases.gpt: is the name of a model too",
        "line 7: modules.default.baseline: no model 'gppt'. Did you mean 'gpt'?",
        "line 7: modules.default.chain[0]: no model 'gtp'.",
        "line 7: modules.default.chain[1]: no provider 'opnai'. Did you mean 'openai'?",
        "line 7: modules.default.chain[2]: expected text, got 4",
        "line 7: modules.default.retries: expected a whole number, got 1.5",
        "line 7: modules.default.temprature: unknown key. Did you mean 'temperature'?",
        "line 8: modules.empty.baseline: no provider 'opnai'. Did you mean 'openai'?",
        "line 8: modules.empty.cache: expected true, false or {ttl: seconds}, got 60",
        "line 8: modules.empty.chain: is empty",
        "line 9: modules.Empty.max_tokens: expected a whole number, got true",
        "line 9: modules.Empty.timeout: must be more than 0, got 0",
        "line 9: modules.Empty: has the prefix EMPTY, as 'empty' has; give one of them another env_prefix",
        "line 10: modul: unknown key. Did you mean 'modules'?",
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "line 1: the file is empty"),
        (b"# nothing\n", "line 1: the file is empty"),
        (b"\x00\x01\xff\xfe", "line 1: this is not a text file in UTF-8"),
        ("modules: {default: {chain: [é]}}".encode("latin-1"), "line 1: this is not a text file in UTF-8"),
        ("- a\n- b\n", "line 1: expected the keys providers, models, aliases, modules, budget, gateway, got a list"),
        (
            "just text",
            "line 1: expected the keys providers, models, aliases, modules, budget, gateway, got 'just text'",
        ),
        ("a: [1\nb: 2\n", "line 2: not valid YAML: "),
        (
            "a:\n  b: 1\n c: 2\n",
            "line 3: not valid YAML: while parsing a block mapping, did not find expected key; look here",
        ),
        ("a:\n\tb: 1\n", "line 2: not valid YAML: "),
        ("--- {}\n--- {}\n", "line 2: not valid YAML: expected a single document"),
        (MODULES + MODULES, "line 2: modules: is there twice, first in line 1"),
        (MODULES + "aliases: &a {x: *a}\n", "line 2: aliases.x: the anchor is used inside itself"),
        (MODULES + "aliases: &a {<<: *a}\n", "line 2: aliases: the anchor is used inside itself"),
        (MODULES + "aliases: {4: openai/a}\n", "line 2: aliases: the key '4' is not text; put it in quotes"),
        (MODULES + "aliases: {[a]: openai/a}\n", "line 2: aliases: the key here is not text; put it in quotes"),
        (MODULES + "aliases: !!python/object:os.system {}\n", "line 2: aliases: the tag "),
        (MODULES + "aliases: {a: !secret b}\n", "line 2: aliases.a: cannot be read as !secret"),
        (MODULES + "models: {a: {model: openai/a, retired: 2026-02-31}}", "line 2: models.a.retired: cannot be read"),
        (MODULES + "aliases: " + "[" * 100_000, "line 2: more than 50 levels, one inside the other"),
        (b"#" * (10 * 1024 * 1024 + 1), "line 1: the file has 10,485,761 bytes; at most 10,485,760 are read"),
        ("modules: {other: {chain: [openai/a]}}", "line 1: modules: 'default' is missing"),
        ("modules: {default: {timeout: 1}}", "line 1: modules.default: has no chain"),
        ("models: {}", "line 1: modules: is missing"),
    ],
)
def test_what_is_no_catalog_is_refused_in_one_sentence(data: str | bytes, said: str) -> None:
    assert problems(data)[0].startswith(said)


@pytest.mark.parametrize("key", ["sk-proj-0123456789abcdef", "gsk_0123456789abcdef", "AIzaSy0123456789abcdef"])
@pytest.mark.parametrize(
    "text",
    [
        MODULES + "models: {a: {model: KEY}}",
        MODULES + "models: {a: {model: openai/a, api_base: KEY}}",
        MODULES + "models: {a: {model: openai/a, api_base: 'user:KEY@host'}}",
        "modules: {default: {chain: [KEY]}}",
    ],
)
def test_a_key_in_a_wrong_place_is_not_shown(text: str, key: str) -> None:
    found = problems(text.replace("KEY", key))
    assert found
    assert not any(key in problem for problem in found)


def test_a_few_bytes_of_anchors_that_stand_for_billions_of_values() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
    )
    assert problems(bomb)[0].endswith("the file has over 500,000 values")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("params: {api_key: sk-canary-0123456789}", "params: api_key: a secret does not belong into this file"),
        ("params: {extra_headers: {Authorization: x}}", "params: extra_headers.Authorization: a secret"),
        ("params: {api_base: http://x}", "params: api_base: set the model's own key 'api_base', beside params"),
        ("params: {stream: true}", "params: stream: is decided for each call"),
        ("api_key_env: sk-canary-0123456789", "api_key_env: expected the name of a variable such as OPENAI_API_KEY"),
        ("api_base: localhost:1234", "api_base: expected an address that starts with http:// or https://"),
        ("api_base: 'http://[::1/v1'", "api_base: expected an address whose host can be read, got 'http://[::1/v1'"),
        ("api_base: 'http://${HOST'", "api_base: expected ${NAME} or ${NAME:-default}"),
        ("price: {input: 1e-7, output: 1}", "price.input: expected a number, got '1e-7', which YAML reads as text"),
        ("price: {input: .inf, output: 1}", "price.input: expected a number, got Infinity"),
        ("price: {input: 1}", "price.output: is missing"),
        ("price: {input: 1, output: 1, above: {tokens: 5}}", "price.above.input: is missing"),
        ("timeout: .nan", "timeout: expected a number, got nan"),
        ("supports: {tool: true}", "supports.tool: unknown key. Did you mean 'tools'?"),
        ("model: opnai/x", "model: no provider 'opnai'. Did you mean 'openai'?"),
    ],
)
def test_a_models_entry_that_cannot_be_meant(entry: str, said: str) -> None:
    text = MODULES + "models:\n  m:\n    " + entry + ("" if entry.startswith("model:") else "\n    model: openai/x")
    first = problems(text)[0]
    assert first.startswith(("line 4: models.m." + said, "line 4: models.m: " + said))
    assert "canary" not in first


def test_what_yaml_allows_beyond_plain_keys() -> None:
    loaded = load("""
models:
  a: &base {model: openai/a, timeout: 5, price: {input: 1, output: 2}}
  b: {<<: *base, timeout: 6}
  c: {<<: [{timeout: 7}, *base]}
aliases:
modules: {default: {chain: [a]}, heir: }
""")
    assert [loaded.models[name].timeout for name in "abc"] == [5, 6, 7]
    assert loaded.models["b"].price == loaded.models["a"].price
    assert loaded.resolve("heir").chain == loaded.resolve().chain


# -- what it means


def test_a_model_has_what_its_entry_says() -> None:
    found = load("""
models:
  m:
    model: openai/x
    price: {input: 0.10, output: 1, above: {tokens: 9, input: 0.3, output: 4.4, cache_read: 0.001}}
    timeout: 5
    max_tokens: 7
    params: {reasoning_effort: low}
    context_window: 99
    retired: 2026-10-23
    successor: m
    supports: {tools: false}
modules: {default: {chain: [m]}}
""").models["m"]
    assert found.price == Price(
        Decimal("0.1"),
        Decimal(1),
        above=PriceTier(9, Decimal("0.3"), Decimal("4.4"), cache_read=Decimal("0.001")),
    )
    assert (found.timeout, found.max_tokens, found.context_window) == (5, 7, 99)
    assert (found.params, found.supports) == ({"reasoning_effort": "low"}, {"tools": False})
    assert (found.retired, found.successor) == ("2026-10-23", "m")


NAMES = """
providers: {anthropic: {api_base: "http://proxy/"}, mistral: {api_key_env: MY_MISTRAL}}
models:
  plain: {model: openai/plain}
  ours: {model: openai/ours, api_base: "${OURS:-http://ours/v1/}"}
  keyed: {model: openai/keyed, api_base: "http://keyed", api_key_env: MY_KEY}
  local: {model: ollama/local}
aliases: {one: two, two: plain, out: groq/x}
modules: {default: {chain: [plain]}}
"""


@pytest.mark.parametrize(
    ("name", "target", "string", "provider", "api_base", "key", "required", "own_address"),
    [
        ("plain", "plain", "openai/plain", "openai", None, "OPENAI_API_KEY", True, True),
        ("one", "plain", "openai/plain", "openai", None, "OPENAI_API_KEY", True, True),
        ("openai/plain", "plain", "openai/plain", "openai", None, "OPENAI_API_KEY", True, True),
        ("openai/new", "openai/new", "openai/new", "openai", None, "OPENAI_API_KEY", True, True),
        # A string names the provider itself, not a server of one's own that has a model of that name.
        ("openai/ours", "openai/ours", "openai/ours", "openai", None, "OPENAI_API_KEY", True, True),
        ("ours", "ours", "openai/ours", "openai", "http://ours/v1", "OPENAI_API_KEY", False, False),
        ("keyed", "keyed", "openai/keyed", "openai", "http://keyed", "MY_KEY", True, False),
        ("anthropic/x", "anthropic/x", "anthropic/x", "anthropic", "http://proxy", "ANTHROPIC_API_KEY", False, False),
        ("mistral/x", "mistral/x", "mistral/x", "mistral", None, "MY_MISTRAL", True, True),
        ("out", "groq/x", "groq/x", "groq", None, None, False, True),
        ("local", "local", "ollama_chat/local", "ollama", "http://localhost:11434", None, False, False),
        ("ollama/local", "local", "ollama_chat/local", "ollama", "http://localhost:11434", None, False, False),
        ("ollama_chat/x", "ollama_chat/x", "ollama_chat/x", "ollama", "http://localhost:11434", None, False, False),
        ("embedded/smollm2", "embedded/smollm2", "embedded/smollm2", "embedded", None, None, False, True),
    ],
)
def test_what_a_name_means(
    name: str,
    target: str,
    string: str,
    provider: str,
    api_base: str | None,
    key: str | None,
    required: bool,
    own_address: bool,
) -> None:
    (found,) = load(NAMES).resolve(model=name).chain
    assert (found.name, found.litellm_model, found.provider) == (target, string, provider)
    assert (found.api_base, found.key_env, found.key_required) == (api_base, key, required)
    assert found.own_address is own_address
    assert found.listed is (target in ("plain", "ours", "keyed", "local"))


def test_addresses_come_from_the_environment() -> None:
    loaded = load(NAMES, setting(OURS="https://there/v1", OLLAMA_URL="http://box:1/", OPENAI_BASE_URL="http://x"))
    assert loaded.models["ours"].api_base == "https://there/v1"
    assert loaded.models["local"].api_base == "http://box:1"
    assert loaded.models["plain"].api_base == "http://x"
    assert not loaded.models["plain"].own_address


def test_a_pinned_chain_keeps_the_modules_settings() -> None:
    loaded = load(NAMES.replace("chain: [plain]", "chain: [plain], timeout: 5"))
    pinned = loaded.resolve("default", ["local", "one", "plain"])
    assert [target.name for target in pinned.chain] == ["local", "plain"]
    assert pinned.settings == loaded.resolve().settings
    assert (pinned.sources["chain"], pinned.sources["timeout"]) == ("call", "models.yaml:9")


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("defalt",), UnknownModule, "no module 'defalt' in models.yaml. Did you mean 'default'?"),
        (("",), UnknownModule, "no module ''"),
        ((None, "plian"), UnknownModel, "no model 'plian' in models.yaml. Did you mean 'plain'?"),
        ((None, ["plain", "new"]), UnknownModel, "no model 'new'"),
        ((None, "opnai/x"), UnknownModel, "There is no provider 'opnai'. Did you mean 'openai'?"),
        ((None, []), InvalidRequest, "at least one name"),
        ((None, ""), InvalidRequest, "at least one name"),
        ((None, [None]), InvalidRequest, "at least one name"),
    ],
)
def test_names_that_are_none(arguments: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        load(NAMES).resolve(*arguments)
    assert said in str(caught.value)


def test_a_provider_and_a_model_as_the_guide_names_them(shipped: Catalog) -> None:
    for arguments, name in {
        ("openai", "gpt-4"): "gpt-4",
        ("anthropic", "claude-3-sonnet-20240229"): "claude-3-sonnet",
        ("ollama", "mymodel"): "ollama_chat/mymodel",
        ("openai", None): "gpt-6.1-sol",
        (None, "best"): "claude-sonnet",
    }.items():
        assert shipped.provider_model(*arguments) == name
        assert shipped.resolve(model=name).chain[0].name == name
    with pytest.raises(UnknownModel, match="is a model of anthropic, not of openai"):
        shipped.provider_model("openai", "claude-sonnet")
    with pytest.raises(UnknownModel, match=r"no provider 'opnai'\. Did you mean 'openai'"):
        shipped.provider_model("opnai", "gpt-4")


def test_null_takes_back_what_default_says() -> None:
    loaded = load("modules: {default: {chain: [openai/a], temperature: 1}, own: {temperature: null}, heir: {}}")
    assert (loaded.resolve("own").settings.temperature, loaded.resolve("heir").settings.temperature) == (None, 1)


def test_a_baseline_is_inherited_and_taken_back_and_any_name_of_a_model() -> None:
    loaded = load("""
models: {old: {model: openai/old}}
aliases: {before: old}
modules:
  default: {chain: [openai/a], baseline: before}
  own: {baseline: groq/b}
  none: {baseline: null}
""")
    baselines = [loaded.resolve(name).settings.baseline for name in loaded.modules]
    assert baselines == ["before", "groq/b", None]
    assert [loaded.resolve(model=name).chain[0].name for name in baselines if name] == ["old", "groq/b"]
    assert [loaded.resolve(name).sources["baseline"] for name in loaded.modules] == [
        *("models.yaml:5", "models.yaml:6", "models.yaml:7")
    ]


def test_a_retired_model_in_a_chain_is_a_warning() -> None:
    loaded = load("""
models:
  old: {model: openai/old, retired: 2020-01-01, successor: new}
  new: {model: openai/new, retired: 2999-01-01}
modules: {default: {chain: [old, new]}, other: {chain: [new]}, third: {}}
""")
    assert loaded.warnings == (
        "'old', in the chain of default, third, was retired on 2020-01-01 by its provider; move to 'new'.",
    )


# -- where it is found


def test_the_nearest_catalog_counts(tmp_path: Path) -> None:
    packaged = live.find(None, None)
    assert packaged.read() == SHIPPED.read_bytes()
    Path("config").mkdir()
    here = Path("config/models.yaml")
    here.write_text("here")
    assert (live.find(None, None).shown, live.find(None, None).read()) == ("config/models.yaml", b"here")
    configured, explicit = tmp_path / "configured.yaml", tmp_path / "explicit.yaml"
    configured.write_text("configured")
    explicit.write_text("explicit")
    assert live.find(None, configured).read() == b"configured"
    source = live.find(str(explicit), configured)
    before = source.stamp()
    explicit.write_text("changed")
    assert source.read() == b"changed"
    assert source.stamp() != before


def test_a_catalog_that_is_named_and_not_there(tmp_path: Path) -> None:
    source = live.find(None, tmp_path / "none.yaml")
    assert source.stamp() == ()
    with pytest.raises(InvalidCatalog, match="MODELROUTER_CONFIG: there is no such file"):
        source.read()
    with pytest.raises(InvalidCatalog, match="cannot be read: Is a directory"):
        live.find(tmp_path, None).read()


# -- the shipped file

PER_1K = {
    "gpt-4": ("0.03", "0.06"),
    "gpt-4-turbo": ("0.01", "0.03"),
    "gpt-3.5-turbo": ("0.0005", "0.0015"),
    "claude-3-opus": ("0.015", "0.075"),
    "claude-3-sonnet": ("0.003", "0.015"),
    "claude-3-haiku": ("0.00025", "0.00125"),
    **dict.fromkeys(("llama2", "mistral", "codellama", "neural-chat"), ("0", "0")),
}
"""The guide's price list."""


@pytest.mark.parametrize("name", PER_1K)
def test_the_guides_prices(shipped: Catalog, name: str) -> None:
    price = shipped.models[name].price
    assert price is not None
    assert (price.input, price.output) == tuple(1000 * Decimal(each) for each in PER_1K[name])


def test_every_name_of_the_guide_is_known(shipped: Catalog) -> None:
    names = ["gpt-4-turbo-preview", "gpt-3.5-turbo-16k", *PER_1K]
    names += ["claude-3-opus-20240229", "claude-3-sonnet-20240229", "claude-3-haiku-20240307"]
    for name in names:
        (target,) = shipped.resolve(model=name).chain
        assert target.listed
        assert target.price is not None


def test_the_shipped_modules_call_models_of_today_and_none_ends_in_the_tiny_one(shipped: Catalog) -> None:
    assert not shipped.warnings
    for module in shipped.modules:
        assert not any(target.retired or target.provider == "embedded" for target in shipped.resolve(module).chain)


def test_the_shipped_prices_and_limits_are_those_of_litellms_list(shipped: Catalog) -> None:
    files = importlib.metadata.files("litellm") or []
    (table,) = (file for file in files if file.name == "model_prices_and_context_window_backup.json")
    rows: dict[str, dict[str, Any]] = json.loads(table.read_text())
    compared = set()
    for name, target in shipped.models.items():
        row = rows.get(target.litellm_model) or rows.get(target.label)
        if row is None or row["litellm_provider"] != target.provider or target.price is None:
            continue
        compared.add(name)

        def per_million(key: str, row: dict[str, Any] = row) -> Decimal | None:
            return None if row.get(key) is None else Decimal(repr(row[key])) * 1_000_000

        price, tiers = target.price, [price for price in [target.price.above] if price]
        for entry, ending in [(price, ""), *((tier, f"_above_{tier.tokens // 1000}k_tokens") for tier in tiers)]:
            assert entry.input == per_million(f"input_cost_per_token{ending}"), name
            assert entry.output == per_million(f"output_cost_per_token{ending}"), name
            assert entry.cache_read == per_million(f"cache_read_input_token_cost{ending}"), name
            assert entry.cache_write == per_million(f"cache_creation_input_token_cost{ending}"), name
            long = "cache_creation_input_token_cost_above_"
            theirs = per_million(f"{long}1hr{ending}") or per_million(f"{long}12hr{ending}")
            assert rate(entry, "cache_write_long") == theirs or theirs is None, name
        assert bool(tiers) == any(key.startswith("input_cost_per_token_above") for key in row), name
        assert target.context_window == row["max_input_tokens"], name
        assert target.retired == row.get("deprecation_date"), name
    assert {"claude-sonnet", "claude-haiku", "gpt-6.1-sol", "gpt-6-luna", "gpt-4"} <= compared


def test_the_schema_that_editors_use_is_that_of_the_code() -> None:
    path = ROOT / "config/models.schema.json"
    assert path.read_text() == _schema.json_schema(), "write modelrouter.catalog.schema.json_schema() into it"


def test_resolving_looks_at_no_list_of_models() -> None:
    """The look-ups that a call makes, counted: as many among 1,000 models as among 10."""

    def lookups(count: int) -> int:
        models = "".join(f"  m{i}: {{model: openai/m{i}}}\n" for i in range(count))
        loaded = load(f"models:\n{models}modules: {{default: {{chain: [m1]}}}}")
        steps = 0

        def step(frame: Any, event: str, argument: object) -> Any:
            nonlocal steps
            steps += 1
            return step

        before = sys.gettrace()
        sys.settrace(step)
        try:
            loaded.resolve("default")
            loaded.resolve(model=f"m{count - 1}")
            loaded.resolve(model="openai/new")
        finally:
            sys.settrace(before)
        return steps

    assert lookups(1000) == lookups(10)
