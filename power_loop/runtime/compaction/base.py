"""**Protocol** Compactor: what a strategy is told, and the plan that it gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, runtime_checkable

from msgspec import Struct

from llm_client.types import LLMRequest, Message, Part, Transcript, Usage
from power_loop.events import Transient
from power_loop.runtime.asking import Ask
from power_loop.session.records import ViewChanged

__all__ = [
    "Asked",
    "CompactionPlan",
    "CompactionRefused",
    "Compactor",
    "ContextSize",
    "PromptKeeper",
    "trigger_at",
]


class CompactionRefused(Exception):
    """A strategy has no plan, although one is needed; `str()` says why, for an event."""


class ContextSize(Struct, frozen=True, kw_only=True):
    """How large the prompt is, in tokens, and how large it may be.

    Attributes:
        window: what the model can hold, prompt and answer together; None if nobody knows.
        reserved_output: what of that is kept free for the answer.
        overhead: what the prompt has beside the view: system prompt, tools, what memory brings up.
        messages: what the view has.
        limit: the prompt must be smaller than this afterwards.
        overflow: the provider has refused the prompt as too large, whatever was counted.
        task: ids of the messages that the run's task was given with.
        model: the run's own, which `ask` asks. The window may be that of one that stands in for it.
        recallable: a tool is there that brings back what has left the view.
        count: tokens of one message.
    """

    window: int | None
    reserved_output: int
    overhead: int
    messages: int
    limit: int
    overflow: bool
    task: tuple[str, ...]
    model: str
    recallable: bool
    count: Callable[[Message], int]

    @property
    def prompt(self) -> int:
        """Tokens of the whole prompt."""
        return self.overhead + self.messages

    @property
    def aim(self) -> int:
        """Tokens of the whole prompt to come down to, so that it may grow again for a while.

        Two thirds of the limit; or half of what is left of it, where the overhead is that large.
        """
        return max(self.limit * 2 // 3, (self.overhead + self.limit) // 2)


class CompactionPlan(Struct, frozen=True, kw_only=True):
    """How a view is to become smaller.

    Attributes:
        by: the name of the strategy.
        cut: id of the first message that stays as it is; None if none is to leave.
        kept: ids of messages before the cut that stay, in order, ahead of the note.
        note: what stands in place of the others, as text; needed with a cut.
        stamp: how the note was made: for a summary its engine, model and prompt.
        replaced: shorter forms of messages that stay.
    """

    by: str
    cut: str | None = None
    kept: tuple[str, ...] = ()
    note: str = ""
    stamp: Mapping[str, str] = {}
    replaced: Mapping[str, tuple[Part, ...]] = {}


@runtime_checkable
class Compactor(Protocol):
    """**Protocol**: a strategy of compaction. Safe for use by many sessions at once.

    Whatever it plans is held to a contract before anything changes: what must stay stays, the view
    is legal, and smaller. A plan that breaks it is not carried out; the loop then leaves things out
    by rule.
    """

    @property
    def name(self) -> str:
        """What events and records call it."""
        ...

    def limit(self, window: int | None, reserved_output: int) -> int | None:
        """Tokens of a prompt at which it acts, of a model with this window; None for never."""
        ...

    async def compact(self, view: Transcript, size: ContextSize, ask: Ask) -> CompactionPlan | None:
        """How `view` is to become smaller; None if it cannot.

        `ask` asks the run's model; it may be used once.

        Raises:
            CompactionRefused: there is no plan; says why.
            LLMError: the model gave none.
            OverBudget: there is not enough left to ask it.
        """
        ...


class Asked(Struct, frozen=True, kw_only=True):
    """What a keeper needs of the run that asks it.

    Attributes:
        task: ids of the messages that the run's task was given with.
        model: the model that is asked where a request names none.
        ask: asks the model as a part of the run.
        emit: tells readers.
        new_id: gives ids that the session does not have.
        contain: awaits a strategy; a cancellation of its own making is an error of it.
    """

    task: tuple[str, ...]
    model: str
    ask: Ask
    emit: Callable[[Transient], None]
    new_id: Callable[[], str]
    contain: Callable[[Awaitable[CompactionPlan | None]], Awaitable[CompactionPlan | None]]


class PromptKeeper(Protocol):
    """**Protocol**: keeps the prompts of one session within its model's window."""

    async def too_large(
        self, request: LLMRequest, model: str, *, task: tuple[str, ...], overflow: bool
    ) -> bool:
        """Whether the view is to be compacted before `request` is made, by `model` where it names
        none. `task` are ids of the messages that the run's task was given with. With `overflow` the
        provider has refused it as too large."""
        ...

    async def compact(
        self, request: LLMRequest, view: Transcript, asked: Asked, *, overflow: bool
    ) -> ViewChanged | None:
        """How `view` is to change, so that `request`, which holds it, becomes smaller; None if it
        cannot."""
        ...

    def learn(self, request: LLMRequest, model: str, usage: Usage) -> None:
        """Takes note of what a provider counted for `request`."""
        ...


def trigger_at(
    ratio: float, threshold: int | None, window: int | None, reserved_output: int
) -> int | None:
    """Tokens of a prompt at which a strategy acts: `threshold`, or `ratio` of the window, and in
    any case before an answer has no room; None if there is nothing to go by."""
    if window is None:
        return threshold
    wanted = int(window * ratio) if threshold is None else threshold
    return max(1, min(wanted, window - reserved_output))
