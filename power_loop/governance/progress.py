"""Whether a task comes nearer to its goal: what is measured, and what follows from it. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from hashlib import blake2b
from math import isnan
from typing import Literal, Protocol

from msgspec import Struct

from power_loop.errors import UsageError

__all__ = [
    "Advance",
    "GoalMetric",
    "GoalProgress",
    "MetricSnapshot",
    "Plan",
    "Trend",
    "advanced",
    "names_of",
]

Trend = Literal["improving", "flat", "regressing", "unknown"]

_APPROACHES = 8
_NAMED = 20


class MetricSnapshot(Struct, frozen=True):
    """What was measured.

    Attributes:
        value: how far the goal is; less is better. None if that is no number.
        items: what is still open, each by a name that stays its own: failing tests, say.
        detail: more about it, for the model to read.
        there: all that was looked at, open or not, each by its name; None if that is not known.
            What was there when the task was first measured and is not there any more is open, too:
            no goal is reached by doing away with what it is measured by.

    Raises:
        UsageError: the value is not a number.
    """

    value: float | None = None
    items: frozenset[str] = frozenset()
    detail: str = ""
    there: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.value is not None and isnan(self.value):
            raise UsageError("the value of a metric is a number, or None if there is none; not NaN")

    def __str__(self) -> str:
        """In a few words."""
        if self.items:
            return f"{len(self.items)} open: {names_of(self.items)}"
        return f"measured {self.value:g}" if self.value else "nothing is open"


class GoalMetric(Protocol):
    """**Protocol** of what says how far a goal is. No model has a say in it."""

    def measure(self) -> MetricSnapshot | Awaitable[MetricSnapshot]:
        """Looks at the world. May be asynchronous; if it is not, it is called in a thread."""
        ...

    def is_success(self, snapshot: MetricSnapshot) -> bool | Awaitable[bool]:
        """Whether this is the goal. May be asynchronous; if it is not, it must answer at once."""
        ...


class Plan(Struct, frozen=True):
    """What a model has done between two measurements.

    Attributes:
        calls: its calls, as texts in which spelling makes no difference; none if it only talked.
        approach: the same for people and models, short.
        invalid: its calls could not be made, however often it was told why.
    """

    calls: frozenset[str] = frozenset()
    approach: str = ""
    invalid: bool = False


class GoalProgress(Struct, frozen=True, omit_defaults=True):
    """How a task has got on so far. It is kept in the transcript, as JSON.

    Attributes:
        value: of the newest measurement.
        open: digests of its items.
        trend: whether that was nearer than the one before.
        streak: measurements in a row without any change, after rounds that repeated the one before,
            called nothing, or could not be made.
        unchanged: measurements in a row without any change, whatever was done.
        calls: digests of what was called before the newest one.
        failed: approaches after which something was worse than before, newest last.
        claimed: the round in which the model first made no call, as if it were done; 0 for none.
    """

    value: float | None = None
    open: tuple[str, ...] = ()
    trend: Trend = "unknown"
    streak: int = 0
    unchanged: int = 0
    calls: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    claimed: int = 0


class Advance(Struct, frozen=True):
    """A step of a task: where it stands now, what is newly open, and how many are no more."""

    progress: GoalProgress
    broken: tuple[str, ...] = ()
    fixed: int = 0


def advanced(before: GoalProgress | None, snapshot: MetricSnapshot, plan: Plan | None) -> Advance:
    """Where a task stands after `plan`; None for nothing that a model has done.

    What is newly open is a regression even if less is open than before.
    """
    named = {_digest(item): item for item in snapshot.items}
    now = GoalProgress(snapshot.value, tuple(sorted(named)))
    if before is None:
        return Advance(now)
    broken = tuple(sorted([named[key] for key in named.keys() - set(before.open)]))
    fixed = len(set(before.open) - named.keys())
    changed = bool(broken or fixed) or now.value != before.value
    trend = _trend(before, now, changed=changed, broken=bool(broken), fixed=bool(fixed))
    streak, unchanged = before.streak, before.unchanged
    calls, failed = before.calls, before.failed
    if plan is not None:
        calls = tuple(sorted(map(_digest, plan.calls)))
        idle = plan.invalid or not calls or calls == before.calls
        streak = streak + 1 if idle and not changed else 0
        unchanged = 0 if changed else unchanged + 1
        if trend == "regressing" and plan.approach:
            others = [approach for approach in failed if approach != plan.approach]
            failed = tuple([*others, plan.approach][-_APPROACHES:])
    progress = GoalProgress(now.value, now.open, trend, streak, unchanged, calls, failed)
    return Advance(progress, broken, fixed)


def _trend(
    before: GoalProgress, now: GoalProgress, *, changed: bool, broken: bool, fixed: bool
) -> Trend:
    if broken:
        return "regressing"
    if fixed:
        return "improving"
    if now.value is None or before.value is None:
        return "flat" if before.open and not changed else "unknown"
    if now.value == before.value:
        return "flat"
    return "improving" if now.value < before.value else "regressing"


def names_of(items: Iterable[str]) -> str:
    """Names in a sentence, the first of them if they are many."""
    known = sorted(items)
    more = f" … and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return ", ".join(known[:_NAMED]) + more


def _digest(text: str) -> str:
    # Names can be long and many, and are stored with each measurement.
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
