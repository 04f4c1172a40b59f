"""How much is remembered, and how much of that is brought up."""

from __future__ import annotations

from msgspec import Struct

from power_loop.errors import UsageError
from power_loop.runtime.stores.notes import WhenFull

__all__ = ["NotesPolicy"]


class NotesPolicy(Struct, frozen=True, kw_only=True):
    """How much is remembered, and how much of it is brought up.

    Attributes:
        notes: how many an owner may have of a kind.
        characters: how many a note may have.
        when_full: what becomes of one note more: it is refused, or the oldest gives way.
        recalled: how many notes are brought up for a run at most.
        injected: how many characters these may have together.

    Raises:
        UsageError: a number is less than 1, or `when_full` is neither.
    """

    notes: int = 50
    characters: int = 1_000
    when_full: WhenFull = "reject"
    recalled: int = 12
    injected: int = 8_000

    def __post_init__(self) -> None:
        for name in ("notes", "characters", "recalled", "injected"):
            if getattr(self, name) < 1:
                raise UsageError(f"NotesPolicy({name}=…) is a number from 1")
        if self.when_full not in ("reject", "fifo"):
            raise UsageError(f"when_full is 'reject' or 'fifo', not {self.when_full!r}")
