"""Which module is split between which models."""

from __future__ import annotations

import pytest

from modelrouter.catalog.binding import load
from modelrouter.catalog.catalog import Catalog
from modelrouter.catalog.overrides import Environment, Overrides
from modelrouter.errors import InvalidCatalog

MODELS = "models: {a: {model: openai/a}, b: {model: openai/b}, c: {model: openai/c}}\naliases: {best: a}\n"


def loaded(modules: str, overrides: Overrides | None = None) -> Catalog:
    environment = Environment(overrides or Overrides("LLM_"))
    return load(f"{MODELS}modules:\n  {modules}\n".encode(), shown="models.yaml", environment=environment)


def shown(catalog: Catalog, module: str = "default") -> tuple[list[str], tuple[float, ...], str]:
    resolved = catalog.resolve(module)
    return [target.name for target in resolved.chain], resolved.split, resolved.sources["chain"]


def test_its_models_come_first_and_the_chain_behind_them() -> None:
    catalog = loaded("default: {chain: [c, a], split: {best: 90, b: 10.5}}")
    assert shown(catalog) == (["a", "b", "c"], (90, 10.5), "models.yaml:4, models.yaml:4")
    assert catalog.resolve(model="b").split == ()


def test_a_module_without_a_chain_is_split_as_default_is_unless_it_says_otherwise() -> None:
    catalog = loaded(
        "default: {chain: [c], split: {a: 1, b: 1}}\n  other: {}\n  own: {split: {b: 2}}\n"
        "  chained: {chain: [b]}\n  whole: {split: null}"
    )
    assert shown(catalog, "other") == (["a", "b", "c"], (1, 1), "models.yaml:4 (default), models.yaml:4 (default)")
    assert shown(catalog, "own") == (["b", "c"], (2,), "models.yaml:6, models.yaml:4 (default)")
    assert shown(catalog, "chained") == (["b"], (), "models.yaml:7")
    assert shown(catalog, "whole") == (["c"], (), "models.yaml:4 (default)")


def test_a_model_that_the_environment_pins_is_not_split() -> None:
    assert shown(loaded("default: {chain: [c], split: {a: 1}}", Overrides("LLM_", model="b"))) == (
        ["b"],
        (),
        "LLM_MODEL",
    )


@pytest.mark.parametrize(
    ("split", "problem"),
    [
        ("{a: 0, b: 0}", "modules.default.split: expected a weight above 0 for at least one of them"),
        ("{a: -1}", "modules.default.split.a: must not be less than 0, got -1"),
        ("{bst: 1}", "modules.default.split.bst: no model 'bst'. Did you mean 'best'?"),
        ("{}", "modules.default.split: "),
        ("[a, b]", "modules.default.split: expected a mapping"),
    ],
)
def test_what_is_wrong_with_it_is_said_with_its_line(split: str, problem: str) -> None:
    with pytest.raises(InvalidCatalog) as caught:
        loaded(f"default: {{chain: [c], split: {split}}}")
    assert any(each.where == "line 4" and problem in each.what for each in caught.value.problems), str(caught.value)
