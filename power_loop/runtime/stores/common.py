"""What every store does the same way: checks of its arguments, and the summary of a session."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llm_client.types import Message
from power_loop.errors import UsageError
from power_loop.events import Stamped, is_record
from power_loop.runtime.stores.base import Lease
from power_loop.session.outcome import Crashed, status_of
from power_loop.session.records import Forked, MessageAppended, RunClosed, RunOpened

__all__ = ["check_append", "check_id", "status_after", "title_of", "tree_position"]

_TITLE_LENGTH = 80


def check_id(session: str) -> None:
    """Refuses what cannot name a session.

    Raises:
        UsageError: it is empty, or not valid Unicode text.
    """
    if not session:
        raise UsageError("a session id must not be empty")
    try:
        session.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the session id {session!r} holds a lone surrogate; use valid Unicode text"
        ) from error


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


def status_after(status: str, records: Iterable[Stamped]) -> str:
    """The status of a session that was `status` before `records`."""
    for stamped in records:
        event = stamped.event
        if type(event) is RunOpened:
            status = "running"
        elif type(event) is RunClosed:
            status = status_of(event.outcome)
        elif type(event) is Forked and status == "running":
            status = status_of(Crashed())
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
