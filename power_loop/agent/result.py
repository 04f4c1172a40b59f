"""What a run gives back."""

from __future__ import annotations

from typing import Generic, Literal, cast

from msgspec import Struct
from typing_extensions import TypeVar

from llm_client.types import StopReason, Usage
from power_loop.session.outcome import Outcome, status_of

__all__ = ["RunResult", "Status", "result_of"]

OutputT = TypeVar("OutputT", default=None)

Status = Literal[
    "completed",
    "goal_reached",
    "stopped",
    "round_limit",
    "budget_exhausted",
    "no_progress",
    "plan_failed",
    "awaiting_approval",
    "approval_denied",
    "approval_expired",
    "waiting_for_input",
    "pending_tools",
    "cancelled",
    "degraded",
    "failed",
    "crashed",
]
"""The tags of all outcomes, so that a type checker sees a comparison that can never be true."""

_ATTRIBUTE = "__power_loop_result__"


class RunResult(Struct, Generic[OutputT], frozen=True):
    """A run that has closed.

    Attributes:
        session_id: where it is stored, and where the next message goes.
        run_id: its own id.
        outcome: how it ended, with what belongs to that ending.
        final_text: the model's last text.
        output: the typed answer, where `output_type` asked for one.
        rounds: model rounds, counted over the runs it resumed.
        usage: tokens since the task's input.
        stop_reason: why the model stopped the last time it was asked in this run. LENGTH says that
            `final_text` was cut off by a limit. None if it failed, was not asked, or a hook
            answered in its place.
    """

    session_id: str
    run_id: str
    outcome: Outcome
    final_text: str
    output: OutputT
    rounds: int
    usage: Usage
    stop_reason: StopReason | None = None

    @property
    def status(self) -> Status:
        """The outcome's tag: `completed`, `round_limit`, `cancelled` …"""
        return cast("Status", status_of(self.outcome))

    @property
    def resumable(self) -> bool:
        """Whether `resume` can carry the task on."""
        return self.outcome.resumable


def attach_result(error: Exception, result: RunResult[object]) -> None:
    """Lets `error` carry the result of the run it ended."""
    setattr(error, _ATTRIBUTE, result)


def result_of(error: BaseException) -> RunResult[object] | None:
    """The result of the run that `error` ended; None if it ended none."""
    return getattr(error, _ATTRIBUTE, None)
