"""What is measured of the stores: the parts, their sizes and units."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

__all__ = [
    "AT_ONCE",
    "CONNECTIONS",
    "DATABASES",
    "FIGURES",
    "PARTS",
    "RECORDS",
    "SIZES",
    "StoreSize",
    "title_of",
]

DATABASES = ("sqlite", "postgres")
AT_ONCE = (1, 10, 100)
"""Sessions that are appended to at the same time."""
CONNECTIONS = 10
"""Of the bare PostgreSQL driver, which takes no two transactions on one."""
RECORDS = 3
"""Records of one append, as a round has them."""
PARTS = tuple(
    f"{database}.{kind}"
    for database in DATABASES
    for kind in (*(f"append.{n}" for n in AT_ONCE), "turn", "open")
)


class StoreSize(Struct, frozen=True, kw_only=True):
    """How much work one repetition is.

    Attributes:
        repetitions: how often each side is measured.
        appends: appends of one repetition, over all sessions.
        turns: turns of one stored session, of one tool call each.
        messages: messages of the session that is opened.
    """

    repetitions: int
    appends: int
    turns: int
    messages: int


SIZES: Mapping[str, StoreSize] = MappingProxyType(
    {
        "full": StoreSize(repetitions=5, appends=2_000, turns=150, messages=10_000),
        "tiny": StoreSize(repetitions=1, appends=100, turns=3, messages=40),
    }
)

FIGURES: Mapping[str, str] = MappingProxyType(
    {"append": "µs", "turn": "ms", "turn.storage": "KiB", "open": "ms"}
)
"""What a part gives, and its unit."""

_NAMES = MappingProxyType({"sqlite": "SQLite", "postgres": "PostgreSQL"})


def title_of(part: str, figure: str) -> str:
    """What a figure of a part says."""
    database, _, kind = part.partition(".")
    match figure:
        case "append":
            sessions = int(kind.partition(".")[2])
            many = f"{sessions} sessions at once" if sessions > 1 else "one session"
            title = f"an append of {RECORDS} records, {many}"
        case "turn":
            title = "a turn of a stored session (scenario g)"
        case "turn.storage":
            title = "… on the disk, per turn"
        case _:
            title = "opening a session of 10,000 messages"
    return f"{_NAMES[database]}: {title}"
