"""Bounds on a search: time, entries, cancellation; and a regular expression that cannot hang."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, cast

import regex

from power_loop.errors import ToolError
from power_loop.tools.context import ToolContext

__all__ = ["Bounds", "Matcher", "Stopped", "compile_regex"]

_LONGEST_PATTERN = 1_000
_MOST_ENTRIES = 100_000
_CHECKED_EVERY = 256


class Stopped(Exception):
    """A bound was reached; `str()` says which. What was found so far is still good."""


class Bounds:
    """What a search may use up. `step` is called for each entry met."""

    def __init__(self, context: ToolContext[Any], seconds: float) -> None:
        self.context = context
        self.seconds = seconds
        self.entries = 0
        self._deadline = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left.

        Raises:
            Stopped: none.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Stopped(f"stopped after {self.seconds:g} s; search a smaller part")
        return left

    def step(self) -> None:
        """Counts an entry.

        Raises:
            Stopped: a bound is reached.
            ToolCancelled: the call is not wanted any more.
        """
        self.entries += 1
        if self.entries > _MOST_ENTRIES:
            raise Stopped(f"stopped after {_MOST_ENTRIES:,} entries; search a smaller part")
        if self.entries % _CHECKED_EVERY == 1:
            self.context.check_cancelled()
            self.left()


class Matcher(Protocol):
    """Protocol of a compiled expression whose search can be bounded."""

    def search(self, string: str, *, timeout: float, concurrent: bool) -> object | None:
        """The first match. Raises TimeoutError after `timeout` seconds."""
        ...


def compile_regex(pattern: str, *, ignore_case: bool) -> Matcher:
    """Compiles an expression. The standard library's `re` would hold the interpreter, and every
    thread of it, for as long as a bad expression backtracks; this engine can be timed.

    Raises:
        ToolError: it is empty, too long, or no regular expression.
    """
    if not pattern or len(pattern) > _LONGEST_PATTERN:
        raise ToolError(f"the pattern must have 1 to {_LONGEST_PATTERN} characters")
    compile = cast("Callable[[str, int], Matcher]", regex.compile)
    try:
        return compile(pattern, int(regex.IGNORECASE) if ignore_case else 0)
    except (regex.error, RecursionError, OverflowError, ValueError) as error:
        raise ToolError(
            f"the pattern {pattern!r} is no regular expression: {error}. "
            r"Put a \ before characters such as ( [ { . * + ? to find them as they are"
        ) from error
