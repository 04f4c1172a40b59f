"""Why a run ended as it did: as data, and as Markdown for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from msgspec import Struct

from power_loop.history.words import amount, clock, counted, cut, lasted
from power_loop.session.outcome import Outcome

__all__ = ["CacheUse", "Explanation", "LimitLeft", "Step", "StepKind"]

StepKind = Literal[
    "run",
    "model",
    "tool",
    "decision",
    "approval",
    "question",
    "child",
    "message",
    "view",
    "history",
    "end",
]
"""What a step is about. A `decision` is one of a hook, a policy or a budget."""

_FIRST, _LAST = 10, 40
"""Steps that a person is shown of a long chain, from its beginning and its end."""
_WIDE = 1000
_DONE = ("completed", "goal_reached")


class LimitLeft(Struct, frozen=True):
    """What was left of a limit.

    Attributes:
        name: whose and which: `run.tokens`, `session.cost`; `rounds` and `seconds` are the run's.
        allowed: as the run had announced it, in tokens, calls, rounds, US dollars or seconds.
        used: the same unit; None where the session's log cannot know.
        left: never less than 0; None where the log cannot know.
        note: what `used` leaves out, or why it is not known.
    """

    name: str
    allowed: float
    used: float | None
    left: float | None
    note: str = ""


class CacheUse(Struct, frozen=True):
    """How much of its prompts a task had read from the provider's cache.

    Attributes:
        read: tokens that were read from it.
        of: tokens of the prompts of which the provider has said so.
    """

    read: int
    of: int

    @property
    def rate(self) -> float:
        """The share of both, 0 to 1."""
        return self.read / self.of


class Step(Struct, frozen=True):
    """Something that was decided, or that went otherwise than planned.

    Attributes:
        seq: number of the record that it is told from.
        at: when, in seconds since the epoch.
        round: the model round in which it was.
        kind: what it is about.
        text: the same in words. What others have said in it is cut short.
        call_id: the call that it is about; "" if none.
    """

    seq: int
    at: float
    round: int
    kind: StepKind
    text: str
    call_id: str = ""


class Explanation(Struct, frozen=True, kw_only=True):
    """Why a run ended as it did, from its session's log alone.

    Texts hold neither what looks like a key nor, unless whoever decided has quoted them, arguments
    and results of tools.

    Attributes:
        session_id: the session.
        run_id: the run; where a whole task is explained, the last one of it.
        status: the tag of the outcome, `running` while no end is stored.
        outcome: how it ended; None while no end is stored.
        resumable: whether `resume` can carry it on. False for a run that another one has followed.
        recommended_action: what a caller would do next, in plain words.
        rule: what decided that it ended so, and whose rule that was.
        limits: what was left of each limit that the run had announced.
        steps: how it came to that, in the order of the log.
        below: the sessions below its calls, as they stood when it had come to that.
        cache: what came of the provider's prompt cache; None where no provider has said.
        unread: what keeps this version from reading the log to its end; "" if nothing does.
    """

    session_id: str
    run_id: str
    status: str
    outcome: Outcome | None
    resumable: bool
    recommended_action: str
    rule: str
    limits: tuple[LimitLeft, ...]
    steps: tuple[Step, ...]
    below: tuple[Explanation, ...] = ()
    cache: CacheUse | None = None
    unread: str = ""

    def __str__(self) -> str:
        return self.markdown()

    def markdown(self) -> str:
        """The same for a person: short, with the middle of a long chain left out."""
        return "\n".join(_lines(self))


def _lines(told: Explanation) -> Iterator[str]:
    yield f"# {told.status}: run {_inline(told.run_id)} of session {_inline(told.session_id)}"
    yield ""
    yield f"**Why:** {_inline(told.rule)}"
    yield ""
    yield f"**What to do:** {_inline(told.recommended_action)}"
    if told.unread:
        yield ""
        yield f"**Not read:** {_inline(told.unread)}"
    if told.limits:
        yield ""
        yield "| limit | allowed | used | left | |"
        yield "|---|--:|--:|--:|---|"
        yield from map(_row, told.limits)
    if told.cache is not None:
        read, of = f"{told.cache.read:,}", counted(told.cache.of, "token")
        yield ""
        yield f"Of {of} of its prompts, {read} ({told.cache.rate:.0%}) came from a cache."
    if told.below:
        yield ""
        yield "Sessions below it:"
        yield ""
        yield from _list(told.below)
    if told.steps:
        yield ""
        began = told.steps[0].at
        since = clock(began)
        yield f"How it came to that, since {since}:" if since else "How it came to that:"
        yield ""
        yield from _chain(told.steps, began)


def _list(below: Sequence[Explanation]) -> Iterator[str]:
    open_ones = [each for each in below if each.status not in _DONE]
    for each in open_ones[:_FIRST]:
        yield f"- {_inline(each.session_id)}: {each.status}: {_inline(each.rule)}"
    if len(open_ones) > _FIRST:
        yield f"- … {len(open_ones) - _FIRST:,} more like these …"
    done = len(below) - len(open_ones)
    if done:
        yield f"- {counted(done, 'session')} came to what was wanted"


def _chain(steps: Sequence[Step], began: float) -> Iterator[str]:
    left_out = len(steps) - _FIRST - _LAST
    for number, step in enumerate(steps):
        if number == _FIRST and left_out > 0:
            yield f"- … {counted(left_out, 'step')} left out …"
        if number < _FIRST or number >= _FIRST + left_out:
            yield f"- +{lasted(began, step.at)}  {_inline(step.text)}"


def _row(limit: LimitLeft) -> str:
    cells = [amount(limit.name, each) for each in (limit.allowed, limit.used, limit.left)]
    return f"| {_inline(limit.name)} | {' | '.join(cells)} | {_inline(limit.note)} |"


def _inline(text: str) -> str:
    """`text`, where it can neither end a line or a cell nor begin markup of its own."""
    flat = cut(text, _WIDE)
    return flat.replace("\\", "\\\\").replace("|", "\\|").replace("<", "\\<").replace("`", "\\`")
