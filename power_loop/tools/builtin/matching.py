"""File name patterns: `*`, `?`, `[…]` in one component, `**` over any number of them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

from power_loop.errors import ToolError

__all__ = ["compile_pattern"]

_LONGEST = 500
Step = Callable[[str], object] | None  # None for **


def compile_pattern(pattern: str) -> Callable[[tuple[str, ...]], bool]:
    """A test of a path's components. A pattern without `/` is about the name, at any depth.

    The time it takes grows with the product of both lengths at worst, whatever the pattern.

    Raises:
        ToolError: the pattern is empty, absolute, too long, or has `..` in it.
    """
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if not parts or pattern.startswith("/") or ".." in parts or len(pattern) > _LONGEST:
        raise ToolError(
            f"the pattern {pattern[:_LONGEST]!r} is not usable; write for example '*.py' or "
            "'docs/**/*.md', relative to the place searched"
        )
    if len(parts) == 1 and parts != ["**"]:
        parts.insert(0, "**")
    steps: list[Step] = [None if part == "**" else _component(part) for part in parts]
    if steps[-1] is None:
        steps.append(_component("*"))
    return lambda path: _matches(steps, path)


def _component(part: str) -> Step:
    # fnmatch translates into atomic groups: no backtracking over what a star has taken.
    return re.compile(fnmatch.translate(part)).match


def _matches(steps: list[Step], path: tuple[str, ...]) -> bool:
    places = _spread({0}, steps)
    for name in path:
        after: set[int] = set()
        for place in places:
            if place == len(steps):
                continue
            step = steps[place]
            if step is None:
                after.add(place)
            elif step(name):
                after.add(place + 1)
        places = _spread(after, steps)
    return len(steps) in places


def _spread(places: set[int], steps: list[Step]) -> set[int]:
    """Also the places behind each `**`, which may stand for nothing."""
    spread = set(places)
    for place in places:
        step = place
        while step < len(steps) and steps[step] is None:
            step += 1
            spread.add(step)
    return spread
