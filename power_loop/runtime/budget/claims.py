"""What a model call needs, weighed against all the budgets that it counts for."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from power_loop.errors import UsageError
from power_loop.runtime.budget.accounts import Account, Shortfall
from power_loop.runtime.budget.amounts import Amounts, told
from power_loop.runtime.budget.rates import NO_PRICES, Rate, Unpriced

__all__ = ["Claim", "Fit", "Lack", "Need", "Short", "explained"]

_UNITS_OF_TIME = ("wall_seconds", "working_seconds")


class Need(Struct, frozen=True, kw_only=True):
    """What one request to a model may use.

    Attributes:
        input_tokens: what has been counted of the request.
        output_tokens: what the answer may have at most; None to let it have what is left.
        new_round: whether a round begins with it.
        rate: what it costs at worst; see `worst_rate`.

    Raises:
        UsageError: a number is negative.
    """

    input_tokens: int
    output_tokens: int | None = None
    new_round: bool = False
    rate: Rate | Unpriced = NO_PRICES

    def __post_init__(self) -> None:
        if self.input_tokens < 0 or (self.output_tokens is not None and self.output_tokens < 1):
            raise UsageError(
                f"a call cannot need {self.input_tokens} tokens of input and "
                f"{self.output_tokens} of output; count the request first"
            )


class Fit(Struct, frozen=True):
    """There is enough, for an answer of `output` tokens; None where nothing bounds it. `shortened`
    says what bounds it if that is less than was wanted.
    """

    amounts: Amounts
    output: int | None
    shortened: Shortfall | None = None


class Lack(Struct, frozen=True):
    """An account has less of `name` left than is `needed`."""

    account: Account
    name: str
    needed: int

    @property
    def is_final(self) -> bool:
        """Whether it stays so, whatever calls under way give back."""
        return self.account.limits[self.name] - self.account.used[self.name] < self.needed

    @property
    def ends(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.account.budget.when_short != "wait" or self.is_final


class Short(Struct, frozen=True):
    """There is not enough: what is lacking, one or more."""

    lacks: tuple[Lack, ...]

    @property
    def ends(self) -> bool:
        """Whether there is nothing to wait for."""
        return any(lack.ends for lack in self.lacks)

    @property
    def accounts(self) -> frozenset[Account]:
        """Where it is lacking."""
        return frozenset([lack.account for lack in self.lacks])

    @property
    def shortfall(self) -> Shortfall:
        """The worst of it: what no other call can mend, else what lacks the greatest part."""

        def badness(lack: Lack) -> tuple[bool, float]:
            return not lack.ends, lack.account.free(lack.name) / lack.needed

        return explained(min(self.lacks, key=badness))


class Claim:
    """What a call needs in units: `base`, and `slope` for each token of the answer."""

    __slots__ = ("_base", "_least", "_slope", "_want", "chain")

    def __init__(self, chain: Sequence[Account], need: Need, rate: Rate) -> None:
        self.chain = chain
        self._want = need.output_tokens
        # Of an answer that may have no more, no more can be wanted.
        most = [each.limits["output_tokens"] for each in chain if "output_tokens" in each.limits]
        least = min([max([account.budget.least_output for account in chain]), *most])
        self._least = least if self._want is None else min(least, self._want)
        # Some time must be left, however little.
        self._base: Amounts = {
            "rounds": int(need.new_round),
            "llm_calls": 1,
            "input_tokens": need.input_tokens,
            "tokens": need.input_tokens,
            "cost": rate.fixed,
            "wall_seconds": 1,
            "working_seconds": 1,
        }
        self._slope: Amounts = {"output_tokens": 1, "tokens": 1, "cost": rate.output}

    def weigh(self) -> Fit | Short:
        """Whether there is enough of everything everywhere, and for how long an answer."""
        output = self._want
        lacks: list[Lack] = []
        narrowest: tuple[Account, str] | None = None
        for account in self.chain:
            whole = self._want is not None and account.budget.when_short == "end"
            asked = self._want if whole and self._want is not None else self._least
            used, held = account.used, account.held
            for name, limit in account.limits.items():
                base, slope = self._base.get(name, 0), self._slope.get(name, 0)
                needed, free = base + slope * asked, limit - used[name] - held[name]
                if needed and free < needed:
                    lacks.append(Lack(account, name, needed))
                elif slope:
                    room = (free - base) // slope
                    if output is None or room < output:
                        output, narrowest = room, (account, name)
        if lacks:
            return Short(tuple(lacks))
        return Fit(self._amounts(output or 0), output, self._shortened(narrowest, output))

    def _shortened(
        self, narrowest: tuple[Account, str] | None, output: int | None
    ) -> Shortfall | None:
        if narrowest is None or output is None or self._want is None:
            return None
        left = f"; {output:,} of {self._want:,} tokens are left for the answer"
        account, name = narrowest
        return Shortfall(f"{account.scope}.{name}", _figures(account, name) + left)

    def _amounts(self, output: int) -> Amounts:
        base = self._base
        return {
            "rounds": base["rounds"],
            "llm_calls": base["llm_calls"],
            "input_tokens": base["input_tokens"],
            "output_tokens": output,
            "tokens": base["tokens"] + output,
            "cost": base["cost"] + self._slope["cost"] * output,
        }


def explained(lack: Lack) -> Shortfall:
    """What is lacking, with its figures."""
    account, name = lack.account, lack.name
    figures = _figures(account, name)
    if name not in _UNITS_OF_TIME:
        figures += f"; the next step needs {told(name, lack.needed)}"
    return Shortfall(f"{account.scope}.{name}", figures)


def _figures(account: Account, name: str) -> str:
    allowed, used = (told(name, units[name]) for units in (account.limits, account.used))
    held = account.held[name]
    aside = f", {told(name, held)} set aside for calls under way" if held else ""
    return f"{allowed} allowed, {used} used{aside}"
