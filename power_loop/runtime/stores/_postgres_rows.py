"""Records as rows of PostgreSQL. A checksum makes any change to a stored record noticed."""

from __future__ import annotations

import struct
from zlib import crc32

from power_loop.errors import InvalidInput
from power_loop.events import Stamped
from power_loop.runtime.stores._postgres_errors import damaged
from power_loop.runtime.stores.base import InboxItem
from power_loop.runtime.stores.stored import decode_item, decode_record

__all__ = ["Row", "check_text", "checksum", "read_item", "read_row"]

Row = tuple[int, int, float, str, int, int, bytes]
"""seq, tree_seq, at, run, round, crc, body"""

_FIXED = struct.Struct("<qqdq")


def checksum(sid: int, stamped: Stamped, body: bytes) -> int:
    """CRC-32 of a record and of its place in its session."""
    return _checksum(sid, stamped.seq, stamped.at, stamped.run, stamped.round, body)


def check_text(**texts: str | None) -> None:
    """Raises InvalidInput: one of them is text that PostgreSQL cannot hold."""
    for name, text in texts.items():
        if text is not None and "\x00" in text:
            raise InvalidInput(f"the {name} {text!r} holds a NUL character; remove it")


def read_row(row: Row, sid: int, session: str, root: str, place: str) -> Stamped:
    """A row as a record.

    Raises:
        StoreCorrupt: it is not what had been written.
        StoreTooNew: it is of a kind that this version does not know.
    """
    seq, tree_seq, at, run, round, crc, body = row
    if _checksum(sid, seq, at, run, round, body) != crc:
        raise damaged(place, f"record {seq} of session {session!r} is not what was written")
    event = decode_record(body, seq, session, place)
    return Stamped(session, seq, 0, root, tree_seq, at, run, round, event)


def read_item(id: int, body: bytes, place: str) -> InboxItem:
    """A row of the inbox as an item.

    Raises:
        StoreCorrupt: it cannot be read.
    """
    item = decode_item(body)
    if item is None:
        raise damaged(place, f"inbox item {id} cannot be read")
    return InboxItem(f"i{id}", item)


def _checksum(sid: int, seq: int, at: float, run: str, round: int, body: bytes) -> int:
    return crc32(body, crc32(_FIXED.pack(sid, seq, at, round) + run.encode()))
