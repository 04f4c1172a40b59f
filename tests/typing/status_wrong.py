"""Only checked, never run: a status that does not exist is an error."""

from __future__ import annotations

from power_loop import RunResult

__all__ = ["done"]


def done(result: RunResult) -> bool:
    if result.status == "complete":  # pyright: ignore[reportUnnecessaryComparison]
        return False
    return result.status == "completed"
