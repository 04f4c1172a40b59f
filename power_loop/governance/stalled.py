"""A run in which nothing new comes up ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from power_loop.governance.checks import whole
from power_loop.governance.cycles import stale_rounds
from power_loop.governance.policies import Policy, Stop
from power_loop.governance.rounds import RoundReader
from power_loop.hooks import RoundStart
from power_loop.session import outcome

__all__ = ["NoProgress"]

_LOOKED_AT = 16
"""Rounds in which something must have been there before, beyond those that are counted."""


class NoProgress(Policy):
    """Ends a run `no_progress` once a number of rounds in a row have brought nothing new.

    Blunter than `RepetitionGuard`, which warns first: what counts is only whether each call with
    its result, or each answer in words, had been there before in the same task.
    """

    name = "no_progress"

    def __init__(
        self,
        window: int = 3,
        *,
        polling: Iterable[str] | Callable[[str], bool] = (),
        name: str = "no_progress",
    ) -> None:
        """Describes the rule.

        Args:
            window: rounds in a row.
            polling: tools whose calls are made again and again on purpose, or a function of a name,
                besides those that say so themselves, as by `@tool(polling=True)`; no call of them
                is looked at.
            name: of the policy, where there are several of them.

        Raises:
            UsageError: `window` is less than 1, or `polling` is no names.
        """
        self.name = name
        self._rounds = whole("window", window)
        self._reader = RoundReader(polling)

    def before_round(self, context: RoundStart[Any]) -> Stop | None:
        """Stops a run that goes nowhere."""
        count = min(context.round, self._rounds + _LOOKED_AT)
        rounds = self._reader.read_of(context, count)
        if stale_rounds(rounds) < self._rounds:
            return None
        reason = f"{self._rounds} rounds in a row have brought nothing new"
        return Stop(reason, outcome.NoProgress(reason))
