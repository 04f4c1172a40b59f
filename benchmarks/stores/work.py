"""The records that both sides write, and the sessions they belong to."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from llm_client.types import Message, Text, ToolCall, ToolResult, Usage
from power_loop.events import Stamped
from power_loop.session.outcome import Completed
from power_loop.session.records import (
    MessageAppended,
    ModelAsked,
    ModelEnded,
    Record,
    RunClosed,
    RunOpened,
    ToolSettled,
    ToolStarted,
)

__all__ = ["long_history", "round_of", "stamped"]

_dice = random.Random(1)


def _id() -> str:
    return _dice.randbytes(12).hex()


def round_of(text: str) -> tuple[Record, ...]:
    """What one model call leaves in the log."""
    attempt = _id()
    return (
        ModelAsked(attempt, 1, "gpt-5"),
        ModelEnded(attempt, "ok", Usage(1200, 80)),
        MessageAppended(Message("assistant", (Text(text),), id=_id()), attempt),
    )


def stamped(session: str, after: int, records: Sequence[Record]) -> list[Stamped]:
    """Records as a driver hands them over."""
    return [
        Stamped(session, after + n, 0, session, 0, 1.7e9, "run", 1, record)
        for n, record in enumerate(records, 1)
    ]


def long_history(messages: int) -> Iterator[Sequence[Record]]:
    """The runs of a session with so many messages: question, call, result, answer."""
    for turn in range(messages // 4):
        run, call = _id(), _id()
        first, second = _id(), _id()
        asked = Message("user", (Text(f"Question {turn}. " + "x" * 200),), id=_id())
        calls = Message("assistant", (ToolCall(call, "look", '{"place": "Rome"}'),), id=_id())
        result = ToolResult(call, (Text("y" * 300),))
        answer = Message("assistant", (Text("It is sunny. " + "z" * 200),), id=_id())
        yield (
            RunOpened(run, (asked,)),
            ModelAsked(first, 1, "gpt-5"),
            ModelEnded(first, "ok", Usage(1200, 80)),
            MessageAppended(calls, first),
            ToolStarted(call, "look", '{"place": "Rome"}', f"s/{call}", _id()),
            ToolSettled(Message("tool", (result,), id=f"{call}.result")),
            ModelAsked(second, 2, "gpt-5"),
            ModelEnded(second, "ok", Usage(1300, 90)),
            MessageAppended(answer, second),
            RunClosed(run, Completed(answer.text)),
        )
