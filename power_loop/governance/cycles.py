"""Whether rounds repeat themselves. Pure.

Two things are looked for: a cycle of up to four rounds (ABAB, ABCABC), and a time in which rounds
bring nothing that was not there before, in whatever order. Of two answers in words, one repeats the
other if it says the same, or nearly so, to the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from power_loop.governance.rounds import Round

__all__ = ["Repetition", "repetition", "stale_rounds", "window"]

_LONGEST_CYCLE = 4
_LONG_TEXT = 60
"""Characters of an answer that is the same on purpose only: "Yes." may answer many questions."""
_NEAR = 0.85
_NEAR_WORDS = 8
_STALE_FIRST = 6
"""Rounds without anything new that are as suspicious as the first repeat of a cycle."""
_STALE_NEXT = 3
"""Further ones that count as one more repeat."""


class Repetition(Struct, frozen=True):
    """What rounds repeat.

    Attributes:
        repeats: how often, begun ones counted as parts.
        rounds: what is repeated, oldest first.
        cycle: it is the same in the same order.
        began: the newest round has completed a repeat.
    """

    repeats: float
    rounds: Sequence[Round]
    cycle: bool
    began: bool

    @property
    def in_words(self) -> bool:
        """It is talk: no call is made."""
        return not any(round.calls for round in self.rounds)

    @property
    def refused(self) -> bool:
        """The model has just been refused a call of it, and has not answered to that yet."""
        return self.rounds[-1].refused


def window(most: int) -> int:
    """Rounds that must be looked at to see `most` repeats of anything."""
    return max(_LONGEST_CYCLE * (most + 2), _STALE_FIRST + _STALE_NEXT * most + 8)


def repetition(rounds: Sequence[Round], asked: Round | None = None) -> Repetition | None:
    """What the newest rounds repeat most; None if nothing.

    With `asked`, an answer whose calls have not been made: what it would carry on with.
    """
    found: Repetition | None = None
    for period in range(1, _LONGEST_CYCLE + 1):
        again = _matched(rounds, period)
        if again < period or (asked is not None and not _asks_the_same(asked, rounds[-period])):
            continue
        whole = Repetition(again / period, rounds[-period:], True, again % period == 0)
        if found is None or whole.repeats > found.repeats:
            found = whole
    stale = stale_rounds(rounds)
    if stale >= _STALE_FIRST and (asked is None or _asks_nothing_new(asked, rounds)):
        over = stale - _STALE_FIRST
        repeats = 1 + over / _STALE_NEXT
        if found is None or repeats > found.repeats:
            found = Repetition(repeats, rounds[-stale:], False, over % _STALE_NEXT == 0)
    return found


def stale_rounds(rounds: Sequence[Round]) -> int:
    """How many of the newest rounds in a row have brought nothing that was not there before."""
    seen: set[object] = set()
    count = 0
    for round in rounds:
        brought = round.brought
        count = count + 1 if brought <= seen else 0
        seen |= brought
    return count


def _matched(rounds: Sequence[Round], period: int) -> int:
    """How many of the newest rounds in a row are as the ones `period` before them."""
    count = 0
    for at in range(len(rounds) - 1, period - 1, -1):
        if not _same(rounds[at], rounds[at - period]):
            break
        count += 1
    return count


def _same(one: Round, other: Round) -> bool:
    """Whether `one` is the `other`, an older one, once more."""
    if one.calls or other.calls:
        same = (one.calls, one.results) == (other.calls, other.results)
        return same and _told_nothing_new(one, other)
    mine, others = " ".join(one.text.split()), " ".join(other.text.split())
    if mine == others and len(mine) >= _LONG_TEXT:
        return True
    return one.prompts == other.prompts and (mine == others or _nearly(mine, others))


def _nearly(one: str, other: str) -> bool:
    mine, others = Counter(one.casefold().split()), Counter(other.casefold().split())
    words = mine.total() + others.total()
    if min(mine.total(), others.total()) < _NEAR_WORDS:
        return False
    return 2 * (mine & others).total() / words >= _NEAR


def _told_nothing_new(one: Round, other: Round) -> bool:
    return not one.prompts or one.prompts == other.prompts


def _asks_the_same(asked: Round, before: Round) -> bool:
    return asked.calls == before.calls and _told_nothing_new(asked, before)


def _asks_nothing_new(asked: Round, rounds: Sequence[Round]) -> bool:
    made = {call for round in rounds for call in round.calls}
    return not asked.prompts and made.issuperset(asked.calls)
