"""The environment: what the guide's .env examples and the variables one by one make each module call."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from modelrouter import environment
from modelrouter.catalog import live, overrides
from modelrouter.catalog.binding import load as load_catalog
from modelrouter.catalog.catalog import Catalog
from modelrouter.errors import InvalidEnvironment

ROOT = Path(__file__).parents[2]
MODULES = ("default", "analyzer", "scorer", "response_generator")


def load(dotenv: str = "", yaml: str | None = None) -> Catalog:
    """The catalog in an environment whose .env is `dotenv`; the shipped catalog unless there is `yaml`."""
    Path(".env").write_text(dotenv)
    source = live.find(None, environment.config_path())
    shown = source.shown if yaml is None else "models.yaml"
    return load_catalog(source.read() if yaml is None else yaml.encode(), shown=shown)


def chains(loaded: Catalog) -> dict[str, list[str]]:
    return {name: [target.name for target in loaded.resolve(name).chain] for name in loaded.modules}


BY_THE_FILE = {
    "default": ["claude-sonnet", "gpt-6-luna", "llama2"],
    "analyzer": ["gpt-6-luna", "claude-sonnet", "llama2"],
    "scorer": ["claude-sonnet", "gpt-6.1-sol", "llama2"],
    "response_generator": ["claude-sonnet", "gpt-6.1-sol", "llama2"],
}

# The guide's text, as it stands there, and what the modules call that the text is about. The others follow the file.
GUIDE: dict[str, tuple[str, dict[str, str]]] = {
    "quick start": (
        """
# Choose your provider
LLM_PROVIDER=openai  # Options: openai, anthropic, ollama
LLM_MODEL=gpt-4

# Add API keys (only needed for cloud providers)
OPENAI_API_KEY=sk-...
ANTHROPIC_API_KEY=sk-ant-...
""",
        dict.fromkeys(MODULES, "gpt-4"),
    ),
    "option 1: single provider": (
        """
# .env
LLM_PROVIDER=anthropic
LLM_MODEL=claude-3-sonnet-20240229
ANTHROPIC_API_KEY=sk-ant-...
""",
        dict.fromkeys(MODULES, "claude-3-sonnet"),
    ),
    "option 2: per module": (
        """
# .env

# Default provider
LLM_PROVIDER=ollama
LLM_MODEL=llama2

# OpenAI for analysis (fast, cheap)
ANALYZER_LLM_PROVIDER=openai
ANALYZER_LLM_MODEL=gpt-3.5-turbo

# Anthropic for scoring (high quality)
SCORER_LLM_PROVIDER=anthropic
SCORER_LLM_MODEL=claude-3-sonnet-20240229

# OpenAI GPT-4 for response generation (best quality)
RESPONSE_LLM_PROVIDER=openai
RESPONSE_LLM_MODEL=gpt-4-turbo-preview

# API Keys
OPENAI_API_KEY=sk-...
ANTHROPIC_API_KEY=sk-ant-...
""",
        {
            "default": "llama2",
            "analyzer": "gpt-3.5-turbo",
            "scorer": "claude-3-sonnet",
            "response_generator": "gpt-4-turbo-preview",
        },
    ),
    "provider set-up: openai": (
        """
# .env
LLM_PROVIDER=openai
LLM_MODEL=gpt-4-turbo-preview  # or gpt-4, gpt-3.5-turbo
OPENAI_API_KEY=sk-...
""",
        dict.fromkeys(MODULES, "gpt-4-turbo-preview"),
    ),
    "provider set-up: ollama": (
        """
# .env
LLM_PROVIDER=ollama
LLM_MODEL=llama2
OLLAMA_URL=http://localhost:11434
""",
        dict.fromkeys(MODULES, "llama2"),
    ),
    "strategy 1: tiered": (
        """
# Fast/cheap for analysis
ANALYZER_LLM_PROVIDER=openai
ANALYZER_LLM_MODEL=gpt-3.5-turbo

# Medium for scoring
SCORER_LLM_PROVIDER=anthropic
SCORER_LLM_MODEL=claude-3-haiku

# Best quality for responses (user-facing)
RESPONSE_LLM_PROVIDER=openai
RESPONSE_LLM_MODEL=gpt-4
""",
        {"analyzer": "gpt-3.5-turbo", "scorer": "claude-3-haiku", "response_generator": "gpt-4"},
    ),
    "best practice 1: ollama": (
        """
# Develop with free local models
LLM_PROVIDER=ollama
LLM_MODEL=llama2
""",
        dict.fromkeys(MODULES, "llama2"),
    ),
    "best practice 2: models alone": (
        """
# Optimize cost/quality balance
ANALYZER_LLM_MODEL=gpt-3.5-turbo  # Fast, cheap
SCORER_LLM_MODEL=claude-3-sonnet  # Balanced
RESPONSE_LLM_MODEL=gpt-4          # Best quality
""",
        {"analyzer": "gpt-3.5-turbo", "scorer": "claude-3-sonnet", "response_generator": "gpt-4"},
    ),
    "best practice 4: cache": (
        """
# Ensure caching is enabled
CACHE_ENABLED=true
CACHE_TTL=3600

# Result: 60% reduction in LLM calls
""",
        {},
    ),
    "best practice 5: limits": (
        """
LLM_MAX_TOKENS=500  # Prevent runaway costs
LLM_TEMPERATURE=0.7  # Balance creativity/consistency
""",
        {},
    ),
    "migration, before": (
        """
OLLAMA_URL=http://localhost:11434
OLLAMA_MODEL=llama2
""",
        dict.fromkeys(MODULES, "llama2"),
    ),
    "migration, after": (
        """
# Add new config
LLM_PROVIDER=ollama  # or openai, anthropic
LLM_MODEL=llama2

# Keep Ollama config for backwards compatibility
OLLAMA_URL=http://localhost:11434
OLLAMA_MODEL=llama2

# Add API keys for cloud providers (optional)
OPENAI_API_KEY=
ANTHROPIC_API_KEY=
""",
        dict.fromkeys(MODULES, "llama2"),
    ),
    "FAQ: providers alone": (
        """
ANALYZER_LLM_PROVIDER=openai
SCORER_LLM_PROVIDER=anthropic
RESPONSE_LLM_PROVIDER=openai
""",
        {"analyzer": "gpt-6.1-sol", "scorer": "claude-sonnet", "response_generator": "gpt-6.1-sol"},
    ),
    "FAQ: a model of one's own": (
        """
# Use it
LLM_PROVIDER=ollama
LLM_MODEL=mymodel
""",
        dict.fromkeys(MODULES, "ollama_chat/mymodel"),
    ),
}


@pytest.mark.parametrize("example", GUIDE)
def test_an_example_of_the_guide_means_what_the_guide_says(example: str) -> None:
    dotenv, expected = GUIDE[example]
    loaded = load(dotenv)
    assert chains(loaded) == BY_THE_FILE | {module: [model] for module, model in expected.items()}


def test_the_guides_limits_and_cache_are_the_modules_unless_their_own_lines_differ() -> None:
    loaded = load(GUIDE["best practice 5: limits"][0] + GUIDE["best practice 4: cache"][0])
    for module in MODULES:
        found = loaded.resolve(module).settings
        assert (found.max_tokens, found.cache, found.cache_ttl) == (500, True, 3600)
        assert found.temperature == (0 if module == "scorer" else 0.7)
    path, _, line = loaded.resolve("scorer").sources["temperature"].rpartition(":")
    assert path == loaded.path
    assert (ROOT / path).read_text().splitlines()[int(line) - 1] == "    temperature: 0"
    assert loaded.resolve("analyzer").sources["temperature"] == "LLM_TEMPERATURE"


YAML = """
models:
  a: {model: openai/a}
  b: {model: anthropic/b}
  c: {model: ollama/c, price: free}
aliases: {bee: b}
providers:
  anthropic: {default_model: bee}
  ollama: {default_model: c}
modules:
  default: {chain: [a, b], timeout: 20, cache: {ttl: 60}}
  own: {chain: [b, a], timeout: 5, cache: {ttl: 7}}
  heir:
"""


@pytest.mark.parametrize(
    ("dotenv", "expected"),
    [
        ("", {"default": "a b", "own": "b a", "heir": "a b"}),
        ("LLM_MODEL=", {"default": "a b", "own": "b a", "heir": "a b"}),
        ("LLM_MODEL=bee", dict.fromkeys(("default", "own", "heir"), "b")),
        ("LLM_MODEL=anthropic/b", dict.fromkeys(("default", "own", "heir"), "b")),
        ("LLM_MODEL=groq/x", dict.fromkeys(("default", "own", "heir"), "groq/x")),
        ("LLM_PROVIDER=Anthropic", dict.fromkeys(("default", "own", "heir"), "b")),
        ("LLM_PROVIDER=openai\nLLM_MODEL=new", dict.fromkeys(("default", "own", "heir"), "openai/new")),
        ("LLM_PROVIDER=openai\nLLM_MODEL=openai/a", dict.fromkeys(("default", "own", "heir"), "a")),
        ("LLM_PROVIDER=azure\nLLM_MODEL=a", dict.fromkeys(("default", "own", "heir"), "azure/a")),
        ("LLM_PROVIDER=ollama\nLLM_MODEL=a", dict.fromkeys(("default", "own", "heir"), "ollama_chat/a")),
        (
            "LLM_PROVIDER=ollama\nLLM_MODEL=hf.co/x/y:Q4",
            dict.fromkeys(("default", "own", "heir"), "ollama_chat/hf.co/x/y:Q4"),
        ),
        # A provider alone takes its own default model; a model alone that nobody knows, the nearest provider.
        ("LLM_MODEL=a\nOWN_LLM_PROVIDER=ollama", {"default": "a", "own": "c", "heir": "a"}),
        ("LLM_PROVIDER=ollama\nOWN_LLM_MODEL=new", {"default": "c", "own": "ollama_chat/new", "heir": "c"}),
        # Fallbacks are added; what is pinned for one module gets those of that module alone.
        ("LLM_MODEL=a\nLLM_FALLBACKS=c, bee ,a", dict.fromkeys(("default", "own", "heir"), "a c b")),
        ("LLM_FALLBACKS=ollama/new", {"default": "a b ollama_chat/new", "own": "b a", "heir": "a b ollama_chat/new"}),
        ("LLM_FALLBACKS=c\nOWN_LLM_MODEL=a", {"default": "a b c", "own": "a", "heir": "a b c"}),
        ("OWN_LLM_MODEL=a\nOWN_LLM_FALLBACKS=c", {"default": "a b", "own": "a c", "heir": "a b"}),
        ("HEIR_LLM_FALLBACKS=c", {"default": "a b", "own": "b a", "heir": "a b c"}),
        # OLLAMA_MODEL is Ollama's default model, and all there is only where nothing else names anything.
        ("OLLAMA_MODEL=new", dict.fromkeys(("default", "own", "heir"), "ollama_chat/new")),
        ("OLLAMA_MODEL=new\nOWN_LLM_MODEL=a", {"default": "a b", "own": "a", "heir": "a b"}),
        ("OLLAMA_MODEL=new\nOWN_LLM_PROVIDER=ollama", {"default": "a b", "own": "ollama_chat/new", "heir": "a b"}),
        ("OLLAMA_URL=http://x:1", {"default": "a b", "own": "b a", "heir": "a b"}),
    ],
)
def test_what_each_combination_of_variables_calls(dotenv: str, expected: dict[str, str]) -> None:
    assert {name: " ".join(chain) for name, chain in chains(load(dotenv, YAML)).items()} == expected


@pytest.mark.parametrize(
    ("dotenv", "module", "setting", "value", "source"),
    [
        ("", "default", "timeout", 20, "models.yaml:11"),
        ("", "heir", "timeout", 20, "models.yaml:11 (default)"),
        ("", "own", "timeout", 5, "models.yaml:12"),
        ("", "own", "deadline", 90, "built in"),
        ("", "own", "chain", None, "models.yaml:12"),
        ("", "heir", "chain", None, "models.yaml:11 (default)"),
        ("LLM_TIMEOUT=3", "default", "timeout", 3, "LLM_TIMEOUT"),
        ("LLM_TIMEOUT=3", "heir", "timeout", 3, "LLM_TIMEOUT"),
        ("LLM_TIMEOUT=3", "own", "timeout", 5, "models.yaml:12"),
        ("LLM_TIMEOUT=3\nOWN_LLM_TIMEOUT=4", "own", "timeout", 4, "OWN_LLM_TIMEOUT"),
        ("OWN_LLM_TEMPERATURE=0", "own", "temperature", 0, "OWN_LLM_TEMPERATURE"),
        ("CACHE_TTL=9", "heir", "cache_ttl", 9, "CACHE_TTL"),
        ("CACHE_TTL=9", "own", "cache_ttl", 7, "models.yaml:12"),
        ("CACHE_ENABLED=false", "own", "cache", False, "CACHE_ENABLED"),
        ("LLM_PROVIDER=openai\nLLM_MODEL=a", "own", "chain", None, "LLM_MODEL"),
        ("LLM_PROVIDER=ollama\nLLM_FALLBACKS=a", "own", "chain", None, "LLM_PROVIDER, LLM_FALLBACKS"),
        ("OLLAMA_MODEL=x", "own", "chain", None, "OLLAMA_MODEL"),
    ],
)
def test_every_setting_knows_where_it_is_from(dotenv: str, module: str, setting: str, value: Any, source: str) -> None:
    resolved = load(dotenv, YAML).resolve(module)
    assert resolved.sources[setting] == source
    if setting != "chain":
        assert getattr(resolved.settings, setting) == value


def test_the_process_counts_before_the_file_and_empty_means_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TIMEOUT", "2")
    monkeypatch.setenv("LLM_MAX_TOKENS", "")
    found = load("LLM_TIMEOUT=1\nLLM_MAX_TOKENS=7\n", YAML).resolve("heir").settings
    assert (found.timeout, found.max_tokens) == (2, 7)


# -- what is wrong is said, all at once, before anything is sent


def refusal(dotenv: str, yaml: str = YAML) -> list[str]:
    with pytest.raises(InvalidEnvironment) as caught:
        load(dotenv, yaml)
    return [str(problem) for problem in caught.value.problems]


def test_every_variable_of_the_wrong_type_is_named() -> None:
    assert refusal(
        "LLM_TEMPERATURE=hot\nLLM_MAX_TOKENS=1.5\nLLM_TIMEOUT=0\nOWN_LLM_TIMEOUT=nan\nCACHE_ENABLED=maybe\nCACHE_TTL=-1\n"
        "LLM_MODEL='gpt-4  # or gpt-3'\nOWN_LLM_TEMPERATURE=sk-ant-0123456789abcdef\n"
    ) == [
        "LLM_MODEL: expected one word, got 'gpt-4  # or gpt-3'",
        "LLM_MAX_TOKENS: expected a whole number, got '1.5'",
        "LLM_TEMPERATURE: expected a number, got 'hot'",
        "LLM_TIMEOUT: must be more than 0, got '0'",
        "OWN_LLM_TEMPERATURE: expected a number, got what looks like an API key",
        "OWN_LLM_TIMEOUT: expected a number, got 'nan'",
        "CACHE_ENABLED: expected true or false, got 'maybe'",
        "CACHE_TTL: must be more than 0, got '-1'",
    ]


@pytest.mark.parametrize(
    ("dotenv", "said"),
    [
        ("LLM_MODEL=be", ["LLM_MODEL: no model 'be' in models.yaml. Did you mean 'bee'? Name a model or an alias"]),
        ("LLM_PROVIDER=opnai", ["LLM_PROVIDER: no provider 'opnai'. Did you mean 'openai'?"]),
        ("LLM_PROVIDER=groq", ["LLM_PROVIDER: provider 'groq' has no default model: name a model too"]),
        ("LLM_PROVIDER=openai\nLLM_MODEL=bee", ["LLM_MODEL: 'bee' is a model of anthropic, not of openai."]),
        ("LLM_MODEL=sk-ant-0123456789abcdef", ["LLM_MODEL: no model 'what looks like an API key' in models.yaml."]),
        ("OWN_LLM_FALLBACKS=a, new", ["OWN_LLM_FALLBACKS: no model 'new'"]),
        ("OLLAMA_URL=http://[::1:11434", ["OLLAMA_URL: expected an address whose host can be read"]),
        ("OLLAMA_URL=localhost:11434", ["OLLAMA_URL: expected an address", "got 'localhost:11434'"]),
        ("LLM_MODEL=\0", [".env: is not a text file"]),
    ],
)
def test_a_variable_that_leads_nowhere_is_refused(dotenv: str, said: list[str]) -> None:
    (problem,) = refusal(dotenv)
    for part in said:
        assert part in problem


def test_an_address_without_its_variable_is_refused() -> None:
    yaml = YAML.replace("openai/a", 'openai/a, api_base: "http://${HOST_OF_A}/v1"')
    assert refusal("", yaml) == ["HOST_OF_A: is not set, and models.a.api_base needs it"]
    assert load("HOST_OF_A=here\n", yaml).models["a"].api_base == "http://here/v1"


def test_a_env_that_is_a_directory_or_has_a_byte_order_mark() -> None:
    Path(".env").mkdir()
    assert overrides.read([]).default.model is None
    Path(".env").rmdir()
    Path(".env").write_bytes(b"\xef\xbb\xbfLLM_MODEL=a\n")
    assert overrides.read([]).default.model == "a"
    Path(".env").write_text("LLM_MODEL=b\n", encoding="utf-16")
    assert overrides.read([]).default.model == "a"  # what was read once holds


# -- warnings


def test_one_warning_names_each_line_that_a_pin_overrules() -> None:
    assert load("OWN_LLM_MODEL=a", YAML).warnings == ()
    (warning,) = load("LLM_PROVIDER=openai\nLLM_MODEL=a", YAML).warnings
    assert warning == (
        "LLM_MODEL (a) replaces the chains at models.yaml:11 (default), models.yaml:12 (own): no fallback remains. "
        "LLM_FALLBACKS adds fallbacks; without LLM_MODEL the file rules."
    )
    (warning,) = load("LLM_MODEL=a\nOWN_LLM_PROVIDER=ollama\nLLM_FALLBACKS=c", YAML).warnings
    assert "models.yaml:11 (default): the only fallbacks that remain are those of LLM_FALLBACKS." in warning
    (warning,) = load("LLM_MODEL=a\nOWN_LLM_FALLBACKS=c", YAML).warnings
    assert "no fallback remains for default." in warning


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ("HIER_LLM_MODEL=a", "HIER_LLM_MODEL matches no module and decides nothing. Did you mean HEIR_LLM_MODEL?"),
        ("ZZZ_LLM_TIMEOUT=1", "ZZZ_LLM_TIMEOUT matches no module and decides nothing. Prefixes: DEFAULT, HEIR, OWN."),
        ("LLM_TEMPRATURE=1", "LLM_TEMPRATURE decides nothing. Did you mean LLM_TEMPERATURE?"),
        ("OWN_LLM_MODELS=a", "OWN_LLM_MODELS decides nothing. Did you mean OWN_LLM_MODEL?"),
    ],
)
def test_a_variable_that_decides_nothing_is_pointed_out(line: str, warning: str) -> None:
    assert load(line, YAML).warnings == (warning,)


# -- keys and what else is read when it is needed


def test_a_secret_is_what_it_is_now_and_shows_itself_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(
        "OPENAI_API_KEY=from-the-file\nGROQ_API_KEY=gsk-of-groq\nMY_BEARER=called-anything\nLONG=harmless\n"
    )
    key = environment.secret("OPENAI_API_KEY")
    assert key is not None
    assert key.get_secret_value() == "from-the-file"
    assert "from-the-file" not in f"{key} {key!r} {overrides.read([])!r}"
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-process\n")
    assert (
        str(environment.secret("OPENAI_API_KEY") and environment.secret("OPENAI_API_KEY").get_secret_value())
        == "from-the-process"
    )  # type: ignore[union-attr]
    monkeypatch.setenv("OPENAI_API_KEY", "")
    environment.secret("MY_BEARER")
    assert environment.secret("NOWHERE_API_KEY") is None
    assert environment.secret_values() == ["called-anything", "from-the-file", "gsk-of-groq"]


def test_what_litellm_looks_for_is_exported_and_still_follows_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "here")
    Path(".env").write_text("AWS_REGION=there\nGROQ_API_KEY=first-key\nLLM_MODEL=a\nOWN_LLM_MODEL=b\nCACHE_TTL=1\n")
    environment.export_dotenv()
    assert os.environ["AWS_REGION"] == "here"
    assert os.environ["GROQ_API_KEY"] == "first-key"
    assert not {"LLM_MODEL", "OWN_LLM_MODEL", "CACHE_TTL"} & os.environ.keys()
    Path(".env").write_text("GROQ_API_KEY=second-one\n")
    key = environment.secret("GROQ_API_KEY")
    assert key is not None
    assert key.get_secret_value() == "second-one"
    assert environment.secret_values() == ["second-one", "first-key"]


def test_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELROUTER_STATE_DIR")
    assert environment.state_dir().name == "modelrouter"
    assert environment.config_path() is None
    assert environment.gguf() is None
    Path(".env").write_text("MODELROUTER_STATE_DIR=~/state\nMODELROUTER_GGUF=w.gguf\nMODELROUTER_CONFIG=c.yaml\n")
    assert environment.state_dir() == Path.home() / "state"
    assert (environment.gguf(), environment.config_path()) == (Path.cwd() / "w.gguf", Path("c.yaml"))


# -- .env.example

EXAMPLE = (ROOT / ".env.example").read_text()


def test_the_example_sets_nothing_and_each_of_its_lines_works() -> None:
    assert all(line.startswith("#") for line in EXAMPLE.splitlines() if line)
    loaded = load(EXAMPLE)
    assert chains(loaded) == BY_THE_FILE
    assert not loaded.warnings
    everything = re.sub(r"^#(?=[A-Z0-9_]+=)", "", EXAMPLE, flags=re.MULTILINE)
    loaded = load(everything.replace("MODELROUTER_CONFIG=", "NO_CONFIG="))
    assert chains(loaded) == {
        "default": ["gpt-6.1-sol", "claude-sonnet", "llama2"],
        "analyzer": ["gpt-6-luna", "claude-haiku"],
        "scorer": ["claude-sonnet"],
        "response_generator": ["claude-opus"],
    }
    assert len(loaded.warnings) == 1  # that LLM_MODEL overrules a line


def test_the_example_explains_each_variable_that_is_read() -> None:
    code = "".join(path.read_text() for path in (ROOT / "modelrouter").rglob("*.py"))
    names = set(re.findall(r"\b(?:MODELROUTER|CACHE|OLLAMA|OPENAI|ANTHROPIC)_(?:[A-Z]+_?)+\b", code))
    names |= {f"{prefix}LLM_{ending}" for prefix in ("", "ANALYZER_") for ending in overrides._LEVEL}
    unexplained = {name for name in names if not re.search(rf"\b{name}\b", EXAMPLE)}
    assert not unexplained - {"OLLAMA_API_BASE"}, "OLLAMA_API_BASE is LiteLLM's; all others are ours to explain"


def test_general_names_are_read_as_settings_and_never_exported() -> None:
    assert overrides._GENERAL.keys() == environment._GENERAL
