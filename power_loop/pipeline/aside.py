"""Model calls that are no part of the conversation: what a compactor or a memory wants to know."""

from __future__ import annotations

from msgspec.structs import replace

from llm_client.errors import LLMError
from llm_client.types import LLMRequest, LLMResponse
from power_loop.errors import OverBudget, UsageError
from power_loop.pipeline.attempts import attempted
from power_loop.pipeline.ports import Ports
from power_loop.session.outcome import BudgetExhausted
from power_loop.session.records import ModelAsked, ModelEnded, Purpose
from power_loop.session.text import repaired_text

__all__ = ["Asides"]


class Asides:
    """Asks the model for somebody else's code, one call at a time, until it is closed."""

    def __init__(self, io: Ports, purpose: Purpose) -> None:
        self._io = io
        self._purpose: Purpose = purpose
        self._open = True

    async def __call__(self, request: LLMRequest, *, within: float) -> LLMResponse:
        """The answer of the run's model, or of the one that `request` names, in so many seconds;
        nothing is tried again.

        Raises:
            LLMError: it failed, or took too long.
            OverBudget: there is not enough left for it.
            UsageError: another call is under way, or what this was given for is over.
        """
        io = self._io
        if not self._open or io.session.asked is not None:
            raise UsageError(
                "ask() is for one call at a time, and for as long as the compactor or memory that "
                "was given it is at work"
            )
        if request.model is None:
            # The run may have been given another model than the service's own.
            request = replace(request, model=io.plan.template.model)
        model = request.model or io.plan.model
        asked = ModelAsked(io.new_id(), io.session.round, model, purpose=self._purpose)
        result = await attempted(io, request, asked, within)
        if isinstance(result, BudgetExhausted):
            raise OverBudget(f"{result.limit}: {result.reason}")
        if isinstance(result, LLMError):
            raise result
        return result.response

    async def close(self) -> None:
        """Answers nobody any more. A call that nobody has waited for to its end is over."""
        self._open = False
        await _leave_call(self._io)


async def _leave_call(io: Ports) -> None:
    """Records the end of a model call that was left, if there is one."""
    asked = io.session.asked
    if asked is None:
        return
    left = io.left_call()
    ended = ModelEnded(
        asked.attempt,
        "cancelled",
        left.usage,
        measured=left.measured,
        partial=repaired_text(left.partial),
        cost=io.cost(asked.model, left.usage) if io.limited else 0.0,
    )
    await io.commit(ended, later=True)
