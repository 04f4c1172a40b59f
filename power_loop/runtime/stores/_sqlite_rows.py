"""Records and inbox items as rows. A checksum makes any change to a stored record noticed."""

from __future__ import annotations

import struct
from zlib import crc32

import msgspec

from power_loop.errors import InvalidInput, StoreTooNew
from power_loop.events import Event, Stamped
from power_loop.runtime.stores._sqlite_errors import damaged
from power_loop.runtime.stores.base import CancelRequested, InboxItem, Steer
from power_loop.session.records import Record

__all__ = [
    "Row",
    "encode",
    "encode_item",
    "first_place",
    "read_item",
    "read_row",
    "row_of",
    "seq_of",
]

Row = tuple[int, int, float, str, int, int, bytes]
"""place, tree_seq, at, run, round, crc, body"""

_FIXED = struct.Struct("<qqdq")
_encoder = msgspec.json.Encoder()
_records: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_items: msgspec.json.Decoder[Steer | CancelRequested] = msgspec.json.Decoder(
    Steer | CancelRequested
)


def first_place(sid: int) -> int:
    """Where the records of the session numbered `sid` begin; the record `seq` is at this + seq."""
    return sid << 32


def seq_of(place: int) -> int:
    """A record's number in its session."""
    return place & 0xFFFFFFFF


def encode(event: Event) -> bytes:
    """The stored form of a record.

    Raises:
        InvalidInput: it holds what JSON text cannot: a lone surrogate.
    """
    try:
        return _encoder.encode(event)
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(
            f"a {type(event).__name__} record cannot be stored: {error}. "
            "Replace what is not valid Unicode text before it is committed"
        ) from error


def encode_item(item: Steer | CancelRequested) -> bytes:
    """The stored form of an inbox item.

    Raises:
        InvalidInput: it holds what JSON text cannot: a lone surrogate.
    """
    try:
        return _encoder.encode(item)
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"the message cannot be stored: {error}") from error


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
    try:
        event = _records.decode(body)
    except msgspec.DecodeError as error:
        raise StoreTooNew(
            f"record {seq} of session {session!r} in {path} was written by another version of "
            f"power_loop and cannot be read by this one ({error}). Upgrade with: "
            "pip install --upgrade power-loop"
        ) from error
    return Stamped(session, seq, 0, root, tree_seq, at, run, round, event)


def read_item(id: int, body: bytes, path: str) -> InboxItem:
    """A row of the inbox as an item.

    Raises:
        StoreCorrupt: it cannot be read.
    """
    try:
        return InboxItem(f"i{id}", _items.decode(body))
    except (msgspec.DecodeError, TypeError) as error:
        raise damaged(path, f"inbox item {id} cannot be read ({error})") from error


def _checksum(place: int, tree_seq: int, at: float, run: str, round: int, body: bytes) -> int:
    return crc32(body, crc32(_FIXED.pack(place, tree_seq, at, round) + run.encode()))
