"""The price list of genai-prices, whose data are part of its package: nothing is fetched.

Making one needs the extra `prices`; importing this module does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from llm_client._model_name import vendor_of
from llm_client.errors import ConfigError
from llm_client.pricing import Price, PricePolicy, counted, summed, under
from llm_client.types import Usage

# Whoever lists or reads the package's names must not need every extra.
_INSTALLED = find_spec("genai_prices") is not None
if TYPE_CHECKING or _INSTALLED:
    import genai_prices
    from genai_prices.data_snapshot import DataSnapshot, get_snapshot
    from genai_prices.types import ModelInfo, StartDateConstraint, TieredPrices

__all__ = ["GenAIPrices"]

_THOUSAND = 1_000
_DATE = re.compile(r"20\d\d-[01]\d-[0-3]\d")


class GenAIPrices:
    """A `PriceBook` with the prices that genai-prices collects.

    A price is that of the request's time, where it depends on it. Sound and images are priced as
    text, and server tools are not priced.

    The list carries no date of its own. Its age is therefore taken from the newest date that it
    mentions and that is not after its installation; that may be some days too early. Reading it
    takes about 0.2 s.

    Args:
        policy: what happens where the list does not suffice.
        as_of: the list's date, for those who know it.
        now: gives the time, against which the list's age is held.

    Attributes:
        as_of: the list's date.

    Raises:
        ConfigError: genai-prices is not installed.
    """

    def __init__(
        self,
        policy: PricePolicy | None = None,
        *,
        as_of: date | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        if not _INSTALLED:
            raise ConfigError(
                "GenAIPrices needs the extra 'prices': pip install 'power-loop[prices]'"
            )
        self._policy = policy or PricePolicy()
        self._now = now or _now
        self._snapshot = get_snapshot()
        self.as_of = as_of or _date_of(self._snapshot)
        self._warned: set[date] = set()

    def price(self, model: str, usage: Usage, *, provider: str | None = None) -> Price | None:
        """See `PriceBook.price`."""
        now = self._now()
        found = self._find(model, usage, provider, now)
        return under(self._policy, found, model, usage, now.date(), self._warned)

    def _find(self, model: str, usage: Usage, provider: str | None, now: datetime) -> Price | None:
        try:
            vendor = None if provider is None else vendor_of(provider)
            _, info = self._snapshot.find_provider_model(model, None, vendor, None)
        except LookupError:
            return None
        rates = info.get_prices(now)
        if rates.input_mtok is None and rates.output_mtok is None:
            return None
        count = counted(usage)
        sent = count.fresh + count.read + count.written
        fresh = _rate(rates.input_mtok, sent)
        read, written = rates.cache_read_mtok, rates.cache_write_mtok
        price = summed(
            count,
            (
                fresh,
                fresh if read is None else _rate(read, sent),
                fresh if written is None else _rate(written, sent),
                _rate(rates.output_mtok, sent),
            ),
            self.as_of,
        )
        fee = _rate(rates.requests_kcount, sent) / _THOUSAND
        return structs.replace(price, request=fee, amount=price.amount + fee) if fee else price


def _rate(price: Decimal | TieredPrices | None, sent: int) -> Decimal:
    """The price of a million tokens where `sent` were sent: crossing a tier raises all of them."""
    match price:
        case None:
            return Decimal(0)
        case TieredPrices():
            beyond = [tier.price for tier in price.tiers if sent > tier.start]
            return beyond[-1] if beyond else price.base
        case Decimal():
            return price


def _date_of(snapshot: DataSnapshot) -> date:
    if snapshot.from_auto_update:
        return snapshot.timestamp.date()
    # A list may speak of the future, but not from it.
    written = Path(genai_prices.__file__).stat().st_mtime
    installed = datetime.fromtimestamp(written, UTC).date()
    return max((day for day in _dates(snapshot) if day <= installed), default=installed)


def _dates(snapshot: DataSnapshot) -> Iterator[date]:
    for provider in snapshot.providers:
        yield from _mentioned(provider.price_comments)
        for model in provider.models:
            yield from _mentioned(model.price_comments)
            yield from _begun(model)


def _mentioned(comment: str | None) -> Iterator[date]:
    for text in _DATE.findall(comment or ""):
        try:
            yield date.fromisoformat(text)
        except ValueError:
            continue


def _begun(model: ModelInfo) -> Iterator[date]:
    if isinstance(model.prices, list):
        for each in model.prices:
            if isinstance(each.constraint, StartDateConstraint):
                yield each.constraint.start_date


def _now() -> datetime:
    return datetime.now(UTC)
