"""What a session has used, and what that costs: by run, round and attempt, from its records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from llm_client.pricing import Price, PriceBook, PriceUnknown
from llm_client.types import Usage
from llm_client.usage import UsageTotals
from power_loop.events import Stamped
from power_loop.session.outcome import status_of
from power_loop.session.records import (
    Forked,
    ModelAsked,
    ModelEnded,
    Purpose,
    RunClosed,
    RunOpened,
)

__all__ = ["AttemptUsage", "RoundUsage", "RunUsage", "SessionUsage", "usage_of", "usage_of_tree"]


class AttemptUsage(Struct, frozen=True, kw_only=True):
    """One request to a model.

    Attributes:
        attempt: its id, as in the records.
        model: the model that was asked.
        status: how it ended. `lost` is one whose end is not stored: its process died, or it is
            under way.
        usage: the tokens it took. Those of a lost one are what was set aside for it, else unknown.
        measured: the provider counted them; else they are an estimate.
        price: what they cost; None if that is not known.
        purpose: what the call was for beside the conversation; "" for an answer.
    """

    attempt: str
    model: str
    status: Literal["ok", "failed", "cancelled", "lost"]
    usage: Usage
    measured: bool
    price: Price | None = None
    purpose: Purpose = ""

    @property
    def cost(self) -> Decimal | None:
        """US dollars; None if they are not known."""
        return UsageTotals().plus(self).cost


class RoundUsage(Struct, frozen=True):
    """One round of a run: its attempts until the model had answered, and their sum."""

    round: int
    attempts: tuple[AttemptUsage, ...]
    totals: UsageTotals


class RunUsage(Struct, frozen=True):
    """One run. `status` is the tag of its outcome, `running` while its end is not stored.

    `resumes` is the run that it carried on.
    """

    run: str
    status: str
    resumes: str | None
    rounds: tuple[RoundUsage, ...]
    totals: UsageTotals


class SessionUsage(Struct, frozen=True):
    """A session: its runs, and their sum.

    What a fork was made of is counted in the fork as well: it is in its log.

    Attributes:
        session: its id.
        runs: those that it has had, in order.
        totals: the sum of all attempts. `totals.cost` is None if the price of any is not known, and
            `totals.unpriced` says of how many.
        below: the sessions of its sub-agents and theirs, if they were asked for.
        all: `totals` and those of all sessions below it.
    """

    session: str
    runs: tuple[RunUsage, ...]
    totals: UsageTotals
    below: tuple[SessionUsage, ...]
    all: UsageTotals


class _Run:
    """A run while its records are read."""

    def __init__(self, opened: RunOpened) -> None:
        self._opened = opened
        self._asked: list[ModelAsked] = []
        self._ended: dict[str, ModelEnded] = {}
        self.status = "running"

    def take(self, event: object) -> None:
        match event:
            case ModelAsked():
                self._asked.append(event)
            case ModelEnded():
                self._ended[event.attempt] = event
            case RunClosed():
                self.status = status_of(event.outcome)
            case Forked():
                self.status = "crashed"
            case _:
                pass

    def usage(self, prices: PriceBook | None) -> RunUsage:
        rounds: dict[int, list[AttemptUsage]] = {}
        for asked in self._asked:
            attempt = _attempt(asked, self._ended.get(asked.attempt), prices)
            rounds.setdefault(asked.round, []).append(attempt)
        told = tuple([RoundUsage(n, tuple(each), _sum(each)) for n, each in rounds.items()])
        opened, attempts = self._opened, [a for each in told for a in each.attempts]
        return RunUsage(opened.run, self.status, opened.resumes, told, _sum(attempts))


def usage_of(
    session_id: str, stamped: Iterable[Stamped], prices: PriceBook | None = None
) -> SessionUsage:
    """What a session has used, of which `stamped` are all records, and what that costs at `prices`.

    Raises:
        PricingStale: the price list is too old, and its policy refuses that.
    """
    runs = [run.usage(prices) for run in _runs(stamped)]
    totals = _sum([a for run in runs for each in run.rounds for a in each.attempts])
    return SessionUsage(session_id, tuple(runs), totals, (), totals)


def usage_of_tree(
    root: str, stamped: Iterable[Stamped], prices: PriceBook | None = None
) -> SessionUsage:
    """The same for a root session and all below it, of which `stamped` are all records.

    Raises:
        PricingStale: the price list is too old, and its policy refuses that.
    """
    logs: dict[str, list[Stamped]] = {root: []}
    for each in stamped:
        logs.setdefault(each.session, []).append(each)
    own, *below = [usage_of(session, log, prices) for session, log in logs.items()]
    attempts = [
        attempt
        for session in (own, *below)
        for run in session.runs
        for each in run.rounds
        for attempt in each.attempts
    ]
    return SessionUsage(root, own.runs, own.totals, tuple(below), _sum(attempts))


def _runs(stamped: Iterable[Stamped]) -> Sequence[_Run]:
    runs: list[_Run] = []
    for each in stamped:
        if isinstance(each.event, RunOpened):
            runs.append(_Run(each.event))
        elif runs and not (isinstance(each.event, Forked) and runs[-1].status != "running"):
            runs[-1].take(each.event)
    return runs


def _attempt(asked: ModelAsked, ended: ModelEnded | None, prices: PriceBook | None) -> AttemptUsage:
    if ended is None:
        # Who asked for it may have set tokens aside; if not, nobody knows how many it took.
        output = asked.reserved_output
        usage = Usage(asked.reserved - output, output) if asked.reserved else Usage()
        status, measured = "lost", False
    else:
        usage, status, measured = ended.usage, ended.status, ended.measured
    return AttemptUsage(
        attempt=asked.attempt,
        model=asked.model,
        status=status,
        usage=usage,
        measured=measured,
        price=_price(asked.model, usage, prices),
        purpose=asked.purpose,
    )


def _price(model: str, usage: Usage, prices: PriceBook | None) -> Price | None:
    if prices is None:
        return None
    try:
        return prices.price(model, usage)
    except PriceUnknown:
        return None


def _sum(attempts: Iterable[AttemptUsage]) -> UsageTotals:
    totals = UsageTotals()
    for attempt in attempts:
        totals = totals.plus(attempt)
    return totals
