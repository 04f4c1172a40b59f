"""What a rule is given is checked where it is given; what foreign code answers, where it answers.

Not a number is less than nothing and more than nothing: where it slipped in, it would be no limit.
An answer that has to be waited for is true, whatever it would come to.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutine
from math import inf
from typing import Any

from power_loop.errors import HookError, UsageError

__all__ = ["function", "kind", "over_zero", "text", "truth", "whole"]


def whole(name: str, value: object, least: int = 1) -> int:
    """`value`, a whole number.

    Raises:
        UsageError: it is none, or less than `least`.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise UsageError(f"{name} must be a whole number from {least}, not {value!r}")


def over_zero(name: str, value: object, unit: str = "") -> float:
    """`value`, a finite number over 0; of seconds, or whatever the `unit` is.

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, int | float) and value is not True and 0 < value < inf:
        return value
    of = f" of {unit}" if unit else ""
    raise UsageError(f"{name} must be a finite number{of} over 0, not {value!r}")


def text(name: str, value: object) -> str:
    """`value`, a text.

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, str):
        return value
    raise UsageError(f"{name} must be a text, not {value!r}")


def function(name: str, value: object) -> Callable[..., Any]:
    """`value`, something that can be called.

    Raises:
        UsageError: it is nothing of that kind.
    """
    if callable(value):
        return value
    raise UsageError(f"{name} must be a function, not {value!r}")


def truth(who: str, answer: object) -> bool:
    """`answer`, which is what `who` says: True or False.

    Raises:
        HookError: it is neither; nobody can say what was meant.
    """
    if isinstance(answer, bool):
        return answer
    raise HookError(f"{who} must answer True or False, not with {kind(answer)}")


def kind(answer: object) -> str:
    """What sort of answer that is which nobody can make anything of."""
    if iscoroutine(answer):
        answer.close()  # nobody will wait for it
    return f"a value of type {type(answer).__name__}"
