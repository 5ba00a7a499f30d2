"""What a call costs, to the last digit, and which of LiteLLM's prices hold."""

from __future__ import annotations

import decimal
import importlib.util
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrouter.backend import tables
from modelrouter.backend.current import LITELLM
from modelrouter.backend.tables import bundled
from modelrouter.catalog.prices import FREE, cost, differences, is_free, most
from modelrouter.catalog.target import Price, PriceTier, Target
from modelrouter.completion import Usage

Rows = Mapping[str, Mapping[str, Any]]

D = Decimal
GPT_4 = Price(input=D(30), output=D(60))
SONNET = Price(
    input=D(3),
    output=D(15),
    cache_read=D("0.3"),
    cache_write=D("3.75"),
    above=PriceTier(200_000, input=D(6), output=D("22.5"), cache_read=D("0.6"), cache_write=D("7.5")),
)


@pytest.fixture(scope="module")
def rows() -> Rows:
    """LiteLLM's own table, read as the file it is: to import LiteLLM takes seconds."""
    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    table: Rows = json.loads((Path(spec.origin).parent / "model_prices_and_context_window_backup.json").read_text())
    return table


# -- the arithmetic


@pytest.mark.parametrize(
    ("price", "usage", "dollars"),
    [
        pytest.param(GPT_4, Usage(1000, 1000), "0.09", id="the guide's: 3 cents and 6 cents per 1K"),
        pytest.param(GPT_4, Usage(1, 0), "0.00003", id="one token"),
        pytest.param(GPT_4, Usage(), "0", id="no tokens"),
        pytest.param(SONNET, Usage(1000, 100, 600, 300), "0.003105", id="cached tokens are part of the input"),
        pytest.param(GPT_4, Usage(1000, 0, 600, 300, 0, 200), "0.03", id="cached at the price of input"),
        pytest.param(SONNET, Usage(1005, 6, 0, 1000, 0, 1000), "0.006105", id="written for an hour: twice the input"),
        pytest.param(SONNET, Usage(1000, 0, 0, 1000, 0, 400), "0.00465", id="some for an hour, some for minutes"),
        pytest.param(SONNET, Usage(1000, 0, 0, 10, 0, 1000), "0.00303", id="no more for an hour than written"),
        pytest.param(SONNET, Usage(200_001, 0, 0, 200_001, 0, 200_001), "2.400012", id="for an hour, above the size"),
        pytest.param(
            Price(D(2), D(0), cache_write=D("2.5"), cache_write_long=D(5)),
            Usage(1000, 0, 0, 1000, 0, 1000),
            "0.005",
            id="OpenAI's twelve hours: as the catalog says",
        ),
        pytest.param(GPT_4, Usage(10, 100, reasoning_tokens=90), "0.0063", id="reasoning is part of the output"),
        pytest.param(SONNET, Usage(200_000, 1000), "0.615", id="up to the second tier"),
        pytest.param(SONNET, Usage(200_001, 1000), "1.222506", id="above it: the whole request"),
        pytest.param(SONNET, Usage(200_001, 0, 200_000, 1), "0.1200075", id="above it: the cached ones too"),
        pytest.param(SONNET, Usage(10, 0, 100, 0), "0.00003", id="more cached than there were: never negative"),
        pytest.param(GPT_4, Usage(-5, -5, -5, -5), "0", id="nonsense: never negative"),
        pytest.param(
            Price(D(0), D(0), above=PriceTier(9, D(1), D(1))), Usage(10, 0), "0.00001", id="free up to a size"
        ),
    ],
)
def test_cost(price: Price, usage: Usage, dollars: str) -> None:
    assert cost(usage, price) == D(dollars)


def test_what_is_not_known_is_never_zero() -> None:
    assert cost(Usage(10, 10), None) is None
    assert cost(None, None) is None
    assert cost(None, GPT_4) is None
    assert cost(None, FREE) == 0
    assert cost(Usage(10, 10), FREE) == 0
    assert cost(None, Price(D(0), D(0), cache_write=D(1))) is None


tokens = st.integers(0, 10**9)
prices = st.decimals(0, 10_000, places=9)


@given(*[tokens] * 5, *[prices] * 5)
def test_cost_is_exact_whatever_precision_the_application_works_with(
    plain: int,
    read: int,
    write: int,
    long: int,
    output: int,
    i: Decimal,
    o: Decimal,
    r: Decimal,
    w: Decimal,
    w_long: Decimal,
) -> None:
    with decimal.localcontext(prec=3):
        paid = cost(
            Usage(plain + read + write + long, output, read, write + long, cache_write_long_tokens=long),
            Price(i, o, r, w, w_long),
        )
    billionths = [int(price.scaleb(9)) for price in (i, o, r, w, w_long)]
    assert paid is not None
    # In whole numbers of 10**-15 dollars, so that the test has no rounding of its own.
    assert int(paid.scaleb(15, decimal.Context(prec=60))) == sum(
        count * price for count, price in zip((plain, output, read, write, long), billionths, strict=True)
    )


@given(st.integers(0, 400_000), st.integers(0, 4000), st.floats(0, 1), st.floats(0, 1))
def test_no_call_costs_more_than_most(input_tokens: int, output_tokens: int, read: float, write: float) -> None:
    cached = int(input_tokens * read)
    written = int((input_tokens - cached) * write)
    usage = Usage(input_tokens, output_tokens, cached, written, cache_write_long_tokens=int(written * read))
    for price in (GPT_4, SONNET, FREE):
        paid = cost(usage, price)
        assert paid is not None
        assert paid <= most(price, 400_000, 4000)


def test_most() -> None:
    assert most(GPT_4, 8000, 500) == D("0.27")
    assert most(SONNET, 200_000, 0) == D("1.2")  # all of it written to the cache, for an hour
    assert most(SONNET, 200_001, 0) == D("2.400012")
    cheaper_above = Price(D(10), D(0), above=PriceTier(1000, D(1), D(0)))
    assert most(cheaper_above, 2000, 0) == D("0.01")  # a prompt of 1000


# -- two prices compared


def test_differences_are_those_of_the_bill() -> None:
    assert differences(SONNET, SONNET) == {}
    assert differences(GPT_4, Price(D("30.0"), D(60), cache_read=D(30), cache_write=D(30))) == {}
    assert differences(GPT_4, Price(D(30), D(90), cache_read=D(3))) == {
        "output": (D(60), D(90)),
        "cache_read": (D(30), D(3)),
    }
    without_tier = Price(SONNET.input, SONNET.output, SONNET.cache_read, SONNET.cache_write)
    assert differences(without_tier, SONNET)["above.tokens"] == (None, D(200_000))
    assert differences(SONNET, without_tier)["above.input"] == (D(6), None)


# -- LiteLLM's table


def row(**fields: Any) -> dict[str, Any]:
    """A chat of OpenAI's at 1 and 2 dollars per million tokens."""
    priced = {
        "mode": "chat",
        "litellm_provider": "openai",
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 2e-06,
    }
    return priced | fields


@pytest.mark.parametrize(
    ("name", "price"),
    [
        ("openai/gpt-4", Price(D(30), D(60))),
        ("gpt-4", Price(D(30), D(60))),
        ("anthropic/claude-sonnet-5-5", Price(D(2), D(10), D("0.1"), D("2.5"), D(4))),
        ("groq/gpt-4", None),  # the bare name is there, as another provider's
        ("openrouter/openai/gpt-4", None),
        ("ollama_chat/llama2", None),
        ("openai/no-such-model", None),
        ("no-such-model", None),
        ("", None),
    ],
)
def test_prices_are_found_by_the_full_name_then_by_the_providers_bare_name(
    rows: Rows, name: str, price: Price | None
) -> None:
    assert bundled(rows, name) == price


@pytest.mark.parametrize(
    ("name", "provider", "found"),
    [
        ("openai/m", "openai", True),
        ("bedrock/m", "bedrock_converse", True),
        ("vertex_ai/m", "vertex_ai-language-models", True),
        ("cohere/m", "cohere_chat", True),
        ("azure/m", "azure_ai", False),
        ("mistral/m", "azure", False),
        ("/m", "openai", False),
    ],
)
def test_whose_bare_name_it_is(name: str, provider: str, found: bool) -> None:
    assert (bundled({"m": row(litellm_provider=provider)}, name) is not None) == found


def test_a_row_of_the_full_name_wins() -> None:
    rows = {"m": row(), "openai/m": row(input_cost_per_token=7e-06)}
    assert bundled(rows, "openai/m") == Price(D(7), D(2))


def test_second_tiers_of_any_size_and_digits_as_printed() -> None:
    read = bundled(
        {
            "m": row(
                cache_read_input_token_cost=1.5000020000000002e-05,
                input_cost_per_token_above_272k_tokens=3e-06,
                cache_read_input_token_cost_above_272k_tokens=2e-07,
                input_cost_per_token_above_272k_tokens_priority=9e-06,
                cache_creation_input_token_cost_above_1hr_above_272k_tokens=9e-06,
            )
        },
        "m",
    )
    assert read == Price(
        D(1), D(2), cache_read=D("15.000020000000002"), above=PriceTier(272_000, D(3), D(2), D("0.2"), None, D(9))
    )
    thirty = bundled({"m": row(input_cost_per_token=3e-05)}, "m")
    assert thirty is not None
    assert str(thirty.input) == "30"  # not 3E+1, which nobody wants to read in a table


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"mode": "embedding"}, id="not a chat"),
        pytest.param({"mode": None}, id="no mode"),
        pytest.param({"output_cost_per_token": None}, id="half a price"),
        pytest.param({"input_cost_per_request": 0.005}, id="by the request"),
        pytest.param({"input_cost_per_second": 0.001}, id="by the second"),
        pytest.param({"output_cost_per_reasoning_token": 3e-06}, id="reasoning at another price"),
        pytest.param({"tiered_pricing": []}, id="many tiers"),
        pytest.param(
            {"input_cost_per_token_above_128k_tokens": 1, "input_cost_per_token_above_256k_tokens": 1}, id="three tiers"
        ),
        pytest.param(
            {"input_cost_per_token": 0, "output_cost_per_token": 0, "output_cost_per_image": 0.04}, id="by the picture"
        ),
        pytest.param({"input_cost_per_token": -1e-06}, id="negative"),
        pytest.param({"input_cost_per_token": "soon"}, id="not a number"),
        pytest.param({"input_cost_per_token": float("nan")}, id="NaN"),
        pytest.param({"input_cost_per_token": {}}, id="not even text"),
    ],
)
def test_a_price_that_does_not_hold_is_not_known(fields: dict[str, Any]) -> None:
    assert bundled({"m": row()}, "m") is not None
    assert bundled({"m": row(**fields)}, "m") is None


def test_models_that_search_in_each_call_are_not_priced_by_their_tokens(rows: Rows) -> None:
    assert bundled(rows, "perplexity/sonar") is None
    assert bundled(rows, "openai/gpt-4o-search-preview") is None
    fee = {"search_context_cost_per_query": {"search_context_size_low": 0.01}}
    assert bundled({"m": row(**fee)}, "m") == Price(D(1), D(2))  # where it is a tool that may be used


def test_every_chat_in_the_table_has_its_price_or_a_reason_for_none(rows: Rows) -> None:
    """A field that bills something else, and that these rules do not know yet, shows here after an upgrade."""
    unknown: list[str] = []
    unpriced = 0
    for name, fields in rows.items():
        if fields.get("mode") not in ("chat", "completion", "responses"):
            assert bundled(rows, name) is None
            continue
        price = bundled(rows, name)
        if price is None:
            text = json.dumps(fields)
            reason = (
                "input_cost_per_token" not in fields
                or "output_cost_per_token" not in fields
                or re.search(r"tiered_pricing|per_reasoning_token|per_request|search_context|per_image", text)
                or len(set(re.findall(r"input_cost_per_token_above_(\d+)k", text))) > 1  # more tiers than two
            )
            unpriced += 1
            if not reason:
                unknown.append(name)
            continue
        usage = Usage(1000, 100)
        paid = cost(usage, price)
        assert paid is not None
        by_hand = 1000 * fields["input_cost_per_token"] + 100 * fields["output_cost_per_token"]
        assert float(paid) == pytest.approx(by_hand)
        if is_free(price):
            assert not any(value for field, value in fields.items() if "cost" in field), name
    assert not unknown
    assert 0 < unpriced < len(rows) / 10


# -- which price holds


def never() -> NoReturn:
    raise AssertionError("the table was asked for")


@pytest.mark.parametrize(
    ("target", "price"),
    [
        (Target("a", "openai/gpt-4", "openai", price=SONNET), SONNET),
        (Target("a", "ollama_chat/llama2", "ollama", own_address=False), FREE),
        (Target("a", "openai/smollm2", "embedded"), FREE),
        (Target("a", "openai/gpt-4", "openai", own_address=False), None),
        (Target("a", "ollama_chat/llama2", "ollama", price=GPT_4), GPT_4),
    ],
)
def test_the_table_is_not_asked_where_it_does_not_count(
    target: Target, price: Price | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "rows", never)
    assert tables.price(target) == price


@pytest.mark.heavy
def test_the_table_is_asked_last(rows: Rows) -> None:
    LITELLM.load()
    assert LITELLM.price(Target("a", "openai/gpt-4", "openai")) == GPT_4
    assert LITELLM.price(Target("a", "openai/mine", "openai")) is None
