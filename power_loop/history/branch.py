"""What a fork and a rewind write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from llm_client.types import Message, Part, Text, ToolCall, ToolResult
from power_loop.agent.deciding import pending_error
from power_loop.errors import UsageError
from power_loop.events import Stamped, is_record
from power_loop.session.machine import IllegalRecord, Session
from power_loop.session.outcome import Crashed
from power_loop.session.records import (
    Forked,
    MessageAppended,
    Record,
    Rewound,
    RunClosed,
    RunOpened,
    ToolSettled,
    ViewChanged,
)
from power_loop.session.text import is_sound
from power_loop.session.view import links_of

__all__ = ["Overrides", "copied", "forked", "rewound"]

S = TypeVar("S", bound=Struct)

Overrides = Mapping[str, str | Sequence[Part]]
"""Other contents of messages, by message id."""


# ── fork ──────────────────────────────────────────────────────────────────────────────────────────


def copied(
    source: str, log: Sequence[Stamped], at: int | None, copy: str, overrides: Overrides, now: float
) -> list[Stamped]:
    """The log of a session `copy` that is made of what had happened in `source` up to `at`.

    Raises:
        UsageError: there is no such record or message, an override does not fit, or the copy would
            end in the middle of a step.
    """
    at = len(log) if at is None else at
    if not 1 <= at <= len(log):
        raise UsageError(f"session {source!r} has records 1 to {len(log)}, but no record {at}")
    _check_step(log, at)
    edits = _Edits(overrides)
    records = [edits.applied(each.event) for each in log[:at] if is_record(each.event)]
    edits.check_all_used(source, at)
    return forked(source, log[:at], records, copy, now)


def forked(
    source: str, log: Sequence[Stamped], records: Sequence[Record], copy: str, now: float
) -> list[Stamped]:
    """The log `records` of a session `copy`, with the places of `log`, and where it came from.

    Raises:
        UsageError: together they are not the log of a session.
    """
    session = Session(copy)
    last = Forked(source, len(log))
    try:
        for record in (*records, last):
            session.apply(record)
    except IllegalRecord as error:
        raise UsageError(f"session {source!r} cannot be copied like this: {error}") from error
    stamped = [
        Stamped(copy, each.seq, 0, copy, 0, each.at, each.run, each.round, record)
        for each, record in zip(log, records, strict=True)
    ]
    run = session.last_run or ""
    stamped.append(Stamped(copy, session.seq, 0, copy, 0, now, run, session.round, last))
    return stamped


def _check_step(log: Sequence[Stamped], at: int) -> None:
    """Calls that must not run settle in the very step that brings them; none comes without it."""
    if at == len(log) or not _refuses(log[at].event):
        return
    start = at
    while start and _refuses(log[start - 1].event):
        start -= 1
    brings = log[start - 1].event if start else None
    if not isinstance(brings, MessageAppended) or not brings.message.tool_calls:
        return
    end = at
    while end < len(log) and _refuses(log[end].event):
        end += 1
    raise UsageError(
        f"record {at} is in the middle of a step, in which calls are refused that must not run; "
        f"take record {start - 1} or {end}"
    )


def _refuses(event: object) -> bool:
    return isinstance(event, ToolSettled) and event.how == "not_run"


class _Edits:
    """Other contents of messages, and which of them have been used."""

    def __init__(self, overrides: Overrides) -> None:
        self._overrides = overrides
        self._used: set[str] = set()

    def check_all_used(self, source: str, at: int) -> None:
        unknown = [id for id in self._overrides if id not in self._used]
        if unknown:
            raise UsageError(
                f"session {source!r} has no message {unknown[0]!r} up to its record {at}"
            )

    def applied(self, record: Record) -> Record:
        if not self._overrides:
            return record
        match record:
            case RunOpened():
                return replace(record, input=self._messages(record.input))
            case MessageAppended() | ToolSettled():
                return replace(record, message=self._message(record.message))
            case Rewound():
                return replace(record, restored=self._messages(record.restored))
            case ViewChanged():
                return self._view(record)
            case _:
                return record

    def _view(self, change: ViewChanged) -> ViewChanged:
        note = None if change.note is None else self._message(change.note)
        # A shorter form of what is not there any more would bring it back.
        kept = {id: p for id, p in change.replaced.items() if id not in self._overrides}
        return replace(change, note=note, replaced=kept)

    def _messages(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        return tuple([self._message(message) for message in messages])

    def _message(self, message: Message) -> Message:
        if message.id not in self._overrides:
            return message
        self._used.add(message.id)
        content = self._overrides[message.id]
        parts = _with_text(message, content) if isinstance(content, str) else tuple(content)
        if not parts or not all(isinstance(part, Part) for part in cast("tuple[object]", parts)):
            raise UsageError(f"the new form of {message.id!r} must be a text, or parts of messages")
        if links_of(parts) != links_of(message.parts):
            raise UsageError(f"the new form of {message.id!r} does not keep its calls or results")
        if not all(map(is_sound, parts)):
            raise UsageError(f"the new form of {message.id!r} holds a lone surrogate or a NUL")
        return replace(message, parts=parts)


def _with_text(message: Message, text: str) -> tuple[Part, ...]:
    """The parts of `message` with `text` in place of its texts."""
    new = Text(text)
    parts: list[Part] = []
    placed = False
    for part in message.parts:
        if isinstance(part, ToolResult):
            parts.append(replace(part, content=(new,)))
            placed = True
            continue
        if isinstance(part, Text | ToolCall) and not placed:
            parts.append(new)
            placed = True
        if not isinstance(part, Text):
            parts.append(part)
    return tuple(parts) if placed else (*parts, new)


# ── rewind ────────────────────────────────────────────────────────────────────────────────────────


def rewound(session: Session, log: Sequence[Stamped], at: int) -> tuple[Record, ...]:
    """The records that have `session`, whose log this is, go back to what it was after `at`.

    Raises:
        UsageError: there is no such record, or calls were open after it.
        SessionPendingError: calls are open now.
    """
    if session.open_calls:
        raise pending_error(session)
    if not 1 <= at < len(log):
        raise UsageError(
            f"session {session.id!r} can go back to one of its records 1 to {len(log) - 1}, "
            f"not to {at}"
        )
    then = _view_after(session.id, log, at)
    keep = 0
    for old, new in zip(then, session.messages, strict=False):
        if old != new:
            break
        keep += 1
    change = Rewound(at, keep, tuple(then[keep:]))
    # The open run of a session that is ours now can only be one whose owner has died.
    crash = () if session.run is None else (RunClosed(session.run, Crashed()),)
    return (*crash, change)


def _view_after(session_id: str, log: Sequence[Stamped], at: int) -> list[Message]:
    past = Session(session_id)
    before: int | None = None
    for each in log:
        assert is_record(each.event)
        past.apply(each.event)
        if past.open_calls:
            continue
        if past.seq >= at:
            break
        before = past.seq
    if past.seq == at:
        return list(past.view)
    nearest = " or ".join([str(seq) for seq in (before, past.seq) if seq is not None])
    raise UsageError(
        f"calls of session {session_id!r} were open after record {at}: a view without their "
        f"results cannot be shown to a model; the nearest records to go back to are {nearest}"
    )
