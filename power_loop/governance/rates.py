"""Calls of a tool are kept to a rate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from power_loop.errors import UsageError
from power_loop.governance.checks import over_zero, whole
from power_loop.governance.policies import Policy, Refuse
from power_loop.hooks import ToolBefore

__all__ = ["RateLimit"]


class RateLimit(Policy):
    """Refuses calls of a tool beyond a rate, and tells the model when the next may be made.

    The rate is that of the loop it is used in, over all its sessions. Put it behind policies that
    ask a person: a call counts when it gets here, once, however often it is judged.
    """

    name = "rate_limit"

    def __init__(
        self,
        limits: Mapping[str, tuple[int, float]],
        *,
        clock: Callable[[], float] = time.monotonic,
        name: str = "rate_limit",
    ) -> None:
        """Describes the rule.

        Args:
            limits: by name of a tool, how many calls in how many seconds.
            clock: seconds that only grow.
            name: of the policy, where there are several of them.

        Raises:
            UsageError: there are no limits, or one is not of a count and seconds over 0.
        """
        self.name = name
        self._limits = _checked(limits)
        self._clock = clock
        # Of each tool, when the calls were let through that still count, oldest first.
        self._made: dict[str, dict[tuple[str, str, int], float]] = {tool: {} for tool in limits}

    def before_action(self, context: ToolBefore[Any]) -> Refuse | None:
        """Refuses a call that comes too soon."""
        limit = self._limits.get(context.name)
        if limit is None:
            return None
        count, seconds = limit
        now, made = self._clock(), self._made[context.name]
        while made and made[oldest := next(iter(made))] <= now - seconds:
            del made[oldest]
        call = (context.session_id, context.call.id, context.attempt)
        if call in made:
            return None
        if len(made) >= count:
            wait = math.ceil(next(iter(made.values())) + seconds - now)
            return Refuse(
                f"[not run] {context.name!r} may be called {count} times in {seconds:g} s. "
                f"The next call can be made in {max(wait, 1)} s."
            )
        made[call] = now
        return None


def _checked(limits: object) -> dict[str, tuple[int, float]]:
    if not isinstance(limits, Mapping) or not limits:
        raise UsageError("RateLimit needs limits: {'search': (10, 60)} are 10 calls a minute")
    found: dict[str, tuple[int, float]] = {}
    for tool, limit in cast("Mapping[object, object]", limits).items():
        pair = cast("Sequence[object]", limit) if isinstance(limit, tuple | list) else ()
        if not isinstance(tool, str) or len(pair) != 2:
            raise UsageError(
                "a limit is a tool's name with a number of calls and one of seconds, "
                f"not {tool!r}: {limit!r}"
            )
        calls = whole(f"the calls of {tool!r}", pair[0])
        found[tool] = calls, over_zero(f"the time of {tool!r}", pair[1], "seconds")
    return found
