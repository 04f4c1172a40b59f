"""What every provider demands of a tool's name, and a loop of its times and words."""

from __future__ import annotations

import math
import re
from typing import get_args

from power_loop.errors import ToolDefinitionError
from power_loop.tools.base import GRACE, OnCancel
from power_loop.tools.output import OutputPolicy

__all__ = ["check_grace", "check_name", "check_on_cancel", "check_output", "check_timeout"]

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


def check_on_cancel(on_cancel: OnCancel, owner: str) -> OnCancel:
    """The word, if it is one of those there are.

    Raises:
        ToolDefinitionError: it is not.
    """
    if on_cancel not in get_args(OnCancel):
        words = ", ".join(map(repr, get_args(OnCancel)))
        raise ToolDefinitionError(f"tool {owner}: on_cancel is one of {words}, not {on_cancel!r}")
    return on_cancel


def check_output(output: OutputPolicy, owner: str) -> OutputPolicy:
    """The policy, if it is one.

    Raises:
        ToolDefinitionError: it is not.
    """
    if not isinstance(output, OutputPolicy):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers need not be checked
        raise ToolDefinitionError(
            f"tool {owner}: output={output!r} is no OutputPolicy; use OutputPolicy.truncate(), say"
        )
    return output


def check_grace(grace: float, owner: str) -> float:
    """The grace, if it is one.

    Raises:
        ToolDefinitionError: it is not a finite number of seconds from 0.
    """
    if not (isinstance(grace, int | float) and math.isfinite(grace) and grace >= 0):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers need not be checked
        raise ToolDefinitionError(
            f"tool {owner}: grace={grace!r} is no time; use seconds from 0, such as {GRACE:g}"
        )
    return grace
