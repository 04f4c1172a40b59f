"""A stored session, a line a record."""

from __future__ import annotations

from collections.abc import Iterable

from llm_client.types import Message, ToolCall, ToolResult
from power_loop.events import Event, Stamped
from power_loop.history.chain import decider
from power_loop.session.outcome import status_of
from power_loop.session.records import (
    CallAnswered,
    CallWaiting,
    Decided,
    Forked,
    MessageAppended,
    ModelAsked,
    ModelConfigured,
    ModelEnded,
    Recalled,
    Rewound,
    RunClosed,
    RunOpened,
    ToolSettled,
    ToolStarted,
    ViewChanged,
)

__all__ = ["counted", "describe", "one_line", "timeline"]

WIDTH = 100


def timeline(events: Iterable[Stamped]) -> list[str]:
    """Number, seconds since the first record, and what happened."""
    lines: list[str] = []
    began: float | None = None
    for stamped in events:
        began = stamped.at if began is None else began
        lines.append(f"{stamped.seq:>4}  {stamped.at - began:>8.3f}  {describe(stamped.event)}")
    return lines


def describe(event: Event) -> str:
    """One record in words, on one line."""
    match event:
        case RunOpened():
            return _opened(event)
        case MessageAppended():
            return f"{event.message.role}: {_content(event.message)}"
        case ModelAsked():
            what = f"for {event.purpose}" if event.purpose else f"round {event.round}"
            return f"model asked, {what} ({event.model})"
        case ModelEnded():
            return _ended(event)
        case ToolStarted():
            return f"tool started: {event.name}({one_line(event.arguments)})"
        case ToolSettled():
            return f"tool {event.how}: {_content(event.message)}"
        case RunClosed():
            return f"run closed: {status_of(event.outcome)}"
        case _:
            return _rare(event)


def _opened(event: RunOpened) -> str:
    if event.resumes is not None:
        return "run opened, resumes the last one"
    return f"run opened: {' '.join(_content(message) for message in event.input)}"


def _ended(event: ModelEnded) -> str:
    usage = event.usage
    tokens = f"{usage.input_tokens or 0} tokens in, {usage.output_tokens or 0} out"
    if event.status == "ok":
        return f"model answered, {tokens}"
    why = f": {event.error.message}" if event.error is not None else ""
    return f"model call {event.status}{one_line(why)}"


def _rare(event: Event) -> str:
    match event:
        case CallWaiting():
            return f"call {event.call_id} waits for {event.kind} ({event.token})"
        case CallAnswered():
            return f"call {event.call_id} answered: {one_line(event.answer)}"
        case Decided():
            why = f": {event.reason}" if event.reason else ""
            return one_line(f"{decider(event)}: {event.what}{why}")
        case Recalled():
            return f"memory recalled {len(event.messages)} messages"
        case ViewChanged():
            by = f" by {event.by}: {event.before} to {event.after} tokens" if event.by else ""
            return f"view changed{by}"
        case ModelConfigured():
            return f"model configured: {one_line(event.system or 'no system prompt')}"
        case Rewound():
            return f"rewound to record {event.at}"
        case Forked():
            return f"forked from record {event.at} of {event.source}"
        case _:
            return type(event).__name__


def _content(message: Message) -> str:
    pieces: list[str] = []
    for part in message.parts:
        match part:
            case ToolCall():
                pieces.append(f"{part.name}({one_line(part.arguments)})")
            case ToolResult():
                pieces.append(one_line(part.text))
            case _:
                text = getattr(part, "text", None)
                pieces.append(one_line(text) if text is not None else f"<{type(part).__name__}>")
    return " ".join(filter(None, pieces))


def counted(count: int, thing: str) -> str:
    """How many of something there are."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def one_line(text: str, width: int = WIDTH) -> str:
    """`text` on one line, cut to `width` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else f"{flat[: width - 1]}…"
