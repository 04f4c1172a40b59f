"""What hooks have decided, on record: who ended, skipped or diverted what, and why."""

from __future__ import annotations

from typing import TypeVar, cast

from power_loop.hooks import (
    Break,
    Continue,
    Diverted,
    HookPoint,
    RequestInput,
    Retry,
    ShortCircuit,
    Skip,
    Suspend,
)
from power_loop.pipeline.ports import Ports
from power_loop.session.outcome import Stopped
from power_loop.session.records import Decided
from power_loop.session.text import repaired_text

__all__ = ["heard", "noted"]

C = TypeVar("C")
R = TypeVar("R")

_LONGEST = 500
"""Characters of a reason: what is said to the model is on record anyway."""


async def heard(io: Ports, point: HookPoint[C, R], context: C, call_id: str = "") -> C | R:
    """What the handlers of `point` make of `context`: the context they leave, or a directive.

    `call_id` is the call that the decision is about, if it is about one.
    """
    result = await io.fire(point, context)
    if not isinstance(result, Diverted):
        return result
    diverted = cast("Diverted[C, R]", result)
    await noted(io, point, diverted, call_id)
    return diverted.directive


async def noted(
    io: Ports, point: HookPoint[C, R], diverted: Diverted[C, R], call_id: str = ""
) -> None:
    """Records what a handler has decided; rides with what comes of it."""
    what, reason = _told(diverted.directive)
    record = Decided(point.name, diverted.by, what, repaired_text(reason)[:_LONGEST], call_id)
    await io.commit(record, later=True)


def _told(directive: object) -> tuple[str, str]:
    match directive:
        case Break():
            ending = directive.ending
            return "break", ending.reason if isinstance(ending, Stopped) else str(ending)
        case Skip():
            return "skip", directive.output
        case Suspend():
            return "suspend", directive.reason
        case RequestInput():
            return "request_input", directive.question
        case Continue():
            return "continue", directive.inject
        case Retry():
            return "retry", ""
        case ShortCircuit():
            return "short_circuit", ""
        case _:
            raise AssertionError(f"{directive!r} is no directive")
