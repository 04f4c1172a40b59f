"""What calls cost: exact sums, dated lists, and never a silent nothing."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import genai_prices
import msgspec
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from llm_client.pricing import (
    Ceiling,
    Price,
    PriceBook,
    PricePolicy,
    PriceUnknown,
    PricingStale,
    Rates,
    TablePrices,
)
from llm_client.pricing_genai import GenAIPrices
from llm_client.types import Usage

DAY = date(2026, 5, 1)
MINE = Rates(
    input=Decimal(3),
    output=Decimal(15),
    cache_read=Decimal("0.3"),
    cache_write=Decimal("3.75"),
    as_of=DAY,
)
TOKENS = st.integers(0, 10**7)


def table(policy: PricePolicy | None = None, *, days_later: int = 0) -> TablePrices:
    """Prices of one model, looked at some days later."""
    return TablePrices(
        {"mine": MINE}, policy=policy, today=lambda: DAY + timedelta(days=days_later)
    )


def test_a_price_is_split_by_what_is_paid_for() -> None:
    """A million of each: fresh input, cache reads, cache writes, and output with its reasoning."""
    million = 1_000_000
    usage = Usage(3 * million, million, million, million, reasoning_tokens=million // 2)
    assert table().price("mine", usage) == Price(
        amount=Decimal("22.05"),
        input=Decimal(3),
        cache_read=Decimal("0.3"),
        cache_write=Decimal("3.75"),
        output=Decimal(15),
        as_of=DAY,
    )


@given(TOKENS, TOKENS, TOKENS, TOKENS)
def test_a_price_is_the_sum_of_its_parts_and_never_less_for_more(
    sent: int, read: int, written: int, output: int
) -> None:
    """Also where a provider reports more cached tokens than it was sent; without cache prices they
    cost what input costs."""
    usage = Usage(sent, output, read, written)
    plain = Rates(input=Decimal(3), output=Decimal(15), as_of=DAY)
    for rates in (MINE, plain):
        price = rates.price(usage)
        assert price.amount == price.input + price.cache_read + price.cache_write + price.output
        assert rates.price(usage + Usage(1, 1)).amount > price.amount
    assert plain.price(usage).amount == plain.price(Usage(max(sent, read + written), output)).amount


def test_an_unknown_model_is_refused_or_has_a_declared_ceiling() -> None:
    """Never without a price: a limit in money would silently be none."""
    usage = Usage(1_000_000, 1_000_000, 400_000)
    with pytest.raises(PriceUnknown, match=r"'other'.*Ceiling") as caught:
        table().price("other", usage)
    assert not caught.value.sent
    most = Ceiling(Decimal(20), Decimal(100))
    price = table(PricePolicy(unknown=most)).price("other", usage)
    assert price is not None
    assert (price.amount, price.as_of) == (Decimal(120), None)


def test_a_usage_that_says_nothing_has_no_price() -> None:
    """Unknown is not 0."""
    for usage in (Usage(), Usage(1), Usage(None, 1)):
        with pytest.raises(PriceUnknown, match="estimate"):
            table().price("mine", usage)
        with pytest.raises(PriceUnknown, match="estimate"):
            Ceiling(Decimal(1), Decimal(1)).price(usage)


def test_an_old_list_is_warned_about_once_and_marked(caplog: pytest.LogCaptureFixture) -> None:
    """On its ninetieth day it still counts as new."""
    usage = Usage(1, 1)
    with caplog.at_level(logging.WARNING, "llm_client"):
        fresh = table(days_later=90).price("mine", usage)
        assert fresh is not None
        assert not fresh.stale
        assert caplog.messages == []
        book = table(days_later=91)
        stale = [book.price("mine", usage) for _ in range(3)]
    assert [price is not None and price.stale for price in stale] == [True] * 3
    assert len(caplog.messages) == 1
    assert "2026-05-01" in caplog.messages[0]


def test_an_old_list_may_mean_tokens_only_or_no_at_all() -> None:
    """As the policy says; a ceiling does not age."""
    usage = Usage(1, 1)
    tokens_only = table(PricePolicy(stale="tokens_only"), days_later=91)
    assert tokens_only.price("mine", usage) is None
    refuse = table(PricePolicy(stale="refuse", max_age_days=7), days_later=8)
    with pytest.raises(PricingStale, match="2026-05-01"):
        refuse.price("mine", usage)
    ceiling = PricePolicy(stale="refuse", unknown=Ceiling(Decimal(1), Decimal(1)))
    assert table(ceiling, days_later=999).price("other", usage) is not None


def test_prices_of_ones_own_come_before_a_list() -> None:
    """And what the table does not know is asked of the list."""
    rates = Rates(input=Decimal(1), output=Decimal(1), as_of=DAY)
    book: PriceBook = TablePrices({"gpt-4o": rates}, otherwise=GenAIPrices(), today=lambda: DAY)
    usage = Usage(1_000_000, 0)
    mine, listed = book.price("gpt-4o", usage), book.price("gpt-4o-mini", usage)
    assert mine is not None
    assert mine.amount == 1
    assert listed is not None
    assert listed.amount == Decimal("0.15")


def theirs(model: str, provider: str, usage: Usage, now: datetime) -> Decimal | None:
    """What genai-prices itself computes; None if it does not know the model by this name."""
    try:
        price = genai_prices.calc_price(
            genai_prices.Usage(
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cache_read_tokens=usage.cached_tokens,
                cache_write_tokens=usage.cache_write_tokens,
            ),
            model,
            provider_id=provider,
            genai_request_timestamp=now,
        )
    except LookupError:
        return None
    return price.total_price


def test_every_listed_model_costs_what_genai_prices_itself_computes() -> None:
    """All models and tiers, with and without a cache."""
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    book = GenAIPrices(now=lambda: now)
    compared = 0
    for provider in get_snapshot().providers:
        for model in provider.models:
            for usage in (Usage(1000, 100), Usage(300_000, 900, 40_000, 5_000)):
                expected = theirs(model.id, provider.id, usage, now)
                try:
                    ours = book.price(model.id, usage, provider=provider.id)
                except PriceUnknown:
                    # Embeddings by the request, pictures by the piece: no price for a token.
                    assert not expected, (provider.id, model.id)
                    continue
                assert ours is not None
                assert ours.amount == expected, (provider.id, model.id, usage)
                compared += 1
    assert compared > 2000


def test_a_list_has_a_date_that_is_not_in_the_future() -> None:
    """Though it speaks of prices to come; and a known date is taken as it is said."""
    assert date(2026, 1, 1) < GenAIPrices().as_of <= datetime.now(UTC).date()
    late = datetime(2040, 1, 1, tzinfo=UTC)
    old = GenAIPrices(PricePolicy(stale="refuse"), as_of=DAY, now=lambda: late)
    with pytest.raises(PricingStale, match="2026-05-01"):
        old.price("gpt-4o", Usage(1, 1))


def test_models_are_found_by_the_names_of_our_providers() -> None:
    """And not at a provider that does not have them."""
    book = GenAIPrices()
    usage = Usage(1000, 1000)
    for provider, model in (
        ("openai", "gpt-4o-2024-08-06"),
        ("azure", "gpt-4o"),
        ("azure-responses", "gpt-4o"),
        ("openrouter-responses", "openai/gpt-4o"),
        ("vertex", "gemini-2.5-flash"),
        ("moonshot", "kimi-k2-0711-preview"),
        ("xai", "grok-4"),
        ("groq", "llama-3.3-70b-versatile"),
        (None, "claude-sonnet-4-5"),
    ):
        price = book.price(model, usage, provider=provider)
        assert price is not None
        assert price.amount > 0
    for provider, model in (("openai", "smollm2"), ("ollama", "gpt-4o"), (None, "who-knows")):
        with pytest.raises(PriceUnknown):
            book.price(model, usage, provider=provider)


def test_a_price_survives_being_stored() -> None:
    """To the last digit."""
    price = MINE.price(Usage(333, 77, 11))
    assert msgspec.json.decode(msgspec.json.encode(price), type=Price) == price
