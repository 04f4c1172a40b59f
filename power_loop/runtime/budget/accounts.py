"""One node of the tree: what is allowed, used and held there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import get_ident
from typing import Protocol

from msgspec import Struct

from power_loop.errors import UsageError
from power_loop.runtime.budget.amounts import LIMITED, Amounts, amounts_of, in_units
from power_loop.runtime.budget.limits import Budget
from power_loop.session.spent import Spent

__all__ = ["Account", "Shortfall", "Waiting", "check_thread"]


class Account:
    """What one budget allows, and what of it is used, and held for calls under way.

    Attributes:
        scope: names it in what is recorded: `run`, `session`, `loop` …
        limits: what is limited, in units.
        in_flight: how many calls hold something.
        waiting: who waits for this account or for another one of the same chain, in order.
        thread: the one that uses it, or has used it last.
    """

    __slots__ = ("budget", "held", "in_flight", "limits", "scope", "thread", "used", "waiting")

    def __init__(self, scope: str, budget: Budget, spent: Spent) -> None:
        self.scope = scope
        self.budget = budget
        self.limits = {name: in_units(name, value) for name, value in budget.limits.items()}
        self.used: Amounts = dict.fromkeys(LIMITED, 0) | amounts_of(spent)
        self.held: Amounts = dict.fromkeys(LIMITED, 0)
        self.in_flight = 0
        self.waiting: dict[Waiting, None] = {}
        self.thread = get_ident()

    def free(self, name: str) -> int:
        """What of a limit is neither used nor held; negative where more has been used."""
        return self.limits[name] - self.used[name] - self.held[name]

    def hold(self, amounts: Amounts) -> None:
        """Sets aside."""
        self.in_flight += 1
        for name, units in amounts.items():
            self.held[name] += units

    def release(self, amounts: Amounts) -> None:
        """Gives back what was set aside."""
        self.in_flight -= 1
        for name, units in amounts.items():
            self.held[name] -= units

    def use(self, amounts: Amounts) -> None:
        """Takes for good."""
        for name, units in amounts.items():
            self.used[name] += units


class Waiting(Protocol):
    """**Protocol**: somebody who waits until there is enough in all accounts of a `chain`.

    Attributes:
        number: their place: greater than that of all who came before to an account of the chain.
        lacking: the accounts that had not enough when they looked last.
    """

    chain: Sequence[Account]
    number: int
    lacking: frozenset[Account]

    def look(self, promised: set[Account], /) -> None:
        """Looks whether there is enough by now. Of what is `promised` to those before, nothing is
        taken; what this one waits for is added.
        """
        ...


class Shortfall(Struct, frozen=True):
    """A budget does not allow the next step.

    Attributes:
        limit: whose limit and which: `run.tokens`, `tenant.cost` …
        reason: the figures, or what is not known.
    """

    limit: str
    reason: str


def check_thread(accounts: Iterable[Account]) -> None:
    """Sees to it that accounts are used from one thread at a time.

    Raises:
        UsageError: another thread's calls are under way.
    """
    here = get_ident()
    for account in accounts:
        if account.thread == here:
            continue
        if account.in_flight or account.waiting:
            raise UsageError(
                f"the budget {account.scope!r} is in use in another event loop; a budget counts "
                "for the loops of one event loop only, so make another one here"
            )
        account.thread = here
