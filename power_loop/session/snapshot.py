"""A session between two runs in short, so that opening it need not read all of its log.

A snapshot is derived: it says what folding the records up to a number comes to, and whoever has
none folds them. It holds what the model sees, not what has left the view. Of the ids that were used
it keeps a hash each, which is enough never to use one again: of an id that only seems to be known,
another one is taken.
"""

from __future__ import annotations

import struct
from functools import cache
from zlib import adler32, crc32

import msgspec
from msgspec import Struct

from llm_client.types import Message, StopReason, Usage
from power_loop.session.machine import Session
from power_loop.session.outcome import Outcome
from power_loop.session.records import ModelConfigured
from power_loop.session.spent import Spent
from power_loop.session.state import Phase, id_hash

__all__ = ["is_due", "restored", "snapshot_of"]

_VERSION = 4
_LEAST = 1_000
"""Records after which a snapshot is worth its writing."""
_SHARE = 8
"""As a part of the log, so that what is written for snapshots stays in proportion to it."""


class _Snapshot(Struct, frozen=True, array_like=True):
    version: int
    last_run: str | None
    last_outcome: Outcome | None
    configured: ModelConfigured
    last_attempt: str | None
    last_attempt_ok: bool
    stop_reason: StopReason | None
    round: int
    usage: Usage
    run_usage: Usage
    reserved_lost: int
    limits: dict[str, float]
    spent: Spent
    task_spent: Spent
    tail: str | None
    task: tuple[str, ...]
    messages: list[Message]
    recalled: tuple[Message, ...]
    recalled_front: bool
    known: bytes


_encoder = msgspec.msgpack.Encoder()


@cache
def _decoder() -> msgspec.msgpack.Decoder[_Snapshot]:
    # To look at every field's type takes a millisecond, and most programs never read one.
    return msgspec.msgpack.Decoder(_Snapshot)


def is_due(session: Session, kept: int) -> bool:
    """Whether a snapshot would spare much, if the newest is of the first `kept` records.

    It would not where nearly all that there is to read is what the model sees.
    """
    since = session.seq - kept
    if session.phase is not Phase.IDLE or since < max(_LEAST, session.seq // _SHARE):
        return False
    return len(session.messages) * _SHARE < session.seq


def snapshot_of(session: Session) -> bytes:
    """A session of phase IDLE in short."""
    assert session.phase is Phase.IDLE
    known = sorted(session.former | set(map(id_hash, session.ids)))
    body = _encoder.encode(
        _Snapshot(
            _VERSION,
            session.last_run,
            session.last_outcome,
            session.configured,
            session.last_attempt,
            session.last_attempt_ok,
            session.stop_reason,
            session.round,
            session.usage,
            session.run_usage,
            session.reserved_lost,
            session.limits,
            session.spent,
            session.task_spent,
            session.tail,
            session.task,
            session.messages,
            session.recalled,
            session.recalled_front,
            struct.pack(f"<{len(known)}Q", *known),
        )
    )
    return crc32(body).to_bytes(4, "little") + adler32(body).to_bytes(4, "little") + body


def restored(id: str, seq: int, snapshot: bytes) -> Session | None:
    """The session as it was after `seq` records; None if the snapshot is damaged or of another
    version, which does no harm.
    """
    sums, body = snapshot[:8], snapshot[8:]
    if crc32(body).to_bytes(4, "little") + adler32(body).to_bytes(4, "little") != sums:
        return None
    try:
        held = _decoder().decode(body)
    except msgspec.DecodeError:
        return None
    if held.version != _VERSION:
        return None
    session = Session(id)
    session.seq = seq
    session.last_run, session.last_outcome = held.last_run, held.last_outcome
    session.configured = held.configured
    session.last_attempt, session.last_attempt_ok = held.last_attempt, held.last_attempt_ok
    session.stop_reason, session.round = held.stop_reason, held.round
    session.usage, session.run_usage = held.usage, held.run_usage
    session.reserved_lost, session.tail = held.reserved_lost, held.tail
    session.limits, session.task = held.limits, held.task
    session.spent, session.task_spent = held.spent, held.task_spent
    session.messages = held.messages
    session.recalled, session.recalled_front = held.recalled, held.recalled_front
    session.former = frozenset(struct.unpack(f"<{len(held.known) // 8}Q", held.known))
    return session
