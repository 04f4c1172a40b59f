"""**Protocol** Ports: all that the pipeline may ask of the world.

With ports that never suspend, the whole pipeline runs to its end in one `coro.send(None)`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, TypeVar

from msgspec import Struct

from llm_client.errors import LLMError
from llm_client.types import LLMRequest, LLMResponse, Message, ToolResult, Transcript, Usage
from power_loop.events import Transient
from power_loop.hooks import Diverted, HookPoint
from power_loop.pipeline.plan import Answer, RunPlan
from power_loop.session.machine import Session
from power_loop.session.outcome import BudgetExhausted, Outcome
from power_loop.session.records import (
    CallWaiting,
    Decided,
    Record,
    Settlement,
    ToolStarted,
    ViewChanged,
)
from power_loop.session.spent import Spent

__all__ = [
    "AskAside",
    "AttemptFailed",
    "ChildEnded",
    "Found",
    "Grant",
    "InboxTake",
    "Interrupted",
    "Job",
    "Ports",
    "ToolTraits",
    "Used",
]

C = TypeVar("C")
R = TypeVar("R")


class ToolTraits(Struct, frozen=True):
    """What the loop must know of a tool. An `external` one is run by the caller, not here; one that
    `reconciles` can say what became of a call; a call of a `child` is a session of its own.
    """

    exclusive: bool = False
    idempotent: bool = False
    external: bool = False
    reconciles: bool = False
    child: bool = False


class Used(Struct, frozen=True):
    """A tool has run: what it gave, what it raised, and whether it came to its end.

    With a `question`, it has ended to let a person answer in its place; `schema` is that of the
    answer, as JSON text. `meta` are notes about the result: see `OUTPUT_META`.
    """

    result: ToolResult
    error: Exception | None = None
    how: Settlement = "finished"
    question: str | None = None
    schema: str = ""
    meta: dict[str, str] | None = None


Found = Used | Literal["never_happened", "cannot_tell"]
"""What a tool finds out about a call of its own whose outcome is unknown."""


class Grant(Struct, frozen=True):
    """A model call may be made, as `request`: its output may have been bounded further.

    `reserved` tokens are set aside for it, of which `reserved_output` for the answer, and
    `reserved_cost` US dollars. `bounded` is what the log says of an answer that may have less than
    was asked for.
    """

    request: LLMRequest
    reserved: int = 0
    reserved_output: int = 0
    reserved_cost: float = 0.0
    bounded: Decided | None = None


class ChildEnded(Struct, frozen=True):
    """The session below a call has come to an `outcome`, having `spent` this in all.

    `used` is what becomes of the call by that; None while the session waits for somebody.
    """

    outcome: Outcome
    spent: Spent
    used: Used | None = None


class AttemptFailed(Struct, frozen=True):
    """A model call has failed: why, what had arrived by then, and what it may have cost.

    `measured` is False when `usage` is an estimate.
    """

    error: LLMError
    partial: str = ""
    usage: Usage = Usage()
    measured: bool = False


class Interrupted(Struct, frozen=True):
    """A model call was stopped by a message that could not wait, or the pause before the next one.

    `partial` is the text that had arrived by then, `usage` what it may have cost; `measured` is
    False when that is an estimate.
    """

    partial: str = ""
    usage: Usage = Usage(0, 0)
    measured: bool = True


class InboxTake(Struct, frozen=True):
    """What waits in the inbox: messages to append, ids to consume, a wish to cancel.

    `idle` and `idle_ids` are those that enter only where the run would end.
    """

    messages: tuple[Message, ...] = ()
    ids: tuple[str, ...] = ()
    cancel: str | None = None
    idle: tuple[Message, ...] = ()
    idle_ids: tuple[str, ...] = ()


class Job(Struct, frozen=True):
    """One call of a batch. `run` answers False to have its unfinished siblings cancelled."""

    run: Callable[[], Awaitable[bool]]
    exclusive: bool = False


class AskAside(Protocol):
    """**Protocol**: asks the model something that is no part of the conversation, once."""

    async def __call__(self, request: LLMRequest, *, within: float) -> LLMResponse:
        """The answer, in so many seconds.

        Raises:
            LLMError: it failed, or took too long.
            OverBudget: there is not enough left for it.
        """
        ...


class Ports(Protocol):
    """**Protocol**: the world, as the pipeline sees it."""

    session: Session
    plan: RunPlan
    deps: Any

    @property
    def limited(self) -> bool:
        """Whether there is any budget, or prices; if not, nothing need be reserved."""
        ...

    @property
    def responds(self) -> bool:
        """Whether somebody is there who may answer at once."""
        ...

    @property
    def compacts(self) -> bool:
        """Whether a compactor is there at all."""
        ...

    @property
    def recalls(self) -> bool:
        """Whether a memory is there at all."""
        ...

    @property
    def remembers(self) -> bool:
        """Whether somebody wants to take note of a run before it completes."""
        ...

    def now(self) -> float:
        """Seconds on a clock that only goes forward."""
        ...

    def wall_clock(self) -> float:
        """Seconds since the epoch."""
        ...

    def new_id(self) -> str:
        """An id that no message or call of the session has."""
        ...

    def random(self) -> float:
        """A number in [0, 1)."""
        ...

    def emit(self, event: Transient, /) -> None:
        """Tells readers of something transient."""
        ...

    def listens(self, point: HookPoint[C, R]) -> bool:
        """Whether `point` has handlers; if not, its context need not be built."""
        ...

    async def fire(
        self,
        point: HookPoint[C, R],
        context: C,
        passes: Callable[[Diverted[C, R]], bool] | None = None,
    ) -> C | Diverted[C, R]:
        """Runs the handlers of `point`: the context they leave, or the directive that won.

        One that `passes` does not win. Everything committed before is durable by then.
        """
        ...

    async def commit(self, *records: Record, later: bool = False, take: Sequence[str] = ()) -> None:
        """Applies records as one unit and makes them durable; `later` does not wait for that."""
        ...

    async def close(self, outcome: Outcome) -> bool:
        """Closes the run, durably. False when the inbox holds what the run must take first.

        An answer must take steering and cancels first. A suspension can take cancels and
        interrupting messages only: other steering waits for the results of the open calls, so it
        must not be a reason to answer False then.
        """
        ...

    def interrupted(self) -> bool:
        """Whether a message waits that cannot wait: nothing new is to be begun before it is taken.

        True until a commit takes it.
        """
        ...

    async def breakable(self, work: Callable[[], Awaitable[R]]) -> R | Interrupted:
        """Does `work`, which is broken off in `ask` or `sleep` if the run is interrupted there."""
        ...

    async def reserve(
        self, request: LLMRequest, attempt: str, *, new_round: bool, within: float | None = None
    ) -> Grant | BudgetExhausted | None:
        """Sets aside what a model call may cost, until its `ModelEnded` is committed.

        May wait for what others have set aside, and leave the call less output than it wants. None
        if it would have to wait for longer than `within` seconds.
        """
        ...

    def cost(self, model: str, usage: Usage) -> float:
        """What tokens of a model cost in US dollars; 0 where nobody has prices."""
        ...

    def spend_tool_call(self, call_id: str, *, child: bool) -> BudgetExhausted | None:
        """Takes one call of a tool, or one session of a sub-agent, from the budget."""
        ...

    async def ask(
        self, request: LLMRequest, attempt: str, within: float | None = None
    ) -> LLMResponse | AttemptFailed:
        """Exactly one request to the model; none if the run is interrupted already.

        One that is bounded to so many seconds is no part of the conversation: nobody reads along.
        """
        ...

    def left_call(self) -> Interrupted:
        """What there is to tell of a model call that somebody did not wait for to its end."""
        ...

    def estimate(self, request: LLMRequest, response: LLMResponse) -> Usage:
        """What an answer may have cost whose provider has not counted."""
        ...

    async def use(self, started: ToolStarted) -> Used:
        """Runs a tool that has been recorded as started. Never raises what the tool raises.

        Stopped if the run is interrupted; not touched if it is already.
        """
        ...

    async def reconcile(self, started: ToolStarted) -> Found:
        """Asks a tool that reconciles what became of a call. Never raises what the tool raises."""
        ...

    async def respond(self, waiting: CallWaiting) -> Answer | None:
        """Puts to somebody what a call waits for; None if they leave it open.

        Everything committed before is durable by then.
        """
        ...

    async def child(self, started: ToolStarted) -> ChildEnded:
        """Runs the session below a call, or carries it on, under the run's budget."""
        ...

    def slot(self) -> AbstractAsyncContextManager[Any]:
        """A place among the tools that may run at the same time."""
        ...

    async def each(self, jobs: Sequence[Job]) -> None:
        """Runs jobs side by side, exclusive ones alone; returns when none is running."""
        ...

    def finished(self) -> Mapping[str, Message]:
        """Messages with results of calls that have run but are not settled yet, by call id."""
        ...

    def tool(self, name: str) -> ToolTraits | None:
        """What is known of a tool; None if there is none of that name."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        ...

    async def condense(self, results: Sequence[Message], ask: AskAside) -> ViewChanged | None:
        """What stands in place of results whose tools want them summarised; None for nothing."""
        ...

    async def too_large(self, request: LLMRequest, *, overflow: bool) -> bool:
        """Whether the view is to shrink. With `overflow` the provider has said so."""
        ...

    async def compact(
        self, request: LLMRequest, ask: AskAside, *, overflow: bool
    ) -> ViewChanged | None:
        """How the view is to shrink, if it can. `ask` asks the model as a part of the run."""
        ...

    async def recall(self, view: Transcript) -> tuple[Message, ...]:
        """What memory brings up for the run."""
        ...

    async def remember(self, ask: AskAside) -> None:
        """Lets memory take note of a run that is about to complete."""
        ...

    async def drain(self) -> InboxTake:
        """What waits in the inbox. Consumed only by a commit that takes it."""
        ...

    async def pace(self) -> None:
        """Where slow readers that asked for it may slow the run."""
        ...
