"""What a model call costs, at worst and in the end."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from msgspec import Struct

from llm_client.pricing import Ceiling, Price, PriceBook, PriceUnknown, PricingStale
from llm_client.types import Usage
from power_loop.runtime.budget.amounts import in_units

__all__ = ["NO_PRICES", "Rate", "Unpriced", "ceiling_rate", "cost_of", "worst_rate"]

_MANY = 1_000_000


class Rate(Struct, frozen=True):
    """What a call costs at most, in units of cost: `fixed` for its input and for being made, and
    `output` for each token of its answer.
    """

    fixed: int
    output: int


class Unpriced(Struct, frozen=True):
    """Nobody knows what a call costs; `reason` says why, and what to do."""

    reason: str


NO_PRICES = Unpriced("there is no price list")


def worst_rate(
    prices: PriceBook | None, model: str, input_tokens: int, provider: str | None = None
) -> Rate | Unpriced:
    """What a call of `model` with so many tokens of input costs at most, whatever is read from its
    cache or written to it.
    """
    if prices is None:
        return NO_PRICES
    dearest = Decimal(0)
    output = Decimal(0)
    for cached, written in ((0, 0), (input_tokens, 0), (0, input_tokens)):
        usage = Usage(input_tokens, _MANY, cached, written)
        price = _price(prices, model, usage, provider)
        if isinstance(price, Unpriced):
            return price
        dearest = max(dearest, price.amount - price.output)
        output = max(output, price.output)
    return _rate(dearest, output)


def ceiling_rate(ceiling: Ceiling, input_tokens: int) -> Rate:
    """What a call with so many tokens of input costs under `ceiling`."""
    price = ceiling.price(Usage(input_tokens, _MANY))
    return _rate(price.input, price.output)


def cost_of(
    prices: PriceBook | None,
    model: str,
    usage: Usage,
    *,
    provider: str | None = None,
    ceiling: Ceiling | None = None,
) -> float:
    """What `usage` of `model` has cost in US dollars: by the price list, else under `ceiling`, else
    0, as nobody knows.
    """
    known = Usage(
        usage.input_tokens or 0,
        usage.output_tokens or 0,
        usage.cached_tokens,
        usage.cache_write_tokens,
    )
    if prices is not None:
        price = _price(prices, model, known, provider)
        if isinstance(price, Price):
            return float(price.amount)
    return float(ceiling.price(known).amount) if ceiling is not None else 0.0


def _price(prices: PriceBook, model: str, usage: Usage, provider: str | None) -> Price | Unpriced:
    try:
        found = prices.price(model, usage, provider=provider)
    except (PriceUnknown, PricingStale) as error:
        return Unpriced(str(error))
    return found or Unpriced(f"the price list is too old to say what the model {model!r} costs")


def _rate(fixed: Decimal, output: Decimal) -> Rate:
    """The rate of an input that costs `fixed` and of a million tokens that cost `output`."""
    per_dollar = in_units("cost", 1)
    return Rate(_up(fixed * per_dollar), _up(output * per_dollar / _MANY))


def _up(amount: Decimal) -> int:
    return int(amount.to_integral_value(ROUND_CEILING))
