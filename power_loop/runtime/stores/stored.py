"""The stored form of records and inbox items: canonical JSON, the same in every store."""

from __future__ import annotations

import msgspec

from power_loop.errors import InvalidInput, StoreTooNew
from power_loop.events import Event
from power_loop.runtime.stores.base import CancelRequested, Steer
from power_loop.session.records import Record

__all__ = ["decode_item", "decode_record", "encode_item", "encode_record"]

_encoder = msgspec.json.Encoder()
_records: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_items: msgspec.json.Decoder[Steer | CancelRequested] = msgspec.json.Decoder(
    Steer | CancelRequested
)


def encode_record(event: Event) -> bytes:
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


def decode_record(body: bytes, seq: int, session: str, place: str) -> Record:
    """Reads what `encode_record` wrote; `place` says which store it was in.

    Raises:
        StoreTooNew: it is of a kind that this version does not know.
    """
    try:
        return _records.decode(body)
    except msgspec.DecodeError as error:
        raise StoreTooNew(
            f"record {seq} of session {session!r} in {place} was written by another version of "
            f"power_loop and cannot be read by this one ({error}). Upgrade with: "
            "pip install --upgrade power-loop"
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


def decode_item(body: bytes) -> Steer | CancelRequested | None:
    """Reads what `encode_item` wrote; None if it is something else."""
    try:
        return _items.decode(body)
    except (msgspec.DecodeError, TypeError):
        return None
