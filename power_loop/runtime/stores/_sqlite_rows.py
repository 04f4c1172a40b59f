"""Records and inbox items as rows. A checksum makes any change to a stored record noticed."""

from __future__ import annotations

import struct
from zlib import crc32

from power_loop.events import Stamped
from power_loop.runtime.stores._sqlite_errors import damaged
from power_loop.runtime.stores.base import InboxItem
from power_loop.runtime.stores.stored import decode_item, decode_record

__all__ = [
    "Row",
    "first_place",
    "read_item",
    "read_row",
    "row_of",
    "seq_of",
]

Row = tuple[int, int, float, str, int, int, bytes]
"""place, tree_seq, at, run, round, crc, body"""

_FIXED = struct.Struct("<qqdq")


def first_place(sid: int) -> int:
    """Where the records of the session numbered `sid` begin; the record `seq` is at this + seq."""
    return sid << 32


def seq_of(place: int) -> int:
    """A record's number in its session."""
    return place & 0xFFFFFFFF


def row_of(stamped: Stamped, sid: int, tree_seq: int, body: bytes) -> Row:
    """A record as a row."""
    place = first_place(sid) + stamped.seq
    crc = _checksum(place, tree_seq, stamped.at, stamped.run, stamped.round, body)
    return place, tree_seq, stamped.at, stamped.run, stamped.round, crc, body


def read_row(row: Row, session: str, root: str, path: str) -> Stamped:
    """A row as a record.

    Raises:
        StoreCorrupt: it is not what had been written.
        StoreTooNew: it is of a kind that this version does not know.
    """
    place, tree_seq, at, run, round, crc, body = row
    seq = seq_of(place)
    try:
        intact = _checksum(place, tree_seq, at, run, round, body) == crc
    except (TypeError, ValueError, AttributeError, struct.error):  # a column changed its very type
        intact = False
    if not intact:
        raise damaged(path, f"record {seq} of session {session!r} is not what was written")
    event = decode_record(body, seq, session, path)
    return Stamped(session, seq, 0, root, tree_seq, at, run, round, event)


def read_item(id: int, body: bytes, path: str) -> InboxItem:
    """A row of the inbox as an item.

    Raises:
        StoreCorrupt: it cannot be read.
    """
    item = decode_item(body)
    if item is None:
        raise damaged(path, f"inbox item {id} cannot be read")
    return InboxItem(f"i{id}", item)


def _checksum(place: int, tree_seq: int, at: float, run: str, round: int, body: bytes) -> int:
    return crc32(body, crc32(_FIXED.pack(place, tree_seq, at, round) + run.encode()))
