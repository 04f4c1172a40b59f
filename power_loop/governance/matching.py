"""Which calls a policy is about: names of tools, or whatever a function says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from power_loop.errors import UsageError
from power_loop.hooks import ToolBefore

__all__ = ["Calls", "Matcher", "calls_matcher", "checked_names"]

Matcher = Callable[[ToolBefore[Any]], bool | Awaitable[bool]]

Calls = Iterable[str] | Matcher
"""Names of tools, or a function that says whether a call is meant, synchronous or not. One text is
one name."""


def calls_matcher(calls: Calls, what: str) -> Matcher:
    """A function that says whether a call is among `calls`; `what` is whose they are.

    Raises:
        UsageError: they are no names, or there are none.
    """
    if callable(calls):
        return calls
    names = checked_names(calls, what)
    return lambda context: context.name in names


def checked_names(names: Iterable[str], what: str, *, some: bool = True) -> frozenset[str]:
    """Names of tools.

    Raises:
        UsageError: one is no name, or there are none although there must be `some`.
    """
    given: list[object] = [names] if isinstance(names, str) else _listed(names)
    found = [name for name in given if isinstance(name, str) and name]
    if len(found) < len(given) or (some and not found):
        raise UsageError(f"{what} needs names of tools, or a function of a call; not {given!r}")
    return frozenset(found)


def _listed(names: object) -> list[object]:
    return list(cast("Iterable[object]", names)) if isinstance(names, Iterable) else [names]
