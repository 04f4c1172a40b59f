"""Which calls a policy is about: names of tools, or whatever a function says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from power_loop.errors import UsageError
from power_loop.hooks import ToolBefore

__all__ = ["Calls", "calls_matcher", "checked_names"]

Calls = Iterable[str] | Callable[[ToolBefore[Any]], bool]
"""Names of tools, or a function that says whether a call is meant. One text is one name."""


def calls_matcher(calls: Calls, what: str) -> Callable[[ToolBefore[Any]], bool]:
    """A function that says whether a call is among `calls`; `what` is whose they are.

    Raises:
        UsageError: they are no names, or there are none.
    """
    if callable(calls):
        return calls
    names = checked_names(calls, what)
    return lambda context: context.name in names


def checked_names(names: Iterable[str], what: str) -> frozenset[str]:
    """Names of tools.

    Raises:
        UsageError: one is no name, or there are none.
    """
    given: list[object] = [names] if isinstance(names, str) else list(names)
    found = [name for name in given if isinstance(name, str) and name]
    if not found or len(found) < len(given):
        raise UsageError(f"{what} needs names of tools, or a function of a call; not {given!r}")
    return frozenset(found)
