"""What somebody allows a run, a session or a loop to use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

from msgspec import Struct, structs

from llm_client.pricing import Ceiling
from power_loop.errors import UsageError

__all__ = ["Budget", "WhenShort"]

WhenShort = Literal["wait", "shrink", "end"]

_COUNTED = (
    "rounds",
    "tokens",
    "input_tokens",
    "output_tokens",
    "tool_calls",
    "llm_calls",
    "children",
)
_MEASURED = ("cost", "wall_seconds", "working_seconds")
_TIMES = ("wall_seconds", "working_seconds")
_LIMITS = (*_COUNTED, *_MEASURED)
_PARTS = (
    ("input_tokens", "tokens"),
    ("output_tokens", "tokens"),
    ("working_seconds", "wall_seconds"),
)


class Budget(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Limits; what is None is not limited. They hold for everything below as well: what a sub-agent
    uses is used by the run that it works for.

    Attributes:
        rounds: rounds in which a model is asked.
        tokens: input and output together.
        input_tokens, output_tokens: one of them.
        cost: US dollars.
        wall_seconds: how long runs are open; for a run or a session only.
        working_seconds: the same without what they wait for people, rates and budgets.
        tool_calls: calls of tools, each attempt counted.
        llm_calls: requests to a model, each attempt counted.
        children: sessions of sub-agents, at any depth.
        when_short: what happens where this budget has not enough left for a model call. "end": the
            run ends, unless all that the call may use can be set aside. "shrink": the model is
            allowed a shorter answer, as long as `least_output` tokens are left for it; otherwise
            the run ends. "wait": as "shrink", but where calls under way may still give back
            enough, the run waits for them first.
        least_output: tokens; a shorter answer than that is not worth asking for. Of several
            budgets that a call counts for, the largest number holds, or what `output_tokens` allows
            if that is less.
        unknown_price: what happens under a limit of `cost` where the price of a call is not known:
            the call is refused, or taken to cost a `Ceiling`.

    Raises:
        UsageError: a limit is not a positive number, or can never matter beside another one.
    """

    rounds: int | None = None
    tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    wall_seconds: float | None = None
    working_seconds: float | None = None
    tool_calls: int | None = None
    llm_calls: int | None = None
    children: int | None = None
    when_short: WhenShort = "wait"
    least_output: int = 16
    unknown_price: Ceiling | Literal["refuse"] = "refuse"

    def __post_init__(self) -> None:
        for name in _LIMITS:
            _check_limit(name, getattr(self, name))
        for part, whole in _PARTS:
            least, most = getattr(self, part), getattr(self, whole)
            if least is not None and most is not None and least > most:
                raise UsageError(
                    f"the budget's {part}={least} is more than its {whole}={most}, so that it can "
                    f"never matter; lower {part}, or leave it out"
                )
        _check_rules(self)

    @property
    def limits(self) -> dict[str, float]:
        """What is limited, by name."""
        given = {name: getattr(self, name) for name in _LIMITS}
        return {name: value for name, value in given.items() if value is not None}

    def as_limits(self, scope: str) -> dict[str, float]:
        """The limits as a record holds them: by `run.tokens`, where `run` is the scope."""
        return {f"{scope}.{name}": float(value) for name, value in self.limits.items()}

    @classmethod
    def from_limits(cls, limits: Mapping[str, float], scope: str) -> Budget:
        """The limits of `scope` among `limits`, which are as `as_limits` makes them. What happens
        where they are short is not among them, and is as it is by default.

        Raises:
            UsageError: one of them is not known here.
        """
        given: dict[str, float] = {}
        for key, value in limits.items():
            where, _, name = key.rpartition(".")
            if where != scope:
                continue
            if name not in _LIMITS:
                raise UsageError(
                    f"the limit {key!r} is not known to this version, which can therefore not keep "
                    "it; use a newer one"
                )
            given[name] = int(value) if name in _COUNTED and value.is_integer() else value
        return structs.replace(cls(), **given)

    def bounded(self, kept: Budget) -> Budget:
        """The same, but with the limits that `kept` has: of both where they limit different things.
        Where a part would then be allowed more than the whole, it is allowed as much.
        """
        limits = self.limits | kept.limits
        for part, whole in _PARTS:
            if part in limits and whole in limits:
                limits[part] = min(limits[part], limits[whole])
        return structs.replace(self, **limits)

    def extended(self, extend: Budget) -> Budget:
        """As much, or what `extend` gives instead: new totals, not additions.

        Rules (`when_short` and so on) are taken over where `extend` departs from the default.

        Raises:
            UsageError: a limit would be lower than it was, or there was none.
        """
        ours = self.limits
        for name, value in extend.limits.items():
            before = ours.get(name)
            if before is None:
                raise UsageError(
                    f"extend gives {name}={value}, but {name} is not limited, and an extension "
                    "takes nothing away; leave it out"
                )
            if value < before:
                raise UsageError(
                    f"extend gives {name}={value}, less than the {before} that were allowed; an "
                    f"extension is a new total, so give {before} or more"
                )
        default = Budget()
        changed = {
            name: getattr(extend, name)
            for name in self.__struct_fields__
            if getattr(extend, name) != getattr(default, name)
        }
        return structs.replace(self, **changed)

    def refuse_times(self, whose: str) -> None:
        """Sees to it that time is not limited, where there is no one span of time to be limited.

        Raises:
            UsageError: it is.
        """
        for name in _TIMES:
            if getattr(self, name) is not None:
                raise UsageError(
                    f"the budget of {whose} limits {name}, but it has no time of its own; limit "
                    f"{name} in the budget of a run or a session"
                )


def _check_limit(name: str, value: object) -> None:
    if value is None:
        return
    whole = name in _COUNTED
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        kind = "a whole number" if whole else "a number"
        raise UsageError(f"the budget's {name} must be {kind} or None, not {value!r}")
    if value == 0:
        raise UsageError(
            f"the budget's {name}=0 would allow nothing at all; leave it out to set no limit, or "
            f"do not start what may use no {name.replace('_', ' ')}"
        )
    if not (math.isfinite(value) and value > 0):
        raise UsageError(
            f"the budget's {name}={value!r} is no limit; give a positive number, or leave it out "
            "to set none"
        )


def _check_rules(budget: Budget) -> None:
    if budget.when_short not in ("wait", "shrink", "end"):
        raise UsageError(
            f"the budget's when_short must be 'wait', 'shrink' or 'end', not {budget.when_short!r}"
        )
    _check_least(budget.least_output)
    ceiling: object = budget.unknown_price
    if isinstance(ceiling, Ceiling):
        _check_ceiling(ceiling)
    elif ceiling != "refuse":
        raise UsageError(
            f"the budget's unknown_price must be 'refuse' or a Ceiling, not {ceiling!r}"
        )


def _check_least(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"the budget's least_output must be 1 or more, not {value!r}")


def _check_ceiling(ceiling: Ceiling) -> None:
    for name in ceiling.__struct_fields__:
        value: object = getattr(ceiling, name)
        if not isinstance(value, Decimal) or not value.is_finite() or value < 0:
            raise UsageError(
                f"the {name} of the budget's unknown_price must be a Decimal that is not negative, "
                f"not {value!r}"
            )
