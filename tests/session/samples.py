"""Small records for tests of the session, and sessions brought to each phase."""

from __future__ import annotations

import pytest

from llm_client.types import Message, Text, ToolCall, ToolResult
from power_loop.session.machine import IllegalRecord, Phase, Session
from power_loop.session.outcome import AwaitingApproval, Cancelled
from power_loop.session.records import (
    CallAnswered,
    CallWaiting,
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Record,
    RunClosed,
    RunOpened,
    Settlement,
    ToolSettled,
    ToolStarted,
    WaitKind,
)
from power_loop.session.state import State

__all__ = [
    "CALLING",
    "CANCELLED",
    "HISTORIES",
    "answer",
    "answered",
    "asked",
    "calls",
    "ended",
    "fold",
    "opened",
    "refuses",
    "settled",
    "snapshot",
    "started",
    "user",
    "waits",
]


def user(id: str, text: str = "hi") -> Message:
    """A user message."""
    return Message("user", (Text(text),), id=id)


def answer(id: str, text: str = "done") -> Message:
    """A final answer."""
    return Message("assistant", (Text(text),), id=id)


def calls(id: str, *call_ids: str) -> Message:
    """An answer that asks for tools."""
    return Message("assistant", tuple([ToolCall(call, "read") for call in call_ids]), id=id)


def opened(run: str = "r1", message: str = "u1") -> RunOpened:
    """A run opened with input."""
    return RunOpened(run, (user(message),))


def asked(attempt: str = "t1", round: int = 1) -> ModelAsked:
    """A model call under way."""
    return ModelAsked(attempt, round, "m")


def ended(attempt: str = "t1") -> ModelEnded:
    """A model call that brought an answer."""
    return ModelEnded(attempt, "ok")


def started(call: str, attempt: int = 1) -> ToolStarted:
    """A call that is running."""
    return ToolStarted(call, "read", "{}", f"s/{call}", "hash", attempt)


def settled(call: str, how: Settlement = "finished", id: str | None = None) -> ToolSettled:
    """A call that is over."""
    result = ToolResult(call, (Text("out"),))
    return ToolSettled(Message("tool", (result,), id=id or f"{call}.result"), how)


def waits(call: str, kind: WaitKind = "approval", token: str | None = None) -> CallWaiting:
    """A call that waits."""
    return CallWaiting(call, kind, token or f"token-{call}")


def answered(call: str, answer: str = "approve") -> CallAnswered:
    """What a call waited for has come."""
    return CallAnswered(call, f"token-{call}", answer)


CALLING: tuple[Record, ...] = (
    opened(),
    asked(),
    ended(),
    MessageAppended(calls("a1", "c1", "c2"), "t1"),
)
"""A session whose model has asked for two calls."""

HISTORIES: dict[Phase, tuple[Record, ...]] = {
    Phase.IDLE: (),
    Phase.SUSPENDED: (
        *CALLING,
        waits("c1"),
        waits("c2"),
        RunClosed("r1", AwaitingApproval(("token-c1", "token-c2"))),
    ),
    Phase.MODEL: (opened(),),
    Phase.TOOLS: CALLING,
    Phase.SETTLE: (opened(), MessageAppended(answer("a1"))),
}
"""One history that ends in each phase."""

CANCELLED = Cancelled("stop")


def snapshot(state: State) -> dict[str, str]:
    """All that a session holds, in words, to be compared later."""
    return {name: _words(getattr(state, name)) for name in State.__slots__}


def _words(value: object) -> str:
    # A set has no order of its own; everything else is told by its repr, down to each field.
    return repr(sorted(map(repr, value))) if isinstance(value, set) else repr(value)  # pyright: ignore[reportUnknownArgumentType] - a set of anything


def fold(*records: Record) -> Session:
    """A session of these records."""
    return Session("s", records)


def refuses(session: Session, *records: Record) -> str:
    """Asserts that `records` are illegal and change nothing; returns the reason given."""
    before = snapshot(session)
    with pytest.raises(IllegalRecord) as by_check:
        session.check(*records)
    assert snapshot(session) == before
    with pytest.raises(IllegalRecord) as by_apply:
        session.apply(*records)
    assert snapshot(session) == before
    assert by_check.value.why == by_apply.value.why
    assert by_check.value.phase.name in str(by_check.value)
    return by_apply.value.why
