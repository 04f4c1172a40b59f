"""What a run does so that its model has what it needs, and no more than it can hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from llm_client.types import LLMRequest, LLMResponse, Message, Transcript
from power_loop.driver.lending import Lent
from power_loop.driver.reporting import CancelReason
from power_loop.driver.setup import RunSetup
from power_loop.events import Transient
from power_loop.pipeline.ports import AskAside, AttemptFailed
from power_loop.runtime.compaction.base import Asked
from power_loop.session.outcome import Completed, Outcome
from power_loop.session.records import ViewChanged

__all__ = ["Context"]


class Context:
    """Compaction and memory of one run. See `power_loop.pipeline.ports.Ports`."""

    def __init__(
        self, setup: RunSetup, emit: Callable[[Transient], None], cancelled: CancelReason
    ) -> None:
        self._setup = setup
        self._emit = emit
        self._cancelled = cancelled
        self._remembered = False

    async def condense(self, results: Sequence[Message], ask: AskAside) -> ViewChanged | None:
        """What stands in place of long results."""
        setup = self._setup
        if setup.context.summariser is None:
            return None
        return await setup.context.summariser.summarise(
            setup.session.id, results, setup.plan.model, ask, self._emit
        )

    async def too_large(self, request: LLMRequest, *, overflow: bool) -> bool:
        """Whether the view is to shrink."""
        setup = self._setup
        assert setup.context.keeper is not None
        return await setup.context.keeper.too_large(
            request, setup.plan.model, task=setup.session.task, overflow=overflow
        )

    async def compact(
        self, request: LLMRequest, ask: AskAside, *, overflow: bool
    ) -> ViewChanged | None:
        """How the view is to shrink."""
        setup, session = self._setup, self._setup.session
        assert setup.context.keeper is not None
        lent = Lent(ask, self._cancelled)
        asked = Asked(
            task=session.task,
            model=setup.plan.model,
            ask=lent,
            emit=self._emit,
            new_id=setup.new_id,
            contain=partial(setup.background.detached.contain, what="a compactor"),
        )
        try:
            return await setup.context.keeper.compact(
                request, session.view, asked, overflow=overflow
            )
        finally:
            await lent.end()

    def learn(self, request: LLMRequest, answer: LLMResponse | AttemptFailed) -> None:
        """Takes note of what the provider counted."""
        setup = self._setup
        if setup.context.keeper is not None and isinstance(answer, LLMResponse):
            setup.context.keeper.learn(request, setup.plan.model, answer.usage)

    async def recall(self, view: Transcript) -> tuple[Message, ...]:
        """What memory brings up."""
        setup = self._setup
        assert setup.context.memory is not None
        return await setup.context.memory.recall(setup.session, self._emit)

    async def remember(self, ask: AskAside) -> None:
        """Lets memory take note of a run that is about to complete."""
        setup = self._setup
        assert setup.context.memory is not None
        self._remembered = True
        last = setup.session.last_message
        text = "" if last is None else last.text
        lent = Lent(ask, self._cancelled)
        try:
            await setup.context.memory.remember(
                setup.session, Completed(text), text, lent, self._emit
            )
        finally:
            await lent.end()

    async def remember_ending(self, outcome: Outcome, text: str, within: float) -> None:
        """Lets memory take note of a run that has ended, unless it has of this very ending."""
        memory, session = self._setup.context.memory, self._setup.session
        if memory is not None and not (self._remembered and isinstance(outcome, Completed)):
            await memory.remember(session, outcome, text, None, self._emit, within)
