"""Which models are asked through a gateway, and where the catalog and the environment say that it is."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from modelrouter.catalog.binding import load
from modelrouter.catalog.catalog import Catalog
from modelrouter.catalog.overrides import Environment, Overrides
from modelrouter.catalog.target import Gateway
from modelrouter.errors import InvalidCatalog, InvalidEnvironment

FILE = {
    "models": {"a": {"model": "openai/a"}, "b": {"model": "anthropic/b"}, "c": {"model": "embedded/smollm2"}},
    "aliases": {"best": "b"},
    "modules": {"default": {"chain": ["a", "best", "c", "groq/d"]}},
}


def loaded(gateway: dict[str, Any] | None = None, **variables: str) -> Catalog:
    document = FILE | ({"gateway": gateway} if gateway is not None else {})
    environment = Environment(Overrides("LLM_"), values=variables.get)
    return load(yaml.safe_dump(document).encode(), shown="models.yaml", environment=environment)


def routed(catalog: Catalog) -> list[str]:
    return [target.name for target in catalog.resolve().chain if target.gateway is not None]


def test_all_models_are_asked_through_it_but_the_one_in_this_process() -> None:
    catalog = loaded({"url": "http://gateway:4000/"})
    assert routed(catalog) == ["a", "b", "groq/d"]
    assert catalog.models["a"].gateway == Gateway("http://gateway:4000", "GATEWAY_API_KEY")


def test_or_those_that_are_named() -> None:
    assert routed(loaded({"url": "http://gateway:4000", "models": ["best", "groq/d"]})) == ["b", "groq/d"]
    assert routed(loaded({"url": "http://gateway:4000", "models": ["anthropic/b"]})) == ["b"]


@pytest.mark.parametrize("url", [None, "${GATEWAY_URL:-}", "http://elsewhere"])
def test_the_variable_alone_is_enough_and_counts_before_the_file(url: str | None) -> None:
    catalog = loaded({"url": url} if url else None, GATEWAY_URL="http://gateway:4000")
    assert catalog.models["a"].gateway == Gateway("http://gateway:4000", "GATEWAY_API_KEY")


def test_a_model_with_the_name_of_a_module_has_another_one_there() -> None:
    document = {
        "models": {"scorer": {"model": "openai/a"}},
        "modules": {"default": {"chain": ["scorer"]}, "scorer": {}},
    }
    catalog = load(yaml.safe_dump(document).encode(), shown="models.yaml", environment=Environment(Overrides("LLM_")))
    assert catalog.models["scorer"].served_as == "model/scorer"
    assert loaded().models["a"].served_as == "a"


def test_an_empty_address_is_no_gateway() -> None:
    assert routed(loaded({"url": "${GATEWAY_URL:-}"})) == []
    assert routed(loaded()) == []


def test_its_key_takes_the_place_of_the_models_own(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = loaded({"url": "http://gateway:4000", "api_key_env": "FLEET_KEY", "otherwise": "direct"})
    target = catalog.models["a"]
    assert (target.key, target.key_env) == (("FLEET_KEY", True), "OPENAI_API_KEY")
    assert target.gateway is not None
    assert target.gateway.direct


@pytest.mark.parametrize(
    ("gateway", "problem"),
    [
        ({"url": "gateway:4000"}, "gateway.url: expected an address that starts with http:// or https://"),
        ({"url": "http://g", "models": ["bst"]}, "gateway.models[0]: no model 'bst'. Did you mean 'best'?"),
        ({"url": "http://g", "models": "some"}, "gateway.models: expected all, or a list of models, got 'some'"),
        ({"url": "http://g", "api_key_env": "sk-1"}, "gateway.api_key_env: expected the name of a variable"),
        ({"models": "all"}, "gateway.url: "),
        ({"url": "http://g", "otherwise": "maybe"}, "gateway.otherwise: expected 'direct' or 'error', got 'maybe'"),
        ({"url": "http://g", "fallback": "direct"}, "gateway.fallback: unknown key. Known: url, api_key_env, models"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(gateway: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidCatalog) as caught:
        loaded(gateway)
    assert any(problem in each.what and each.where.startswith("line ") for each in caught.value.problems), caught.value


def test_a_variable_of_its_address_that_is_not_set_is_named() -> None:
    with pytest.raises(InvalidEnvironment, match=r"FLEET_URL: is not set, and gateway\.url needs it"):
        loaded({"url": "${FLEET_URL}"})
    with pytest.raises(InvalidEnvironment, match="GATEWAY_URL"):
        loaded(GATEWAY_URL="gateway:4000")
