"""Who of a split is asked first."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from modelrouter import Router
from modelrouter.catalog.target import Target
from modelrouter.planning.splitting import ordered
from modelrouter.testing import Error, ScriptedProvider

USERS = [f"user-{number}@example.com" for number in range(10_000)]
CHAIN = [Target(name, f"openai/{name}", "openai") for name in ("a", "b", "c", "local")]


def first_of(weights: Mapping[str, float], user: str | None) -> str:
    head, *rest = ordered(CHAIN, list(weights.values()), random.random, module="scorer", user=user)
    names = [target.name for target in CHAIN]
    assert [target.name for target in rest] == [name for name in names if name != head.name]
    return head.name


def shares(firsts: list[str]) -> dict[str, float]:
    return {name: firsts.count(name) / len(firsts) for name in set(firsts)}


@pytest.mark.parametrize("weights", [{"a": 90, "b": 10}, {"a": 1, "b": 1, "c": 2}, {"a": 0, "b": 0.5, "c": 0.1}])
@pytest.mark.parametrize("named", [True, False])
def test_each_is_first_as_often_as_its_weight_says(weights: dict[str, float], named: bool) -> None:
    random.seed(7)
    found = shares([first_of(weights, user if named else None) for user in USERS])
    total = sum(weights.values())
    for name, weight in weights.items():
        share = weight / total
        error = (share * (1 - share) / len(USERS)) ** 0.5
        assert abs(found.get(name, 0.0) - share) <= 3 * error


def test_a_user_is_given_the_same_model_in_every_process_and_version() -> None:
    found = {user: first_of({"a": 1, "b": 1, "c": 1}, user) for user in ("ann", "bob", "zoë", "")}
    assert found == {"ann": "c", "bob": "a", "zoë": "a", "": "b"}


def test_when_weights_change_only_those_move_who_have_to() -> None:
    before = {user: first_of({"a": 90, "b": 10}, user) for user in USERS}
    after = {user: first_of({"a": 80, "b": 20}, user) for user in USERS}
    moved = [(before[user], after[user]) for user in USERS if before[user] != after[user]]
    assert set(moved) == {("a", "b")}
    assert len(moved) == list(after.values()).count("b") - list(before.values()).count("b")
    without = {user: first_of({"a": 90, "b": 10, "c": 0}, user) for user in USERS}
    assert without == before
    with_a_third = {user: first_of({"a": 90, "b": 10, "c": 20}, user) for user in USERS}
    assert {with_a_third[user] for user in USERS if with_a_third[user] != before[user]} == {"c"}


def test_the_others_of_it_and_then_the_chain_are_its_fallbacks(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("split") / "models.yaml"
    path.write_text(
        """
models: {a: {model: openai/a}, b: {model: openai/b}, local: {model: ollama_chat/l}}
modules:
  default: {chain: [local, a], split: {b: 1, a: 3}, cache: false, retries: 0}
"""
    )
    scripts = {"a": Error("content_policy"), "b": Error("content_policy"), "local": "here"}
    with ScriptedProvider(scripts), Router(path) as router:
        answers = [router.complete("hi", user=user) for user in USERS[:200]]
        orders = {tuple(attempt.model for attempt in answer.attempts) for answer in answers}
        assert orders == {("a", "b", "local"), ("b", "a", "local")}
        assert all(answer.fallback for answer in answers)
        assert [attempt.model for attempt in router.complete("hi", model="local").attempts] == ["local"]
    with ScriptedProvider({"*": "ok"}), Router(path) as router:
        answers = [router.complete("hi", user=user) for user in USERS[:200]]
        assert {answer.model for answer in answers} == {"a", "b"}
        assert not any(answer.fallback for answer in answers)
        assert [router.complete("again", user=user).model for user in USERS[:200]] == [each.model for each in answers]
