"""`sessions usage`: what a session took and cost."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from decimal import Decimal
from importlib.util import find_spec

import msgspec

import llm_client
from llm_client.types import Usage
from llm_client.usage import UsageTotals
from power_loop.agent import travel
from power_loop.cli.timeline import counted
from power_loop.history.usage import SessionUsage
from power_loop.runtime.stores.base import Store

__all__ = ["usage"]


async def usage(args: Namespace, store: Store) -> int:
    """`sessions usage`: a line an attempt, by run and round, and the sums."""
    prices = llm_client.GenAIPrices() if find_spec("genai_prices") is not None else None
    found = await travel.usage(store, args.session, prices, children=args.children)
    if args.json:
        print(msgspec.json.encode(found).decode())
        return 0
    for line in _table(found):
        print(line)
    if prices is None:
        print("(what tokens cost is not known here: pip install 'power-loop[prices]')")
    return 0


def _table(found: SessionUsage) -> Iterator[str]:
    for each in (found, *found.below):
        yield f"session {each.session}"
        for run in each.runs:
            yield f"  run {run.run}  {run.status}"
            for round in run.rounds:
                for attempt in round.attempts:
                    how = "" if attempt.measured else "  estimated"
                    yield (
                        f"    round {round.round:<3} {attempt.status:<9}  {attempt.model:<24}  "
                        f"{_tokens(attempt.usage)}{_cached(attempt.usage.cache_hit_rate)}  "
                        f"{_cost(attempt.cost)}{how}"
                    )
            yield f"    {_sum(run.totals)}"
        yield f"  {_sum(each.totals)}"
    if found.below:
        yield f"all {len(found.below) + 1} sessions\n  {_sum(found.all)}"


def _sum(totals: UsageTotals) -> str:
    attempts = counted(totals.attempts, "attempt")
    tokens = f"{_tokens(totals.usage)}{_cached(totals.cache_hit_rate)}"
    line = f"total {attempts}: {tokens}  {_cost(totals.cost)}"
    if totals.estimated.total_tokens:
        line += f"  {totals.estimated.total_tokens} tokens of it estimated"
    if totals.unpriced:
        line += f" ({totals.unpriced} without a price"
        line += f"; the others {_cost(totals.amount)})" if totals.amount else ")"
    return line


def _tokens(usage: Usage) -> str:
    told = ("?" if n is None else f"{n}" for n in (usage.input_tokens, usage.output_tokens))
    return "{:>8} in {:>8} out".format(*told)


def _cached(rate: float | None) -> str:
    return "" if rate is None else f"  {rate:4.0%} cached"


def _cost(amount: Decimal | None) -> str:
    return "cost unknown" if amount is None else f"${amount:.6f}"
