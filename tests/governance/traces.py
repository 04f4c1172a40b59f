"""Loops that do what a trace says: which calls a model makes, and what they bring."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from llm_client.pricing import PriceBook, Rates, TablePrices
from llm_client.types import LLMRequest
from power_loop import AgentConfig, AgentLoop, Extension, Hooks, JsonSchemaTool
from power_loop.agent.result import RunResult
from power_loop.hooks import COMPLETE_DECIDE, CompleteDecide, Continue
from power_loop.session.records import Decided
from tests.agent.scripted import Reply, Scripted, calls, says
from tests.agent.support import check_log

__all__ = ["PRICES", "Call", "GoOn", "Player", "Step", "played"]

PRICES = TablePrices(
    {"scripted": Rates(input=Decimal(100), output=Decimal(1000), as_of=date(2026, 1, 1))},
    today=lambda: date(2026, 1, 2),
)
"""Those of the scripted model: a round uses 10 + 5 tokens, which cost 0.006 US dollars."""


class Call(Struct, frozen=True):
    """A call, its arguments as raw JSON or as values, and what it brings."""

    name: str
    arguments: dict[str, Any] | str
    result: str = "ok"


Step = Sequence[Call] | str
"""One answer of the model: calls, or words."""


class GoOn(Extension):
    """Never takes words for an end, until there are no more steps."""

    name = "go_on"

    def __init__(self, player: Player, injected: Sequence[str]) -> None:
        self._player = player
        self._injected = injected

    def hooks(self, hooks: Hooks) -> None:
        hooks.on(COMPLETE_DECIDE, self._decide, name="go_on")

    def _decide(self, context: CompleteDecide[Any]) -> Continue | None:
        if self._player.over:
            return None
        text = self._injected[context.fire_count % len(self._injected)]
        return Continue(text, extra_rounds=200)


class Player:
    """A scripted model and its tools.

    Attributes:
        llm: the model.
        asked: how often it was asked for a step.
        ran: the calls that were run, as (step, name).
        decided: at which hook points something was decided, once it is over.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.asked = 0
        self.ran: list[tuple[int, str]] = []
        self.decided: list[str] = []
        self.llm = Scripted(by=self._reply)

    @property
    def over(self) -> bool:
        """Whether all steps have been taken."""
        return self.asked >= len(self.steps)

    def _reply(self, request: LLMRequest) -> Reply:
        if self.over:
            self.asked += 1
            return says("That was all there is to do, and it is done.")
        step = self.steps[self.asked]
        self.asked += 1
        if isinstance(step, str):
            return says(step)
        return calls(
            *[(f"c{self.asked}.{n}", call.name, _raw(call)) for n, call in enumerate(step)]
        )

    def tools(self) -> list[JsonSchemaTool]:
        """A tool for each name that the trace has."""
        names = {call.name for step in self.steps if not isinstance(step, str) for call in step}
        return [self._tool(name) for name in sorted(names)]

    def _tool(self, name: str) -> JsonSchemaTool:
        async def handler(values: dict[str, Any], context: Any) -> str:
            number, at = context.call_id.removeprefix("c").split(".")
            self.ran.append((int(number), name))
            step = self.steps[int(number) - 1]
            assert not isinstance(step, str)
            return step[int(at)].result

        return JsonSchemaTool(name, "Does what the trace says.", {"type": "object"}, handler)


async def played(
    steps: Sequence[Step],
    *extensions: Extension,
    injected: Sequence[str] = ("Go on.",),
    max_rounds: int = 200,
    prices: PriceBook | None = None,
) -> tuple[RunResult[None], Player]:
    """Plays a trace in a loop with these extensions: how it ended, and what was done."""
    player = Player(steps)
    loop = AgentLoop(
        player.llm,
        tools=player.tools(),
        config=AgentConfig(max_rounds=max_rounds, prices=prices),
        extensions=(*extensions, GoOn(player, injected)),
    )
    async with loop:
        result = await loop.send("Do it.")
        log = await check_log(loop, result.session_id, does_the_same=False)
    player.decided = [record.at for record in log if isinstance(record, Decided)]
    assert player.llm.illegal == []
    return result, player


def _raw(call: Call) -> str:
    if isinstance(call.arguments, str):
        return call.arguments
    return msgspec.json.encode(call.arguments).decode()
