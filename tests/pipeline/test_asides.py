"""Model calls beside the conversation have so many seconds, however they are spent."""

from __future__ import annotations

import pytest

from llm_client.types import LLMRequest, LLMResponse
from power_loop.pipeline.ports import AttemptFailed, Grant
from power_loop.session.outcome import BudgetExhausted, Completed
from power_loop.session.records import ModelAsked
from tests.pipeline.fakes import FakePorts
from tests.pipeline.scripts import send, text


class SlowBudget(FakePorts):
    """A budget that a call beside the conversation has to wait for; `given` is what is left of its
    seconds when the model is asked.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__([text("ok"), text("tea")])
        self.limited = self.remembers = True
        self.given: list[float | None] = []
        self._seconds = seconds

    async def reserve(
        self, request: LLMRequest, attempt: str, *, new_round: bool, within: float | None = None
    ) -> Grant | BudgetExhausted | None:
        """Takes its time, as long as it may."""
        if within is not None:
            self._clock += min(within, self._seconds)
            if within < self._seconds:
                return None
        return await super().reserve(request, attempt, new_round=new_round)

    async def ask(
        self, request: LLMRequest, attempt: str, within: float | None = None
    ) -> LLMResponse | AttemptFailed:
        """Keeps how long it may take."""
        self.given.append(within)
        return await super().ask(request, attempt, within)


@pytest.mark.parametrize(("seconds", "given"), [(0.0, [9.0]), (4.0, [5.0]), (10.0, [])])
def test_the_wait_for_a_budget_is_a_part_of_the_time(seconds: float, given: list[float]) -> None:
    """The model has the rest; where none is left, it is not asked, and nothing is recorded."""
    io = SlowBudget(seconds)
    assert send(io) == Completed("ok")
    assert io.given == [None, *given]
    assert [record.purpose for record in io.of(ModelAsked)] == ["", *(["memory"] * len(given))]
