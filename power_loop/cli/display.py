"""A run as it goes: on a terminal, on a plain stream, or as JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Protocol, TextIO

from llm_client.types import ToolResult, Usage
from power_loop.cli.timeline import one_line
from power_loop.events import (
    CompactionFailed,
    CompactionRejected,
    Event,
    FallbackTaken,
    HookFailed,
    MemoryFailed,
    ReconcileFailed,
    ResponderFailed,
    RetryScheduled,
    SpillFailed,
    Stamped,
    TextDelta,
    TextRepaired,
    ToolLeftBehind,
    ToolProgress,
    encode_event,
)
from power_loop.session.outcome import (
    Cancelled,
    Completed,
    Degraded,
    Failed,
    NoProgress,
    Outcome,
    PlanFailed,
    RoundLimit,
    Stopped,
    status_of,
)
from power_loop.session.records import (
    ModelAsked,
    ModelEnded,
    RunClosed,
    RunOpened,
    ToolSettled,
    ToolStarted,
)

__all__ = [
    "Display",
    "JsonDisplay",
    "PlainDisplay",
    "Tally",
    "make_display",
    "settled_line",
    "started_line",
    "told_transient",
]


_ASIDES: Mapping[str, str] = MappingProxyType({"compaction": "… summarising what was said before"})
"""What a model call is shown as that is no part of the conversation."""


class Display(Protocol):
    """**Protocol**: shows the events of runs, one after the other."""

    def show(self, stamped: Stamped) -> None:
        """Takes the next event in."""
        ...

    def still(self) -> AbstractContextManager[None]:
        """Nothing moves on the screen meanwhile, so that somebody can type there."""
        ...

    def close(self) -> None:
        """Leaves the screen as it is to stay."""
        ...


def make_display(*, json: bool, out: TextIO | None = None) -> Display:
    """The display that fits: JSON if asked for, live on a terminal with rich, else plain lines."""
    stream: TextIO = sys.stdout if out is None else out
    if json:
        return JsonDisplay(stream)
    if stream.isatty() and find_spec("rich") is not None:
        live: Display = import_module("power_loop.cli.live").LiveDisplay()
        return live
    return PlainDisplay(stream)


class JsonDisplay:
    """The event stream as JSON lines."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, stamped: Stamped) -> None:
        """Writes the event on a line of its own."""
        self._out.write(encode_event(stamped).decode() + "\n")
        self._out.flush()

    def still(self) -> AbstractContextManager[None]:
        """Nothing ever moves."""
        return nullcontext()

    def close(self) -> None:
        """Has nothing to leave."""


class PlainDisplay:
    """Lines of text: what is not a terminal still reads well."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._in_text = False
        self._started: dict[str, Stamped] = {}
        self._aside = ""
        self._tally = Tally()

    def show(self, stamped: Stamped) -> None:
        """Writes what a person wants to know of an event."""
        event = stamped.event
        self._tally.take(event)
        if isinstance(event, TextDelta):
            self._out.write(event.text)
            self._in_text = True
        else:
            self._line(self._told(stamped))
        self._out.flush()

    @contextmanager
    def still(self) -> Generator[None]:
        """Nothing ever moves, but a line may be open."""
        self._end_text()
        self._out.flush()
        yield

    def close(self) -> None:
        """Ends a line that is open."""
        self._end_text()

    def _told(self, stamped: Stamped) -> str:
        event = stamped.event
        match event:
            case ToolStarted():
                self._started[event.call_id] = stamped
                return started_line(event)
            case ToolSettled():
                return settled_line(event, self._started, stamped)
            case ModelAsked(purpose=purpose, attempt=attempt) if purpose:
                self._aside = attempt
                return _ASIDES.get(purpose, "")
            case ModelEnded() if event.status != "ok" and event.attempt != self._aside:
                return f"! the model call {event.status}; what it had written is void"
            case RunClosed():
                return self._tally.closing_line(event)
            case _:
                return told_transient(stamped)

    def _line(self, text: str) -> None:
        if not text:
            return
        self._end_text()
        self._out.write(text + "\n")

    def _end_text(self) -> None:
        if self._in_text:
            self._out.write("\n")
            self._in_text = False


class Tally:
    """The tokens of a run, as far as the provider told them."""

    def __init__(self) -> None:
        self._usage = Usage()

    def take(self, event: Event) -> None:
        """Counts what a model call has used, also one that was broken off."""
        match event:
            case RunOpened():
                self._usage = Usage()
            case ModelEnded():
                self._usage += event.usage
            case _:
                pass

    def closing_line(self, closed: RunClosed) -> str:
        """How the run ended, why if not with an answer, what to do then, and what it took."""
        outcome = closed.outcome
        line = f"[{status_of(outcome)}]"
        if not isinstance(outcome, Completed):
            line += f" {'; '.join(filter(None, (_why(outcome), outcome.recommended_action)))}."
        return f"{line} {self._told()}"

    def _told(self) -> str:
        usage = self._usage
        if usage.input_tokens is None and usage.output_tokens is None:
            return "tokens: not reported"
        pair = (usage.input_tokens, usage.output_tokens)
        asked, answered = ("?" if tokens is None else f"{tokens}" for tokens in pair)
        return f"tokens: {asked} in, {answered} out"


def _why(outcome: Outcome) -> str:
    match outcome:
        case (
            Cancelled(reason=reason)
            | Degraded(reason=reason)
            | NoProgress(reason=reason)
            | PlanFailed(reason=reason)
            | Stopped(reason=reason)
        ):
            return one_line(reason, 300)
        case Failed():
            return one_line(f"{outcome.error_type}: {outcome.message}", 300)
        case RoundLimit():
            return f"all {outcome.limit} rounds are used up"
        case _:
            return ""


def told_transient(stamped: Stamped) -> str:
    """A transient event in words; empty for those that need none."""
    match stamped.event:
        case RetryScheduled() as event:
            return f"! {event.error_type}; next attempt in {event.delay:.1f} s"
        case FallbackTaken() as event:
            return f"! {event.error_type}; {event.model} is asked in place of {event.failed}"
        case HookFailed() as event:
            return f"! hook {event.handler} of {event.point} failed: {event.message}"
        case ReconcileFailed() as event:
            return f"! {event.tool} cannot tell what became of a call: {event.message}"
        case SpillFailed() as event:
            return f"! the output of {event.tool} is not kept whole: {event.message}"
        case ResponderFailed() as event:
            return f"! what call {event.call_id} waits for stays open: {event.message}"
        case ToolLeftBehind() as event:
            return f"! {event.name} ignores that it was cancelled; the run ends without it"
        case ToolProgress() as event:
            share = "" if event.fraction is None else f" {event.fraction:.0%}"
            return f"  …{share} {event.message}"
        case TextRepaired() as event:
            return f"! text of the {event.source} held characters no model takes; replaced"
        case _:
            return _told_of_context(stamped.event)


def _told_of_context(event: Event) -> str:
    match event:
        case CompactionRejected():
            return f"! compaction by {event.by} was not done: {event.reason}"
        case CompactionFailed():
            return f"! the prompt is too large: {event.reason}"
        case MemoryFailed():
            return f"! {event.provider} failed to {event.operation}: {event.message}"
        case _:
            return ""


def started_line(event: ToolStarted) -> str:
    """What is called with what."""
    return f"→ {event.name} {one_line(event.arguments)}"


def settled_line(settled: ToolSettled, started: dict[str, Stamped], stamped: Stamped) -> str:
    """How a call ended, how long it took, and the beginning of what it gave."""
    result = settled.message.parts[0]
    assert isinstance(result, ToolResult)
    begun = started.pop(result.call_id, None)
    name, took = "", ""
    if begun is not None and isinstance(begun.event, ToolStarted):
        name, took = f" {begun.event.name}", f" after {stamped.at - begun.at:.3f} s"
    how = "failed" if result.is_error and settled.how == "finished" else settled.how
    return f"←{name} {how}{took}: {one_line(result.text)}"
