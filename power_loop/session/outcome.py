"""How a run can end. Each ending is a type; its tag is the status a caller sees."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct
from msgspec.structs import asdict

__all__ = [
    "ApprovalDenied",
    "ApprovalExpired",
    "AwaitingApproval",
    "BudgetExhausted",
    "Cancelled",
    "Completed",
    "Crashed",
    "Degraded",
    "Failed",
    "GoalReached",
    "KeepsCallsOpen",
    "NoProgress",
    "Outcome",
    "PendingTools",
    "PlanFailed",
    "RoundLimit",
    "Stopped",
    "WaitingForInput",
    "status_of",
]


class _Ending(Struct, frozen=True):
    resumable: ClassVar[bool] = True
    """Whether `resume` can carry the same task on, without new input."""

    _action: ClassVar[str] = "resume the session"

    @property
    def recommended_action(self) -> str:
        """What a caller would do next, in plain words."""
        return self._action

    def __str__(self) -> str:
        facts = ", ".join(f"{name}={value!r}" for name, value in asdict(self).items())
        return f"{status_of(self)}({facts})"


class Completed(_Ending, frozen=True, tag="completed"):
    """The model gave its final answer, `text`."""

    text: str
    resumable: ClassVar[bool] = False
    _action: ClassVar[str] = "send the next message"


class GoalReached(_Ending, frozen=True, tag="goal_reached"):
    """What the run was for is so, as measured; `reason` says by what."""

    reason: str
    resumable: ClassVar[bool] = False
    _action: ClassVar[str] = "send the next message"


class Stopped(_Ending, frozen=True, tag="stopped"):
    """A hook ended the run."""

    reason: str
    _action: ClassVar[str] = "resume the session, or send the next message"


class RoundLimit(_Ending, frozen=True, tag="round_limit"):
    """The run used up its rounds; `text` is the model's own account of what remains."""

    limit: int
    text: str = ""
    _action: ClassVar[str] = "resume the session to grant it another set of rounds"


class BudgetExhausted(_Ending, frozen=True, omit_defaults=True, tag="budget_exhausted"):
    """A budget does not allow the next step.

    `limit` names whose and which: `run.tokens`, `session.cost` … `reason` gives the figures.
    """

    limit: str
    reason: str = ""

    @property
    def recommended_action(self) -> str:
        """What a caller would do next: which limit is to be raised, and where it was set."""
        return self.action_for("the session")

    def action_for(self, session: str) -> str:
        """The same, where it is `session` that is to be resumed."""
        scope, _, name = self.limit.rpartition(".")
        match scope:
            case "run":
                priced = ", or with a price that is known" if name == "cost" else ""
                return f"resume {session} with extend=Budget({name}=…){priced}"
            case "session":
                where = "AgentConfig(session_budget=…)"
            case "loop":
                where = "AgentLoop(budget=…)"
            case "exit":
                where = "the condition of Exits(…)"
            case "policy":
                return f"raise the limit of the policy {name!r}, then resume {session}"
            case _ if scope.startswith("child."):
                where = "SubAgent(budget=…)"
            case _:
                where = f"the budget {scope!r}" if scope else "the budget that limits it"
        return f"raise {name} in {where}, then resume {session}"


class NoProgress(_Ending, frozen=True, tag="no_progress"):
    """The run repeated itself."""

    reason: str
    _action: ClassVar[str] = "send a message that says what to do differently"


class PlanFailed(_Ending, frozen=True, tag="plan_failed"):
    """The model could not produce a valid plan."""

    reason: str
    _action: ClassVar[str] = "send a message that says what to do differently"


class AwaitingApproval(_Ending, frozen=True, tag="awaiting_approval"):
    """Calls wait for a person's approval; `tokens` name the requests."""

    tokens: tuple[str, ...]
    _action: ClassVar[str] = "resume the session with answers=[…] of approve(token) or deny(token)"


class ApprovalDenied(_Ending, frozen=True, tag="approval_denied"):
    """A person said no."""

    token: str
    resumable: ClassVar[bool] = False
    _action: ClassVar[str] = "send a message that says what to do instead"


class ApprovalExpired(_Ending, frozen=True, tag="approval_expired"):
    """Nobody decided in time."""

    token: str
    _action: ClassVar[str] = "resume the session to ask again"


class WaitingForInput(_Ending, frozen=True, tag="waiting_for_input"):
    """Calls wait for an answer from a person; `tokens` name the questions."""

    tokens: tuple[str, ...]
    _action: ClassVar[str] = "resume the session with answers=[answer(token, …)]"


class PendingTools(_Ending, frozen=True, tag="pending_tools"):
    """Calls are open that this program does not run itself, or whose outcome it cannot know."""

    call_ids: tuple[str, ...]
    _action: ClassVar[str] = "resume with decisions about the open calls, or abort_pending"


class Cancelled(_Ending, frozen=True, tag="cancelled"):
    """Somebody cancelled the run."""

    reason: str = "cancelled"
    _action: ClassVar[str] = "resume the session, or send the next message"


class Degraded(_Ending, frozen=True, tag="degraded"):
    """The model could not be reached, however often it was tried."""

    reason: str
    attempts: int
    _action: ClassVar[str] = "resume the session when the provider is back"


class Failed(_Ending, frozen=True, tag="failed"):
    """An error ended the run; the caller has got it."""

    error_type: str
    message: str
    _action: ClassVar[str] = "mend the cause, then resume the session"


class Crashed(_Ending, frozen=True, tag="crashed"):
    """The process that owned the run died. Written by its successor."""


Outcome = (
    Completed
    | GoalReached
    | Stopped
    | RoundLimit
    | BudgetExhausted
    | NoProgress
    | PlanFailed
    | AwaitingApproval
    | ApprovalDenied
    | ApprovalExpired
    | WaitingForInput
    | PendingTools
    | Cancelled
    | Degraded
    | Failed
    | Crashed
)

KeepsCallsOpen = AwaitingApproval | ApprovalExpired | WaitingForInput | PendingTools | Crashed
"""Endings that leave calls without a result; all others must settle them first."""


def status_of(outcome: _Ending) -> str:
    """The tag of an outcome: `completed`, `round_limit` …"""
    tag = type(outcome).__struct_config__.tag
    assert isinstance(tag, str)
    return tag
