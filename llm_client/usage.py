"""The ledger: what every attempt took, whether it succeeded, failed or was left."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol

from msgspec import Struct

from llm_client.pricing import Price
from llm_client.types import Usage

__all__ = ["UsageLedger", "UsageRow", "UsageTotals", "Used"]

_ZERO = Decimal(0)


class UsageRow(Struct, frozen=True, kw_only=True):
    """One attempt to have an answer.

    Attributes:
        attempt: its number in its ledger, from 1.
        model: the model that was asked.
        provider: the provider's name, where it is known.
        status: "ok" if the answer came to its end, "failed" if it ended in an error, "cancelled" if
            nobody waited for its end.
        usage: the tokens it took; input and output are always known, if only estimated.
        measured: the provider counted both input and output, or nothing was sent to it. If False,
            at least one of them is an estimate.
        price: what that costs; None if no prices are known to the ledger's owner, or only tokens
            are counted because the price list is too old.
        at: when the attempt ended.
    """

    attempt: int
    model: str
    provider: str | None = None
    status: Literal["ok", "failed", "cancelled"]
    usage: Usage
    measured: bool
    price: Price | None = None
    at: datetime

    @property
    def cache_hit_rate(self) -> float | None:
        """Which share of its input was read from a prompt cache; see `Usage.cache_hit_rate`."""
        return self.usage.cache_hit_rate


class Used(Protocol):
    """**Protocol**: an attempt, as sums count it. The fields are those of `UsageRow`.

    Its status may also be "lost": nobody has seen its end.
    """

    @property
    def status(self) -> Literal["ok", "failed", "cancelled", "lost"]:
        """How it ended."""
        ...

    @property
    def usage(self) -> Usage:
        """The tokens it took."""
        ...

    @property
    def measured(self) -> bool:
        """Whether the provider counted them."""
        ...

    @property
    def price(self) -> Price | None:
        """What they cost, if that is known."""
        ...


class UsageTotals(Struct, frozen=True, kw_only=True):
    """The sums of a ledger.

    Attributes:
        ok: attempts that came to their end.
        failed: attempts that ended in an error.
        cancelled: attempts that nobody waited for.
        lost: attempts whose end nobody has seen; a ledger has none.
        measured: tokens that providers counted.
        estimated: tokens of rows that are estimates, at least in part.
        cacheable: input tokens of the rows that say how many of them were read from a prompt cache.
        amount: US dollars, of all rows that have a price.
        unpriced: rows without a price whose tokens are not known to be 0; where there are any,
            `amount` is not all.
    """

    ok: int = 0
    failed: int = 0
    cancelled: int = 0
    lost: int = 0
    measured: Usage = Usage(0, 0)
    estimated: Usage = Usage(0, 0)
    cacheable: int = 0
    amount: Decimal = _ZERO
    unpriced: int = 0

    @property
    def attempts(self) -> int:
        """All attempts."""
        return self.ok + self.failed + self.cancelled + self.lost

    @property
    def usage(self) -> Usage:
        """All tokens, measured and estimated."""
        return self.measured + self.estimated

    @property
    def cache_hit_rate(self) -> float | None:
        """Which share of the input was read from a prompt cache, 0 to 1, among rows that say so;
        None if none does."""
        return (self.usage.cached_tokens or 0) / self.cacheable if self.cacheable else None

    @property
    def cost(self) -> Decimal | None:
        """US dollars of everything; None if the price of any row is not known."""
        return None if self.unpriced else self.amount

    def plus(self, row: Used) -> UsageTotals:
        """With one row more."""
        none = Usage(0, 0)
        used = row.usage.input_tokens, row.usage.output_tokens
        priced = row.price is not None or used == (0, 0)
        return UsageTotals(
            ok=self.ok + (row.status == "ok"),
            failed=self.failed + (row.status == "failed"),
            cancelled=self.cancelled + (row.status == "cancelled"),
            lost=self.lost + (row.status == "lost"),
            measured=self.measured + (row.usage if row.measured else none),
            estimated=self.estimated + (none if row.measured else row.usage),
            cacheable=self.cacheable + _cacheable(row.usage),
            amount=self.amount + (_ZERO if row.price is None else row.price.amount),
            unpriced=self.unpriced + (not priced),
        )


def _cacheable(usage: Usage) -> int:
    return 0 if usage.cached_tokens is None else usage.input_tokens or 0


class UsageLedger:
    """One row for each attempt, in the order in which they ended. Several services may share it."""

    def __init__(self) -> None:
        self._rows: list[UsageRow] = []
        self._totals = UsageTotals()

    def __repr__(self) -> str:
        return f"UsageLedger({len(self._rows)} attempts)"

    @property
    def rows(self) -> tuple[UsageRow, ...]:
        """All rows so far."""
        return tuple(self._rows)

    def add(
        self,
        *,
        model: str,
        status: Literal["ok", "failed", "cancelled"],
        usage: Usage,
        measured: bool,
        at: datetime,
        provider: str | None = None,
        price: Price | None = None,
    ) -> UsageRow:
        """Writes a row, which gets the next number."""
        row = UsageRow(
            attempt=len(self._rows) + 1,
            model=model,
            provider=provider,
            status=status,
            usage=usage,
            measured=measured,
            price=price,
            at=at,
        )
        self._rows.append(row)
        self._totals = self._totals.plus(row)
        return row

    def totals(self) -> UsageTotals:
        """The sums of all rows so far."""
        return self._totals
