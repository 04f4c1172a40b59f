"""Text of others, amounts and times, as an explanation shows them: short, on one line, harmless."""

from __future__ import annotations

from datetime import UTC, datetime

from llm_client.errors import redact
from power_loop.runtime.budget.amounts import in_units, told

__all__ = ["amount", "clock", "counted", "cut", "lasted"]

_LONGEST = 160
_UNKNOWN = "?"


def cut(text: str, width: int = _LONGEST) -> str:
    """`text` on one line of at most `width` characters, without anything that looks like a key, and
    without what a terminal would act on.
    """
    # Before it is cut: half a key would not look like one.
    seen = "".join([c if c.isprintable() else " " for c in redact(text)])
    flat = " ".join(seen.split())
    return flat if len(flat) <= width else f"{flat[: width - 1]}…"


def counted(count: int, thing: str) -> str:
    """How many of something there are."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def amount(limit: str, value: float | None) -> str:
    """`value` of a limit, `run.cost` for one, as text: $0.015, 3.5 s, 12,000."""
    if value is None:
        return _UNKNOWN
    name = limit.rpartition(".")[2]
    name = "wall_seconds" if name == "seconds" else name
    return told(name, in_units(name, value))


def lasted(before: float, after: float) -> str:
    """Seconds between two stamps, as text."""
    return f"{max(0.0, after - before):,.3f} s"


def clock(at: float) -> str:
    """Seconds since the epoch as a time of day; empty for a record that was not stamped."""
    if not at:
        return ""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return ""
