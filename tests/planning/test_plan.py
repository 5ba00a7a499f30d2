"""Whom to call next, played as data: no clock, loop or network."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrouter.catalog.target import ModuleSettings, Target
from modelrouter.completion import Attempt, Completion, Kind, Usage
from modelrouter.errors import AllModelsFailed, BadRequest, DeadlineExceeded, MissingKey, ModelRouterError
from modelrouter.planning.call import Call
from modelrouter.planning.effects import (
    Effect,
    Emit,
    Interrupted,
    Join,
    Load,
    Next,
    OpenStream,
    Publish,
    ReadCache,
    Remembered,
    Report,
    Send,
    Sleep,
    Wait,
    WriteCache,
)
from modelrouter.planning.events import CallEnded, FellOver, ModelLeft
from modelrouter.planning.exchange import Failure, Obstacle, Piece, Reply, Request
from modelrouter.planning.plan import plan

OK = Reply("fine", Usage(10, 5), "stop")


def target(name: str, **facts: Any) -> Target:
    return Target(name, f"openai/{name}", "openai", **facts)


@dataclass
class World:
    """Facts that a test sets."""

    obstacles: Mapping[str, Obstacle] = field(default_factory=dict)
    aside: Collection[str] = ()
    looked_at: list[str] = field(default_factory=list)
    """Whose health was asked for."""

    def obstacle(self, target: Target, request: Request) -> Obstacle | None:
        return self.obstacles.get(target.name)

    def set_aside(self, target: Target, now: float) -> Kind | None:
        self.looked_at.append(target.name)
        return Kind.SERVER if target.name in self.aside else None

    def context_window(self, target: Target) -> int | None:
        return target.context_window

    def capped(self) -> bool:
        return False

    def cost(self, target: Target, usage: Usage | None) -> Decimal | None:
        return None if usage is None else Decimal(usage.input_tokens + usage.output_tokens)


@dataclass
class Course:
    """What a played plan did."""

    calls: list[Send] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)
    took: float = 0.0
    answer: Completion | None = None
    error: BaseException | None = None

    @property
    def asked(self) -> list[str]:
        return [call.target.name for call in self.calls]


def play(
    models: Sequence[Target | str],
    outcomes: Mapping[str, Sequence[Any]],
    *,
    settings: ModuleSettings | None = None,
    request: Request | None = None,
    timeout: float | None = None,
    world: World | None = None,
    loading: float = 0.0,
    tick: float = 0.0,
    stream: bool = False,
    reading: float = 0.0,
    shared: Remembered | None = None,
    interrupted: type[Effect] | None = None,
) -> Course:
    """Run a plan over scripted outcomes: per model a list, its last one repeats. An outcome may be ``(seconds,
    outcome)``; a hanging model is a `Failure` of kind timeout, which takes as long as it may. A stream has one piece.

    Each effect takes `tick` seconds more, and a reader `reading` for a piece. Another call has this answer to be
    `shared`. Ctrl-C comes during the first effect of the `interrupted` type.
    """
    chain = tuple(model if isinstance(model, Target) else target(model) for model in models)
    job = Call(
        "scorer",
        chain,
        request or Request(({"role": "user", "content": "hi"},)),
        settings or ModuleSettings(),
        timeout,
        stream=stream,
        cache="use" if shared or interrupted else "off",
    )
    course, clock, counts = Course(), 100.0, dict.fromkeys(outcomes, 0)
    running = plan(job, world or World(), now=clock, random=lambda: 0.5)
    try:
        effect = next(running)
        while True:
            result: Any = None
            match effect:
                case Load():
                    clock += loading
                case Sleep(seconds):
                    course.sleeps.append(seconds)
                    clock += seconds
                case Report(_, record):
                    course.told.append(record)
                case ReadCache(_, looked, _, _, _):
                    result = (looked.name, None)
                case Join():
                    result = ("a flight", shared is None)
                case Wait():
                    result = shared
                case OpenStream():
                    result = Piece("fine", "a stream")
                case Emit():
                    clock += reading
                case Next():
                    result, clock = OK, clock + 0.1
                case Send(asked, _, within):
                    course.calls.append(effect)
                    script = outcomes[asked.name]
                    result = script[min(counts[asked.name], len(script) - 1)]
                    counts[asked.name] += 1
                    took = 0.1
                    if isinstance(result, tuple):
                        took, result = result
                    elif isinstance(result, Failure) and result.kind is Kind.TIMEOUT:
                        took = within
                    clock += took
            if isinstance(effect, interrupted or ()):
                result, interrupted = Interrupted(KeyboardInterrupt()), None
            clock += tick
            effect = running.send((result, clock))
    except StopIteration as done:
        course.answer = done.value
    except BaseException as error:  # noqa: BLE001 - Ctrl-C among them
        course.error = error
    course.took = clock - 100.0
    return course


def failure(kind: Kind, **facts: Any) -> Failure:
    return Failure(kind, f"it said {kind}", **facts)


PASSING = (Kind.RATE_LIMIT, Kind.CONNECTION, Kind.SERVER, Kind.TRUNCATED)
AT_ONCE = (
    Kind.MISSING_KEY,
    Kind.AUTH,
    Kind.PERMISSION,
    Kind.QUOTA,
    Kind.NOT_FOUND,
    Kind.UNSUPPORTED,
    Kind.CONTEXT_WINDOW,
    Kind.CONTENT_POLICY,
    Kind.EMPTY_RESPONSE,
    Kind.MAX_TOKENS,
    Kind.TIMEOUT,
)


@pytest.mark.parametrize("kind", PASSING)
def test_what_may_pass_is_retried_on_the_same_model_and_then_left(kind: Kind) -> None:
    course = play(["a", "b"], {"a": [failure(kind)], "b": [OK]})
    assert course.asked == ["a", "a", "a", "b"]
    assert course.sleeps == [0.4, 0.8]  # three fifths of 0.5 and of 1 for certain, the rest by chance (0.5 here)
    assert course.answer is not None
    assert course.answer.model == "b"
    assert course.answer.fallback
    assert [a.error_kind for a in course.answer.attempts] == [kind, kind, kind, None]


@pytest.mark.parametrize("kind", AT_ONCE)
def test_what_will_not_pass_goes_to_the_next_model_at_once(kind: Kind) -> None:
    course = play(["a", "b"], {"a": [failure(kind)], "b": [OK]})
    assert course.asked == ["a", "b"]
    assert course.sleeps == []


@pytest.mark.parametrize("model", ["a", "b"])
def test_a_bad_request_is_raised_on_whichever_model(model: str) -> None:
    outcomes = {"a": [failure(Kind.AUTH)], "b": [OK], model: [failure(Kind.BAD_REQUEST, status=422)]}
    course = play(["a", "b", "c"], {**outcomes, "c": [OK]})
    assert course.asked[-1] == model
    assert isinstance(course.error, BadRequest)
    assert isinstance(course.error, ValueError)
    assert "status 422" in str(course.error)
    assert model in str(course.error)


def test_a_timeout_is_retried_on_the_last_model_alone() -> None:
    course = play(["a", "b"], {"a": [failure(Kind.TIMEOUT)], "b": [failure(Kind.TIMEOUT), OK]})
    assert course.asked == ["a", "b", "b"]


def test_a_model_is_last_when_those_after_it_cannot_be_used() -> None:
    world = World({"b": Obstacle(Kind.MISSING_KEY, "B_KEY is not set", "B_KEY")})
    course = play(["a", "b"], {"a": [failure(Kind.TIMEOUT), OK]}, world=world)
    assert course.asked == ["a", "a"]


def test_a_local_server_that_is_not_running_is_not_asked_twice() -> None:
    course = play(["a", "b"], {"a": [failure(Kind.CONNECTION, lasting=True)], "b": [OK]})
    assert course.asked == ["a", "b"]


def test_retry_after_is_waited_for_and_a_little_more() -> None:
    course = play(["a"], {"a": [failure(Kind.RATE_LIMIT, retry_after=4.0), OK]})
    assert course.asked == ["a", "a"]
    assert 4.0 < course.sleeps[0] < 5.0


@pytest.mark.parametrize(
    ("retry_after", "deadline"),
    [(31.0, 600.0), (6.0, 10.0)],
    ids=["longer than 30 s", "longer than its share"],
)
def test_a_long_retry_after_goes_to_the_next_model_at_once(retry_after: float, deadline: float) -> None:
    settings = ModuleSettings(deadline=deadline)
    course = play(["a", "b"], {"a": [failure(Kind.RATE_LIMIT, retry_after=retry_after)], "b": [OK]}, settings=settings)
    assert course.asked == ["a", "b"]
    assert course.sleeps == []


def test_each_model_has_the_time_left_divided_by_the_usable_models_left() -> None:
    settings = ModuleSettings(timeout=60, deadline=90)
    world = World({"c": Obstacle(Kind.MISSING_KEY, "no", "C_KEY")})
    hanging = [failure(Kind.TIMEOUT)]
    course = play(
        ["a", "b", "c", "d"], {"a": hanging, "b": [failure(Kind.AUTH)], "d": [OK]}, settings=settings, world=world
    )
    assert [round(call.within, 1) for call in course.calls] == [30.0, 30.0, 59.9]


def test_retries_stay_within_the_share() -> None:
    settings = ModuleSettings(timeout=4, deadline=10, retries=50)
    course = play(["a", "b"], {"a": [(2.0, failure(Kind.SERVER))], "b": [OK]}, settings=settings)
    assert course.asked[-1] == "b"
    assert 100 + sum(2.0 for name in course.asked if name == "a") + sum(course.sleeps) <= 105


@given(
    deadline=st.floats(0.5, 100),
    timeout=st.floats(0.1, 200),
    retries=st.integers(0, 5),
    kinds=st.lists(st.sampled_from(sorted(Kind)), min_size=1, max_size=6),
    took=st.floats(0, 1),
)
def test_whatever_fails_a_call_ends_within_its_deadline_with_every_attempt_told(
    deadline: float, timeout: float, retries: int, kinds: list[Kind], took: float
) -> None:
    names = [f"m{index}" for index in range(len(kinds))]
    outcomes = {
        name: [(failure(kind) if kind is Kind.TIMEOUT else (min(took, deadline / 10), failure(kind)))]
        for name, kind in zip(names, kinds, strict=True)
    }
    course = play(names, outcomes, settings=ModuleSettings(deadline=deadline, timeout=timeout, retries=retries))
    assert isinstance(course.error, ModelRouterError)
    assert course.took <= deadline + max(took, 0.2)
    told = [record for record in course.told if isinstance(record, Attempt)]
    assert tuple(told) == course.error.attempts  # type: ignore[attr-defined]
    assert len([a for a in told if a.outcome == "error"]) == len(course.calls)
    assert isinstance(course.told[-1], CallEnded)
    refused = isinstance(course.error, BadRequest)
    assert course.told[-1].outcome == ("bad_request" if refused else "error")
    if not refused:
        assert {a.model for a in told} == set(names)


def test_the_deadline_error_says_what_was_not_asked() -> None:
    course = play(["a", "b"], {"a": [(5.0, failure(Kind.AUTH))], "b": [OK]}, settings=ModuleSettings(deadline=5.0))
    assert isinstance(course.error, DeadlineExceeded)
    assert isinstance(course.error, TimeoutError)
    assert "2. b  openai/b  skipped: no time was left" in str(course.error)


def test_loading_litellm_is_not_charged_to_the_deadline() -> None:
    course = play(["a"], {"a": [OK]}, settings=ModuleSettings(deadline=2.0), loading=4.0)
    assert course.answer is not None
    assert course.calls[0].within == 2.0


def test_nothing_is_loaded_when_no_model_can_be_asked() -> None:
    world = World({"a": Obstacle(Kind.MISSING_KEY, "A_KEY is not set", "A_KEY")})
    course = play(["a"], {}, world=world, loading=1000.0)
    assert course.took == 0
    assert isinstance(course.error, MissingKey)
    assert isinstance(course.error, LookupError)
    assert str(course.error).splitlines() == [
        "model 'a' (openai/a) needs A_KEY, which is not set.",
        "  Export it or add it to .env (see .env.example).",
    ]


def test_a_prompt_too_long_goes_to_a_larger_window_only() -> None:
    models = [
        target("a", context_window=8000),
        target("b", context_window=8000),
        target("c"),
        target("d", context_window=9000),
    ]
    full = [failure(Kind.CONTEXT_WINDOW)]
    course = play(models, {"a": full, "c": full, "d": [OK]})
    assert course.asked == ["a", "c", "d"]
    assert course.answer is not None
    assert "its context window of 8000 tokens is not larger" in str(course.answer.attempts[1])


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply("", None), Kind.EMPTY_RESPONSE),
        (Reply(" \n", Usage(3, 1), "stop"), Kind.EMPTY_RESPONSE),
        (Reply("", Usage(3, 50), "length"), Kind.MAX_TOKENS),
        (Reply("so", Usage(3, 1), "content_filter"), Kind.CONTENT_POLICY),
    ],
)
def test_an_answer_that_is_none_goes_to_the_next_model_with_what_it_cost(reply: Reply, kind: Kind) -> None:
    course = play(["a", "b"], {"a": [reply], "b": [OK]}, settings=ModuleSettings(max_tokens=50))
    assert course.answer is not None
    first = course.answer.attempts[0]
    assert first.error_kind is kind
    assert first.cost_usd == (sum((reply.usage.input_tokens, reply.usage.output_tokens)) if reply.usage else None)
    assert course.answer.cost_usd == 15 + (first.cost_usd or 0)
    if kind is Kind.MAX_TOKENS:
        assert "max_tokens=50" in str(first)


def test_an_answer_that_does_not_validate_goes_to_the_next_model() -> None:
    request = Request(({"role": "user", "content": "hi"},), parse=lambda text: {"n": int(text)})
    course = play(["a", "b"], {"a": [OK], "b": [Reply("7", Usage(1, 1))]}, request=request)
    assert course.answer is not None
    assert course.answer.parsed == {"n": 7}
    assert course.answer.attempts[0].error_kind is Kind.EMPTY_RESPONSE
    assert course.answer.attempts[0].cost_usd == 15


def test_parameters_of_the_call_win_and_a_models_limit_is_a_cap() -> None:
    models = [target("a", max_tokens=100, params={"top_p": 0.5, "seed": 1}), target("b")]
    request = Request(({"role": "user", "content": "hi"},), params={"seed": 2})
    settings = ModuleSettings(max_tokens=500, temperature=0.0)
    course = play(models, {"a": [failure(Kind.AUTH)], "b": [OK]}, request=request, settings=settings)
    assert [dict(call.request.params) for call in course.calls] == [
        {"temperature": 0.0, "max_tokens": 100, "top_p": 0.5, "seed": 2},
        {"temperature": 0.0, "max_tokens": 500, "seed": 2},
    ]


def test_the_calls_timeout_wins_over_the_models_and_the_models_over_the_modules() -> None:
    models, settings = [target("a", timeout=7)], ModuleSettings(timeout=5)
    assert play(models, {"a": [OK]}, settings=settings).calls[0].within == 7
    assert play(models, {"a": [OK]}, settings=settings, timeout=3).calls[0].within == 3
    assert play(["b"], {"b": [OK]}, settings=settings).calls[0].within == 5


def test_a_cancelled_call_is_metered_and_unwinds_as_it_came() -> None:
    gone = KeyboardInterrupt()
    course = play(["a", "b"], {"a": [(1.5, Interrupted(gone))], "b": [OK]})
    assert course.error is gone
    attempt, ended = course.told
    assert (attempt.error_kind, attempt.latency_s, attempt.cost_usd) == (Kind.CANCELLED, 1.5, None)
    assert (ended.outcome, ended.error) == ("cancelled", KeyboardInterrupt)


def test_each_fallback_is_told_with_its_reason() -> None:
    world = World({"b": Obstacle(Kind.MISSING_KEY, "B_KEY is not set", "B_KEY")})
    course = play(["a", "b", "c"], {"a": [failure(Kind.QUOTA)], "c": [OK]}, world=world)
    assert [record for record in course.told if isinstance(record, FellOver)] == [
        FellOver("scorer", "a", "c", Kind.QUOTA)
    ]


def test_the_error_lists_every_attempt_and_its_cause_is_what_the_last_provider_said() -> None:
    world = World({"b": Obstacle(Kind.MISSING_KEY, "B_KEY is not set", "B_KEY")})
    refused = failure(Kind.AUTH, status=401)
    course = play(["model-a", "b", "c"], {"model-a": [failure(Kind.TIMEOUT)], "c": [refused]}, world=world)
    assert isinstance(course.error, AllModelsFailed)
    assert str(course.error).splitlines() == [
        "module 'scorer': no answer from 3 models in 2 attempts (30.1 s).",
        "  1. model-a  openai/model-a  it said timeout",
        "  2. b        openai/b        skipped: B_KEY is not set",
        "  3. c        openai/c        auth: it said auth (0.1 s)",
        "  See 'modelrouter check scorer'.",
    ]
    assert str(course.error.__cause__) == "auth: it said auth"


def test_a_model_set_aside_is_asked_last_and_the_answer_of_the_next_is_a_fallback() -> None:
    course = play(["a", "b"], {"b": [OK]}, world=World(aside=["a"]))
    assert course.asked == ["b"]
    assert course.answer is not None
    assert course.answer.fallback
    assert FellOver("scorer", "a", "b", Kind.SERVER) in course.told
    course = play(["a", "b"], {"a": [OK], "b": [failure(Kind.AUTH)]}, world=World(aside=["a"]))
    assert course.asked == ["b", "a"]


def test_whether_a_model_answers_again_is_found_out_only_by_a_call_that_asks_it() -> None:
    world = World(aside=["b"])
    assert play(["a", "b"], {"a": [OK]}, world=world).asked == ["a"]
    assert world.looked_at == ["a"]


@pytest.mark.parametrize(("timeout", "cut_short"), [(30.0, False), (60.0, True)])
def test_a_share_of_the_time_that_is_as_good_as_the_timeout_is_no_shorter(timeout: float, cut_short: bool) -> None:
    # The shipped limits: 30 seconds of 90 for each of three, less what a look-up takes.
    course = play(
        ["a", "b", "c"],
        {"a": [failure(Kind.TIMEOUT)], "b": [OK]},
        settings=ModuleSettings(timeout=timeout, deadline=90),
        tick=0.001,
    )
    [left] = [told for told in course.told if isinstance(told, ModelLeft) and told.failure is not None]
    assert left.cut_short is cut_short


def test_what_only_the_caller_finds_too_slow_says_nothing_of_the_model() -> None:
    course = play(["a", "b"], {"a": [failure(Kind.TIMEOUT)], "b": [OK]}, timeout=0.1)
    assert [told.cut_short for told in course.told if isinstance(told, ModelLeft) and told.failure] == [True]


@pytest.mark.parametrize("effect", [ReadCache, Join, Load, Report, Send, WriteCache, Publish, Sleep])
def test_no_interruption_is_swallowed(effect: type[Effect]) -> None:
    course = play(["a"], {"a": [failure(Kind.SERVER), OK]}, interrupted=effect)
    assert isinstance(course.error, KeyboardInterrupt)
    assert [told.outcome for told in course.told if isinstance(told, CallEnded)] == ["cancelled"]


def test_what_the_reader_of_a_stream_takes_is_not_the_models() -> None:
    course = play(["a"], {}, stream=True, reading=60.0)
    assert course.answer is not None
    assert course.answer.latency_s == course.answer.attempts[0].latency_s == pytest.approx(0.1)
    assert course.took == pytest.approx(60.1)


def test_a_shared_response_that_is_made_when_it_is_asked_for_is_made_for_followers_too() -> None:
    reply = Reply("fine", Usage(10, 5), "stop", response=lambda: "made")
    course = play(["a"], {}, shared=Remembered(reply, Decimal(1)))
    assert course.answer is not None
    assert course.answer.response == "made"
