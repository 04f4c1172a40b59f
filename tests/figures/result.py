"""What a reliability figure comes to."""

from __future__ import annotations

from msgspec import Struct


class FigureResult(Struct, frozen=True):
    """Cases tried, what failed (one line each), and what they were about."""

    cases: int
    failures: tuple[str, ...]
    scenarios: str
