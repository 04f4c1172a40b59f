"""What was there when a task was first measured has to be there when its goal is reached.

Its names stand in the `meta` of the task's first observation, so that a resume in another process
goes by the same ones. That message is pinned: no compaction may do away with what it tells.
"""

from __future__ import annotations

from base64 import b85decode, b85encode
from collections.abc import Sequence
from zlib import compress, decompress

import msgspec
from msgspec.structs import replace

from llm_client.types import Message
from power_loop.governance.progress import MetricSnapshot
from power_loop.session.pins import PINNED_META

__all__ = ["KEPT_META", "Kept", "held"]

KEPT_META = "goal.kept"
"""The key of a message's `meta` under which the names stand, compressed: they can be many."""

Names = frozenset[str]


class Kept:
    """What has to be there, by session."""

    def __init__(self) -> None:
        # Read from the transcript once a run.
        self._known: dict[str, Names] = {}

    def of(self, session: str, messages: Sequence[Message]) -> Names:
        """What has to be there in the task that the newest observation is of."""
        known = self._known.get(session)
        if known is None:
            known = self._known[session] = _read(messages)
        return known

    def forget(self, session: str) -> None:
        """Frees what is known of a session."""
        self._known.pop(session, None)

    def meta(self, session: str, snapshot: MetricSnapshot, *, begins: bool) -> dict[str, str]:
        """What an observation has to tell the next process of that; `begins` is whether it is the
        first of its task. Later ones tell it only if nothing was known before.

        It stands in for that of the task before.
        """
        there = snapshot.there or frozenset()
        if not begins and (self._known.get(session) or not there):
            return {}
        self._known[session] = there
        names = b85encode(compress(msgspec.json.encode(sorted(there)))).decode()
        return {KEPT_META: names, PINNED_META: KEPT_META}


def held(snapshot: MetricSnapshot, kept: Names) -> tuple[MetricSnapshot, bool]:
    """A measurement in which what is missing of `kept` is open, and whether anything is missing."""
    if snapshot.there is None or kept <= snapshot.there:
        return snapshot, False
    gone = frozenset([f"{name} (gone, or not run)" for name in kept - snapshot.there])
    return replace(snapshot, items=snapshot.items | gone), True


def _read(messages: Sequence[Message]) -> Names:
    for at in range(len(messages) - 1, -1, -1):
        meta = messages[at].meta
        if meta is not None and KEPT_META in meta:
            return frozenset(
                msgspec.json.decode(decompress(b85decode(meta[KEPT_META])), type=list[str])
            )
    return frozenset()
