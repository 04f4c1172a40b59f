"""Compaction and memory in a replay: what they had come to is taken from the record."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from llm_client.errors import LLMError
from llm_client.types import LLMRequest, Message, Transcript
from power_loop.errors import OverBudget
from power_loop.history.script import Script
from power_loop.hooks import COMPACT_BEFORE, MEMORY_RECALLED, HookPoint
from power_loop.pipeline.ports import AskAside, Interrupted
from power_loop.runtime.compaction.outputs import OUTPUT
from power_loop.session.records import Decided, ModelEnded, Purpose, Recalled, Record, ViewChanged

__all__ = ["ReplayContext"]

_DROPPED = (Message.user("[dropped]"),)


class Left(Exception):
    """Nobody had waited for the end of this model call."""


class ReplayContext:
    """Base of `ReplayPorts`."""

    _script: Script
    _left = Interrupted()

    def left(self, ended: ModelEnded) -> Left:
        """A model call that somebody had not waited for to its end, to be raised."""
        self._left = Interrupted(ended.partial, ended.usage, ended.measured)
        return Left()

    def left_call(self) -> Interrupted:
        """What there had been to tell of such a call."""
        return self._left

    @property
    def compacts(self) -> bool:
        """Whether the view had been compacted here, or a hook had forbidden that."""
        coming = self._script.next
        asked = self._asked("compaction")
        changed = isinstance(coming, ViewChanged) and coming.by != OUTPUT
        return asked or changed or _is_of(coming, COMPACT_BEFORE)

    async def too_large(self, request: LLMRequest, *, overflow: bool) -> bool:
        """Whether it had been."""
        coming = self._script.next
        # What a provider has refused leaves the view without a strategy.
        refused = overflow and isinstance(coming, ViewChanged) and not coming.by
        return self.compacts and not refused

    async def compact(
        self, request: LLMRequest, ask: AskAside, *, overflow: bool
    ) -> ViewChanged | None:
        """How the view had changed; the model is asked if it had been."""
        if self._asked("compaction"):
            await self._answered(ask)
        # The end of a call that nobody had waited for is written once this is known.
        coming = (each for each in self._script.coming() if not isinstance(each, ModelEnded))
        change = next(coming, None)
        # What leaves because a provider had refused it is no strategy's work.
        return change if isinstance(change, ViewChanged) and change.by else None

    async def condense(self, results: Sequence[Message], ask: AskAside) -> ViewChanged | None:
        """What had come to stand in place of long results."""
        while self._asked("output"):
            await self._answered(ask)
        change = self._script.next
        return change if isinstance(change, ViewChanged) and change.by == OUTPUT else None

    @property
    def recalls(self) -> bool:
        """Whether memory had brought something up here, even if a hook had dropped it."""
        coming = self._script.next
        return isinstance(coming, Recalled) or _is_of(coming, MEMORY_RECALLED)

    async def recall(self, view: Transcript) -> tuple[Message, ...]:
        """What memory had brought up; what had been dropped is in no record."""
        recalled = self._script.next
        return recalled.messages if isinstance(recalled, Recalled) else _DROPPED

    @property
    def remembers(self) -> bool:
        """Whether memory had asked the model about the run."""
        return self._asked("memory")

    async def remember(self, ask: AskAside) -> None:
        """Asks the model once more what it had been asked."""
        while self._asked("memory"):
            await self._answered(ask)

    def _asked(self, purpose: Purpose) -> bool:
        asked, _ = self._script.asking()
        return asked is not None and asked.purpose == purpose

    async def _answered(self, ask: AskAside) -> None:
        """Asks what nobody reads: the record holds what was made of the answer."""
        asked, _ = self._script.asking()
        with suppress(LLMError, OverBudget, Left):
            await ask(LLMRequest((), model=None if asked is None else asked.model), within=0)


def _is_of(record: Record | None, point: HookPoint[Any, Any]) -> bool:
    return isinstance(record, Decided) and record.at == point.name
