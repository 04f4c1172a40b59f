"""What a hook handler may answer to divert the loop. Which is legal where, is said in hooks.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, cast, get_args

from msgspec import Struct
from typing_extensions import TypeVar

from llm_client.types import LLMResponse
from power_loop.session.outcome import (
    ApprovalDenied,
    BudgetExhausted,
    GoalReached,
    NoProgress,
    PlanFailed,
    Stopped,
)

__all__ = [
    "Break",
    "Continue",
    "Diverted",
    "HookEnding",
    "RequestInput",
    "Retry",
    "ShortCircuit",
    "Skip",
    "Suspend",
]

C = TypeVar("C")
R = TypeVar("R")

HookEnding = Stopped | GoalReached | NoProgress | PlanFailed | BudgetExhausted | ApprovalDenied
"""Endings that a handler may give a run."""


class Break(Struct, frozen=True):
    """End the run now: with status `stopped`, or as `outcome` has it.

    Raises:
        ValueError: a handler cannot end a run with such an outcome.
    """

    reason: str = "stopped by a hook"
    outcome: HookEnding | None = None

    def __post_init__(self) -> None:
        given = cast("object", self.outcome)
        if given is not None and not isinstance(given, HookEnding):
            names = ", ".join([each.__name__ for each in get_args(HookEnding)])
            raise ValueError(f"a hook ends a run with one of {names}, not {given!r}")

    @property
    def ending(self) -> HookEnding:
        """How the run ends."""
        return self.outcome or Stopped(self.reason)


class Skip(Struct, frozen=True):
    """Leave this step out; `output` stands in for what it would have produced."""

    output: str = "[skipped by a hook]"


class ShortCircuit(Struct, frozen=True):
    """Use `response` instead of asking the model."""

    response: LLMResponse


class Retry(Struct, frozen=True):
    """Do the failed step again, once.

    A call is judged by all handlers of `tool.before` before that; who had it approved asks anew.
    """


class Suspend(Struct, frozen=True):
    """Let the call wait for an approval of just what it is to run.

    The run ends `awaiting_approval` when its siblings have settled, unless somebody answers at
    once. When the call has been approved, all handlers judge it once more; the one that had asked
    does not ask again as long as it says the same: same arguments, `version` and `world`. The tool
    is known by its name: whose definition may change says so in `version`.

    Attributes:
        reason: what a person is told.
        version: of the rule that asks. Under another one, an old approval is worth nothing.
        world: a digest of what the approval depends on outside of the call.
        ttl: seconds for which the request can be answered; None for ever.
        end_on_denial: a no ends the run `approval_denied`; otherwise the model is told.

    Raises:
        ValueError: `ttl` is not a number over 0, or one of the texts is none.
    """

    reason: str = "approval required"
    version: str = ""
    world: str = ""
    ttl: float | None = None
    end_on_denial: bool = False

    def __post_init__(self) -> None:
        for name in ("reason", "version", "world"):
            _need_text(self, name)
        ttl = cast("object", self.ttl)
        if ttl is not None and not (isinstance(ttl, int | float) and ttl > 0):
            raise ValueError(f"ttl must be a number of seconds over 0, not {ttl!r}")


class RequestInput(Struct, frozen=True):
    """Put `question` to a person, and give the answer to the model as the call's result.

    The tool does not run. The run ends `waiting_for_input` when the call's siblings have settled,
    unless somebody answers at once. `schema` is the JSON Schema of the answer; text if None. One
    that cannot be used is refused where the handler returns it.

    Raises:
        ValueError: `question` is no text or blank.
    """

    question: str
    schema: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _need_text(self, "question")
        if not self.question.strip():
            raise ValueError("a question must not be blank")


class Continue(Struct, frozen=True):
    """Do not end yet: append `inject` as a user message and go on for up to `extra_rounds` rounds.

    Raises:
        ValueError: `inject` is blank, or `extra_rounds` is less than 1.
    """

    inject: str
    extra_rounds: int = 4

    def __post_init__(self) -> None:
        if not self.inject.strip():
            raise ValueError("Continue needs a text to inject: without one nothing would change")
        if self.extra_rounds < 1:
            raise ValueError(f"extra_rounds must be at least 1, not {self.extra_rounds}")


def _need_text(directive: Struct, field: str) -> None:
    value = getattr(directive, field)
    if not isinstance(value, str):
        kind = type(directive).__name__
        raise ValueError(f"{field} of {kind} is a text, not a value of type {type(value).__name__}")  # noqa: TRY004  as for what else is wrong with it


class Diverted(Struct, Generic[C, R], frozen=True):
    """A directive, the name of the handler that gave it, and the context as it had found it."""

    directive: R
    by: str
    context: C
