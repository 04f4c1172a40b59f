"""One budget for several loops."""

from __future__ import annotations

from power_loop.errors import UsageError
from power_loop.runtime.budget.amounts import NOTHING
from power_loop.runtime.budget.limits import Budget
from power_loop.runtime.budget.meter import Meter
from power_loop.session.spent import Spent

__all__ = ["SharedBudget"]

_TAKEN = ("run", "session", "loop", "exit", "policy")


class SharedBudget:
    """What several loops may use together: those of a tenant, say. Give one object to all of them;
    it counts as long as it lives. All of them must run in one event loop.

    Args:
        limits: what is allowed; time cannot be limited here.
        name: names it in records and outcomes: `tenant.cost`.
        spent: what had been used before.

    Raises:
        UsageError: the limits are no `Budget`, the name is one that a loop uses itself or no plain
            word, or time is limited.
    """

    def __init__(self, limits: Budget, name: str = "tenant", spent: Spent = NOTHING) -> None:
        _check(limits, name)
        limits.refuse_times(f"the shared budget {name!r}")
        self.meter = Meter(name, limits, spent=spent)

    @property
    def limits(self) -> Budget:
        """What is allowed."""
        return self.meter.budget

    @property
    def spent(self) -> Spent:
        """What has been used so far, without what is set aside for calls under way."""
        return self.meter.spent

    @property
    def left(self) -> dict[str, float]:
        """What of each limit is neither used nor set aside, by its name: `tenant.tokens`."""
        return self.meter.left()


def _check(limits: object, name: object) -> None:
    if not isinstance(limits, Budget):
        raise UsageError(
            f"the limits of a shared budget are a Budget, not a value of type {_kind(limits)}"
        )
    may_be = isinstance(name, str) and name.replace("-", "_").isidentifier()
    if not may_be or name in _TAKEN:
        raise UsageError(
            f"a shared budget cannot be named {name!r}; its name is a plain word other than "
            f"{', '.join(_TAKEN)}"
        )


def _kind(value: object) -> str:
    return type(value).__name__
