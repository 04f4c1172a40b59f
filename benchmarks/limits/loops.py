"""The same work as `benchmarks.ours`, done under limits of every kind, none of which is reached."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import Any

from benchmarks.measuring import Open
from benchmarks.ours import Governed, Watched, opened, sessions, streamed, text, tools
from llm_client.pricing import Rates, TablePrices
from power_loop import AgentConfig, AgentLoop, Budget, SharedBudget, Store
from power_loop.governance import (
    CostLimit,
    Policies,
    RateLimit,
    RepetitionGuard,
    RequireApproval,
    ToolAllowlist,
)
from power_loop.hooks import ToolBefore

__all__ = ["PARTS"]

MODEL = "gpt-4.1-mini"
"""Tokens are counted by its vocabulary."""

MOST = 10**12
RATES = Rates(input=Decimal("0.4"), output=Decimal("1.6"), as_of=datetime.now(UTC).date())


def _dangerous(context: ToolBefore[Any]) -> bool:
    return context.name == "weather" and "Atlantis" in context.arguments


@asynccontextmanager
async def opened_with_limits(
    url: str, model: str, *, watched: Watched | None = None, store: Store | None = None
) -> AsyncGenerator[AgentLoop]:
    """A loop under budgets of a run, a session and a tenant, and under five policies."""
    model = f"{MODEL}:{model}"
    prices = TablePrices({model: RATES})
    everything = Budget(
        rounds=MOST,
        tokens=MOST,
        input_tokens=MOST,
        output_tokens=MOST,
        cost=1e9,
        wall_seconds=1e6,
        working_seconds=1e6,
        tool_calls=MOST,
        llm_calls=MOST,
    )
    policies = Policies(
        RepetitionGuard(),
        CostLimit(1e9),
        ToolAllowlist(["weather"]),
        RequireApproval(_dangerous, "the place may not exist"),
        RateLimit({"weather": (10**6, 1.0)}),
    )
    governed = Governed(
        AgentConfig(
            max_rounds=10_000, run_budget=everything, session_budget=everything, prices=prices
        ),
        SharedBudget(Budget(tokens=MOST, cost=1e9, llm_calls=MOST, tool_calls=MOST)),
        (policies,),
    )
    async with opened(url, model, watched=watched, store=store, governed=governed) as loop:
        yield loop


PARTS: Mapping[str, Open] = MappingProxyType(
    {
        "a": partial(text, opener=opened_with_limits),
        "b": partial(tools, part="b", opener=opened_with_limits),
        "c": partial(tools, part="c", opener=opened_with_limits),
        "d": partial(streamed, opener=opened_with_limits),
        "e": partial(sessions, opener=opened_with_limits),
    }
)
