"""What every store does the same way: checks of its arguments, and the summary of a session."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from llm_client.types import Message, Text
from power_loop.errors import UsageError
from power_loop.events import Stamped, is_record
from power_loop.runtime.stores.base import Lease, Lifecycle
from power_loop.session.outcome import status_of
from power_loop.session.records import Forked, MessageAppended, RunClosed, RunOpened
from power_loop.session.text import is_sound

__all__ = [
    "check_append",
    "check_new",
    "folded",
    "says",
    "status_after",
    "title_of",
    "tree_position",
]

_TITLE_LENGTH = 80


def check_new(session: str, lifecycle: Lifecycle, metadata: Mapping[str, str] | None) -> None:
    """Refuses what cannot name or describe a session.

    Raises:
        UsageError: the id is empty; it or the metadata is not valid Unicode text without NUL; there
            is no such lifecycle.
    """
    if lifecycle not in get_args(Lifecycle):
        legal = ", ".join(map(repr, get_args(Lifecycle)))
        raise UsageError(f"the lifecycle is one of {legal}, not {lifecycle!r}")
    if not session:
        raise UsageError("a session id must not be empty")
    _check_text("the session id", session)
    for key, value in (metadata or {}).items():
        _check_text("a key of the metadata", key)
        _check_text(f"the metadata {key!r}", value)


def _check_text(what: str, text: object) -> None:
    if not isinstance(text, str):
        raise UsageError(f"{what} is text, not {text!r}")
    if not is_sound(Text(text)):
        raise UsageError(f"{what}, {text!r}, holds a NUL or a lone surrogate; remove it")


def check_append(lease: Lease, expected_seq: int, records: Sequence[Stamped]) -> None:
    """Refuses records that are not the next ones of the lease's session.

    Raises:
        UsageError: a record of another session, at another position, or a transient event.
    """
    session = lease.session
    seq = expected_seq
    for stamped in records:
        seq += 1
        if stamped.seq != seq or stamped.session != session or not is_record(stamped.event):
            raise UsageError(
                f"a {type(stamped.event).__name__} stamped as number {stamped.seq} of session "
                f"{stamped.session!r} cannot be record {seq} of session {session!r}"
            )


def says(event: object, text: bytes) -> bool:
    """Whether a message of a user or of the assistant in a record holds `text`, as `folded`."""
    match event:
        case RunOpened():
            messages = event.input
        case MessageAppended():
            messages = (event.message,)
        case _:
            return False
    return any(text in folded(message.text) for message in messages if message.role != "system")


def folded(text: str) -> bytes:
    """Text as it is compared: without the case of A to Z, which every database knows alike."""
    return text.encode().lower()


def status_after(status: str, records: Iterable[Stamped]) -> str:
    """The status of a session that was `status` before `records`."""
    for stamped in records:
        event = stamped.event
        if type(event) is RunOpened:
            status = "running"
        elif type(event) is RunClosed:
            status = status_of(event.outcome)
        elif type(event) is Forked and status == "running":
            status = "forked"
    return status


def title_of(records: Iterable[Stamped]) -> str:
    """The first line of the first user message among `records`, cut short; empty without one."""
    for stamped in records:
        event = stamped.event
        messages: tuple[Message, ...] = ()
        if type(event) is RunOpened:
            messages = event.input
        elif type(event) is MessageAppended:
            messages = (event.message,)
        for message in messages:
            text = message.text.strip() if message.role == "user" else ""
            if text:
                line = text.splitlines()[0].rstrip()
                return line if len(line) <= _TITLE_LENGTH else line[: _TITLE_LENGTH - 1] + "…"
    return ""


def tree_position(stamped: Stamped) -> int:
    """Sort key: a record's place in its tree."""
    return stamped.tree_seq
