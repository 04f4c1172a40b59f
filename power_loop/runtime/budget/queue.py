"""Who waits for what others have set aside. First come, first served."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from power_loop.runtime.budget.accounts import Account, Shortfall, Waiting
from power_loop.runtime.budget.amounts import NOTHING, Amounts, amounts_of, out_of_units
from power_loop.runtime.budget.claims import Claim, Fit, Short
from power_loop.session.spent import Spent

__all__ = ["Hold", "reserved", "stands_in_line"]


class Hold:
    """What is set aside for a model call, in a budget and in all above it, until it is settled.

    Attributes:
        output: tokens that the answer may have; None where nothing bounds it.
        shortened: what bounds it, if that is less than was wanted.
    """

    __slots__ = ("_amounts", "_chain", "_is_open", "output", "shortened")

    def __init__(self, chain: Sequence[Account], fit: Fit) -> None:
        self.output = fit.output
        self.shortened = fit.shortened
        self._chain = chain
        self._amounts: Amounts = fit.amounts
        self._is_open = True
        for account in chain:
            account.hold(fit.amounts)

    @property
    def rounds(self) -> int:
        """1 if a round begins with the call, else 0."""
        return self._amounts["rounds"]

    @property
    def tokens(self) -> int:
        """Input and output that are set aside."""
        return self._amounts["tokens"]

    @property
    def cost(self) -> float:
        """US dollars that are set aside."""
        return out_of_units("cost", self._amounts["cost"])

    def settle(self, spent: Spent | None = None) -> None:
        """Gives back what is set aside and takes what the call has used instead: all of it, if
        nobody has seen how it ended. Only the first time counts, so that a `finally` may settle
        what has not been.
        """
        if not self._is_open:
            return
        self._is_open = False
        used = self._amounts if spent is None else amounts_of(spent)
        for account in self._chain:
            account.release(self._amounts)
            account.use(used)
        _look_again(self._chain)


def stands_in_line(chain: Sequence[Account]) -> bool:
    """Whether somebody waits for one of these accounts, so that others may not take it first."""
    return any(account in each.lacking for account in chain for each in account.waiting)


async def reserved(claim: Claim, found: Fit | Short) -> Hold | Shortfall:
    """What comes of a claim that has to wait, and that was `found` to be so before."""
    waiter = _Waiter(claim, found)
    try:
        await waiter.event.wait()
    except BaseException:
        waiter.give_up()
        raise
    assert waiter.answer is not None
    return waiter.answer


class _Waiter:
    """Waits from now on; `event` is set when there is an `answer`."""

    __slots__ = ("_claim", "answer", "chain", "event", "lacking", "number")

    def __init__(self, claim: Claim, found: Fit | Short) -> None:
        self._claim = claim
        self.chain = claim.chain
        self.event = anyio.Event()
        self.answer: Hold | Shortfall | None = None
        self.lacking = _accounts_of(found)
        before = [next(reversed(each.waiting)).number for each in self.chain if each.waiting]
        self.number = max(before, default=0) + 1
        for account in self.chain:
            account.waiting[self] = None

    def look(self, promised: set[Account]) -> None:
        """See `Waiting.look`."""
        found = self._claim.weigh()
        self.lacking = _accounts_of(found)
        if isinstance(found, Fit):
            if promised.isdisjoint(self.chain):
                self._answer(Hold(self.chain, found))
        elif found.ends:
            self._answer(found.shortfall)
        else:
            promised |= self.lacking

    def give_up(self) -> None:
        """Waits no longer, and leaves nothing behind."""
        if isinstance(self.answer, Hold):
            self.answer.settle(NOTHING)
        elif self.answer is None:
            self._leave()
            _look_again(self.chain)

    def _answer(self, answer: Hold | Shortfall) -> None:
        self.answer = answer
        self._leave()
        self.event.set()

    def _leave(self) -> None:
        for account in self.chain:
            del account.waiting[self]


def _look_again(accounts: Sequence[Account]) -> None:
    """Has all look again, in order, who wait for these accounts or share one with those who do."""
    near = {each for account in accounts for one in account.waiting for each in one.chain}
    if not near:
        return
    promised: set[Account] = set()
    for waiter in sorted({one for account in near for one in account.waiting}, key=_number):
        waiter.look(promised)


def _number(waiter: Waiting) -> int:
    return waiter.number


def _accounts_of(found: Fit | Short) -> frozenset[Account]:
    return found.accounts if isinstance(found, Short) else frozenset[Account]()
