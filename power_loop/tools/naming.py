"""What every provider demands of a tool's name, and a loop of its timeout."""

from __future__ import annotations

import math
import re

from power_loop.errors import ToolDefinitionError

__all__ = ["check_name", "check_timeout"]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def check_name(name: str, owner: str) -> str:
    """The name, if every provider takes it.

    Raises:
        ToolDefinitionError: it has other characters, or is too long.
    """
    if not _NAME.fullmatch(name):
        raise ToolDefinitionError(
            f"tool {owner}: the name {name!r} is not accepted by model providers; use 1 to 64 of "
            "a-z, A-Z, 0-9, _ and - (`name=…`)"
        )
    return name


def check_timeout(timeout: float | None, owner: str) -> float | None:
    """The timeout, if it is one.

    Raises:
        ToolDefinitionError: it is not a positive, finite number of seconds.
    """
    if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
        raise ToolDefinitionError(
            f"tool {owner}: timeout={timeout!r} is no time; use seconds above 0, or None"
        )
    return timeout
