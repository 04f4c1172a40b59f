"""What calls cost: exact amounts with the date of the price list, never a silent nothing.

    PriceBook ── TablePrices    prices of one's own, by model
              └─ GenAIPrices    the list of genai-prices (llm_client.pricing_genai, extra `prices`)

Two things can be wrong with a price list, and a `PricePolicy` says what happens then: it does not
know the model, or it is old.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Literal, Protocol

from msgspec import Struct, structs

from llm_client.errors import CallerError
from llm_client.types import Usage

__all__ = [
    "Ceiling",
    "Price",
    "PriceBook",
    "PricePolicy",
    "PriceUnknown",
    "PricingStale",
    "Rates",
    "TablePrices",
    "today_in_utc",
    "under",
]

_PER_MILLION = -6
_NOTHING = Decimal(0)

_log = logging.getLogger("llm_client.pricing")


class PriceUnknown(CallerError):
    """There is no price for what was asked."""


class PricingStale(CallerError):
    """The price list is older than it may be."""


class Price(Struct, frozen=True, kw_only=True):
    """What one call costs, in US dollars.

    Attributes:
        amount: all of it: the sum of the five below.
        input: for input tokens that were neither read from a cache nor written to one.
        cache_read: for input tokens that were read from a prompt cache.
        cache_write: for input tokens that were written to one.
        output: for output tokens, reasoning included.
        request: for the request itself, where the provider charges for it.
        as_of: the date of the price list; None for a ceiling, which somebody declared.
        stale: the list was older than the policy allows, and is used all the same.
        currency: always "USD".
    """

    amount: Decimal
    input: Decimal
    cache_read: Decimal
    cache_write: Decimal
    output: Decimal
    request: Decimal = Decimal(0)
    as_of: date | None = None
    stale: bool = False
    currency: Literal["USD"] = "USD"


class Rates(Struct, frozen=True, kw_only=True):
    """US dollars for a million tokens of one model, known on the day `as_of`.

    Tokens read from or written to a prompt cache cost what other input does, unless it is said.
    """

    input: Decimal
    output: Decimal
    as_of: date
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None

    def price(self, usage: Usage) -> Price:
        """What `usage` costs.

        Raises:
            PriceUnknown: the usage does not say how many tokens there were.
        """
        read = self.input if self.cache_read is None else self.cache_read
        written = self.input if self.cache_write is None else self.cache_write
        return summed(counted(usage), (self.input, read, written, self.output), self.as_of)


class Ceiling(Struct, frozen=True):
    """US dollars for a million tokens that no unknown model is believed to exceed, cache writes
    included."""

    input_per_million: Decimal
    output_per_million: Decimal

    def price(self, usage: Usage) -> Price:
        """What `usage` costs at most.

        Raises:
            PriceUnknown: the usage does not say how many tokens there were.
        """
        rate = self.input_per_million
        return summed(counted(usage), (rate, rate, rate, self.output_per_million), None)


class PricePolicy(Struct, frozen=True, kw_only=True):
    """What happens where a price list does not suffice.

    Attributes:
        unknown: for a model that is not in it: "refuse" raises `PriceUnknown`, a `Ceiling` is used.
        stale: for a list that is older than `max_age_days`: "warn" uses it, logs a warning once and
            marks its prices; "tokens_only" gives no price, so that only tokens are counted;
            "refuse" raises `PricingStale`.
        max_age_days: how old a list may be.
    """

    unknown: Literal["refuse"] | Ceiling = "refuse"
    stale: Literal["warn", "tokens_only", "refuse"] = "warn"
    max_age_days: int = 90


class PriceBook(Protocol):
    """**Protocol**: knows what calls cost."""

    def price(self, model: str, usage: Usage, *, provider: str | None = None) -> Price | None:
        """What `usage` of `model` costs. `provider` is a name of `llm_client.PROVIDERS`; without
        it, the model's name must do. None is returned only where the policy says "tokens_only".

        Raises:
            PriceUnknown: there is no price, and no ceiling was declared.
            PricingStale: the price list is too old, and the policy refuses that.
        """
        ...


class TablePrices:
    """A `PriceBook` of one's own models.

    Args:
        rates: by the model's name, exactly as it is requested.
        otherwise: who is asked about all other models; None for nobody.
        policy: what happens where the table does not suffice. What is said of unknown models holds
            only if nobody else is asked.
        today: gives the date, against which the table's age is held.
    """

    def __init__(
        self,
        rates: Mapping[str, Rates],
        *,
        otherwise: PriceBook | None = None,
        policy: PricePolicy | None = None,
        today: Callable[[], date] | None = None,
    ) -> None:
        self._rates = dict(rates)
        self._otherwise = otherwise
        self._policy = policy or PricePolicy()
        self._today = today or today_in_utc
        self._warned: set[date] = set()

    def price(self, model: str, usage: Usage, *, provider: str | None = None) -> Price | None:
        """See `PriceBook.price`."""
        rates = self._rates.get(model)
        if rates is None and self._otherwise is not None:
            return self._otherwise.price(model, usage, provider=provider)
        found = None if rates is None else rates.price(usage)
        return under(self._policy, found, model, usage, self._today(), self._warned)


def today_in_utc() -> date:
    """The date, in UTC."""
    return datetime.now(UTC).date()


# ── what price books share ────────────────────────────────────────────────────────────────────────


class Counted(Struct, frozen=True):
    """The tokens of a usage by what they cost, each counted once."""

    fresh: int
    read: int
    written: int
    output: int


def counted(usage: Usage) -> Counted:
    """The tokens of `usage`. Where a provider says that more were cached than were sent, as many
    were sent.

    Raises:
        PriceUnknown: the usage does not say how many tokens there were.
    """
    if usage.input_tokens is None or usage.output_tokens is None:
        raise PriceUnknown(
            "the provider did not say how many tokens there were, so there is no price; estimate "
            "what is missing with a TokenCounter first"
        )
    read, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    return Counted(max(0, usage.input_tokens - read - written), read, written, usage.output_tokens)


def summed(
    count: Counted, rates: tuple[Decimal, Decimal, Decimal, Decimal], as_of: date | None
) -> Price:
    """The price at `rates` for a million fresh, read, written and output tokens."""
    fresh = (rates[0] * count.fresh).scaleb(_PER_MILLION)
    read = (rates[1] * count.read).scaleb(_PER_MILLION) if count.read else _NOTHING
    written = (rates[2] * count.written).scaleb(_PER_MILLION) if count.written else _NOTHING
    output = (rates[3] * count.output).scaleb(_PER_MILLION)
    return Price(
        amount=fresh + read + written + output,
        input=fresh,
        cache_read=read,
        cache_write=written,
        output=output,
        as_of=as_of,
    )


def under(
    policy: PricePolicy,
    found: Price | None,
    model: str,
    usage: Usage,
    today: date,
    warned: set[date],
) -> Price | None:
    """What `policy` makes of the price that was `found`. `warned` holds the dates of lists that a
    warning was given about.

    Raises:
        PriceUnknown: none was found, and no ceiling was declared.
        PricingStale: it is too old, and the policy refuses that.
    """
    if found is None:
        if isinstance(policy.unknown, Ceiling):
            return policy.unknown.price(usage)
        raise PriceUnknown(
            f"there is no price for the model {model!r}; put it into TablePrices, or declare a "
            "Ceiling in the PricePolicy"
        )
    as_of = found.as_of
    if as_of is None or (today - as_of).days <= policy.max_age_days:
        return found
    told = f"the prices are of {as_of}, more than {policy.max_age_days} days ago; update the list"
    if policy.stale == "refuse":
        raise PricingStale(told)
    if policy.stale == "tokens_only":
        return None
    if as_of not in warned:
        warned.add(as_of)
        _log.warning("%s", told)
    return structs.replace(found, stale=True)
