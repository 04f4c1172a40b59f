"""Records that a reader far behind does not hold in memory: it reads them from the store again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from power_loop.errors import SessionNotFound
from power_loop.events import Stamped

__all__ = ["CatchUp", "Fetch"]

Fetch = Callable[[str, int], Awaitable[Sequence[Stamped]]]
"""The records of a session after a place, in order, perhaps not all at once."""


class _Gap(Struct):
    """What was passed over: records after `after`, up to `last`."""

    after: int
    last: int


class CatchUp:
    """Which records of which sessions were passed over. Gaps are read oldest session first."""

    __slots__ = ("_fetch", "_gaps")

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._gaps: dict[str, _Gap] = {}

    def __bool__(self) -> bool:
        return bool(self._gaps)

    def covers(self, session: str) -> bool:
        """Whether records of the session have been passed over: all that follow must be, too."""
        return session in self._gaps

    def pass_over(self, stamped: Stamped) -> None:
        """Notes that a record is to be read later."""
        gap = self._gaps.get(stamped.session)
        if gap is None:
            self._gaps[stamped.session] = _Gap(stamped.seq - 1, stamped.seq)
        else:
            gap.last = stamped.seq

    async def page(self) -> Sequence[Stamped]:
        """The next records that were passed over; empty if their session is gone.

        Raises:
            StoreError: the store cannot be read.
        """
        session, gap = next(iter(self._gaps.items()))
        try:
            page = await self._fetch(session, gap.after)
        except SessionNotFound:
            del self._gaps[session]
            return ()
        # More may have been passed over while the store was read.
        wanted = [stamped for stamped in page if stamped.seq <= gap.last]
        if wanted:
            gap.after = wanted[-1].seq
        if not page or gap.after >= gap.last:
            del self._gaps[session]
        return wanted
