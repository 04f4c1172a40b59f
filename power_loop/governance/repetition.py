"""A model that goes round in circles is warned, then refused, then stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from llm_client.types import Message
from power_loop.errors import UsageError
from power_loop.governance.checks import whole
from power_loop.governance.cycles import Repetition, repetition, window
from power_loop.governance.policies import POLICY_META, Policy, Refuse, Stop, Warn
from power_loop.governance.rounds import REFUSED, Alike, Normalise, Round, RoundReader
from power_loop.hooks import RoundStart, ToolBefore
from power_loop.session.outcome import NoProgress

__all__ = ["RepetitionGuard"]

_SHOWN = 120


class RepetitionGuard(Policy):
    """Notices that rounds repeat themselves, and answers by degrees.

    A repeat is the same calls with the same arguments and the same results, alone or in a cycle of
    up to four rounds; the same answer in words; or a time in which nothing new comes up at all
    while every round costs. Arguments that differ in spelling only are the same; a result that
    changes is progress. Each user message that changes counts as something new, too.

    Everything is read from the transcript of the task, back over a fixed number of rounds.
    """

    name = "repetition"

    def __init__(
        self,
        *,
        polling: Iterable[str] | Callable[[str], bool] = (),
        warn: int = 1,
        refuse: int = 2,
        stop: int = 3,
        normalise: Normalise | None = None,
        alike: Alike | None = None,
        name: str = "repetition",
    ) -> None:
        """Describes the rule.

        Args:
            polling: tools whose calls are made again and again on purpose, or a function of a name,
                besides those that say so themselves, as by `@tool(polling=True)`; no call of them
                is looked at.
            warn: repeats after which the model is told.
            refuse: repeats after which it is refused the calls that would be the next one.
            stop: repeats after which the run ends `no_progress`, naming what was repeated.
            normalise: of a tool's name and arguments, what of them counts; all of them if None.
            alike: of a tool's name and a result's text, what of it counts; all of it if None.
            name: of the policy, where there are several of them.

        Raises:
            UsageError: the degrees are not in order, or `polling` is no names.
        """
        for degree, times in (("warn", warn), ("refuse", refuse), ("stop", stop)):
            whole(degree, times)
        if not warn <= refuse <= stop:
            raise UsageError(
                f"a model is warned, then refused, then stopped, after 1 repeat or more; "
                f"not after {warn}, {refuse} and {stop}"
            )
        self.name = name
        self._warn, self._refuse, self._stop = warn, refuse, stop
        self._window = window(stop)
        self._reader = RoundReader(polling, normalise=normalise, alike=alike)

    def before_round(self, context: RoundStart[Any]) -> Stop | Warn | None:
        """Warns of a repetition, and ends one that has no call that could be refused."""
        # As many as the task has had: what was said to another one is no repetition.
        count = min(context.round, self._window)
        found = repetition(self._reader.read_of(context, count))
        if found is None:
            return None
        if found.repeats >= self._stop and not found.refused:
            return self._ended(found)
        again = found.in_words and found.repeats >= self._refuse
        due = found.repeats == self._warn or again
        if due and found.began and not self._has_warned(context.messages):
            return Warn(_warning(found))
        return None

    def before_action(self, context: ToolBefore[Any]) -> Stop | Refuse | None:
        """Refuses a call that would be one more repeat, and in the end stops."""
        if context.attempt > 1:
            return None  # it is not the model that makes it again
        count = min(context.round, self._window + 1)
        rounds = self._reader.read_of(context, count)
        if not rounds or rounds[-1].results is not None or not rounds[-1].calls:
            return None
        found = repetition(rounds[:-1], rounds[-1])
        if found is None or found.repeats < self._refuse or not self._is_meant(context, rounds[-1]):
            return None
        if found.repeats >= self._stop:
            return self._ended(found)
        return Refuse(
            f"{REFUSED}: {_told(found)}. Nothing has changed since, so this call would bring the "
            "same. Do something else, or say what keeps you from it."
        )

    def _is_meant(self, context: ToolBefore[Any], asked: Round) -> bool:
        return any(name == context.call.name for name, _ in asked.calls)

    def _has_warned(self, messages: Any) -> bool:
        at = len(messages) - 1
        while at >= 0:
            message: Message = messages[at]
            if message.role in ("assistant", "tool"):
                return False
            if message.meta is not None and message.meta.get(POLICY_META) == self.name:
                return True
            at -= 1
        return False

    def _ended(self, found: Repetition) -> Stop:
        reason = f"{_told(found)}, {int(found.repeats)} times over"
        return Stop(reason, NoProgress(reason))


def _warning(found: Repetition) -> str:
    return (
        f"You are repeating yourself: {_told(found)}. Nothing has changed by it. "
        "Do something else, or say what keeps you from it; the run is stopped otherwise."
    )


def _told(found: Repetition) -> str:
    """What is repeated, for the model and for people."""
    if found.in_words:
        text = " ".join(found.rounds[-1].text.split())[:_SHOWN]
        return f"the same answer without a call: {text!r}" if text else "an empty answer"
    made: dict[str, None] = {}
    for round in found.rounds:
        for name, arguments in round.calls:
            made[f"{name}({arguments[:_SHOWN]})"] = None
    calls = ", ".join(list(made)[:4]) + (" …" if len(made) > 4 else "")
    if found.cycle and len(found.rounds) == 1:
        return f"the same call with the same result: {calls}"
    if found.cycle:
        return f"the same {len(found.rounds)} steps with the same results: {calls}"
    return f"{len(found.rounds)} rounds that brought nothing new: {calls}"
