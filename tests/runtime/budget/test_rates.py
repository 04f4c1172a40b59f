"""What a call costs at worst, whatever it turns out to be."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_client.pricing import Ceiling, PricePolicy, Rates, TablePrices
from llm_client.pricing_genai import GenAIPrices
from llm_client.types import Usage
from power_loop.runtime.budget.amounts import in_units
from power_loop.runtime.budget.rates import NO_PRICES, Rate, Unpriced, cost_of, worst_rate

TODAY = date(2026, 11, 1)
CEILING = Ceiling(Decimal(10), Decimal(50))


def _table(policy: PricePolicy | None = None, **more: Any) -> TablePrices:
    rates = Rates(input=Decimal(3), output=Decimal(15), as_of=TODAY, **more)
    return TablePrices({"m": rates}, policy=policy, today=lambda: TODAY)


def test_the_worst_of_a_call_is_the_dearest_its_input_can_be() -> None:
    """Writing to a cache costs more than sending, and nobody knows before what will be written."""
    prices = _table(cache_read=Decimal("0.3"), cache_write=Decimal("3.75"))
    assert worst_rate(prices, "m", 1_000) == Rate(
        in_units("cost", 0.00375), in_units("cost", 15e-6)
    )


@given(
    sent=st.integers(0, 2_000_000),
    read=st.floats(0, 1),
    output=st.integers(0, 100_000),
    rates=st.tuples(*[st.decimals(0, 100, places=4)] * 4),
)
def test_no_call_costs_more_than_its_worst(
    sent: int, read: float, output: int, rates: tuple[Decimal, ...]
) -> None:
    table = TablePrices(
        {
            "m": Rates(
                input=rates[0],
                output=rates[1],
                cache_read=rates[2],
                cache_write=rates[3],
                as_of=TODAY,
            )
        },
        today=lambda: TODAY,
    )
    worst = worst_rate(table, "m", sent)
    assert isinstance(worst, Rate)
    cached = int(sent * read)
    for usage in (
        Usage(sent, output, cached, sent - cached),
        Usage(sent, output, cached),
        Usage(sent, output),
    ):
        cost = in_units("cost", cost_of(table, "m", usage))
        assert cost <= worst.fixed + worst.output * output


@pytest.mark.parametrize("sent", [0, 1_000, 200_000, 200_001, 900_000])
@pytest.mark.parametrize("model", ["gpt-5", "claude-sonnet-4-5", "gemini-2.5-pro"])
def test_tiers_of_the_price_list_are_kept(model: str, sent: int) -> None:
    """Beyond a number of tokens some models cost more, output included."""
    prices = GenAIPrices(as_of=TODAY, now=lambda: datetime(2026, 11, 2, tzinfo=UTC))
    worst = worst_rate(prices, model, sent)
    assert isinstance(worst, Rate)
    cost = in_units("cost", cost_of(prices, model, Usage(sent, 5_000)))
    assert 0 < cost <= worst.fixed + worst.output * 5_000


def test_an_unknown_price_says_why() -> None:
    assert worst_rate(None, "m", 10) == NO_PRICES
    unknown = worst_rate(_table(), "other", 10)
    assert isinstance(unknown, Unpriced)
    assert "'other'" in unknown.reason
    assert "TablePrices" in unknown.reason


@pytest.mark.parametrize("stale", ["refuse", "tokens_only"])
def test_a_price_of_an_old_list_that_may_not_be_used_is_unknown(stale: Any) -> None:
    """A limit of cost is not silently off because a list has become old."""
    old = TablePrices(
        {"m": Rates(input=Decimal(3), output=Decimal(15), as_of=date(2020, 1, 1))},
        policy=PricePolicy(stale=stale),
        today=lambda: TODAY,
    )
    rate = worst_rate(old, "m", 10)
    assert isinstance(rate, Unpriced)
    assert "old" in rate.reason or "days ago" in rate.reason
    assert cost_of(old, "m", Usage(1_000_000, 0), ceiling=CEILING) == 10.0


def test_what_a_call_has_cost_is_by_the_list_else_under_the_ceiling_else_nothing() -> None:
    usage = Usage(1_000_000, 1_000_000)
    assert cost_of(_table(), "m", usage, ceiling=CEILING) == 18.0
    assert cost_of(_table(), "other", usage, ceiling=CEILING) == 60.0
    assert cost_of(None, "other", usage, ceiling=CEILING) == 60.0
    assert cost_of(None, "other", usage) == 0.0


def test_a_usage_that_is_half_known_is_charged_for_the_half() -> None:
    assert cost_of(_table(), "m", Usage(1_000_000)) == 3.0
