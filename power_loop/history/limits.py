"""What was left of the limits of a run, as far as its session's log knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from power_loop.events import Stamped
from power_loop.history.endings import Ending
from power_loop.history.explanation import LimitLeft
from power_loop.session.outcome import RoundLimit
from power_loop.session.records import RunClosed, RunOpened
from power_loop.session.spent import Spent

__all__ = ["Below", "limits_left"]

_SHARED = "shared: what others have used is not in this log"
_MISSING = "without what a session below has used that cannot be read"


class Below(Struct, frozen=True):
    """What sessions below open calls have used: `spent`; `complete` says that it is all."""

    spent: Spent = Spent()
    complete: bool = True


def limits_left(
    opened: RunOpened, ending: Ending, rounds: int, below: Below
) -> tuple[LimitLeft, ...]:
    """What was left when a run that `opened` so had come to `ending`, after so many `rounds`."""
    return tuple([_left_of(n, v, ending, rounds, below) for n, v in opened.limits.items()])


def _left_of(name: str, allowed: float, ending: Ending, rounds: int, below: Below) -> LimitLeft:
    if name == "rounds":
        # The last word is one more.
        most = allowed if isinstance(ending.outcome, RoundLimit) else float(rounds)
        return _left(name, allowed, min(float(rounds), most))
    if name == "seconds":
        return _left(name, allowed, _seconds(ending.records))
    scope, _, what = name.rpartition(".")
    session = ending.session
    own: Mapping[str, Spent] = {f"child.{ending.depth}": session.task_spent}
    if not ending.depth:
        own = {"run": session.task_spent, "session": session.spent}
    if scope not in own:
        return LimitLeft(name, allowed, None, None, _SHARED)
    amount: Any = getattr(own[scope] + session.uncounted + below.spent, what, None)
    if amount is None:
        return LimitLeft(name, allowed, None, None, "not known to this version")
    if not below.complete:
        return LimitLeft(name, allowed, amount, None, _MISSING)
    return _left(name, allowed, amount)


def _seconds(records: Sequence[Stamped]) -> float:
    closed = [each.at for each in records if isinstance(each.event, RunClosed)]
    last = closed[-1] if closed else records[-1].at
    return max(0.0, last - records[0].at)


def _left(name: str, allowed: float, used: float) -> LimitLeft:
    return LimitLeft(name, allowed, used, max(0.0, allowed - used))
